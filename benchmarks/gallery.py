"""The figures of docs/figures.md: ``python -m benchmarks.gallery`` trains what they show, draws, and keeps the images.

Five detectors are trained from scratch on the sample dataset with the recipe of ``yolomix demo``; one whose checkpoint
is in the folder is not trained again. Then the command below every image of the page runs there; ``image.jpg`` is the
first validation image.
"""

from __future__ import annotations

import argparse
import io
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from yolomix import demo, files
from yolomix.data import sample_dataset
from yolomix.host import offline

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "figures.md"
FIGURE = re.compile(r"^!\[[^]]*\]\((?P<image>images/figures/[^)]+)\)\n+```bash\nyolomix (?P<words>[^`]+)```$", re.M)
EPOCHS = 12
WIDEST = 1400  # pixels of an image in the docs
MODELS = {
    "mamba-yolo-t": "mamba-yolo-t.yaml",
    "yolo11n-mlla": "yolo11n-mlla.yaml",
    "yolo11n-assg": "yolo11n-assg.yaml",
    "yolo11n-halo": "yolo11n-halo.yaml",
    "grafted": "yolo11n+MLLABlock@p4+HaloAttention(2,1)@p5.yaml",
}


def commands(page: str) -> dict[str, list[str]]:
    """The command of every image of a page, by the image's file.

    >>> page = ["![a map](images/figures/erf.webp)", "", "```bash", "yolomix figures erf models=a.pt", "```"]
    >>> commands(chr(10).join(page))
    {'images/figures/erf.webp': ['figures', 'erf', 'models=a.pt']}
    """
    return {found["image"]: shlex.split(found["words"]) for found in FIGURE.finditer(page)}


def train(out: Path) -> None:
    """Train those of ``MODELS`` that have no checkpoint yet."""
    from yolomix import YOLO

    for name, model in MODELS.items():
        if not (out / name / "weights" / "best.pt").exists():
            where: dict[str, Any] = {"project": str(out.resolve()), "name": name, "exist_ok": True}
            YOLO(model).train(data=str(sample_dataset()), epochs=EPOCHS, seed=0, **where, **demo.RECIPE)


def draw(out: Path) -> None:
    """Run the commands of the page and put each image where the page has it."""
    from PIL import Image

    shutil.copyfile(sample_dataset().parent / "images" / "val" / "0000.jpg", out / "image.jpg")
    for image, words in commands(PAGE.read_text(encoding="utf-8")).items():
        folder = out / "figures" / Path(image).stem
        subprocess.run([sys.executable, "-m", "yolomix", *words, f"out={folder.resolve()}"], cwd=out, check=True)
        with Image.open(folder / f"{words[1]}.png") as drawn:
            small = drawn.convert("RGB")
        small.thumbnail((WIDEST, 2 * WIDEST))
        content = io.BytesIO()
        small.save(content, format="webp", quality=88)
        (DOCS / image).parent.mkdir(exist_ok=True)
        files.write(DOCS / image, content.getvalue())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/gallery"), help="folder of the trainings and figures")
    given = parser.parse_args()
    offline.prepare()
    train(given.out)
    draw(given.out)
