"""What an exported file has to give: the same model in PyTorch, in float32 and in float64."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from copy import deepcopy
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from yolomix.host import exported
from yolomix.host.exported import Contents
from yolomix.host.weights import Model
from yolomix.nn.mambairv2_scan import ASSM
from yolomix.ops import use_backend
from yolomix.profiling.layers import tensors
from yolomix.verifying import resident
from yolomix.verifying.comparing import Floats, Layout
from yolomix.verifying.runtime import Arrays, Pass

FORCED = 1e9  # added to the logit of a class that is to be taken
Routes = Mapping[str, Floats]  # the class of every token, (B, L), by the name of the router


class Reference:
    """A model as the exporter had it.

    Args:
        model: of Ultralytics.
        contents: what the file says.
        rows: how many detections its head gives, of one without suppression.
    """

    def __init__(self, model: Model, contents: Contents, rows: int | None) -> None:
        self.single = exported.as_exported(model, contents, rows)
        self.kind = exported.layout(self.single, contents)
        keypoints = getattr(self.single.model[-1], "kpt_shape", None) or (0, 0)
        side = 1 if self.kind.endswith("queries") else max(contents.imgsz)
        self.memory = 0.0  # megabytes that a timed pass has added, at most
        self.layout = Layout(self.kind, contents.task, len(contents.names), float(side), int(keypoints[1]))

    @cached_property
    def double(self) -> Model:
        """The same in float64."""
        return deepcopy(self.single).double()

    @property
    def routers(self) -> list[str]:
        """The modules that send every token one way, in order: ties between ways may be decided by rounding."""
        return [name for name, module in self.single.named_modules() if isinstance(module, ASSM)]

    def run(self, x: Tensor, routes: Routes | None = None, double: bool = False) -> Arrays:
        """The outputs for images (B, C, H, W), perhaps with every token sent where ``routes`` says."""
        model = self.double if double else self.single
        backend = use_backend("eager") if double else nullcontext()  # the only one, and so nobody has to be told
        with torch.inference_mode(), _forced(model, routes or {}), backend:
            return [y.numpy() for y in tensors(model(x.double() if double else x))]

    def timed(self, x: Tensor) -> Pass:
        """The outputs in float32, and how long they took."""
        resident.forget()
        before = resident.now()
        started, used = time.perf_counter(), time.process_time()
        outputs = self.run(x)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        self.memory = max(self.memory, resident.most() - before)
        return Pass(outputs, seconds, cpu)

    def inside(self, x: Tensor, names: Sequence[str], double: bool, routes: Routes | None = None) -> dict[str, Floats]:
        """What modules give, of those that give one tensor."""
        model = self.double if double else self.single
        found: dict[str, Floats] = {}
        with ExitStack() as hooked:
            for name in names:
                hook = model.get_submodule(name).register_forward_hook(partial(_keep, found, name))
                hooked.callback(hook.remove)
            self.run(x, routes, double)
        return found

    def logits(self, x: Tensor, routes: Routes, double: bool) -> dict[str, Floats]:
        """What every router decides by, (B, L, classes), while tokens are sent where ``routes`` says."""
        found: dict[str, Floats] = {}
        model = self.double if double else self.single
        with _forced(model, routes, found):
            self.run(x, double=double)
        return found

    @property
    def weights(self) -> float:
        """Megabytes of its weights."""
        return sum(t.numel() * t.element_size() for t in self.single.state_dict().values()) / 1e6


def _keep(found: dict[str, Floats], name: str, module: nn.Module, given: Any, y: Any) -> None:
    if isinstance(y, Tensor):
        found[name] = y.numpy()


@contextmanager
def _forced(model: Model, routes: Routes, seen: dict[str, Floats] | None = None) -> Iterator[None]:
    """Let routers take these classes; what they would have decided by goes into ``seen``."""

    def _noisy(name: str, logits: Tensor) -> Tensor:
        if seen is not None:
            seen[name] = logits.numpy().copy()
        classes = torch.from_numpy(np.asarray(routes[name], np.int64))
        return logits + FORCED * nn.functional.one_hot(classes, logits.shape[-1]).to(logits)

    forced = [(name, model.get_submodule(name)) for name in routes]
    for name, router in forced:
        router.noisy = partial(_noisy, name)
    try:
        yield
    finally:
        for _, router in forced:
            del router.noisy
