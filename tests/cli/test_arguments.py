"""Arguments: texts become values once, and what is no value says what was needed, what came, and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolomix.cli import arguments
from yolomix.cli.arguments import Argument, one_of, parse, whole
from yolomix.cli.request import UsageError


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (arguments.TEXT, "a=b", "a=b"),
        (arguments.FOLDER, "runs/a", Path("runs/a")),
        (arguments.SWITCH, "True", True),
        (arguments.SWITCH, "false", False),
        (arguments.POINTS, "p4,10,C2f", ["p4", "10", "C2f"]),
        (arguments.LAYER_TYPES, "C3k2:XSSBlock", ("C3k2", "XSSBlock")),
        (arguments.LAYER_AND_NUMBER, "4:3", ("4", 3)),
        (whole(0), "0", 0),
        (one_of("a", "b"), "b", "b"),
    ],
)
def test_values(kind, text, value):
    found = Argument("key", "meaning", kind).value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (arguments.SWITCH, "no", "key must be true or false, got 'no'"),
        (arguments.SWITCH, "flase", "key must be true or false, got 'flase'; did you mean false?"),
        (arguments.LAYER_TYPES, "C2f", "key must be OLD:NEW, got 'C2f'"),
        (arguments.LAYER_TYPES, ":C2f", "key must be OLD:NEW, got ':C2f'"),
        (arguments.LAYER_AND_NUMBER, "4:0", "key must be LAYER:N, got '4:0'"),
        (arguments.LAYER_AND_NUMBER, "4:x", "key must be LAYER:N, got '4:x'"),
        (whole(1), "0", "key must be a whole number of at least 1, got '0'"),
        (whole(0), "-1", "key must be a whole number of at least 0, got '-1'"),
        (whole(0), "1.5", "key must be a whole number of at least 0, got '1.5'"),
        (one_of("after", "wrap"), "warp", "key must be one of after, wrap, got 'warp'; did you mean wrap?"),
    ],
)
def test_what_is_no_value(kind, text, message):
    with pytest.raises(UsageError) as refused:
        Argument("key", "meaning", kind).value(text)
    assert str(refused.value) == message


SOME = (Argument("n", "repeats", whole(1), default=1), Argument("save", "the file", arguments.FILE, required=True))


def test_what_is_not_given_has_its_default():
    assert parse("verb", ["save=a.pt"], SOME) == {"n": 1, "save": "a.pt"}
    assert parse("verb", ["n=3", "save=a=b.pt"], SOME) == {"n": 3, "save": "a=b.pt"}
    assert parse("verb", [], SOME) == {"n": 1, "save": None}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("svae=a", "verb takes no 'svae'; did you mean save?"),
        ("n", "n needs a value, n=...: repeats (1)"),
        ("save=", "save needs a value, save=...: the file (needed)"),
        ("n=1 n=2", "n is given twice: 1 and 2"),
    ],
)
def test_words_that_are_refused(words, message):
    with pytest.raises(UsageError) as refused:
        parse("verb", words.split(), SOME)
    assert str(refused.value) == message
