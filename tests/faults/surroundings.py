"""Odd homes, folders, names, encodings, streams and clocks, through the command line and through Python."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.faults import apart, judge
from tests.faults.kind import Bad, Case, Kind, Limits
from tests.tiny import TINY

NAMES = (
    "plain",
    "with spaces",
    "größe 日本 😀",
    "quote'\"s",
    "line\nbreak",
    "-dash",
    "per%cent {0}",
    "tab\tname",
    "x" * 200,
)
SENTENCE = 20  # characters that an error has at least


def listed() -> Iterator[Case]:
    """Each surrounding with each act, and each name of a folder and a file with each act."""
    for around, act in itertools.product(AROUND, ACTS):
        yield {"around": [around], "act": act, "name": "plain"}
    for name, act in itertools.product(NAMES, ACTS):
        yield {"around": [], "act": act, "name": name}
    for act, shell, variables in itertools.product(("models", "blocks --json"), SHELL, ("none", "C", "no home")):
        yield {"around": [shell], "act": act, "name": "plain", "shell": shell, "variables": variables}


def draw(random: Random) -> Case:
    """Two surroundings at once, and any name."""
    around = random.sample([*AROUND], 2)
    if "a folder that is gone" in around:  # where nothing can be prepared
        around = ["a folder that is gone"]
    return {"around": around, "act": random.choice([*ACTS]), "name": random.choice(NAMES)}


def check(case: Case) -> str:
    """Act in the surroundings, in a process of its own; done, or an error of ours."""
    Path.cwd().parent.chmod(0o711)
    folder = Path(case["name"])
    folder.mkdir()
    os.chdir(folder)
    (Path.cwd() / f"yolo0n-{case['name'][:150]}.yaml").write_text(TINY)
    said = _in_shell(case) if "shell" in case else apart.do(lambda: _acted(case))
    if said["code"] not in (0, 1):
        raise Bad(f"exit code {said['code']}: {said['err']}")
    if "Traceback" in said["err"] or "NoneType" in said["err"]:
        raise Bad(said["err"])
    if said["code"] and not _is_explained(said["err"], case):
        raise Bad(f"exit code {said['code']}, and nothing that explains it: {said['err']!r}")
    return "done" if said["code"] == 0 else "refused"


def _acted(case: Case) -> dict[str, Any]:
    """Exit code and stderr of an act; those of the command line run in this forked process as in a new one."""
    err = os.open("../err.txt", os.O_RDWR | os.O_CREAT)
    for stream, target in ((1, os.open(os.devnull, os.O_WRONLY)), (2, err)):
        os.dup2(target, stream)
    for around in case["around"]:
        AROUND[around]()
    try:
        code = ACTS[case["act"]](f"yolo0n-{case['name'][:150]}.yaml")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except Exception as error:
        if not judge.is_ours(error):
            raise
        return {"code": 1, "err": f"yolomix: {error}"}
    os.lseek(err, 0, os.SEEK_SET)
    return {"code": code, "err": os.read(err, 100_000).decode("utf-8", "replace")[-3000:]}


def _in_shell(case: Case) -> dict[str, Any]:
    """Exit code and stderr of the command line in a process that begins in such surroundings."""
    words = f"{shlex.quote(sys.executable)} -m yolomix {case['act']}"
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, **VARIABLES[case["variables"]]}
    env = {name: value for name, value in env.items() if value}
    line = f"set -o pipefail; {words} {SHELL[case['shell']]}"
    done = subprocess.run(["bash", "-c", line], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return {"code": done.returncode, "err": done.stderr.decode("utf-8", "replace")[-3000:]}


SHELL = {
    "plain": "",
    "head": "| head -1",
    "true": "| true",
    "no stdin": "<&-",
    "no stdout": ">&-",
    "no stderr": "2>&-",
    "no streams": "<&- >&- 2>&-",
    "stdout is full": ">/dev/full",
}
VARIABLES = {
    "none": {},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "no home": {"HOME": "", "YOLO_CONFIG_DIR": "", "TMPDIR": "", "PYTHONIOENCODING": "ascii"},
}


def _is_explained(err: str, case: Case) -> bool:
    """Whether stderr says why; nobody can be told where stderr is closed."""
    lines = [line for line in err.splitlines() if line.startswith("yolomix: ")]
    closed = {"no stderr", "no streams", "the reader is gone", "head", "true"} & set(case["around"])
    return bool(closed) or any(len(line) > SENTENCE for line in lines)


def _main(*words: str) -> int:
    """The command line; an error that it says although yolomix did not raise it is one too many."""
    from yolomix import cli

    native, foreign = cli._failed, []

    def failed(error: BaseException, words: Any, code: int) -> int:
        if not judge.is_ours(error) and not isinstance(error, OSError):
            foreign.append(judge.described(error))
        return native(error, words, code)

    cli._failed = failed
    code = cli.main([*words])
    if foreign:
        raise Bad(foreign[0])
    return code


def _predict(model: str) -> int:
    """Build the model and compute, in Python."""
    import torch

    import yolomix

    built = yolomix.YOLO(model)
    with torch.inference_mode():
        built.model.eval()(torch.rand(1, 3, 32, 32))
    return 0


def _graft_and_save(model: str) -> int:
    """Write a checkpoint, name a graft into it, and read it again."""
    import yolomix
    from yolomix.host import weights

    weights.write(weights.from_yaml(model), "base.pt")
    made = yolomix.YOLO("base.pt+MLLABlock@1")
    return 0 if made.model is not None else 1


ACTS: dict[str, Callable[[str], int]] = {
    "models": lambda model: _main("models"),
    "doctor": lambda model: _main("doctor"),
    "blocks": lambda model: _main("blocks", "--json"),
    "help": lambda model: _main("help"),
    "graft": lambda model: _main("graft", f"model={model}", "block=MLLABlock", "at=1", "save=grafted.yaml"),
    "python": _predict,
    "save": _graft_and_save,
}


def _no_home() -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "YOLO_CONFIG_DIR", "USERPROFILE"):
        os.environ.pop(name, None)


def _home_gone() -> None:
    os.environ.update(HOME="/nowhere/at/all", YOLO_CONFIG_DIR="/nowhere/config", XDG_CACHE_HOME="/nowhere/cache")


def _read_only(path: Path) -> None:
    path.mkdir(exist_ok=True)
    for inner in (*path.rglob("*"), path):
        with contextlib.suppress(PermissionError):  # who is nobody already
            inner.chmod(0o555 if inner.is_dir() else 0o444)
    os.environ.update(HOME=str(path), YOLO_CONFIG_DIR=str(path / "config"), YOLOMIX_CACHE=str(path / "cache"))
    apart.without_rights()


def _loop() -> None:
    link = Path("../loop").resolve().parent / "loop"
    link.symlink_to(link)
    os.environ.update(HOME=str(link), YOLOMIX_CACHE=str(link), TMPDIR=str(link))


def _cwd_gone() -> None:
    gone = Path("gone")
    gone.mkdir()
    for file in Path().glob("*.yaml"):
        shutil.copy(file, gone)
    os.chdir(gone)
    shutil.rmtree(Path.cwd())


def _encoding(name: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        # A stream that is closed, or a pipe by now, cannot be told another encoding.
        with contextlib.suppress(OSError, AttributeError):
            stream.reconfigure(encoding=name, errors="strict" if stream is sys.stdout else "backslashreplace")  # type: ignore[union-attr]
    os.environ.update(LC_ALL="C", PYTHONIOENCODING=name, PYTHONUTF8="0")


def _closed(*numbers: int) -> None:
    """As a process that was started with ``>&-``: Python has None for such a stream."""
    for number in numbers:
        with contextlib.suppress(OSError):  # closed already
            os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)


def _reader_gone() -> None:
    """As ``yolomix models | head -1``."""
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)


def _full_stdout() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def _clock(*readings: float) -> None:
    """A clock that stands, or goes round."""
    import time

    following = itertools.cycle(readings)
    time.time = lambda: next(following)


def _environment(**variables: str) -> None:
    os.environ.update(variables)


AROUND: dict[str, Callable[[], Any]] = {
    "no home": _no_home,
    "a home that is gone": _home_gone,
    "a read-only home": lambda: _read_only(Path("../home").resolve()),
    "a read-only folder": lambda: _read_only(Path.cwd()),
    "a folder that is gone": _cwd_gone,
    "links in a loop": _loop,
    "no temporary folder": lambda: _environment(TMPDIR="/nowhere", TEMP="/nowhere", TMP="/nowhere"),
    "a mask of 0777": lambda: os.umask(0o777),
    "ascii": lambda: _encoding("ascii"),
    "latin-1": lambda: _encoding("latin-1"),
    "cp1252": lambda: _encoding("cp1252"),
    "no stdin": lambda: _closed(0),
    "no stdout": lambda: _closed(1),
    "no stderr": lambda: _closed(2),
    "no streams": lambda: _closed(0, 1, 2),
    "the reader is gone": _reader_gone,
    "stdout is full": _full_stdout,
    "1970": lambda: _clock(0.0),
    "2100": lambda: _clock(4.1e9),
    "backwards": lambda: _clock(2e9, 1e9, 1.5e9, 0.0),
    "no variables": lambda: os.environ.clear(),
    "a dumb terminal": lambda: _environment(TERM="dumb", COLUMNS="1", LINES="0"),
    "columns that are no number": lambda: _environment(COLUMNS="many"),
}


def _plain_names() -> None:
    """Take a model's name for plain ASCII without spaces, as old scripts do."""
    from yolomix.host import names

    native = names.resolve

    def resolve(name: Any) -> Any:
        str(name).encode("ascii")
        assert not set(str(name)) & set(" \n\t'"), name
        return native(name)

    names.resolve = resolve


KIND = Kind(
    name="surroundings",
    tries="odd homes, folders, names, encodings, streams, clocks and masks, on the command line and in Python",
    figure="done, or one sentence that says why not",
    check=check,
    target=500,
    listed=listed,
    draw=draw,
    runs_nothing=False,
    limits=Limits(seconds=60, wall=200),
    small=16,
    plants={"plain names": _plain_names},
)
