"""Command lines: mistyped verbs and keys, values of other kinds, arguments twice, words that belong elsewhere."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random

from tests.faults import mutate
from tests.faults.kind import Bad, Case, Kind, Limits
from tests.tiny import TINY, write_dataset

SHORT = {"epochs": "1", "imgsz": "32", "batch": "3", "workers": "0", "plots": "False", "device": "cpu"}
FILES = (
    "tiny.pt",
    "yolo0n-tiny.yaml",
    "data/data.yaml",
    "data/images/val/0.png",
    "sample",
    "yolo11n.yaml",
    "runs",
    "/",
)
VALUES = (
    *FILES,
    "MLLABlock",
    "p5",
    "1",
    "0",
    "-1",
    "true",
    "False",
    "None",
    "1e9",
    "nan",
    "[1,2",
    "x" * 5000,
    "a b",
    "é",
)
OURS = (
    "block",
    "at",
    "args",
    "mode",
    "n",
    "gate",
    "save",
    "seed",
    "plan",
    "remove",
    "swap",
    "within",
    "repeats",
    "target",
)
THEIRS = ("model", "data", "source", "format", "task", "lr0", "optimizer", "pretrained", "resume", "epochs", "imgsz")
KEYS = (*OURS, *THEIRS, "any_task", "batch", "device")
RUNS = ("train", "val", "predict", "track", "export", "benchmark")
VERBS = (*RUNS, "graft", "edit", "transfer", "models", "blocks", "version", "help")
SENSIBLE = (
    "train model=yolo0n-tiny.yaml data=data/data.yaml",
    "val model=tiny.pt data=data/data.yaml",
    "predict model=tiny.pt source=data/images/val",
    "export model=tiny.pt format=torchscript",
    "graft model=tiny.pt block=MLLABlock at=1 save=out.pt",
    "graft model=tiny.pt+MLLABlock@1 plan=true",
    "edit model=tiny.pt remove=6 save=out.pt",
    "edit model=yolo0n-tiny.yaml swap=C2PSAMLLA:C2f",
    "transfer source=tiny.pt target=yolo0s-tiny.yaml save=out.pt",
    "models",
    "blocks --json",
    "help train",
)


def draw(random: Random) -> Case:
    """A sensible command with accidents, or words in any order."""
    if random.random() < 0.75:
        words = random.choice(SENSIBLE).split()
        for _ in range(random.randint(1, 3)):
            words = _accident(random, words)
    else:
        words = [random.choice(VERBS)]
        for _ in range(random.randrange(5)):
            words.append(f"{random.choice(KEYS)}{random.choice(('=', '=', '=', '', ' '))}{random.choice(VALUES)}")
    return {"words": words}


def check(case: Case) -> str:
    """Run the command; a failure is one message on stderr and the right exit code."""
    from yolomix import cli

    _prepare()
    before = _contents()
    words = list(case["words"])
    if words and words[0] in RUNS:
        given = {word.split("=")[0] for word in words}
        words += [f"{key}={value}" for key, value in SHORT.items() if key not in given]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main(words)
    _check_said(words, code, out.getvalue(), err.getvalue())
    if any(before[name] != now for name, now in _contents().items() if name in before):
        raise Bad(f"a file that was there has changed\n{err.getvalue()[-500:]}")
    return ("done", "failed", "wrong usage")[code] if 0 <= code <= 2 else f"code {code}"


def _check_said(words: list[str], code: int, out: str, err: str) -> None:
    lines = [line for line in err.splitlines() if line.startswith("yolomix: ")]
    if "Traceback (most recent call last)" in out + err and "--debug" not in words:
        raise Bad(f"a traceback\n{err[-1500:]}")
    if code not in (0, 1, 2):
        raise Bad(f"exit code {code}\n{err[-1500:]}")
    if code and "--debug" in words and "Traceback (most recent call last)" in err:
        return  # what it says is in the last line of it
    if code and not lines:
        raise Bad(f"exit code {code} without a message\n{err[-1500:]}")
    if code and _is_bare(lines[-1]):
        raise Bad(f"a message that says nothing: {lines[-1]}\n{err[-1500:]}")


def _is_bare(message: str) -> bool:
    """Whether it is the text of an operation that failed, with no word about what to do."""
    text = message.removeprefix("yolomix: ")
    inner = (
        "object has no attribute",
        "object is not",
        "list index",
        "not supported between",
        "unpack",
        "NoneType",
        "cannot convert",
    )
    return len(text.split()) < 4 or any(word in text for word in inner)


def _prepare() -> None:
    import yolomix
    from yolomix.host import weights

    Path("yolo0-tiny.yaml").write_text(TINY)
    write_dataset(Path("data").resolve())
    weights.write(yolomix.YOLO("yolo0n-tiny.yaml", verbose=False).model, Path("tiny.pt"))


def _contents() -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in Path().rglob("*") if path.suffix in (".pt", ".yaml", ".png", ".txt")
    }


def _accident(random: Random, words: list[str]) -> list[str]:
    at = random.randrange(len(words)) if words else 0
    how = random.randrange(6)
    if not words or how == 0:
        return [*words[:at], f"{random.choice(KEYS)}={random.choice(VALUES)}", *words[at:]]
    if how == 1:
        return [*words[:at], *words[at + 1 :]]
    if how == 2:
        return [*words[:at], mutate.word(random, words[at]), *words[at + 1 :]]
    if how == 3:
        key = words[at].partition("=")[0]
        return [*words[:at], f"{key}={random.choice(VALUES)}", *words[at + 1 :]]
    if how == 4:
        return [*words, words[at]]
    return [*words, random.choice(("--json", "--debug", "--help", "--", "-", "--verbose", "-h", "=", "half", "é"))]


def raise_bare() -> None:
    """Plant: let the errors of operations reach the user as they are."""
    from yolomix.cli import verbs

    native = verbs.Verb.parse

    def parse(verb: verbs.Verb, words: list[str]) -> dict:
        for word in words:
            _, _ = word.split("=")
        return native(verb, words)

    verbs.Verb.parse = parse


KIND = Kind(
    name="commands",
    tries="command lines with mistyped words, values of other kinds, and words that belong elsewhere",
    figure="one message and the right exit code, at most 20 s and 4 GiB each, nothing run",
    check=check,
    target=2000,
    draw=draw,
    first=({"words": ["transfer", "source=tiny=s.pt", "target=yolo0s-tiny.yaml", "save=out.pt"]},),
    limits=Limits(seconds=30),
    share=2.0,
    plants={"raise-bare": raise_bare},
)
