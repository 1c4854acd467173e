"""The pages of ``yolomix help``, made from the declarations of the verbs."""

from __future__ import annotations

from yolomix.cli.answer import Answer
from yolomix.cli.verbs import ULTRALYTICS_ARGUMENTS, VERBS, Verb

FLAGS = (
    "import=MODULE, with any verb and repeatable, imports blocks of your own; --json answers for programs, "
    "--debug shows where an error came from."
)


def page(about: str | None) -> Answer:
    """The page about one verb, or about all of them.

    >>> page("version").shown[0].splitlines()[0]
    'yolomix version: print the version.'
    """
    if about is None:
        return Answer([verb.to_dict() for verb in VERBS.values()], [_overview()])
    verb = VERBS[about]
    return Answer(verb.to_dict(), [_explained(verb)])


def _overview() -> str:
    lines = ["yolomix VERB key=value ...", ""]
    for verb in VERBS.values():
        lines += [f"  {verb.name:10} {verb.does}", f"  {'':10}   {verb.examples[0]}"]
    return "\n".join([*lines, "", f"yolomix VERB --help explains one. {FLAGS}"])


def _explained(verb: Verb) -> str:
    lines = [f"yolomix {verb.name}: {verb.does}.", ""]
    lines += [f"  {example}" for example in verb.examples]
    lines.append("")
    if verb.arguments:
        lines.append("Arguments:")
        lines += [f"  {argument.name + '=':10} {argument.described}" for argument in verb.arguments]
        if verb.passed_on:
            lines.append(f"  ...        every argument of Ultralytics' own command: {ULTRALYTICS_ARGUMENTS}")
        lines.append("")
    return "\n".join([*lines, FLAGS])
