"""Three walks of new users: what they type, and the screen that comes, in a terminal of 80 columns.

Each is a text file beside this one; a folder of its name has the files that its user brings along. After a change that
is meant, ``YOLOMIX_WALKS=write pytest tests/walks`` writes the screens anew: read them as somebody who sees yolomix for
the first time.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ultralytics import utils

from tests import fresh
from tests.full import cases
from tests.terminal import Terminal, terminal
from tests.tiny import write_dataset
from yolomix.host import weights

if sys.platform == "win32":
    pytest.skip("Windows has no pseudo-terminals", allow_module_level=True)

HERE = Path(__file__).parent
WALKS = sorted(file.stem for file in HERE.glob("*.txt"))
WRITE = os.environ.get("YOLOMIX_WALKS") == "write"
# Ultralytics' own log is left out: a line of ours begins with our name, and goes on below, indented by two.
OURS = re.compile(r"^(?:WARNING \S+ )?yolomix.*\n(?:  \S.*\n)*", re.MULTILINE)
VARIES = re.compile(r"(?<=download/)v[\d.]+|(?<=: )[\d.]+$", re.MULTILINE)  # a release of Ultralytics; a metric

pytestmark = pytest.mark.slow

STOCK = """
nc: 80
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, SPPF, [32, 5]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 3], 1, Concat, [1]]
  - [-1, 1, C3k2, [32]]
  - [[2, 8, 5], 1, Detect, [nc]]
"""
"""A model of Ultralytics' rows, in place of YOLO11."""


def settle(folder: Path) -> None:
    """Put a dataset and yolo11n.pt into a working folder, and settings of Ultralytics that keep runs in there too."""
    data = write_dataset(folder)
    data.write_text("train: images/train\nval: images/val\nnames: {0: square, 1: bar, 2: ring}\n")
    description = folder / "stock.yaml"
    description.write_text(STOCK)
    weights.write(weights.from_yaml(description), folder / "yolo11n.pt")
    description.unlink()
    settings = folder / "config" / "Ultralytics" / utils.SETTINGS_FILE.name
    settings.parent.mkdir(parents=True)
    folders = {f"{what}_dir": str(folder / what) for what in ("runs", "datasets", "weights")}
    settings.write_text(json.dumps({**utils.SETTINGS, **folders}))


def screen(command: str, folder: Path) -> str:
    """What a command shows, without what differs from run to run."""
    with terminal(80) as window:
        done = carried_out(command, folder, window)
    assert "Traceback" not in done.stderr, done.stderr
    shown = "".join(OURS.findall(done.stderr)) + window.text
    if done.returncode:
        shown += f"[exit code {done.returncode}]\n"
    return masked(shown, folder)


def carried_out(command: str, folder: Path, window: Terminal) -> fresh.Done:
    """Run a command of yolomix as a fork of a process that has imported PyTorch, and any other in a shell."""
    environment = {"YOLO_CONFIG_DIR": str(folder / "config"), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    if command.startswith("yolomix ") and "|" not in command:
        code = (
            f"import os, sys; os.dup2(os.open({window.name!r}, os.O_WRONLY | os.O_NOCTTY), 1); "
            "from yolomix.cli import main; sys.exit(main())"
        )
        return fresh.run(code, *shlex.split(command)[1:], cwd=folder, **environment)
    script = f'yolomix() {{ {shlex.quote(sys.executable)} -m yolomix "$@"; }}\n{command}'
    environment = os.environ | environment
    return subprocess.run(
        ["sh", "-c", script], cwd=folder, env=environment, stdout=window.number, stderr=-1, text=True, check=False
    )


def masked(shown: str, folder: Path) -> str:
    """A screen without what differs from run to run, and without the path of the working folder."""
    shown = shown.replace(f"{folder}{os.sep}", "").replace(str(folder), "FOLDER")
    return VARIES.sub("...", shown)


@pytest.mark.parametrize("walk", cases(WALKS, always=WALKS if WRITE else ["own"]))
def test_the_screens_of_a_walk(walk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "PYTEST_CURRENT_TEST"):  # with the latter, Ultralytics keeps its runs elsewhere
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path.resolve()
    settle(folder)
    if (HERE / walk).is_dir():
        shutil.copytree(HERE / walk, folder, dirs_exist_ok=True)
    file = HERE / f"{walk}.txt"
    commands = re.findall(r"^\$ (.*)", file.read_text("utf-8"), re.MULTILINE)
    seen = "\n".join(f"$ {command}\n{screen(command, folder)}" for command in commands)
    if WRITE:
        file.write_text(seen, "utf-8")
    assert seen == file.read_text("utf-8")
