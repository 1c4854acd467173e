"""The declarations of the verbs: arguments that functions take, examples that parse, needed ones that are missed."""

from __future__ import annotations

import importlib
import inspect
import shlex

import pytest

from yolomix.cli import request, verbs
from yolomix.cli.request import UsageError
from yolomix.cli.verbs import VERBS


def test_every_example_is_good_syntax():
    for verb in verbs.VERBS.values():
        for example in verb.examples:
            _, *words = shlex.split(example)
            asked = request.read(words, verbs.VERBS)
            assert asked.verb == verb.name
            if not verb.passed_on:
                verb.parse(asked.words)


OWN = [verb for verb in VERBS.values() if not verb.passed_on]


@pytest.mark.parametrize("verb", OWN, ids=lambda verb: verb.name)
def test_a_function_takes_what_its_verb_declares(verb):
    function = getattr(importlib.import_module(f"yolomix.cli.{verb.home}"), verb.function)
    assert [*inspect.signature(function).parameters] == [argument.name for argument in verb.arguments]


@pytest.mark.parametrize(
    ("verb", "name"),
    [(verb, argument.name) for verb in OWN for argument in verb.arguments if argument.required],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_needed_argument_that_is_missing_is_refused_with_an_example(verb, name):
    needed = [argument for argument in verb.arguments if argument.required and argument.name != name]
    others = [f"{argument.name}={(argument.kind.choices or ('a',))[0]}" for argument in needed]
    with pytest.raises(UsageError) as refused:
        verb.parse(others)
    argument = verb.argument(name)
    assert str(refused.value) == f"{verb.name} needs {argument.hint or f'{name}='}, as in: {verb.examples[0]}"
    assert argument.bare or f"{name}=" in verb.examples[0]


def test_defaults_are_values_of_their_kind():
    for verb in VERBS.values():
        for argument in verb.arguments:
            if argument.default is not None:
                assert argument.value(str(argument.default).lower()) is not None or argument.default == ""


def test_names_are_given_once_and_explained():
    for verb in VERBS.values():
        names = [argument.name for argument in verb.arguments]
        assert len(names) == len({*names})
        assert all(argument.meaning and argument.kind.name for argument in verb.arguments)


def test_the_modes_are_those_of_the_grammar():
    from yolomix.surgery import grammar

    assert VERBS["graft"].argument("mode").kind.choices == grammar.MODES
