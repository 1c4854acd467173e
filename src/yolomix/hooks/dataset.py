"""Datasets and sources that Ultralytics takes without a look: values of a dataset YAML, lists of images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from ultralytics.utils import DATASETS_DIR

from yolomix.host.fork_rows import shown

MOST = 100_000  # classes; Ultralytics makes a name for each of them


def check_det_dataset(native: Callable[..., dict[str, Any]], dataset: str | Path, *args: Any, **kwargs: Any) -> Any:
    """A dataset YAML, read as ever.

    Raises:
        ValueError: a value that is used later on, without a word about the file, is none of its kind.
        ConnectionError: its images are neither here nor to be had.
    """
    wrong = None
    with contextlib.suppress(OSError, ValueError, yaml.YAMLError):  # Ultralytics says what is wrong with such a file
        found = yaml.safe_load(Path(dataset).read_text("utf-8"))
        if isinstance(found, dict):
            wrong = fault(found)
    if wrong:
        raise ValueError(f"{dataset}: {wrong}")
    try:
        return native(dataset, *args, **kwargs)
    except (SyntaxError, NameError) as error:
        if isinstance(error, SyntaxError) and error.filename is None:  # Ultralytics' own: a key is missing
            raise
        raise ValueError(
            f"{dataset}: its images are missing, and its download is no address, no 'bash COMMAND' and no Python code: "
            f"{type(error).__name__}: {error}"
        ) from error
    except ConnectionError as error:
        reason = str(error).strip("❌ .")
        raise ConnectionError(
            f"{dataset}: its images are missing and cannot be downloaded ({reason}); put them below {DATASETS_DIR}, or "
            "take data=sample, which needs no download"
        ) from error


def check_train_dataset(native: Callable[..., dict[str, Any]], dataset: str | Path, *args: Any, **kwargs: Any) -> Any:
    """:func:`check_det_dataset` for a training.

    Raises:
        ValueError: there are no images to train on.
    """
    data = check_det_dataset(native, dataset, *args, **kwargs)
    if not data.get("train"):
        raise ValueError(f"{dataset}: train is {shown(data.get('train'))}, and a training needs a folder of images")
    return data


def load_inference_source(native: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The images of a source.

    Raises:
        ValueError: a source that has to be a text with a path in each line is none.
    """
    try:
        return native(*args, **kwargs)
    except UnicodeDecodeError as error:
        source = kwargs.get("source", args[0] if args else None)
        raise ValueError(
            f"{source} is no list of images: a source that ends in .txt or .csv is a text in UTF-8 with a path in each "
            f"line ({error}). Give an image the suffix of its format"
        ) from error


def fault(data: dict[str, Any]) -> str | None:
    """What is wrong with a value of a dataset YAML, or None.

    >>> fault({"train": "images/train", "val": "images/val", "names": ["cat"]})
    >>> fault({"train": "images", "val": "images", "nc": 1, "kpt_shape": [17]})
    'kpt_shape is [17], and has to be two whole numbers, as in kpt_shape: [17, 3]'
    """
    for key in ("train", "val", "test"):
        folders = data.get(key) or []
        if not all(isinstance(folder, str) for folder in (folders if isinstance(folders, list) else [folders])):
            return f"{key} is {shown(folders)}, and has to be a folder, a list of images, or several of them"
    if not isinstance(data.get("path") or "", str):
        return f"path is {shown(data['path'])}, and has to be a folder"
    channels = data.get("channels", 3)
    if type(channels) is not int or not 1 <= channels <= MOST:
        return f"channels is {shown(channels)}, and has to be a whole number from 1 on"
    classes = data.get("nc")
    if isinstance(classes, int | float) and not 0 <= classes <= MOST:
        return f"nc is {shown(classes)}, and has to be the number of classes, at most {MOST}"
    names = data.get("names")
    if isinstance(names, dict) and sorted(map(str, names)) != sorted(map(str, range(len(names)))):
        return f"names has the class indices {shown([*names])}, and has to have 0 to {len(names) - 1}"
    points = data.get("kpt_shape", [17, 3])
    is_shape = isinstance(points, list) and len(points) == 2 and all(type(n) is int and n > 0 for n in points)
    if not is_shape:
        return f"kpt_shape is {shown(points)}, and has to be two whole numbers, as in kpt_shape: [17, 3]"
    return None
