"""The pages of ``yolomix help``, made from the declarations of the verbs."""

from __future__ import annotations

from yolomix.cli.answer import Answer, Table, paragraph
from yolomix.cli.arguments import Argument
from yolomix.cli.verb import Verb
from yolomix.cli.verbs import ULTRALYTICS_ARGUMENTS, VERBS

GROUPS = {
    "Begin": ("demo", "completion"),
    "Run, as in yolo": ("train", "val", "predict", "track", "export", "benchmark"),
    "Change a model": ("graft", "edit", "transfer"),
    "Compare": ("study",),
    "Look": ("verify", "export-matrix", "profile", "figures", "models", "blocks", "doctor", "version"),
}
FLAGS = (
    ("", "import=MODULE", "import blocks of your own; as often as wanted"),
    ("", "--json", "answer for programs"),
    ("", "--debug", "show where an error came from"),
)


def page(about: str | None) -> Answer:
    """The page about one verb, or about all of them.

    >>> page("version").data["does"]
    'print the version'
    """
    if about is None:
        return Answer([verb.to_dict() for verb in VERBS.values()], _overview())
    verb = VERBS[about]
    return Answer(verb.to_dict(), _explained(verb))


def _overview() -> list[str | Table]:
    lines: list[str | Table] = ["yolomix VERB key=value ..."]
    for group, names in GROUPS.items():
        lines += ["", group, Table((), [("", f"{name:13}", VERBS[name].does) for name in names])]
    return [*lines, "", paragraph("`yolomix VERB --help` explains one verb: its arguments, with examples.")]


def _explained(verb: Verb) -> list[str | Table]:
    lines: list[str | Table] = [paragraph(f"{verb.does[0].upper()}{verb.does[1:]}."), ""]
    lines += [f"  {example}" for example in verb.examples]
    arguments = [("", _written(argument), argument.described) for argument in verb.arguments]
    if verb.passed_on:
        arguments.append(("", "...", f"every other argument of Ultralytics: {ULTRALYTICS_ARGUMENTS}"))
    if arguments:
        lines += ["", "Arguments", Table((), arguments)]
    return [*lines, "", "With any verb", Table((), FLAGS)]


def _written(argument: Argument) -> str:
    """``name=``, or ``NAME`` where the text may stand alone."""
    return argument.name.upper() if argument.bare else f"{argument.name}="
