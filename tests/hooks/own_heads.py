"""Heads as a user would write them: one of each head of Ultralytics, under names that say no task."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Detect

import yolomix
from yolomix.nn.heads import HOME

PARENTS = {
    name: cls
    for name, cls in vars(tasks).items()
    if isinstance(cls, type) and issubclass(cls, nn.Module) and cls.__module__ == HOME and name != "LRPCHead"
}
OWN: dict[str, type[nn.Module]] = {}  # by the name of the parent


@yolomix.register
class CalmDetect(Detect):
    """Softens its maps first; otherwise its parent."""

    def __init__(self, *args: Any, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ch = args[-1]
        self.scale = scale
        self.calm = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1, groups=c) for c in ch)

    def forward(self, x: list[Tensor]) -> Any:
        return super().forward([self.scale * calm(m) for calm, m in zip(self.calm, x, strict=True)])


def _named(name: str, parent: type[nn.Module]) -> type[nn.Module]:
    """A subclass with one value of its own, importable from here."""

    def _init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        parent.__init__(self, *args, **kwargs)
        self.given = args
        self.own = nn.Parameter(torch.zeros(1))

    return type(name, (parent,), {"__init__": _init, "__module__": __name__, "__doc__": f"A {parent.__name__}."})


for _i, (_name, _parent) in enumerate(sorted(PARENTS.items())):
    _cls = _named(f"Mine{chr(65 + _i)}", _parent)
    globals()[_cls.__name__] = OWN[_name] = yolomix.register(_cls)
