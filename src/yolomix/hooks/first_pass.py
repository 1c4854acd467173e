"""The first forward pass of a model, which is part of building it: what goes wrong in it names the row.

Ultralytics runs a new model once, for the strides. A layer that gets other channels than it was built for fails there,
and often another is to blame. So every block of ours is held to what its row says, and a layer that fails is told with
what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from yolomix.hooks import rows
from yolomix.hooks.channels import Channels
from yolomix.hooks.rows import Row, RowError
from yolomix.surgery.graph import sources


@dataclass
class _Watched:
    """A layer of a model that is being built.

    Attributes:
        i: its index.
        layer: the module.
        f: what it reads, as its row has it.
        text: file, index and text of its row.
        row: its row, if the block is one of ours.
        channels: of all layers, as they were worked out.
        gave: the channels of its output, once it has run.
        hook: what takes the watch off again.
    """

    i: int
    layer: nn.Module
    f: Any
    text: str
    row: Row | None
    channels: Channels
    gave: int | None = None
    hook: RemovableHandle | None = None

    def check(self, _: nn.Module, __: object, output: object) -> None:
        """Hold a block to what its row says (a forward hook); the output is a feature map (B, C, H, W) of any kind."""
        if not isinstance(output, Tensor) or output.ndim != 4:
            return
        self.gave, wanted = output.shape[1], self.channels.given(self.i)
        if self.row is not None and self.row.block.parent is None and self.gave != wanted:
            raise RowError(f"{self.text}: {self._promise(wanted)} and gave {self.gave}")

    def _promise(self, wanted: int) -> str:
        block = self.row.block if self.row is not None else None
        if block is None:
            return f"it was taken to give {wanted} channels"
        if block.rule.keeps_channels:
            return f"{block.name} says it keeps {wanted} channels"
        if block.rule.gives_width:
            return f"{block.name} says it gives the {wanted} channels that it is told"
        if self.i in self.channels.untried:
            return (
                f"{block.name} cannot be tried alone, so it was taken to keep the {wanted} channels of its last input"
            )
        return f"{block.name} gave {wanted} channels when it was tried alone"


_being_built: ContextVar[list[_Watched] | None] = ContextVar("yolomix_being_built", default=None)


def build(native: Callable[..., None], model: Any, *args: Any, **kwargs: Any) -> None:
    """``DetectionModel.__init__``, from which all models derive that are run once while they are built.

    Raises:
        RowError: a layer cannot be run, or gives other channels than its row says; the text names file, row and block.
    """
    watched: list[_Watched] = []
    token = _being_built.set(watched)
    try:
        native(model, *args, **kwargs)
    except RowError:
        raise
    except Exception as error:
        failed = _failed(error, watched)
        if failed is None:
            cfg = kwargs.get("cfg", next(iter(args), None))
            if isinstance(cfg, dict):  # Ultralytics looks into it before its rows are read
                rows.read(deepcopy(cfg))
            raise
        raise RowError(_told(error, *failed, watched)) from error
    finally:
        _being_built.reset(token)
        for one in watched:
            if one.hook is not None:
                one.hook.remove()


def watch(
    layers: Iterable[nn.Module], said: Sequence[tuple[Any, str]], ours: dict[int, Row], channels: Channels
) -> None:
    """Watch the layers of the model that is being built, if one is, until it is complete.

    Args:
        layers: all of them.
        said: per layer what it reads, and the text of its row.
        ours: the rows of our blocks by layer index.
        channels: of all layers.
    """
    watched = _being_built.get()
    if watched is None:
        return
    for i, (layer, (f, text)) in enumerate(zip(layers, said, strict=True)):
        one = _Watched(i, layer, f, text, ours.get(i), channels)
        one.hook = layer.register_forward_hook(one.check)
        watched.append(one)


def _failed(error: BaseException, watched: Sequence[_Watched]) -> tuple[_Watched, tuple[Any, ...]] | None:
    """The layer in which an error was raised, and what it was called with: the outermost call in the traceback."""
    traceback = error.__traceback__
    while traceback is not None:
        local = traceback.tb_frame.f_locals
        for one in watched:
            if traceback.tb_frame.f_code.co_name == "_call_impl" and local.get("self") is one.layer:
                return one, local["args"]
        traceback = traceback.tb_next
    return None


def _told(error: BaseException, one: _Watched, args: tuple[Any, ...], watched: Sequence[_Watched]) -> str:
    """What a layer was given, what it said, and which of the layers that it reads gave something else than expected."""
    first = (str(error).splitlines() or [""])[0]
    name = type(one.layer).__name__ if one.row is None else one.row.block.name
    text = f"{one.text}: {name} was given {', '.join(map(_shape, args))}: {type(error).__name__}: {first}"
    for source in sources(one.f, one.i):
        if source >= 0 and watched[source].gave not in (None, one.channels.given(source)):
            other = watched[source]
            text += f". It reads layer {source} ({type(other.layer).__name__}), which was taken to give "
            text += f"{one.channels.given(source)} channels and gave {other.gave}"
    return text


def _shape(value: object) -> str:
    """What a layer was given, in a few words."""
    if isinstance(value, Tensor):
        return f"a map {tuple(value.shape)}" if value.ndim == 4 else f"a tensor {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shape, value))}]"
    return type(value).__name__
