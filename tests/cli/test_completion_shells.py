"""Completion in the shells themselves: keys are typed in a terminal, and the command says which words it was given."""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from yolomix.cli import DONE, main
from yolomix.cli.verbs import VERBS

if sys.platform == "win32":
    pytest.skip("no terminals of POSIX on Windows", allow_module_level=True)

import pty

PATIENCE = 60  # seconds for a shell on a busy machine; it is waited for no longer than it takes
STARTS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}
BEFORE = {"bash": "", "zsh": "autoload -Uz compinit; compinit -D -u; ", "fish": ""}
TAB = "\t"
TYPED = {
    f"yolomix trai{TAB}model=yolo11n-ml{TAB}": ["train", "model=yolo11n-mlla.yaml"],
    f"yolomix trai{TAB}epoc{TAB}3": ["train", "epochs=3"],
    f"yolomix graft block=Hal{TAB}mode=wr{TAB}at=p4,head{TAB}": [
        "graft", "block=HaloAttention", "mode=wrap", "at=p4,head-inputs",
    ],
    f"yolomix edit swap=C3k2:XSS{TAB}": ["edit", "swap=C3k2:XSSBlock"],
    f"yolomix completion z{TAB}": ["completion", "zsh"],
    f"yolomix val model=my{TAB}": ["val", "model=my best.pt"],
    f"yolomix val model='my{TAB}": ["val", "model=my best.pt"],
    f'yolomix val model="my b{TAB}': ["val", "model=my best.pt"],
    f"yolomix val model=sub{TAB}gr{TAB}": ["val", "model=sub folder/größe $1.pt"],
    f"true; NAME=1 yolomix val data=sam{TAB}": ["val", "data=sample"],
    f"~/bin/yolomix expor{TAB}": ["export"],
    f"yolomix nosuchverb{TAB} x": ["nosuchverb", "x"],
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with some files, and a ``yolomix`` that answers the shell, and says what it is given otherwise."""
    stub = tmp_path / "bin" / "yolomix"
    stub.parent.mkdir()
    python = shlex.quote(sys.executable)
    stub.write_text(
        f'#!/bin/sh\n[ "$1" = __complete ] && exec {python} -m yolomix "$@"\n'
        "printf GIVEN; printf '<%s>' \"$@\"; echo END\n"
    )
    stub.chmod(0o755)
    (tmp_path / "my best.pt").touch()
    (tmp_path / "sub folder").mkdir()
    (tmp_path / "sub folder" / "größe $1.pt").touch()
    return tmp_path


@pytest.fixture(params=STARTS)
def terminal(request: pytest.FixtureRequest, home: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[int]:
    """A terminal of 80 columns in which a shell has read our script."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: its completion is not tried")
    assert main(["completion", shell]) == DONE
    (home / "script").write_text(capsys.readouterr().out)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(home)
        path = os.pathsep.join([str(home / "bin"), os.environ["PATH"]])
        os.environ.update(PATH=path, HOME=str(home), TERM="xterm", LC_ALL="C.UTF-8", COLUMNS="80", PS1="$ ")
        os.execvp(STARTS[shell][0], STARTS[shell])
    try:
        os.write(terminal, f"{BEFORE[shell]}source {home}/script; echo REA''DY\n".encode())
        shown(terminal, rb"READY")
        yield terminal
    finally:
        os.close(terminal)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def shown(terminal: int, wanted: bytes) -> bytes:
    """What the terminal shows, until it shows what is wanted."""
    seen, end = b"", time.monotonic() + PATIENCE
    while not re.search(wanted, seen):
        ready, _, _ = select.select([terminal], [], [], max(end - time.monotonic(), 0))
        assert ready, f"no {wanted!r} in {seen!r}"
        seen += os.read(terminal, 65536)
    return seen


def test_keys_make_the_words(terminal: int) -> None:
    for keys, words in TYPED.items():
        os.write(terminal, f"{keys}\n".encode())
        given = re.findall(rb"GIVEN(.*)END", shown(terminal, rb"GIVEN.*END"))[-1].decode()
        assert given == "".join(f"<{word}>" for word in words), keys


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed: its completion is not tried")
def test_bash_without_a_terminal(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What readline replaces is the text behind the last word break, whatever COMP_WORDBREAKS is."""
    assert main(["completion", "bash"]) == DONE
    script = capsys.readouterr().out
    asked = "COMP_LINE='yolomix graft mode=' COMP_POINT=19; _yolomix yolomix '' ="
    code = f"{script}\n{asked}\nprintf '%s|' \"${{COMPREPLY[@]}}\"; complete -p yolomix"
    env = {**os.environ, "PATH": os.pathsep.join([str(home / "bin"), os.environ["PATH"]])}
    done = subprocess.run(["bash", "-c", code], env=env, capture_output=True, text=True, check=False)
    modes = "".join(f"{mode} |" for mode in VERBS["graft"].argument("mode").kind.choices)
    assert (done.stdout, done.stderr) == (f"{modes}complete -o nospace -F _yolomix yolomix\n", "")
