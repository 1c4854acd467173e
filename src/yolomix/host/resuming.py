"""All that a training is between two epochs: taken out of Ultralytics' trainer, and put into a new one.

Its own ``resume=True`` cannot give the numbers of an undisturbed training: ``last.pt`` holds half precision, no
gradients that wait for their step, and no state of the scheduler's warm-up.
"""

from __future__ import annotations

import io
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from yolomix import files

State = dict[str, Any]

TRAINER = ("best_fitness", "fitness", "loss_names", "metrics")  # carried from one epoch into the next
UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, OSError)


def taken(trainer: Any) -> State:
    """The state of a training at the end of an epoch, in full precision: tensors and plain values.

    Args:
        trainer: of Ultralytics, when it runs ``on_fit_epoch_end``.
    """
    state = {
        "epoch": trainer.epoch,
        "stop": trainer.stop,
        "model": trainer.model.state_dict(),
        "gradients": {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None},
        "ema": trainer.ema.ema.state_dict(),
        "updates": trainer.ema.updates,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "stopper": vars(trainer.stopper),
        "criterion": _scalars(getattr(trainer.model, "criterion", None)),
        "trainer": {name: getattr(trainer, name) for name in TRAINER},
        "csv": trainer.csv.read_text("utf-8") if trainer.csv.exists() else "",
    }
    return _plain(state)


def put(trainer: Any, state: State) -> None:
    """Let a trainer that is about to begin go on after the epoch of a state; gradients are put by the caller.

    Args:
        trainer: set up with the arguments of the training that the state is of.
        state: from :func:`taken`; it is not changed.

    Raises:
        RuntimeError: the state is of another model.
    """
    trainer.model.load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["ema"])
    trainer.ema.updates = state["updates"]
    trainer.optimizer.load_state_dict(state["optimizer"])
    if state["scaler"]:
        trainer.scaler.load_state_dict(state["scaler"])
    vars(trainer.stopper).update(state["stopper"])
    if state["criterion"]:
        trainer.model.criterion = trainer.model.init_criterion()
        vars(trainer.model.criterion).update(state["criterion"])
    vars(trainer).update(state["trainer"])
    trainer.start_epoch = state["epoch"] + 1
    trainer.scheduler.last_epoch = trainer.start_epoch - 1  # its first step is that of the epoch
    if trainer.start_epoch > trainer.epochs - trainer.args.close_mosaic:  # Ultralytics closes it at one epoch only
        trainer._close_dataloader_mosaic()
    files.write_text(trainer.csv, state["csv"])


def put_gradients(model: nn.Module, state: State) -> None:
    """Give the parameters the gradients that waited for the optimizer's next step."""
    for name, parameter in model.named_parameters():
        gradient = state["gradients"].get(name)
        parameter.grad = None if gradient is None else gradient.to(parameter.device, copy=True)


def write(file: Path, state: State) -> None:
    """Write a state, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    files.write(file, buffer.getvalue())


def read(file: Path) -> State:
    """The state in a file; nothing in it is executed.

    Raises:
        ValueError: the file is not whole.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        why = f"{type(error).__name__} {error}".splitlines()[0]
        raise ValueError(f"{file} is no whole state of a training: {why}") from error


def repeatable(loader: Any, begin: Callable[[Any], None]) -> Any:
    """The loader of a training, changed in place: ``begin`` is called with it before each pass over the data.

    At that moment Ultralytics has closed the mosaic, if it does so in this epoch, and has not asked for a batch.
    """
    native = type(loader)

    class Repeatable(native):  # type: ignore[valid-type,misc]
        def __iter__(self) -> Iterator[Any]:
            begin(self)
            yield from super().__iter__()

    loader.__class__ = Repeatable
    return loader


def seed_epoch(loader: Any, seed: int, epoch: int) -> None:
    """Let order and augmentation of a pass over the data depend on the seed and the epoch alone.

    Ultralytics seeds once per training, and before August 2026 gave the loader's generator a constant seed.

    Args:
        loader: an ``InfiniteDataLoader``; what its workers have prepared is dropped.
        seed: not negative.
        epoch: counted from 0.
    """
    seeds = [int(word) for word in np.random.SeedSequence((seed, epoch)).generate_state(5)]
    random.seed(seeds[0])
    np.random.seed(seeds[1])
    torch.manual_seed(seeds[2])
    loader.generator.manual_seed(seeds[3])
    for dataset in getattr(loader.dataset, "datasets", [loader.dataset]):
        _refill(dataset, np.random.default_rng(seeds[4]))
        for transform in getattr(getattr(dataset, "transforms", None), "transforms", []):
            reseed = getattr(getattr(transform, "transform", None), "set_random_seed", None)  # of Albumentations
            if reseed is not None:
                reseed(seeds[4])
    loader.reset()


def _refill(dataset: Any, generator: np.random.Generator) -> None:
    """Replace the images that mosaic may draw from, the last ones read, by a sample of all.

    Left empty, the first mosaics of every epoch would be made of one image.
    """
    if not hasattr(dataset, "buffer"):  # of a classifier
        return
    if dataset.cache == "ram":  # read by threads, in no order; nothing is dropped later
        dataset.buffer = [*range(dataset.ni)]
        return
    for i in dataset.buffer:
        dataset.ims[i], dataset.im_hw0[i], dataset.im_hw[i] = None, None, None
    dataset.buffer = generator.permutation(dataset.ni)[: max(dataset.max_buffer_length - 1, 1)].tolist()


def _scalars(criterion: object) -> dict[str, float]:
    """The numbers that a loss changes from epoch to epoch."""
    values = vars(criterion) if hasattr(criterion, "__dict__") else {}
    return {name: value for name, value in values.items() if isinstance(value, (int, float))}


def _plain(value: Any) -> Any:
    """The same value without NumPy's scalars, which a weights-only file may not hold."""
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.item() if value.ndim == 0 else torch.from_numpy(value)
    if isinstance(value, Tensor):
        return value.detach()
    return value
