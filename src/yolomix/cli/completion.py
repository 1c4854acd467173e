"""Tab completion: what may stand at the end of a command line, and the script by which a shell asks for it.

The script calls ``yolomix __complete`` at every TAB, so it knows what the installed yolomix knows. Nothing heavy in
here: a TAB does not wait for PyTorch.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from yolomix import models
from yolomix.cli.answer import Answer
from yolomix.cli.arguments import (
    BLOCK,
    DATASET,
    EXPORT_FORMAT,
    EXPORT_FORMATS,
    LAYER_TYPES,
    MODEL,
    POINTS,
    PRECISIONS,
    SWITCH,
    TEXT,
    Argument,
    Kind,
)
from yolomix.cli.request import FLAGS, IMPORT
from yolomix.cli.verb import Verb
from yolomix.cli.verbs import VERBS
from yolomix.host import declared

ASKED = "__complete"  # the first word of a script's question
GROUP = "yolomix.blocks"  # as yolomix.nn.origins, which imports PyTorch
BLOCKS = (
    "ASSG",
    "ASSGroup",
    "C2PSAMLLA",
    "GatedConv",
    "HaloAttention",
    "MLLABlock",
    "MLLAttention",
    "MambaLayer",
    "ODSSBlock",
    "OneMap",
    "SameWidth",
    "SimpleStem",
    "VMambaBlock",
    "VSSBlock",
    "VisionClueMerge",
    "XSSBlock",
    "ZeroGate",
)
INSERTION_POINTS = ("p3", "p4", "p5", "backbone", "neck", "head-inputs", "*")


def completion(shell: str) -> Answer:
    """The script that makes a shell complete ``yolomix``.

    >>> completion("fish").shown[0].splitlines()[-1]
    "complete -c yolomix -f -a '(__yolomix)'"

    Args:
        shell: bash, zsh or fish.
    """
    script = Path(__file__).with_name(f"completion.{shell}").read_text("utf-8")
    return Answer({"shell": shell, "script": script}, [script.rstrip("\n")])


def answer(shell: str, line: str, text: str = "") -> None:
    """Answer a script's question on stdout: a line for each word that may stand at the end.

    Args:
        shell: zsh and fish get whole words, each with its meaning behind a tab. bash gets what replaces ``text``, in
            quotes where they are needed, with a blank behind a word that is complete.
        line: the command line up to the cursor.
        text: the end of the line that bash will replace; it begins behind the last ``=`` or ``:``.
    """
    words, quoted = split(line)
    found = candidates(words[1:])
    if shell == "bash":
        replaced = text if quoted else split(text)[0][-1]
        kept = len(words[-1]) - len(replaced)
        lines = [_for_bash(word, kept, quoted) for word in found]
    else:
        lines = [f"{word}\t{meaning}" for word, meaning in found.items()]
    # In the bytes of the file system: a file's name may be none of the locale's characters.
    sys.stdout.buffer.write(os.fsencode("".join(f"{line}\n" for line in lines)))
    sys.stdout.flush()


def split(line: str) -> tuple[list[str], bool]:
    r"""The words of a command line as the shell reads them, the last perhaps empty; and whether a quote is open there.

    >>> split("yolomix val  model=my\\ file.pt "), split("yolomix val model='my f")
    ((['yolomix', 'val', 'model=my file.pt', ''], False), (['yolomix', 'val', 'model=my f'], True))
    """
    for quote in ("", "'", '"'):
        with contextlib.suppress(ValueError):  # a quote is not closed
            *words, last = shlex.split(f"{line}.{quote}")  # the dot is a last word, or keeps one from being over
            return [*words, last[:-1]], bool(quote)
    return [""], False


def candidates(words: Sequence[str]) -> dict[str, str]:
    """What may stand in the place of the last of the words after ``yolomix``, and what each means.

    >>> [*candidates(["graft", "mode=w"])], [*candidates(["graft", "at=p4,p"])]
    (['mode=wrap'], ['at=p4,p3', 'at=p4,p5'])
    """
    *before, current = words or [""]
    if current.startswith("-"):
        return _beginning(current, FLAGS)
    plain = [word for word in before if word not in FLAGS and not word.startswith(IMPORT)]
    verb = next((VERBS[word] for word in plain if word in VERBS), None)
    if verb is None or plain[0] == "help":
        verbs = {verb.name: verb.does for verb in VERBS.values()}
        return _beginning(current, {**verbs, "help": FLAGS["--help"]})
    arguments = _arguments(verb)
    key, equals, text = current.partition("=")
    if equals:
        kind = arguments[key].kind if key in arguments else TEXT
        return {f"{key}={value}": "" for value in _values(kind, text)}
    given = {word.partition("=")[0] for word in plain}
    stands_alone = any("=" not in word for word in plain if word != verb.name)
    found: dict[str, str] = {}
    for name, argument in arguments.items():
        if argument.bare and not stands_alone:
            found.update(dict.fromkeys(_values(argument.kind, current), ""))
        elif not argument.bare and name not in given:
            found[f"{name}="] = argument.described
    return _beginning(current, found)


def _beginning(start: str, found: dict[str, str]) -> dict[str, str]:
    return {word: meaning for word, meaning in found.items() if word.startswith(start)}


def _arguments(verb: Verb) -> dict[str, Argument]:
    """The arguments of a verb by name, behind its own those of Ultralytics if that carries it out."""
    found = {argument.name: argument for argument in verb.arguments}
    if verb.passed_on:
        for name, (default, meaning) in declared.arguments().items():
            if name != "mode":  # which is the verb
                kind = SWITCH if default in ("True", "False") else TEXT
                found.setdefault(name, Argument(name, meaning, kind))
    return found


def _values(kind: Kind, text: str) -> list[str]:
    """The texts of a kind that begin with this one; where no name of the right suffix does, those of all files."""
    before, last = "", text
    if kind in SEPARATED:
        head, separator, last = text.rpartition(SEPARATED[kind])
        before = head + separator
    offered = [*kind.choices, *OFFERED.get(kind, list)()]
    found = [before + name for name in offered if name.startswith(last) and name not in before.split(",")]
    if kind.suffixes is not None:
        found += _files(text, kind.suffixes)
    if kind.suffixes and not found:
        found = _files(text, ("",))
    return found


def _files(text: str, suffixes: tuple[str, ...]) -> list[str]:
    """Paths that begin so, files of these suffixes and folders; a folder ends in a slash."""
    folder, start = os.path.split(text)
    found = []
    with contextlib.suppress(OSError):
        for entry in sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda entry: entry.name):
            hidden = entry.name.startswith(".") and not start
            if not hidden and entry.name.startswith(start) and "\n" not in entry.name:
                if entry.is_dir():
                    found.append(os.path.join(folder, entry.name, ""))
                elif entry.name.endswith(suffixes):
                    found.append(os.path.join(folder, entry.name))
    return found


def _models() -> list[str]:
    """The packaged models as one types them, at every scale.

    >>> "yolo11n-mlla.yaml" in _models(), "mamba-yolo-t.yaml" in _models()
    (True, True)
    """
    return [model.typed(scale) for model in models.zoo().values() for scale in model.parameters]


def _blocks() -> list[str]:
    """The names of our blocks, and of the classes that installed packages announce as blocks."""
    from importlib import metadata  # only now: it takes longer than all the rest

    return sorted({*BLOCKS, *(point.name for point in metadata.entry_points(group=GROUP) if point.attr)})


def _for_bash(word: str, kept: int, quoted: bool) -> str:
    """What bash puts in the place of the end of the line: it does neither quote nor end the word itself."""
    new = word[kept:]
    if not quoted:
        new = re.sub(r"([^\w@%+=:,./~-])", r"\\\1", new)
    return new if word.endswith(("=", "/")) or quoted else f"{new} "


SEPARATED = {POINTS: ",", LAYER_TYPES: ":", EXPORT_FORMATS: ",", PRECISIONS: ","}
OFFERED: dict[Kind, Callable[[], Sequence[str]]] = {
    MODEL: _models,
    DATASET: lambda: ["sample"],
    BLOCK: _blocks,
    POINTS: lambda: INSERTION_POINTS,
    LAYER_TYPES: _blocks,
    EXPORT_FORMAT: declared.export_formats,
    EXPORT_FORMATS: declared.export_formats,
}
