"""Objects in images, a line of JSON for each: python detect.py IMAGE... Needs no PyTorch; kit.json has the settings."""

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent
KIT = json.loads((HERE / "kit.json").read_text("utf-8"))


def mixed(have: int, size: int) -> tuple[np.ndarray, ...]:
    """The two of ``have`` pixels that each of ``size`` is mixed of, and their parts in 2048ths: what OpenCV takes."""
    at = ((np.arange(size) + 0.5) * (have / size) - 0.5).astype(np.float32)
    first, part = np.floor(at).astype(np.int32), np.rint((at - np.floor(at)) * 2048).astype(np.int32)
    return first.clip(0, have - 1), (first + 1).clip(0, have - 1), 2048 - part[:, None], part[:, None]


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image, (h, w, 3), of another size, bit by bit as from OpenCV. Pillow smooths, and scores move by 0.09."""
    (up, down, a, b), (left, right, c, d) = mixed(len(pixels), height), mixed(pixels.shape[1], width)
    rows = (pixels[:, left] * c + pixels[:, right] * d) >> 4
    return ((rows[up] * a[..., None] >> 16) + (rows[down] * b[..., None] >> 16) + 2) >> 2


if is_onnx := KIT["file"].endswith(".onnx"):
    model = import_module("onnxruntime").InferenceSession(HERE / KIT["file"], providers=["CPUExecutionProvider"])
else:
    model = import_module("openvino").Core().compile_model(next((HERE / KIT["file"]).glob("*.xml")), "CPU")

for name in sys.argv[1:] or sys.exit(__doc__):
    try:
        image = ImageOps.exif_transpose(Image.open(name)).convert("RGB")  # a photograph may lie on its side
    except OSError as error:
        sys.exit(f"cannot read {name} as an image: {error}")
    given, sides = np.array(image.size[::-1]), np.array(KIT["imgsz"])  # heights and widths
    size = np.rint(given * (sides / given).min()).astype(int).clip(1)
    sides = size + (sides - size) % KIT["multiple"]
    top, left = corner = np.rint((sides - size) / 2 - 0.1).astype(int)
    x = np.full((1, 3, *sides), KIT["grey"] / 255, KIT["input"])
    x[0, :, top : top + size[0], left : left + size[1]] = resized(np.asarray(image), *size).transpose(2, 0, 1) / 255
    y = (model.run(None, {model.get_inputs()[0].name: x}) if is_onnx else model(x))[0][0].astype(np.float32)
    if KIT["head"] == "grid":  # (4 + classes, N): centre, size, scores; else (N, 6): corners, score, class
        middle, half, scores = y[:2].T, y[2:4].T / 2, y[4:].T
        y = np.c_[middle - half, middle + half, scores.max(1), scores.argmax(1)]
    y = y[np.argsort(-y[:, 4], kind="stable")][: (y[:, 4] > KIT["conf"]).sum()]
    for _ in range(min(KIT["max_det"], len(y))):
        best, y = y[0], y[1:]
        ends = (best[:4].reshape(2, 2) - corner[::-1]) * (given / size)[::-1]
        found = {"image": name, "class": int(best[5]), "label": KIT["names"][int(best[5])], "score": float(best[4])}
        found["box"] = ends.clip(0, image.size).round(2).ravel().tolist()
        sys.stdout.buffer.write(json.dumps(found, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        shared = (np.minimum(best[2:4], y[:, 2:4]) - np.maximum(best[:2], y[:, :2])).clip(0).prod(1)
        both = (best[2:4] - best[:2]).prod() + (y[:, 2:4] - y[:, :2]).prod(1) - shared
        y = y[(shared <= KIT["iou"] * both) | (y[:, 5] != best[5])]  # what overlaps it more is the same object
        if not len(y):
            break
