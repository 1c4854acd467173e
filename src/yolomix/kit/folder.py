"""The folder of a kit: which models can have one, what its ``kit.json`` says, and writing it whole."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from yolomix import files
from yolomix.host import predicting
from yolomix.host.exported import Contents, layout
from yolomix.host.weights import Model

# By format: what its files end in, and the parts of a kit that run them.
FORMATS = {
    "onnx": (".onnx", ("detect.py", "index.html", "detect.mjs")),
    "openvino": ("_openvino_model", ("detect.py",)),
}
SETTINGS, SCRIPT = "kit.json", "detect.py"
HEADS = ("grid", "rows")  # layouts of outputs that the script and the page read
MAY_CHANGE = ("conf", "iou", "max_det", "runtime", "licence")  # what a user may, the file being the same
WEB = "1.30.0"  # of onnxruntime-web
RUNTIME = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{WEB}/dist/"
NONE = 2.0  # an overlap that no boxes have, rounding counted: nothing is suppressed
MAX_DET = 300  # detections in an image, as in predict
GREY = 114  # around an image


def check(model: Model, form: str, batch: int = 1, dynamic: bool = False) -> None:
    """Raise ValueError if there is no kit for a model in a format; nothing has been traced by then.

    Args:
        model: of Ultralytics.
        form: what ``format=`` says.
        batch: how many images the file takes at once, if it is not ``dynamic``.
        dynamic: whether it takes any number.
    """
    if form not in FORMATS:
        raise ValueError(f"kit=True has no script for format={form}; formats that have one: {', '.join(FORMATS)}")
    contents = Contents(model.task, model.names, (0, 0))
    if model.task != "detect" or layout(model, contents) not in HEADS:
        what = model.task if model.task != "detect" else type(model.model[-1]).__name__
        raise ValueError(
            f"kit=True has scripts for detectors with the head of a YOLO, and this model's is {what}: leave kit out, "
            "and run the file with `yolomix predict`"
        )
    channels = model.yaml.get("channels", 3)
    if channels != 3:
        raise ValueError(
            f"kit=True has scripts for images of 3 channels, and this model takes {channels}: leave kit out"
        )
    if batch > 1 and not dynamic:
        raise ValueError(f"kit=True shows a file one image at a time, and batch={batch} was asked for: leave batch out")


def settings(file: Path, contents: Contents, kind: str, licence: str = "") -> dict[str, Any]:
    """All that differs between kits, as plain values.

    Args:
        file: the exported file or folder.
        contents: what it says about itself.
        kind: how the outputs of its model are laid out (:func:`yolomix.host.exported.layout`).
        licence: of the model.

    Returns: what ``kit.json`` says. ``multiple`` is what sides are padded to multiples of, ``iou`` from which overlap
    on a box is suppressed.
    """
    tight = contents.dynamic and predicting.pads_to_stride()
    suppressed = needs_suppression(contents, kind)
    found: dict[str, Any] = {
        "file": file.name,
        "task": contents.task,
        "imgsz": [*contents.imgsz],
        "multiple": [contents.stride] * 2 if tight else [*contents.imgsz],
        "grey": GREY,
        "input": _input(file),
        "head": "grid" if suppressed else "rows",
        "conf": 0.25,
        "iou": 0.7 if suppressed else NONE,
        "max_det": MAX_DET,
        "names": [contents.names[index] for index in sorted(contents.names)],
        "licence": licence,
    }
    if file.suffix == ".onnx":
        found["runtime"] = RUNTIME
    return found


def needs_suppression(contents: Contents, kind: str) -> bool:
    """Whether what a file gives is all candidates, of which some are to be suppressed; else it is detections."""
    return kind == "grid" and not contents.nms


def _input(file: Path) -> str:
    """The type of the numbers that a file takes."""
    if file.suffix != ".onnx":
        return "float32"
    import onnx

    kind = onnx.load(str(file), load_external_data=False).graph.input[0].type.tensor_type.elem_type
    return "float16" if kind == onnx.TensorProto.FLOAT16 else "float32"


def write(file: Path, chosen: dict[str, Any], measured: str) -> Path:
    """Write a kit beside an exported file, whole or not at all; the kit that stood there goes.

    Args:
        file: the exported file or folder, which is copied.
        chosen: :func:`settings` of it.
        measured: what its README says last, Markdown.

    Returns: the folder.

    Raises:
        FileExistsError: a folder of that name is no kit.
        OSError: nothing can be written there.
    """
    folder = place(file)
    if folder.exists() and not is_kit(folder):
        raise FileExistsError(f"{folder} exists and is no kit, so it stays: move it, and export again")
    with files.folder_aside(folder) as aside:
        whole = aside / folder.name
        whole.mkdir()
        copy = shutil.copytree if file.is_dir() else shutil.copyfile
        copy(file, whole / file.name)
        for part in FORMATS[_format(file.name)][1]:
            files.write(whole / part, _part(part).encode("utf-8"), flush=False)
        files.write_text(whole / SETTINGS, json.dumps(chosen, indent=1, ensure_ascii=False) + "\n", flush=False)
        write_readme(whole, measured)
        return files.put_in_place(whole, folder)


def write_readme(folder: Path, measured: str) -> None:
    """Write the README of a kit anew, which ends in what was measured, Markdown."""
    chosen = read(folder)
    text = Template(_part(f"{_format(chosen['file'])}.md")).substitute(
        name=folder.name, file=chosen["file"], licence=chosen["licence"], web=WEB, measured=measured
    )
    files.write_text(folder / "README.md", text)


def place(file: Path) -> Path:
    """Where the kit of an exported file lies.

    >>> place(Path("best.onnx")).name, place(Path("best_openvino_model")).name
    ('best_onnx_kit', 'best_openvino_kit')
    """
    form = _format(file.name)
    return file.with_name(f"{file.name.removesuffix(FORMATS[form][0])}_{form}_kit")


def is_kit(path: Path) -> bool:
    """Whether a folder is a kit."""
    return (path / SETTINGS).is_file()


def exported(path: Path) -> Path:
    """The exported file in a kit; of what is no kit, itself.

    Raises:
        FileNotFoundError: it does not lie there.
        ValueError: as :func:`read`.
    """
    if not is_kit(path):
        return path
    file = path / read(path)["file"]
    if not file.exists():
        raise FileNotFoundError(
            f"{path / SETTINGS} names {file.name}, which does not lie beside it; export the kit again"
        )
    return file


def read(folder: Path) -> dict[str, Any]:
    """The settings of a kit.

    Raises:
        ValueError: its ``kit.json`` cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads((folder / SETTINGS).read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / SETTINGS} is no JSON, {error}; export the kit again") from error
    return found


def _format(name: str) -> str:
    return next(form for form, (suffix, _) in FORMATS.items() if name.endswith(suffix))


def _part(name: str) -> str:
    return resources.files("yolomix.kit").joinpath("parts", name).read_text("utf-8")
