"""Inside an ONNX file: what its modules give, and which way its routers send tokens, beside PyTorch."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from yolomix import files
from yolomix.verifying.comparing import FLOORS, LEAST, Floats
from yolomix.verifying.reference import Reference, Routes
from yolomix.verifying.runtime import Runtime


def can_be_asked(file: Path) -> bool:
    """Whether what is inside an exported file can be read.

    >>> can_be_asked(Path("best.onnx")), can_be_asked(Path("best_openvino_model"))
    (True, False)
    """
    return file.suffix == ".onnx"


def located(file: Path, reference: Reference, x: Tensor, routes: Routes, threads: int) -> str:
    """Which layer of a file is the first to differ from PyTorch, and which module in it.

    Args:
        file: an ONNX file.
        reference: the same model in PyTorch.
        x: images (B, C, H, W).
        routes: which way the file's routers send tokens; empty where it has none.
        threads: of its runtime.
    """
    model = reference.single
    stages = [f"model.{i}" for i in range(len(model.model) - 1)]
    graph = _load(file).graph
    if not any(_given(graph, scope(model, stage)) for stage in stages):
        return "Which layer differs cannot be told: the nodes of this file do not have the names of its modules"
    stage = _first(file, reference, x, stages, routes, threads)
    if stage is None:
        head = len(model.model) - 1
        return f"No layer before the head, model.{head} ({type(model.model[head]).__name__}), differs"
    kind = type(model.get_submodule(stage)).__name__
    inner = [name for name, _ in model.named_modules() if name.startswith(f"{stage}.")]
    module = _first(file, reference, x, _in_order(inner), routes, threads)
    text = f"The first layer that differs is {stage} ({kind})"
    return text if module is None else f"{text}, in it {module} ({type(model.get_submodule(module)).__name__})"


def routes_of(file: Path, reference: Reference, x: Tensor, threads: int) -> dict[str, Floats]:
    """The class of every token, (B, L), that each router of an ONNX file takes; without those that nobody finds."""
    graph = _load(file).graph
    wanted = {name: f"{scope(reference.single, name)}ArgMax" for name in reference.routers}
    made = {node.name: node.output[0] for node in graph.node if node.op_type == "ArgMax"}
    values = {name: made[node] for name, node in wanted.items() if node in made}
    found = _values(file, [*values.values()], x, threads)
    return {name: found[value] for name, value in values.items()}


def flips(reference: Reference, x: Tensor, routes: Routes) -> tuple[int, int]:
    """How many tokens a file sends another way than PyTorch in float64, and how many of these were no near tie.

    A tie is near where PyTorch's own float32 differs from float64 by as much, four times over, at any token.

    Args:
        reference: the model in PyTorch.
        x: images (B, C, H, W).
        routes: which way the file sends tokens.
    """
    wide, narrow = (reference.logits(x, routes, double) for double in (True, False))
    flipped = decided = 0
    for name, classes in routes.items():
        taken = np.take_along_axis(wide[name], classes[..., None].astype(np.int64), axis=-1)[..., 0]
        margin = wide[name].max(axis=-1) - taken  # (B, L), 0 where the file takes one of the largest
        near = max(LEAST, FLOORS * float(np.abs(wide[name] - narrow[name]).max()))
        flipped += int((classes != wide[name].argmax(axis=-1)).sum())
        decided += int((margin > near).sum())
    return flipped, decided


def scope(model: nn.Module, name: str) -> str:
    """What the names of a module's nodes begin with, as the TorchScript exporter makes them.

    >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU()))
    >>> scope(model, "1.0")
    '/1/1.0/'
    """
    parts = name.split(".")
    ancestors = [".".join(parts[: i + 1]) for i in range(len(parts))]
    called = [one for one in ancestors if one != "model" and not isinstance(model.get_submodule(one), nn.ModuleList)]
    return "/" + "".join(f"{_component(one)}/" for one in called)


def _component(name: str) -> str:
    """The last word of a module's name with the numbers behind it: ``model.22.cv2.0.1`` -> ``cv2.0.1``."""
    found = re.search(r"[^.]*[^.\d][^.]*(\.\d+)*$|[\d.]+$", name)
    assert found is not None
    return found[0]


def _in_order(names: Sequence[str]) -> list[str]:
    """What is inside a module before the module itself, which gives what the last of them gives."""
    return sorted(names, key=lambda name: -name.count("."))


def _first(
    file: Path, reference: Reference, x: Tensor, names: Sequence[str], routes: Routes, threads: int
) -> str | None:
    """The first of these modules whose output leaves the tolerance; None where none does, or nobody can tell."""
    wide = reference.inside(x, names, double=True, routes=routes)
    narrow = reference.inside(x, [*wide], double=False, routes=routes)
    graph = _load(file).graph
    values = {name: _given(graph, scope(reference.single, name)) for name in wide}
    found = _values(file, [value for several in values.values() for value in several], x, threads)
    for name in wide:  # in the order in which they ran
        want = wide[name]
        near = max(LEAST * float(np.abs(want).max()), FLOORS * float(np.abs(narrow[name] - want).max()))
        same_shape = [found[value] for value in values[name] if found[value].shape == want.shape]
        apart = [float(np.abs(value.astype(np.float64) - want).max()) for value in same_shape]
        if apart and not min(apart) <= near:
            return name
    return None


def _given(graph: Any, prefix: str) -> list[str]:
    """The values that nodes with that prefix make and others read."""
    made = {name for node in graph.node if node.name.startswith(prefix) for name in node.output}
    read = {name for node in graph.node if not node.name.startswith(prefix) for name in node.input}
    return sorted(made & (read | {one.name for one in graph.output}))


def _values(file: Path, names: Sequence[str], x: Tensor, threads: int) -> dict[str, Floats]:
    """Values inside an ONNX file, read from a copy that gives them as outputs."""
    import onnx

    model = _load(file)
    given = [one.name for one in model.graph.output]
    more = [name for name in dict.fromkeys(names) if name not in given]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in more)
    with tempfile.TemporaryDirectory(prefix="yolomix-verify-") as folder:
        copy = files.write(Path(folder) / "inside.onnx", model.SerializeToString(), flush=False)
        with Runtime(copy, threads) as runtime:
            outputs = runtime.run(x.numpy()).outputs
    return dict(zip([*given, *more], outputs, strict=True))


def _load(file: Path) -> Any:
    import onnx

    return onnx.load(str(file))
