"""Kits whose runtimes are stubs: they keep what they are shown and find what ``found`` in ``kit.json`` says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolomix.kit import folder as kits

PARTS = Path(kits.__file__).parent / "parts"
SETTINGS = {
    "file": "a.onnx", "task": "detect", "imgsz": [64, 96], "multiple": [64, 96], "grey": 114, "input": "float32",
    "head": "rows", "conf": 0.25, "iou": kits.NONE, "max_det": 300, "names": ["a", "b"],
    "licence": "", "runtime": "ort/", "found": [],
}  # fmt: skip
PYTHON = """
import json, numpy as np
class InferenceSession:
    name, shown = "images", 0
    def __init__(self, file, providers):
        self.found = json.loads((file.parent / "kit.json").read_text("utf-8"))["found"]
    def get_inputs(self):
        return [self]
    def run(self, names, given):
        np.save(f"shown{self.shown}.npy", given["images"])
        self.shown += 1
        return [np.array(self.found, np.float32).reshape(1, -1, 6)]
"""
JAVASCRIPT = """
export const env = { wasm: {} };
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
export class InferenceSession {
  inputNames = ["images"];
  outputNames = ["output0"];
  static async create() { return new InferenceSession(); }
  async run({ images }) {
    globalThis.shown = images;
    const { found } = await (await fetch("kit.json")).json();
    return { output0: { dims: [1, found.length, 6], data: Float32Array.from(found.flat()) } };
  }
}
"""
NO_PYTORCH = "raise ImportError('the script of a kit imports none of these')"


def write(folder: Path, **changes: Any) -> Path:
    """A kit with other settings, in which neither PyTorch nor OpenCV can be imported."""
    (folder / "ort").mkdir(parents=True, exist_ok=True)
    for part in kits.FORMATS["onnx"][1]:
        shutil.copy(PARTS / part, folder / part)
    (folder / "kit.json").write_text(json.dumps({**SETTINGS, **changes}, ensure_ascii=False), "utf-8")
    (folder / "a.onnx").touch()
    (folder / "onnxruntime.py").write_text(PYTHON)
    (folder / "ort" / "ort.wasm.bundle.min.mjs").write_text(JAVASCRIPT)
    for name in ("torch", "ultralytics", "yolomix", "cv2"):
        (folder / f"{name}.py").write_text(NO_PYTORCH)
    return folder


def run(folder: Path, *images: Path) -> subprocess.CompletedProcess[str]:
    """Let ``detect.py`` of a kit look at images."""
    command = [sys.executable, str(folder / "detect.py"), *map(str, images)]
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8")


def shown(folder: Path, images: Sequence[Path]) -> list[np.ndarray]:
    """What the script shows to the model, (1, 3, H, W), of every image."""
    done = run(folder, *images)
    assert (done.returncode, done.stderr) == (0, "")
    return [np.load(folder / f"shown{i}.npy") for i in range(len(images))]
