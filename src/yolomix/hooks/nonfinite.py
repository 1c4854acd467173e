"""Which layer made the loss NaN or infinite, said when it first happens in training; and what may not be saved then.

Ultralytics notices a non-finite loss at the end of the epoch and recovers or gives up; that stays its decision. By then
the weights are ruined. So the batch is run again at once, before the optimiser's step, to find the first bad layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from ultralytics.utils import LOGGER


def setup_train(native: Callable[..., Any], trainer: Any, *args: Any) -> Any:
    """Set up training as ever, then watch the losses that the model returns."""
    result = native(trainer, *args)
    model = _trained(trainer)
    if isinstance(model, nn.Module):
        Watch(model)
    return result


def spoilt(trainer: Any) -> str | None:
    """What of a training's state is not finite, a weight or the state of the optimizer; None if all of it is.

    An average that is not finite, although the weights are, goes on from the weights.
    """
    model = _trained(trainer)
    if not isinstance(model, nn.Module):
        return None
    weights = model.state_dict()
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            return f"the weight {name}"
    for state in trainer.optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, Tensor) and not torch.isfinite(value).all():
                return f"the optimizer's {name}"
    for name, tensor in trainer.ema.ema.state_dict().items():
        if name in weights and not torch.isfinite(tensor).all():
            tensor.copy_(weights[name])
    return None


def _trained(trainer: Any) -> Any:
    """The model of a trainer, without what spreads it over processes."""
    return trainer.model.module if isinstance(trainer.model, nn.parallel.DistributedDataParallel) else trainer.model


class Watch:
    """A forward hook on a model in training that reports the first non-finite loss, once, and then removes itself.

    >>> class Model(nn.Module):
    ...     def forward(self, batch):
    ...         return batch["img"].mean(), None
    >>> watch = Watch(Model())

    Args:
        model: called with a batch (a dict), it returns ``(loss, items)``.
    """

    def __init__(self, model: nn.Module) -> None:
        self.handle = model.register_forward_hook(self)

    def __call__(self, model: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        in_training = model.training and inputs and isinstance(inputs[0], dict)
        if not in_training or torch.isfinite(output[0]).all():
            return
        self.handle.remove()
        LOGGER.warning(f"the loss is not finite ({output[0].detach().flatten().tolist()}): {culprit(model, inputs[0])}")


def culprit(model: nn.Module, batch: dict[str, Any]) -> str:
    """A sentence that names what is not finite first: image, weight, layer, or the loss itself.

    >>> culprit(nn.Identity(), {"img": torch.full((1, 3, 2, 2), torch.nan)})
    'the images of the batch contain NaN or infinity'
    """
    if not torch.isfinite(batch["img"]).all():
        return "the images of the batch contain NaN or infinity"
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the weight {name} is not finite since an earlier step; lower the learning rate or clip gradients"
    found = first_layer(model, batch["img"])
    if found is None:
        return "all layers are finite, so the loss is where it happened; check labels, loss gains and amp"
    path, module, dtype, largest = found
    return (
        f"layer {path} ({type(module).__name__}, {dtype}) is the first whose output is not finite, from an input of "
        f"magnitude {largest:.3g}; try amp=False or a lower learning rate"
    )


@torch.no_grad()
def first_layer(model: nn.Module, img: Tensor) -> tuple[str, nn.Module, torch.dtype, float] | None:
    """Run ``img`` (B, 3, H, W) and return name, module, dtype and largest input of the first non-finite leaf module.

    Norms keep their running statistics. None if every module's output is finite.

    >>> class Overflow(nn.Module):
    ...     def forward(self, x):
    ...         return x / 0
    >>> first_layer(nn.Sequential(nn.Identity(), Overflow()), torch.ones(1, 3, 2, 2))[0]
    '1'
    """
    found: list[tuple[str, nn.Module, torch.dtype, float]] = []

    def _look(path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def _hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if found:
                return
            wrong = [t for t in _tensors(output) if not torch.isfinite(t).all()]
            if wrong:
                magnitudes = [t.abs().max().item() for t in _tensors(inputs) if t.numel()]
                found.append((path, module, wrong[0].dtype, max(magnitudes, default=0.0)))

        return _hook

    # Clones, because the norms change them and the backward pass of the real run still needs the originals.
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    handles = [m.register_forward_hook(_look(path)) for path, m in model.named_modules() if path]
    try:
        functional_call(model, statistics, (img,))
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _tensors(value: Any) -> Iterator[Tensor]:
    """The floating tensors inside nested tuples, lists and dicts."""
    if isinstance(value, Tensor) and value.is_floating_point():
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
