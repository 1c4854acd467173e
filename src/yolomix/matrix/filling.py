"""The cells of a matrix, one after the other, each in a process of its own that may take so long and no longer.

Converters hang, run out of memory and crash. What a cell gave is written as soon as it is known, and a second call goes
on where the first ended; a row that is deleted is made again.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from yolomix import files, processes
from yolomix.host import entry, names, precisions, tools
from yolomix.host.names import Kind
from yolomix.matrix import values
from yolomix.matrix.child import FOUND, LENGTH
from yolomix.matrix.values import Cell, Key, Matrix
from yolomix.models import zoo
from yolomix.nn import origins
from yolomix.progress import Progress
from yolomix.records import Conditions, versions

MODELS = (*(model.typed(next(iter(model.parameters))) for model in zoo().values()), "yolov8n+VSSBlock@p5.yaml")
# The packages whose versions stand beside what a format gave; of other formats only that of PyTorch.
PACKAGES = {
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "torchscript": ("torch",),
    "ncnn": ("ncnn", "pnnx"),
    "mnn": ("MNN",),
    "litert": ("litert-torch", "ai-edge-litert"),
    "coreml": ("coremltools", "numpy"),
    "executorch": ("executorch",),
    "paddle": ("paddlepaddle", "x2paddle"),
}


def export_matrix(
    models: Sequence[str],
    forms: Sequence[str],
    bits: Sequence[int],
    size: int,
    limit: float,
    data: str | None,
    path: Path,
    progress: Progress = lambda done, total, what: None,
) -> Matrix:
    """Fill the cells that a CSV file has not yet; it and a Markdown file beside it are written after every cell.

    Args:
        models: packaged names, checkpoints, model YAMLs or grafts.
        forms: values of ``format=``.
        bits: 32, 16, 8.
        size: side of the images, in pixels.
        limit: how long a cell may take, in seconds.
        data: a dataset YAML with which INT8 is calibrated, and checkpoints are evaluated; None takes none.
        path: CSV file with a row for each cell.
        progress: called with cells done, cells in all, and what is being done.

    Returns: the cells that were asked for.

    Raises:
        ValueError: the file is another one, or a model is an exported file.
        FileNotFoundError: there is no such model.
    """
    known = {cell.key: cell for cell in values.read(path)}
    asked = [
        (Key(model, content, form, precisions.NAMES[one], str(size)), one)
        for model, content in [(model, _content(model)) for model in models]
        for one in bits
        for form in forms
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    for done, (key, one) in enumerate(asked):
        if key in known and known[key].is_measured:
            continue
        progress(done, len(asked), f"{key.model} in {key.format}, {key.precision}")
        cell = _cell(key, one, limit, data)
        known = {**{cell.key: cell for cell in values.read(path)}, key: cell}
        values.write(path, known.values())
    found = Matrix(tuple(known[key] for key, _ in asked))
    files.write_text(path.with_suffix(".md"), found.markdown())
    return found


def _content(model: str) -> str:
    """The first digits of the SHA-256 of a model's file, so that a file that has changed is another model.

    Raises:
        ValueError: it is an exported file or an address.
        FileNotFoundError: there is none of that name.
    """
    found = names.resolve(model)
    if found.kind not in (Kind.PACKAGED, Kind.YAML, Kind.CHECKPOINT):
        raise ValueError(f"export-matrix exports a checkpoint or a model YAML, and {model} is an {found.kind.value}")
    entry.check_there(model)
    if found.kind is not Kind.CHECKPOINT:
        names.described(found.base)
    if found.kind is Kind.PACKAGED or found.file is None:
        return ""
    return hashlib.sha256(found.file.read_bytes()).hexdigest()[:12]


def _cell(key: Key, bits: int, limit: float, data: str | None) -> Cell:
    """What became of a cell, or why it was not tried."""
    reason = precisions.refusal(key.format, bits, data)
    if not reason and (lacking := tools.lacking(key.format)):
        reason = tools.missing(*lacking)
    if reason:
        return Cell(key, {"reason": reason, **Conditions.here().row()})
    request = {
        "model": key.model, "format": key.format, "bits": bits, "imgsz": int(key.imgsz), "data": data,
        "imports": [*origins.BROUGHT],
    }  # fmt: skip
    return Cell(key, {**Conditions.here().row(), **tried(request, limit), "packages": packages_of(key.format)})


def tried(request: dict[str, object], limit: float) -> dict[str, str]:
    """What the process of a cell found, which is ended after ``limit`` seconds.

    Args:
        request: what :mod:`yolomix.matrix.child` is asked, but for the folder.
        limit: in seconds.
    """
    row: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="yolomix-matrix-", ignore_cleanup_errors=True) as folder:
        found = Path(folder, FOUND)
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                command(), stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )  # in a session of its own: what it began ends with it
            try:
                ended = _waited(process, {**request, "folder": folder}, limit)
            finally:
                processes.send(process)
                process.communicate()
            log.seek(0)
            said = log.read().decode("utf-8", "replace")
        if found.exists():
            row |= json.loads(found.read_text(encoding="utf-8"))
        if ended:
            last = said.strip().splitlines()[-1:]
            row["reason"] = "; last said: ".join([ended, *last])[:LENGTH]
    return row


def command() -> list[str]:
    """What starts the process of a cell."""
    return [sys.executable, "-m", "yolomix.matrix.child"]


def _waited(process: subprocess.Popen[bytes], request: dict[str, object], limit: float) -> str:
    """How a process ended, in words; empty where it ended well."""
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:  # it has ended; how is read below
        pass
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        return f"not done after {limit:.0f} s"
    return f"its process ended with {code}" if code else ""


def packages_of(form: str) -> str:
    """The packages of a format with the versions that are installed.

    >>> packages_of("torchscript").startswith("torch 2")
    True
    """
    found: Iterable[tuple[str, str | None]] = versions(PACKAGES.get(form, ("torch",))).items()
    return ", ".join(f"{name} {version}" if version else f"no {name}" for name, version in found)
