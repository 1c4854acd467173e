"""Weights of single official layers (VMamba, Vim, MambaIRv2) into our blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

RENAMED = {"ln_1": "norm", "self_attention": "op", "mixer": "mamba"}
SHOWN = 5  # missing tensors in an error


def load_layer(layer: nn.Module, source: Mapping[str, Any] | str | Path, prefix: str | None = None) -> str:
    """Copy an official layer's weights into ours by name, all of them or none.

    >>> from yolomix.nn.mlla import MLLAttention
    >>> block = MLLAttention(16)
    >>> load_layer(block, {f"layers.0.attn.{name}": t for name, t in block.state_dict().items()})
    "4 of 4 tensors loaded from 'layers.0.attn.' into MLLAttention, none missing"

    Args:
        layer: a block of ours, whose keys are the official ones: VMamba's, Vim's, MambaIRv2's.
        source: a state dict, or a file with one; wrappers such as ``state_dict`` or ``params_ema`` are opened.
        prefix: what stands before the layer's keys, ``layers.0.blocks.1.``; None finds the only place that fits.

    Returns: what was done, as a sentence.

    Raises:
        ValueError: no place fits, or several do; the text names what is missing, or the places.
    """
    content = source
    if not isinstance(content, Mapping):
        content = torch.load(content, map_location="cpu", weights_only=True)
    tensors = {_present_name(key): t for key, t in _unwrapped(content).items() if isinstance(t, Tensor)}
    wanted = layer.state_dict()
    found = _prefixes(tensors, wanted) if prefix is None else [_present_name(prefix)]
    if len(found) > 1:
        raise ValueError(f"{len(found)} layers of the source fit; give prefix=, one of {', '.join(map(repr, found))}")
    where = found[0] if found else ""
    if missing := _missing(tensors, wanted, where):
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise ValueError(
            f"no layer of the source fits {type(layer).__name__}: at {where!r} it lacks "
            f"{'; '.join(missing[:SHOWN])}{more}; its keys are like {', '.join([*tensors][:3]) or 'none'}"
        )
    layer.load_state_dict({key: tensors[where + key].reshape(t.shape) for key, t in wanted.items()})
    return f"{len(wanted)} of {len(tensors)} tensors loaded from {where!r} into {type(layer).__name__}, none missing"


def _unwrapped(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict inside the dictionaries that training scripts put around it."""
    for key in ("params_ema", "params", "state_dict", "model"):
        if isinstance(source.get(key), Mapping):
            return _unwrapped(source[key])
    return source


def _present_name(key: str) -> str:
    """Our name of an official tensor: VMamba's first checkpoints and Vim's blocks call some parts otherwise."""
    return re.sub(r"\b(ln_1|self_attention|mixer)\.", lambda m: RENAMED[m[1]] + ".", key)


def _prefixes(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """The prefixes under which all wanted tensors are found."""
    first = next(iter(wanted))
    found = []
    for key in tensors:
        prefix = key.removesuffix(first)
        ends_so = key == first or key.endswith(f".{first}")
        if ends_so and not _missing(tensors, wanted, prefix):
            found.append(prefix)
    return sorted(found)


def _missing(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], prefix: str) -> list[str]:
    """The wanted tensors that are not there in that shape; a linear layer's (C, D) fits a 1x1 kernel (C, D, 1, 1)."""
    wrong = []
    for key, tensor in wanted.items():
        found = tensors.get(prefix + key)
        if found is None:
            wrong.append(key)
        elif _core(found) != _core(tensor):
            wrong.append(f"{key} {tuple(tensor.shape)} (it has {tuple(found.shape)})")
    return wrong


def _core(tensor: Tensor) -> tuple[int, ...]:
    """A shape without trailing ones: (C, D, 1, 1) and (C, D) hold the same elements."""
    shape = [*tensor.shape]
    while shape and shape[-1] == 1:
        shape.pop()
    return tuple(shape)
