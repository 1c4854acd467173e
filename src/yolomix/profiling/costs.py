"""What a model takes by formula alone: nothing is run on values, nothing is timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from yolomix.host import runtime
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


@dataclass(frozen=True)
class Counts:
    """All that is counted of a model, for one image.

    Attributes:
        forward: of a forward pass, by the name of the module; that of the whole is "".
        training: operations of a forward and a backward pass; None where there cannot be one.
        untrained: why there cannot be one.
        fused: operations of the fused model.
        ultralytics: the GFLOPs that Ultralytics prints.
    """

    forward: Mapping[str, Operations]
    training: int | None
    untrained: str
    fused: int
    ultralytics: float


def counts_of(model: Any, fused: nn.Module, imgsz: tuple[int, int]) -> Counts:
    """Count a model of Ultralytics as built and as fused, for an image of that height and width in pixels.

    Raises:
        RuntimeError: it cannot run at that size.
    """
    shape = (1, int(model.yaml.get("channels", 3)), *imgsz)
    training, untrained = None, ""
    try:
        training = count(model, shape, backward=True)[""].total
    except (RuntimeError, ValueError) as error:  # one value per channel, say, of which a norm has no variance
        untrained = str(error)
    return Counts(count(model, shape), training, untrained, count(fused, shape)[""].total, runtime.gflops(model, imgsz))


def parameters(module: nn.Module) -> int:
    """How many a module has."""
    return sum(p.numel() for p in module.parameters())
