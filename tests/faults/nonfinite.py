"""NaN and infinity in a training: in a weight, the input, the loss, the average, the optimizer, at any epoch."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

from tests.faults import judge, trainings
from tests.faults.kind import Bad, Case, Kind, Limits

EPOCHS = 4
WHEN = {"first": (0,), "middle": (2,), "last": (3,), "every": (0, 1, 2, 3)}
LAYER = 6  # of the tiny model: MLLAttention


def listed() -> Iterator[Case]:
    """Each place, epoch and value."""
    for place, when, value in itertools.product(PLACES, WHEN, ("nan", "inf", "-inf")):
        yield {"place": place, "when": when, "value": value}


def check(case: Case) -> str:
    """Train with the value put into its place before the batch of an epoch; look at what is said and kept."""
    trainings.prepare()
    said = _heard()
    put, named = PLACES[case["place"]]
    epochs = list(WHEN[case["when"]])

    def spoil(trainer: Any) -> None:
        if trainer.epoch in epochs:
            if case["when"] != "every":
                epochs.clear()  # Ultralytics trains an epoch again when it was spoilt
            put(trainer, float(case["value"]))

    ended = "trained"
    try:
        trainings.train(EPOCHS, {"on_train_batch_start": spoil}, val=True)
    except RuntimeError as error:
        if "NaN" not in str(error) and not judge.is_ours(error):  # Ultralytics or we give up
            raise
        ended = "gave up"
    if named and not any(named in line for line in said):
        raise Bad(f"nobody said {named!r}, but {[line for line in said if 'finite' in line or 'NaN' in line]}")
    _check_files()
    return ended


def _check_files() -> None:
    """No checkpoint holds NaN or infinity; that a loss was NaN is what results.csv is there to say."""
    import torch

    for file in trainings.RUN.rglob("*.pt"):
        kept = torch.load(file, weights_only=False)
        for path, tensor in _tensors(kept):
            if not torch.isfinite(tensor).all():
                raise Bad(f"{file} holds a value that is not finite in {path}")


def _tensors(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _tensors(inner, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _tensors(inner, f"{path}.{i}")


def _in_weight(trainer: Any, value: float) -> None:
    next(trainer.model.model[LAYER].parameters()).data.view(-1)[0] = value


def _in_norm(trainer: Any, value: float) -> None:
    trainer.model.model[0].bn.running_mean[0] = value


def _in_output(trainer: Any, value: float) -> None:
    """Of one layer, once."""
    handle = trainer.model.model[LAYER].register_forward_hook(lambda module, given, out: out + value)
    trainer.add_callback("on_train_batch_end", lambda trainer: handle.remove())


def _in_input(trainer: Any, value: float) -> None:
    native = trainer.preprocess_batch

    def spoilt(batch: Any) -> Any:
        batch = native(batch)
        batch["img"][0, 0, 0, 0] = value
        trainer.preprocess_batch = native
        return batch

    trainer.preprocess_batch = spoilt


def _in_loss(trainer: Any, value: float) -> None:
    model = trainer.model
    native = model.loss

    def spoilt(*args: Any, **kwargs: Any) -> Any:
        loss, items = native(*args, **kwargs)
        if model.training:
            model.loss = native
            loss = loss + value
        return loss, items

    model.loss = spoilt


def _in_average(trainer: Any, value: float) -> None:
    next(trainer.ema.ema.model[LAYER].parameters()).data.view(-1)[0] = value


def _in_optimizer(trainer: Any, value: float) -> None:
    for state in trainer.optimizer.state.values():
        for tensor in state.values():
            if getattr(tensor, "ndim", 0):
                tensor.view(-1)[0] = value


def _in_gradient(trainer: Any, value: float) -> None:
    weight = next(trainer.model.model[LAYER].parameters())
    handle = weight.register_hook(lambda gradient: gradient + value)
    trainer.add_callback("on_train_batch_end", lambda trainer: handle.remove())


# How the value gets there, and what has to be said of it.
PLACES: dict[str, tuple[Callable[[Any, float], None], str]] = {
    "weight": (_in_weight, "the weight model.6."),
    "output": (_in_output, "layer model.6"),
    "input": (_in_input, "the images of the batch contain NaN or infinity"),
    "loss": (_in_loss, "all layers are finite, so the loss is where it happened"),
    "statistics": (_in_norm, ""),
    "average": (_in_average, ""),
    "optimizer": (_in_optimizer, ""),
    "gradient": (_in_gradient, ""),
}


def _heard() -> list[str]:
    from ultralytics.utils import LOGGER

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    LOGGER.addHandler(handler)
    return said


def _unnamed() -> None:
    """Say nothing about a loss that is not finite."""
    from yolomix.hooks import nonfinite

    nonfinite.setup_train = lambda native, trainer, *args: native(trainer, *args)


def _saved() -> None:
    """Write checkpoints whatever is in them."""
    from yolomix.hooks import nonfinite

    nonfinite.spoilt = lambda trainer: None


KIND = Kind(
    name="nonfinite",
    tries="NaN and infinity in weights, input, output, loss, average, optimiser, at the first, middle, every epoch",
    figure="the layer named, no NaN in any file",
    check=check,
    listed=listed,
    limits=Limits(seconds=60, wall=200),
    runs_nothing=False,  # Ultralytics looks for a font
    small=5,
    plants={"unnamed": _unnamed, "saved": _saved},
)
