"""A dataset that needs no download: images rendered in seconds, the same on every machine.

It has six classes that differ by outline, texture or arrangement, in sizes from 8 pixels to half of the image, among
clutter and half hidden by each other. The labels are polygons. Ultralytics reads them for detection (as the box around)
and for segmentation alike. ``data=sample`` means this dataset wherever Ultralytics asks for one.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import platformdirs

from yolomix import files, progress
from yolomix.data.scene import labelled_image
from yolomix.data.shapes import CLASSES

LOGGER = logging.getLogger("yolomix")

TASKS = ("detect", "segment")
SPLITS = {"train": 400, "val": 100, "test": 100}  # images in each
FOLDER = "sample-v2"  # counts up whenever an image, a label or the name of a class changes
JPEG_QUALITY = 92
KINDS = {"images": ".jpg", "labels": ".txt"}  # folders, and what their files end in
DIGESTS = "sha256.txt"  # of every image and label, as sha256sum writes and checks them


def sample_dataset(task: str = "detect", root: str | Path | None = None) -> Path:
    """The dataset YAML of the sample dataset, rendered on first use (about ten seconds) and kept.

    Several processes may call this at once: one set of images survives, and none is seen half written.

    >>> sample_dataset("pose")
    Traceback (most recent call last):
    ValueError: the sample dataset is labelled for detect and segment, not for 'pose'. Give data= a file

    Args:
        task: what it is wanted for, one of ``TASKS``; the files are the same.
        root: folder to keep it in. None takes :func:`cache_folder`, or the folder for temporary files if that cannot be
            written.

    Raises:
        ValueError: the dataset has no labels for the task.
        OSError: ``root`` cannot be written.
    """
    if task not in TASKS:
        raise ValueError(
            f"the sample dataset is labelled for {' and '.join(TASKS)}, not for {task!r}. Give data= a file"
        )
    if root is not None:
        return _kept(Path(root) / FOLDER)
    try:
        return _kept(cache_folder() / FOLDER)
    except OSError as error:
        spare = _spare_folder()
        LOGGER.warning("cannot keep the sample dataset in %s (%s); it goes to %s", cache_folder(), error, spare)
        return _kept(spare / FOLDER)


@functools.cache
def _spare_folder() -> Path:
    """A folder of this process's own, gone when it ends.

    Everybody may write into the folder for temporary files, so a name there that can be guessed may be a stranger's.
    """
    folder = tempfile.mkdtemp(prefix="yolomix-")
    owner = os.getpid()  # a forked child inherits the exit handler, and the folder is not its own

    def _remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(_remove)
    return Path(folder)


def cache_folder() -> Path:
    """Where rendered files are kept: ``YOLOMIX_CACHE``, or ``yolomix`` in the user's folder for such files.

    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, YOLOMIX_CACHE="here"):
    ...     print(cache_folder())
    here
    """
    if own := os.environ.get("YOLOMIX_CACHE"):
        return Path(own)
    return platformdirs.user_cache_path("yolomix", appauthor=False)


def render(folder: Path, splits: Mapping[str, int] = SPLITS) -> Path:
    """Write images, labels and a dataset YAML into a folder; returns the path of the dataset YAML.

    >>> render(Path("small"), {"train": 2, "val": 1}).name
    'data.yaml'
    >>> sorted(file.name for file in Path("small/labels/train").iterdir())
    ['0000.txt', '0001.txt']

    Args:
        folder: made if missing.
        splits: number of images in each split.
    """
    digests = []
    images = [(split, i) for split, count in splits.items() for i in range(count)]
    for split in splits:
        for kind in KINDS:
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
    what = f"rendering the sample dataset, {len(images)} images"
    with progress.shown(what) as said:
        for done, (split, i) in enumerate(images):
            said(done, len(images), what)
            drawn = labelled_image(seed(split, i))
            # Not cv2.imwrite, which on Windows cannot open a path with non-ASCII letters.
            _, encoded = cv2.imencode(".jpg", drawn.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            for kind, content in (("images", encoded.tobytes()), ("labels", drawn.label.encode("utf-8"))):
                file = files.write(folder / _name(kind, split, i), content, flush=False)
                digests.append(f"{files.digest(file)}  {_name(kind, split, i)}\n")
    files.write_text(folder / DIGESTS, "".join(digests), flush=False)
    return files.write_text(folder / "data.yaml", _dataset_yaml(splits), flush=False)


def _name(kind: str, split: str, index: int) -> str:
    """``("images", "val", 3)`` -> ``images/val/0003.jpg``."""
    return f"{kind}/{split}/{index:04d}{KINDS[kind]}"


def seed(split: str, index: int) -> int:
    """The seed of an image: no two splits share one.

    >>> seed("val", 3)
    1000003
    """
    return 1_000_000 * [*SPLITS].index(split) + index


def _dataset_yaml(splits: Mapping[str, int]) -> str:
    """The text of the dataset YAML."""
    lines = ["# The sample dataset of yolomix, rendered by yolomix.data: boxes and polygons of the same images."]
    for split in splits:
        lines.append(f"{split}: images/{split}")
    lines.append("names:")
    for i, kind in enumerate(CLASSES):
        lines.append(f"  {i}: {kind.name}")
    return "\n".join(lines) + "\n"


def _kept(folder: Path) -> Path:
    """The dataset YAML in a folder, which is rendered aside and put there in one step unless it is whole already."""
    if _whole(folder):
        return folder / "data.yaml"
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-{os.getpid()}-", dir=folder.parent))
    try:
        render(aside / "new")
        try:
            if folder.exists() and not _whole(folder):
                folder.rename(aside / "broken")
            files.publish(aside / "new", folder)
        except OSError:  # another process was quicker, or the folder cannot be written
            if not _whole(folder):
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    LOGGER.info("the sample dataset is kept in %s", folder)
    return folder / "data.yaml"


def _whole(folder: Path) -> bool:
    """Whether the dataset YAML is the one that is rendered, and all images and labels are as they were written.

    Nothing that is found decides what runs: Ultralytics executes a ``download:`` line of a dataset YAML.
    """
    try:
        if (folder / "data.yaml").read_bytes() != _dataset_yaml(SPLITS).encode("utf-8"):
            return False
        lines = (folder / DIGESTS).read_text("utf-8").splitlines()
        digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        return digests.keys() == _found(folder) == _expected() and all(
            files.digest(folder / name) == digest for name, digest in digests.items()
        )
    except (OSError, ValueError):  # what cannot be read is not there
        return False


def _expected() -> set[str]:
    """The names of all images and labels."""
    return {_name(kind, split, i) for kind in KINDS for split, count in SPLITS.items() for i in range(count)}


def _found(folder: Path) -> set[str]:
    """The names of the images and labels that are there, strangers included."""
    paths = [path for kind, suffix in KINDS.items() for path in (folder / kind).glob(f"*/*{suffix}")]
    return {path.relative_to(folder).as_posix() for path in paths}


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were rendering; those that still run keep theirs."""
    for path in folder.parent.glob(f"{folder.name}-*"):
        pid = path.name.removeprefix(f"{folder.name}-").split("-")[0]
        if pid.isdecimal() and not files.runs(int(pid)):
            shutil.rmtree(path, ignore_errors=True)
