"""Pictures and arrays that no camera makes, through prediction and through the first batch of a training."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.faults import judge, modelfiles
from tests.faults.kind import Bad, Case, Kind
from tests.tiny import TINY, write_dataset

MODES = ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "I", "F", "LAB", "HSV")
FORMATS = ("png", "jpg", "bmp", "tif", "webp", "gif", "ppm", "mpo", "pfm", "ico", "tga", "jp2", "avif", "dng", "heic")
SIDES = (1, 2, 3, 7, 31, 64, 65, 640, 3000)
BYTES = ("empty", "cut", "flipped", "text", "html", "zero", "end cut", "headless", "twice")
DTYPES = ("uint8", "int8", "uint16", "int32", "int64", "float16", "float32", "float64", "bool", "complex64", "object")
SHAPES = ("hwc", "chw", "hw", "hw1", "hw2", "hw4", "hw5", "nhwc", "empty", "0wc", "scalar", "list", "huge")
LAYOUTS = ("contiguous", "reversed", "transposed", "strided", "read only", "fortran")
FILLS = ("noise", "nan", "inf", "negative", "large", "zero")


def draw(random: Random) -> Case:
    """A file, or an array, and who gets it."""
    if random.random() < 0.6:
        return {
            "entry": random.choice(("predict", "predict", "loader", "cli predict")), "mode": random.choice(MODES),
            "format": random.choice(FORMATS[:7] if random.random() < 0.7 else FORMATS),
            "size": random.choices(SIDES, k=2),
            "suffix": random.choice((None, None, *FORMATS, "PNG", "txt", "")), "frames": random.choice((1, 1, 1, 3)),
            "turn": random.choice((0, 0, 3, 6, 8, 99)), "bytes": random.choice((None, None, None, *BYTES)),
            "name": random.choice(("a", "a", "é", "a b", "日本", "a%sb", "-", "a'b", "x" * 200, "a.b", "a\nb")),
        }  # fmt: skip
    kind = random.choice(("array", "array", "tensor", "PIL", "list of arrays"))
    return {
        "entry": kind, "dtype": random.choice(DTYPES), "shape": random.choice(SHAPES),
        "size": random.choices(SIDES[:7], k=2),
        "layout": random.choice(LAYOUTS), "fill": random.choice(FILLS), "mode": random.choice(MODES),
    }  # fmt: skip


def check(case: Case) -> str:
    """Predict with it, or train up to the first batch with it among the others."""
    from yolomix.host import entry

    entry.no_lookups()
    os.environ["YOLOMIX_BACKEND"] = "eager"
    Path("yolo0n-tiny.yaml").write_text(TINY)
    if "format" not in case:
        return _predicted(_given(case))
    file = _written(case)
    if file is None:
        return "not made"
    if case["entry"] == "loader":
        return _loaded(file)
    if case["entry"] == "cli predict":
        return _by_command(file)
    return _predicted(str(file))


def _written(case: Case) -> Path | None:
    """The picture as a file, or None where Pillow cannot write such a one."""
    from PIL import Image

    suffix = case["format"] if case["suffix"] is None else case["suffix"]
    file = Path(f"{case['name']}.{suffix}" if suffix else case["name"])
    picture = Image.effect_noise((case["size"][0], case["size"][1]), 60)
    # Several frames of an AVIF end the process inside Pillow, which writes the case and is not what is tried.
    exif = Image.Exif()
    exif[0x0112] = case["turn"]
    try:
        frames = [picture.convert("RGB").convert(case["mode"]) if case["mode"] != "I;16" else picture.convert("I;16")]
        more: dict[str, Any] = (
            {"save_all": True, "append_images": frames * (case["frames"] - 1)}
            if case["frames"] > 1 and case["format"] != "avif"
            else {}
        )
        kind = {"jpg": "jpeg", "tif": "tiff", "jp2": "jpeg2000", "pfm": "ppm", "heic": "png", "dng": "tiff"}
        frames[0].save(file, kind.get(case["format"], case["format"]), exif=exif, **more)
    except (OSError, ValueError, KeyError):
        return None
    raw = file.read_bytes()
    half = len(raw) // 2
    file.write_bytes({
        None: raw, "empty": b"", "cut": raw[:half], "text": b"no picture",
        "flipped": raw[:half] + bytes(b ^ 255 for b in raw[half:]),
        "html": b"<html>404</html>", "zero": bytes(len(raw)), "end cut": raw[:-2], "headless": raw[8:],
        "twice": raw + raw,
    }[case["bytes"]])  # fmt: skip
    return file


def _given(case: Case) -> Any:
    """The array, tensor or picture in memory."""
    import numpy
    import torch
    from PIL import Image

    if case["entry"] == "PIL":
        mode = case["mode"]
        return Image.new("RGB" if mode == "I;16" else mode, tuple(case["size"]))
    array = _filled(case)
    layouts: dict[str, Callable[[Any], Any]] = {
        "reversed": lambda a: a[::-1], "transposed": lambda a: a.T, "strided": lambda a: a[::2],
        "fortran": numpy.asfortranarray,
    }  # fmt: skip
    if array.ndim:
        array = layouts.get(case["layout"], lambda a: a)(array)
    if case["layout"] == "read only":
        array.flags.writeable = False
    if case["entry"] == "tensor":
        try:
            return torch.from_numpy(array.copy())
        except TypeError:
            return torch.zeros(1, 3, 33, 64)
    return [array, array] if case["entry"] == "list of arrays" else array


def _filled(case: Case) -> Any:
    import numpy

    h, w = case["size"]
    shapes = {
        "hwc": (h, w, 3), "chw": (3, h, w), "hw": (h, w), "hw1": (h, w, 1), "hw2": (h, w, 2), "hw4": (h, w, 4),
        "hw5": (h, w, 5),
        "nhwc": (2, h, w, 3), "empty": (0,), "0wc": (0, w, 3), "scalar": (), "list": (7,), "huge": (2, 5000, 3),
    }  # fmt: skip
    array = numpy.random.default_rng(0).integers(0, 255, shapes[case["shape"]])
    values = {"nan": numpy.nan, "inf": numpy.inf, "negative": -7, "large": 1e30, "zero": 0}
    with numpy.errstate(all="ignore"):
        array = array.astype("float64") if case["fill"] in ("nan", "inf", "large") else array
        if case["fill"] in values and array.size:
            array[...] = values[case["fill"]]
        return numpy.asarray(array).astype(case["dtype"])


def _model() -> Any:
    import yolomix

    return yolomix.YOLO("yolo0n-tiny.yaml")


def _predicted(source: Any) -> str:
    import torch

    for result in _model().predict(source, imgsz=64, verbose=False, save=False, device="cpu", conf=0.01):
        if not torch.isfinite(result.boxes.data).all():
            raise Bad(f"the boxes are {result.boxes.data}")
    return "predicted"


def _by_command(file: Path) -> str:
    from yolomix.cli.verbs import VERBS
    from yolomix.host import weights

    weights.write(weights.from_yaml("yolo0n-tiny.yaml"), "tiny.pt")
    answer = VERBS["predict"].run(["model=tiny.pt", f"source={file}", "imgsz=64", "device=cpu"])
    if not answer.data["images"]:
        raise Bad("nothing was read, and no error")
    return "predicted"


class _StopError(Exception):
    """Enough of a training."""


def _loaded(file: Path) -> str:
    write_dataset(Path("data").resolve())
    file.rename(Path("data/images/train") / file.name)
    (Path("data/labels/train") / f"{file.stem}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    model = _model()
    model.add_callback("on_train_start", _batches)
    with contextlib.suppress(_StopError):
        model.train(**modelfiles.SETTINGS, data="data/data.yaml", epochs=1)
    return "loaded"


def _batches(trainer: Any) -> None:
    for batch in trainer.train_loader:
        if batch["img"].shape[1] != 3:
            raise Bad(f"a batch has the shape {tuple(batch['img'].shape)}")
    raise _StopError


def theirs(error: BaseException) -> bool:
    """An error about a source that says what is wrong; of an array that is none, also one of OpenCV or PyTorch."""
    import ultralytics

    text = str(error)
    about = (
        *("No images or videos found", "source", "image", "Dataset '", "inputs should be", "Failed to open video"),
        "does not exist",
    )
    of_array = type(error).__module__.startswith("cv2") or isinstance(error, TypeError | ValueError | RuntimeError)
    said = judge.raised_in(error, "ultralytics") and any(word in text for word in about) and len(text) > 20
    # Ultralytics 8.3 makes a batch of no images where it could read none.
    said = said or (ultralytics.__version__.startswith("8.3.") and "need at least one array to stack" in text)
    return said or (of_array and bool(text) and not any(Path().glob("a.*")))


def _say_nothing() -> None:
    from yolomix.cli import passed

    passed.summary = lambda *given: {"verb": "predict", "images": ()}


KIND = Kind(
    name="images",
    tries="images and arrays that no camera makes, by prediction and up to the first batch of a training",
    figure="predicted with finite boxes, left out with a warning, or refused with the reason; 20 s, 4 GiB",
    check=check,
    target=600,
    draw=draw,
    small=8,
    theirs=theirs,
    first=(
        {
            "entry": "cli predict",
            "mode": "RGB",
            "format": "png",
            "size": [64, 64],
            "suffix": None,
            "frames": 1,
            "turn": 0,
            "bytes": "empty",
            "name": "a",
        },
    ),
    plants={"nothing read, nothing said": _say_nothing},
)
