"""What somebody who means harm puts into a file: calls, opcodes, rows of models, lines of YAMLs."""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path
from typing import Any

ADDRESS = "http://127.0.0.1:9/it.zip"
TEXT = "open('it-ran-text', 'w').close() or __import__('torch').nn.SiLU()"
MARK = b"ultralytics.nn.modules.mamba_yolo"
EVIL_MODEL = {
    "nc": 1,
    "activation": TEXT,
    "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
    "head": [[[0], 1, "Detect", ["nc"]]],
}

# What is called with what, by REDUCE.
CALLS: dict[str, tuple[str, str, list[Any]]] = {
    "os.system": ("os", "system", ["echo ran > it-ran-system"]),
    "exec": ("builtins", "exec", ["open('it-ran-exec', 'w').close()"]),
    "eval": ("builtins", "eval", ["open('it-ran-eval', 'w').close()"]),
    "open": ("builtins", "open", ["it-ran-open", "w"]),
    "Popen": ("subprocess", "Popen", [["touch", "it-ran-popen"]]),
    "urlopen": ("urllib.request", "urlopen", [ADDRESS]),
    "state dict from an address": ("torch.hub", "load_state_dict_from_url", [ADDRESS]),
    "hub": ("torch.hub", "load", ["stranger/repository", "model"]),
    "download": ("ultralytics.utils.downloads", "safe_download", [ADDRESS]),
    "a file's path": ("pathlib", "Path.touch", []),
    "import": ("importlib", "import_module", ["antigravity"]),
    "stock model": ("ultralytics.nn.tasks", "DetectionModel", [EVIL_MODEL]),
    "TorchVision": ("ultralytics.nn.modules.block", "TorchVision", ["resnet18", "DEFAULT"]),
    "YOLO": ("ultralytics", "YOLO", [ADDRESS + ".pt"]),
    "our YOLO": ("yolomix.host.yolo", "YOLO", ["strange2.yaml"]),
    "SameWidth": ("yolomix.nn.gate", "SameWidth", [8, "DetectionModel", [EVIL_MODEL]]),
    "Chain": ("yolomix.nn.gate", "Chain", [TEXT]),
    "ConvNormAct": ("yolomix.nn.mamba_yolo_parts", "ConvNormAct", [8, 8, TEXT]),
    "activation": ("ultralytics.nn.modules.conv", "Conv", [8, 8, 1, 1, None, 1, 1, TEXT]),
    "partial": ("functools", "partial", ["os.system", "echo ran > it-ran-partial"]),
}  # fmt: skip
PLACES = ("whole", "optimizer", "train_args", "model", "names")
OPCODES = {
    "INST": b"(S'echo ran > it-ran-inst'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'echo ran > it-ran-obj'\no.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x15echo ran > it-ran-glob\x85R.",
    "after the end": b"}.cos\nsystem\n(S'echo ran > it-ran-after'\ntR.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"\x80\x02(X\x07\0\0\0storagecos\nsystem\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ.",
}
# How the bytes are packed.
PACKED = ("zip", "compressed", "twice", "nested", "legacy", "pickle", "tar", "gzip", "bz2")
# What the rows, and what stands beside them, say in a file of the fork that holds no code.
ROWS: dict[str, dict[str, Any]] = {
    "a model": {"backbone": [[-1, 1, "DetectionModel", [EVIL_MODEL]]]},
    "a wrapped model": {"backbone": [[-1, 1, "Chain", [[1, "DetectionModel", [EVIL_MODEL]]]]]},
    "our wrapper": {"backbone": [[-1, 1, "SameWidth", ["DetectionModel", [EVIL_MODEL]]]]},
    "an expression": {"backbone": [[-1, 1, "Conv", [TEXT]]]},
    "an expression as name": {"backbone": [[-1, 1, TEXT, []]]},
    "a function": {"backbone": [[-1, 1, "torch.hub.load", ["a/b", "c"]]]},
    "torch.nn of more": {"backbone": [[-1, 1, "nn.modules.module.importlib.import_module", ["antigravity"]]]},
    "an activation": {"activation": TEXT},
    "an activation in a row": {"backbone": [[-1, 1, "Conv", [8, 3, 2, None, 1, 1, TEXT]]]},
    "weights of others": {"backbone": [[-1, 1, "TorchVision", [512, "resnet18", "DEFAULT", True, 2, True]]]},
    "repeats": {"backbone": [[-1, 10**9, "Conv", [8]]]},
    "many rows": {"backbone": [[-1, 1, "Conv", [8, 3, 1]]] * 10**5},
    "a width": {"backbone": [[-1, 1, "Conv", [10**12, 3, 1]]]},
    "a scale": {"scales": {"T": [1e9, 1e9, 1e9]}, "scale": "T"},
    "a list of lists": {"backbone": "twice"},
    "classes": {"nc": 10**12},
    "a file": {"yaml_file": ADDRESS, "backbone": ADDRESS},
    "text for a number": {"nc": TEXT, "ch": TEXT},
    "keypoints": {"kpt_shape": TEXT},
    "reads": {"backbone": [[TEXT, 1, "Conv", [8]]]},
}  # fmt: skip
ARGS = {
    "data": ADDRESS,
    "model": ADDRESS,
    "pretrained": ADDRESS,
    "project": ADDRESS,
    "cfg": ADDRESS,
    "tracker": ADDRESS,
}
YAMLS = {
    "activation": f"activation: {TEXT!r}\n", "tag": "x: !!python/object/apply:os.system ['echo ran > it-ran-tag']\n",
    "name tag": "x: !!python/name:os.system\n", "new": "x: !!python/object/new:os.system ['echo ran > it-ran-new']\n",
    "function": "backbone: [[-1, 1, torch_safe_load, [strange.pt]]]\n",
    "row": f"backbone: [[-1, 1, {TEXT!r}, []]]\n", "argument": f"backbone: [[-1, 1, Conv, [{TEXT!r}]]]\n",
    "model row": f"backbone: [[-1, 1, DetectionModel, [{{activation: {TEXT!r}}}]]]\n", "classes": f"nc: {TEXT!r}\n",
    "weights": "backbone: [[-1, 1, TorchVision, [512, resnet18, DEFAULT, True, 2, True]]]\n",
    "download": f"download: {TEXT!r}\n", "bash": "download: bash -c touch${IFS}it-ran-bash\n",
    "address": f"download: {ADDRESS}\n",
    "names": f"names: {{0: {TEXT!r}}}\n", "path": f"path: {ADDRESS}\n", "train": f"train: {ADDRESS}\nval: {ADDRESS}\n",
}  # fmt: skip
# What a dataset YAML downloads, and the weights of a backbone that a row names.
DOCUMENTED = ("weights", "download", "bash", "address", "path", "train")


class Call:
    """Pickled as a call of something."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        module, path, arguments = CALLS[self.name]
        found = functools.reduce(getattr, path.split("."), importlib.import_module(module))
        if self.name == "a file's path":
            return found, (Path("it-ran-path"),)
        if self.name == "partial":
            return found, (os.system, *arguments[1:])
        return found, tuple(arguments)
