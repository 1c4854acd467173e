"""What a model takes by formula alone: nothing is run on values, nothing is timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from yolomix.profiling.operations import Operations, count


@dataclass(frozen=True)
class Cost:
    """What a model takes, as built, for one image.

    Attributes:
        parameters: all of them.
        operations: of a forward pass.
    """

    parameters: int
    operations: Operations

    def to_dict(self) -> dict[str, int | list[str]]:
        """Plain values for JSON, named as those of a profile."""
        return {
            "parameters": self.parameters,
            "flops": self.operations.total,
            "scan_flops": self.operations.scan,
            "not_counted": sorted(self.operations.not_counted),
        }


def cost_of(model: Any, imgsz: tuple[int, int]) -> Cost:
    """Parameters and operations of a model of Ultralytics, for an image of that height and width in pixels.

    >>> from yolomix.host import weights
    >>> cost_of(weights.from_yaml("yolov8n-cls.yaml"), (64, 64)).parameters
    2719288

    Raises:
        RuntimeError: it cannot run at that size.
    """
    operations = count(model, (1, int(model.yaml.get("channels", 3)), *imgsz))[""]
    return Cost(parameters(model), operations)


def parameters(module: nn.Module) -> int:
    """How many a module has."""
    return sum(p.numel() for p in module.parameters())
