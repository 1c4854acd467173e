"""Which modules of a model are running, for whoever wants to know where something is called from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


class Running(NamedTuple):
    """A module in the middle of its forward pass.

    Args:
        name: where it is in the model, ``model.4.m.0``; that of the module around it where the model does not know it.
        module: itself.
        inputs: what it was called with, by position.
    """

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]


@contextmanager
def running(model: nn.Module) -> Iterator[list[Running]]:
    """The modules that are running, outermost first, in a list that changes while they do.

    >>> import torch
    >>> model = nn.Sequential(nn.Identity())
    >>> with running(model) as stack:
    ...     handle = model[0].register_forward_pre_hook(lambda *_: print([one.name for one in stack]))
    ...     y = model(torch.ones(1))
    ['', '0']
    """
    names = {module: name for name, module in model.named_modules()}
    stack = list[Running]()

    def _enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        around = stack[-1].name if stack else ""
        stack.append(Running(names.get(module, around), module, inputs))

    def _leave(*_: Any) -> None:
        stack.pop()

    handles = [
        register_module_forward_pre_hook(_enter),
        register_module_forward_hook(_leave, always_call=True),
    ]
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()
