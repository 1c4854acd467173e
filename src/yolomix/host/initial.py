"""Initial models of a seed: any model name, with the classes of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolomix.host import entry, names, weights
from yolomix.host.weights import Model


def opened(name: str) -> Model:
    """The model of a name without grafts: built from a YAML, or read with its weights.

    >>> opened("yolov8n-cls.yaml").task
    'classify'

    Raises:
        FileNotFoundError: nobody has it; the text has the near names.
        ValueError: it is an exported file, or no model.
    """
    entry.check_there(name)
    found = names.resolve(name)
    if found.kind is names.Kind.EXPORTED:
        raise ValueError(f"a training needs a model YAML or a checkpoint (.pt), got the {found.kind} {name!r}")
    if found.kind is names.Kind.CHECKPOINT:
        return weights.read(name if Path(name).suffix else f"{name}.pt")
    return weights.from_yaml(name)


def seeded(source: Model, classes: Sequence[str], channels: int, points: Sequence[int], seed: int) -> Model:
    """A model of the same rows with the classes of a dataset, initialised by a seed.

    >>> made = seeded(opened("yolov8n-cls.yaml"), ["cat", "dog"], 3, (), seed=1)
    >>> made.names, made.yaml["nc"]
    ({0: 'cat', 1: 'dog'}, 2)

    Args:
        source: what :func:`opened` gave; it is not changed.
        classes: their names.
        channels: of the images.
        points: shape of the keypoints of a label, of a model for poses.
        seed: of the init; no other random state changes.
    """
    described: dict[str, Any] = {**source.yaml, "nc": len(classes)}
    if points and "kpt_shape" in described:
        described["kpt_shape"] = [*points]
    if channels != 3 or "channels" in described or "ch" in described:
        described |= {"channels": channels, "ch": channels}
    made = weights.like(source, described, seed)
    made.names = dict(enumerate(classes))
    made.nc = len(classes)
    return made
