"""``make package``: wheel and sdist are built, checked, and each tried in a fresh environment outside of the checkout.

PyTorch and what else yolomix needs are installed once, as the wheel asks for them, into a layer that both environments
lie on; pip resolves each file against it. Everything is written into a temporary folder.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("build>=1.2", "twine>=6.1")  # twine 6.1 knows licence expressions
EXTRAS = "export,track"
TINY = ("data=sample", "epochs=1", "imgsz=32", "fraction=0.02", "batch=4", "workers=0", "plots=False", "device=cpu")


class Environment:
    """A fresh virtual environment; with ``below``, the packages of another one can be imported in it."""

    def __init__(self, folder: Path, below: Environment | None = None) -> None:
        self.folder = folder
        venv.create(folder, symlinks=os.name != "nt", with_pip=True)
        self.bin = folder / ("Scripts" if sys.platform == "win32" else "bin")
        self.site = Path(self.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        if below is not None:
            (self.site / "below.pth").write_text(f"{below.site}\n", "utf-8")

    def run(self, command: str, *words: str) -> str:
        """What a command of the environment writes to stdout; nothing of the checkout can be imported by it."""
        started = time.monotonic()
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "YOLOMIX_"))}
        for name in ("YOLO_CONFIG_DIR", "YOLOMIX_CACHE"):
            env[name] = str(self.folder.parent / name)
        done = subprocess.run(
            [self.bin / command, *words], cwd=self.folder, env=env, capture_output=True, encoding="utf-8", check=False
        )
        line = " ".join([command, *words]).replace(f"{self.folder.parent}{os.sep}", "")
        print(f"  {line[:100]:100} {time.monotonic() - started:6.1f} s", flush=True)
        if done.returncode:
            sys.exit(f"{done.stdout}{done.stderr}\nFAILED with exit code {done.returncode}: {line}")
        return done.stdout

    def install(self, *what: str) -> None:
        """``pip install``, at the versions with which the test suite passed."""
        self.run("python", "-m", "pip", "install", "-qq", "--constraint", str(ROOT / "constraints.txt"), *what)


def main() -> None:
    """Build, check, and try each file."""
    with tempfile.TemporaryDirectory(prefix="yolomix-package-") as folder:
        work = Path(folder).resolve()
        wheel, sdist = built(work)
        check_description(wheel)
        heading("what yolomix needs, as the wheel asks for it")
        needed = Environment(work / "needed")
        needed.install(f"{wheel}[{EXTRAS}]")
        needed.run("python", "-m", "pip", "uninstall", "-qq", "-y", "yolomix")
        for name, file in {"wheel": wheel, "sdist": sdist}.items():
            heading(file.name)
            try_out(file, Environment(work / name, needed))
    print("\nThe package is good.")


def heading(text: str) -> None:
    """Say what comes next."""
    print(f"\n{text}", flush=True)


def built(work: Path) -> tuple[Path, Path]:
    """Wheel and sdist of the checkout, the wheel made of the sdist, both good for an index."""
    heading("build")
    tools = Environment(work / "tools")
    tools.install(*TOOLS)
    tools.run("python", "-m", "build", "--outdir", str(work / "dist"), str(ROOT))
    (wheel,), (sdist,) = (work / "dist").glob("*.whl"), (work / "dist").glob("*.tar.gz")
    tools.run("python", "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    return wheel, sdist


def check_description(wheel: Path) -> None:
    """Raise unless every link of the long description says its host: on the page of an index, others lead nowhere."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = message_from_bytes(archive.read(name)).get_payload()
    if "# yolomix" not in text:
        raise ValueError(f"the long description is not the README: {text[:80]!r}")
    if relative := re.findall(r"\]\((?!https?://)[^)]*\)", text):
        raise ValueError(f"relative links in the long description: {', '.join(relative)}")


def try_out(file: Path, fresh: Environment) -> None:
    """Install a file, and do with it what a user does first: every page of help, a graft, a training, an export."""
    fresh.install(f"{file}[{EXTRAS}]")
    fresh.run("python", "-m", "pip", "check")
    check_origin(fresh)
    for row in json.loads(fresh.run("yolomix", "help", "--json")):
        fresh.run("yolomix", row["verb"], "--help")
    for words in (["models"], ["blocks"], ["completion", "bash"], ["completion", "zsh"], ["completion", "fish"]):
        fresh.run("yolomix", *words)
    fresh.run("yolomix", "graft", "model=yolo11n.yaml", "block=MLLABlock", "at=p5", "save=grafted.yaml")
    trained = fresh.run("yolomix", "train", "model=grafted.yaml", *TINY, f"project={fresh.folder}/runs", "--json")
    exported = fresh.run(
        "yolomix", "export", f"model={json.loads(trained)['weights']}", "format=onnx", "imgsz=32", "--json"
    )
    if not Path(json.loads(exported)["file"]).is_file():
        sys.exit(f"FAILED: the export says that it wrote {exported.strip()}, which is not there")


def check_origin(fresh: Environment) -> None:
    """Stop unless what is imported is what was installed, and the checkout is nowhere in the way."""
    code = "import json, os, sys, yolomix; print(json.dumps([*map(os.path.realpath, [yolomix.__file__, *sys.path])]))"
    file, *paths = json.loads(fresh.run("python", "-c", code))
    if not Path(file).is_relative_to(fresh.site):
        sys.exit(f"FAILED: yolomix is imported from {file}, not from {fresh.site}")
    if inside := [path for path in paths if Path(path).is_relative_to(ROOT)]:
        sys.exit(f"FAILED: the checkout can be imported, from {', '.join(inside)}")


if __name__ == "__main__":
    main()
