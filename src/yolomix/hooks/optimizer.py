"""Which optimiser group each parameter of our blocks gets, around ``BaseTrainer.build_optimizer``.

Ultralytics decays every parameter that is no norm weight and has no "bias" in its name, puts names with "bias" into a
group with its own warm-up, and lets MuSGD (``optimizer=auto`` with more than 10000 iterations) orthogonalise matrices.
Decay rates, step sizes and tables of a positional encoding must get none of that; blocks name them in
``no_weight_decay``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.optim import Optimizer
from ultralytics.utils import LOGGER, colorstr


def build_optimizer(
    native: Callable[..., Optimizer], trainer: Any, model: nn.Module, *args: Any, **kwargs: Any
) -> Optimizer:
    """The native optimiser, with what our blocks exempt from weight decay in a group of its own at the end."""
    optimizer = native(trainer, model, *args, **kwargs)
    exempt = list(no_weight_decay(model))
    if exempt:
        _separate(optimizer, exempt, _like_norm_weights(optimizer, model))
        LOGGER.info(
            f"{colorstr('optimizer:')} {len(exempt)} parameters of token mixers without weight decay and never "
            "orthogonalised"
        )
    return optimizer


def no_weight_decay(model: nn.Module) -> Iterator[nn.Parameter]:
    """What the modules of a model name in ``no_weight_decay``, each parameter once.

    >>> from yolomix.nn.gate import ZeroGate
    >>> [tuple(p.shape) for p in no_weight_decay(ZeroGate(16, "MLLAttention"))]
    [(16,)]

    Raises:
        AttributeError: a module names what it does not have.
    """
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name in getattr(type(module), "no_weight_decay", ()):
            parameter = _member(module, name, path)
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter


def _member(module: nn.Module, name: str, path: str) -> nn.Parameter | None:
    """A parameter by its name inside the module (``A_log``, ``dt_proj.bias``); None if the block was built without."""
    try:
        found: nn.Parameter | None = functools.reduce(getattr, name.split("."), module)  # type: ignore[assignment]
    except AttributeError as error:
        known = ", ".join(n for n, _ in module.named_parameters())
        raise AttributeError(
            f"{type(module).__name__} at {path} names {name!r} in no_weight_decay, but has only {known}"
        ) from error
    return found


def _like_norm_weights(optimizer: Optimizer, model: nn.Module) -> dict[str, Any]:
    """Settings of the group that holds norm weights, which are neither decayed nor warmed up like biases.

    Some versions have two such groups, one with a higher rate for the head; the lower rate is ours.
    """
    norms: set[int] = set()
    for module in model.modules():
        if "Norm" in type(module).__name__:
            norms.update(id(p) for name, p in module.named_parameters(recurse=False) if name != "bias")
    groups = [g for g in optimizer.param_groups if norms.intersection(map(id, g["params"]))]
    settings = dict(min(groups or optimizer.param_groups, key=lambda g: g["lr"]))
    own = {"params": [], "weight_decay": 0.0, "use_muon": False, "param_group": "no_weight_decay"}
    return {key: own.get(key, value) for key, value in settings.items()}  # only keys that this optimiser has


def _separate(optimizer: Optimizer, exempt: list[nn.Parameter], settings: dict[str, Any]) -> None:
    """Move parameters from the groups they are in into a new one."""
    ids = set(map(id, exempt))
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in ids]
    optimizer.add_param_group({**settings, "params": exempt})
