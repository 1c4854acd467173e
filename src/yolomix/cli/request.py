"""The words of a command line, read once and strictly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from yolomix.nearest import near

FLAGS = {
    "--json": "answer for programs",
    "--debug": "show where an error came from",
    "--help": "explain a verb",
    "-h": "explain a verb",
    "--version": "print the version",
}
IMPORT = "import="  # good with every verb, as often as wanted
TASKS = ("detect", "segment", "classify", "pose", "obb", "semantic", "depth")  # `yolo detect train` is good syntax

# Words that are verbs elsewhere, most of them of `yolo`, and what to type instead.
ELSEWHERE = {
    "cfg": "`yolo cfg` prints every argument of Ultralytics; `yolomix train --help` explains those that people use",
    "checks": "`yolomix doctor` says what is installed and what runs here",
    "compare": "`yolomix val model=... data=... --json`, once for each model, gives the metrics to compare",
    "copy-cfg": "`yolo copy-cfg` writes Ultralytics' arguments to a file, which cfg=FILE then gives to yolomix",
    "info": "`yolomix models NAME` or `yolomix blocks NAME` explains one, `yolomix doctor` this machine",
    "list": "`yolomix models` lists the models, `yolomix blocks` the blocks",
    "login": "`yolo login` is Ultralytics' own, and holds for yolomix too",
    "logout": "`yolo logout` is Ultralytics' own, and holds for yolomix too",
    "settings": "`yolo settings` shows and changes Ultralytics' settings; yolomix has none of its own",
    "solutions": "`yolo solutions` is Ultralytics' own, and opens models with our blocks too",
    "tune": 'the tuner has no command; in Python it is `yolomix.YOLO("FILE").tune(data=..., epochs=...)`',
}


class UsageError(ValueError):
    """The command line itself is wrong: nothing was done."""


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    >>> Request("models", json=True).about is None
    True

    Attributes:
        verb: one of the known verbs, or "help".
        words: all further words in order, without flags.
        json: whether a program will read the answer.
        about: the verb to explain, for "help".
        imports: modules to import first, whose blocks are then known.
    """

    verb: str
    words: Sequence[str] = ()
    json: bool = False
    about: str | None = None
    imports: Sequence[str] = ()


def read(words: Sequence[str], verbs: Iterable[str]) -> Request:
    """Make sense of the words after ``yolomix``.

    >>> read(["segment", "train", "model=a.yaml", "--json"], ["train", "val"])
    Request(verb='train', words=['segment', 'model=a.yaml'], json=True, about=None, imports=[])
    >>> read(["graft", "import=myblocks", "block=Gate"], ["graft"]).imports
    ['myblocks']

    Raises:
        UsageError: there is no verb, or an unknown one; or a module to import has no name.
    """
    known = [*verbs]
    flags = {word for word in words if word in FLAGS}
    imports = [word.removeprefix(IMPORT) for word in words if word.startswith(IMPORT)]
    rest = [word for word in words if word not in FLAGS and not word.startswith(IMPORT)]
    if "" in imports:
        raise UsageError("import needs a module, import=myblocks: the blocks that it registers are then known")
    as_json = "--json" in flags
    if "--version" in flags:
        return Request("version", json=as_json)
    if not rest or flags & {"--help", "-h"} or rest[0] == "help":
        return Request("help", json=as_json, about=_about(rest, known))
    verb = rest[0]
    if verb in TASKS and rest[1:2] and rest[1] in known:
        verb = rest[1]
    if verb not in known:
        raise _unknown(verb, known)
    rest.remove(verb)
    return Request(verb, rest, as_json, imports=imports)


def _about(rest: Sequence[str], known: Sequence[str]) -> str | None:
    """The verb that help is wanted for; None for all of them."""
    named = [word for word in rest if word in known]
    if named:
        return named[0]
    others = [word for word in rest if word != "help"]
    if others:
        raise _unknown(others[0], known)
    return None


def _unknown(verb: str, known: Sequence[str]) -> UsageError:
    if verb in ELSEWHERE:
        return UsageError(f"no verb {verb!r}: {ELSEWHERE[verb]}")
    return UsageError(f"no verb {verb!r}; {near(verb, known)} (`yolomix help` explains each)")
