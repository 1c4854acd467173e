"""A package that is missing is named together with the extra that has it, for every verb that needs one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests import fresh
from yolomix.cli import FAILED, listings, main, missing

EXTRAS = {
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "onnxslim": "export",
    "openvino": "export",
    "lap": "track",
    "cloudpickle": "ddp",
    "ray": "ray",
    "pytorch_grad_cam": "cam",
}
NOT_HERE = {"ray", "pytorch_grad_cam"}  # what the tests have not installed


def test_extras_are_found_by_the_module_that_is_imported() -> None:
    assert missing.extras() == EXTRAS
    for module in EXTRAS.keys() - NOT_HERE:
        assert importlib.util.find_spec(module) is not None, f"{module} is no module of the package of this name"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("onnx.helper", "No module named 'onnx.helper': pip install 'yolomix[export]'"),
        ("cloudpickle", "No module named 'cloudpickle': pip install 'yolomix[ddp]'"),
        ("pytorch_grad_cam", "No module named 'pytorch_grad_cam': pip install 'yolomix[cam]'"),
        (
            "tensorrt",
            "No module named 'tensorrt'. No extra of yolomix has it: install its package, perhaps pip install ",
        ),
        (None, "No module named None"),
    ],
)
def test_what_to_install_is_said(name, text, monkeypatch, capsys) -> None:
    def version() -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(listings, "version", version)
    assert main(["version"]) == FAILED
    assert capsys.readouterr().err.startswith(f"yolomix: {text}")


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from yolomix.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("onnx", ["export", "format=onnx"], "export"),
        ("lap", ["track", "source=image.png"], "track"),
    ],
)
def test_verbs_that_miss_a_package_say_which_extra_has_it(module, words, extra, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    from yolomix.host import weights

    weights.write(weights.from_yaml("yolo11n.yaml"), tmp_path / "m.pt")
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((32, 32, 3), np.uint8))
    done = fresh.run(WITHOUT, module, *words, "model=m.pt", "imgsz=32", "device=cpu", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (FAILED, "")
    assert done.stderr.splitlines()[-1].endswith(f"pip install 'yolomix[{extra}]'"), done.stderr
