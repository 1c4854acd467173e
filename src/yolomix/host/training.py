"""A training of Ultralytics whose numbers depend on seed and arguments alone, also where it is cut and goes on."""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ultralytics.engine import trainer as trainers
from ultralytics.utils import LOGGER, torch_utils

from yolomix.host import resuming
from yolomix.host.resuming import State
from yolomix.host.yolo import YOLO

SENTENCE = re.compile(r"the loss is not finite.*")
LOOKED_AT = 3  # batches of which a probe takes the digest


class DivergedError(RuntimeError):
    """After an epoch the loss or a weight is not finite, and Ultralytics could not go back.

    >>> DivergedError(3, "the loss is nan")
    DivergedError('epoch 3: the loss is nan')
    """

    def __init__(self, epoch: int, why: str) -> None:
        super().__init__(f"epoch {epoch}: {why}")


class _Looked(Exception):  # noqa: N818  # it ends a training that was to be looked at only
    """The answer of a probe."""

    def __init__(self, found: dict[str, Any]) -> None:
        super().__init__()
        self.found = found


@dataclass(frozen=True)
class Orders:
    """What a training is told beside the arguments of Ultralytics.

    Attributes:
        seed: of data order and augmentation.
        after_epoch: called with the state after every epoch that is finished.
        state: where to go on; None begins.
    """

    seed: int
    after_epoch: Callable[[State], None]
    state: State | None = None


def train(model: str, arguments: Mapping[str, Any], orders: Orders) -> None:
    """Train in this process.

    Args:
        model: what ``YOLO()`` takes.
        arguments: of Ultralytics, ``seed`` included.
        orders: what is done after every epoch, and where to begin.

    Raises:
        DivergedError: loss or weights are not finite.
        RuntimeError: Ultralytics made the batch smaller, for lack of memory.
    """
    yolo: Any = YOLO(model)
    yolo.train(trainer=_resumable(yolo, orders), **arguments)


def finish(folder: Path) -> None:
    """Make the checkpoints of a training small, as Ultralytics does at its end; doing it twice changes nothing.

    Args:
        folder: of ``last.pt`` and ``best.pt``.
    """
    for name in ("last.pt", "best.pt"):
        if (folder / name).exists():
            trainers.strip_optimizer(folder / name)


def probe(model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a training would begin with: a digest of its first batches, and its optimizer.

    Args:
        model: what ``YOLO()`` takes.
        arguments: of Ultralytics, ``seed`` and a folder to write into included.

    Returns: ``batches``, a SHA-256 of images and labels; ``optimizer``, its class; ``groups``, what each group of
        weights is trained with; ``accumulate`` and ``batch``; ``rates``, the factor of the learning rate by epoch.
    """
    yolo: Any = YOLO(model)
    orders = Orders(arguments["seed"], after_epoch=lambda state: None)
    yolo.add_callback("on_train_start", _look)
    try:
        yolo.train(trainer=_resumable(yolo, orders), **arguments)
    except _Looked as looked:
        return looked.found
    raise AssertionError("a training began without its callback")


def pin_threads(count: int) -> None:
    """Let PyTorch use so many threads, which Ultralytics sets to its own number when it selects the CPU."""
    torch_utils.NUM_THREADS = count
    torch.set_num_threads(count)


def _resumable(yolo: Any, orders: Orders) -> type:
    base = yolo._smart_load("trainer")
    return type(f"Resumable{base.__name__}", (_Resumable, base), {"orders": orders})


class _Resumable(trainers.BaseTrainer):
    """What is put in front of a trainer class of Ultralytics; ``orders`` belongs to the class made of both."""

    orders: Orders
    start_epoch: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.rows = [*self.orders.state["rows"]] if self.orders.state else []  # metrics of every epoch
        self.iteration = -1  # counted over all epochs, as Ultralytics counts
        self.last_step = -1  # the iteration of the optimizer's last step
        self.ahead = 0
        self.warned = _Warned()
        super().__init__(*args, **kwargs)
        self.add_callback("on_train_start", _Resumable._before_training)
        self.add_callback("on_train_epoch_start", _Resumable._before_epoch)
        self.add_callback("on_train_batch_start", _Resumable._before_batch)
        self.add_callback("on_fit_epoch_end", _Resumable._after_epoch)

    @property
    def accumulate(self) -> int:
        """Iterations from one step of the optimizer to the next.

        Ultralytics takes a step when ``iteration - last >= accumulate``, and its ``last`` is a local variable that
        begins at -1. After a resumption the truth is told here: ``iteration + 1 >= accumulate + last_step + 1``.
        """
        return self._accumulate + self.ahead

    @accumulate.setter
    def accumulate(self, value: int) -> None:
        """What Ultralytics works out in every iteration."""
        self._accumulate = value

    def get_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """The loader; that of the training begins every epoch from a seed of its own."""
        loader = super().get_dataloader(*args, **kwargs)
        return loader if kwargs.get("mode") == "val" else resuming.repeatable(loader, self._before_pass)

    def optimizer_step(self) -> None:
        """A step, and when it was."""
        super().optimizer_step()
        self.last_step, self.ahead = self.iteration, 0

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Write the row of ``results.csv``, and keep it with all its digits.

        Raises:
            DivergedError: loss or weights are not finite.
        """
        wrong = self._not_finite()
        if wrong is not None:
            raise DivergedError(self.epoch + 1, wrong)
        row = {name: float(value) for name, value in metrics.items()}
        self.rows.append({"epoch": self.epoch + 1, **row})
        super().save_metrics(metrics)

    def final_eval(self) -> None:
        """Nothing: :func:`finish` and the evaluation are left to who ordered the training."""

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """What newer Ultralytics does about a loss that is not finite: back to ``last.pt``, and the epoch again."""
        try:
            again = bool(super()._handle_nan_recovery(epoch))
        except RuntimeError as error:
            raise DivergedError(epoch + 1, self._not_finite() or str(error)) from error
        if again:
            self.last_step, self.ahead = -1, 0
        return again

    def _not_finite(self) -> str | None:
        """What is not finite, in words; None if loss and weights are."""
        if not torch.isfinite(self.loss).all():
            return self.warned.text or f"the loss is {self.loss.tolist()}"
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                return f"the weight {name} is not finite"
        return None

    def _before_training(self) -> None:
        self.batch_given = self.batch_size
        state = self.orders.state
        if state is not None:
            resuming.put(self, state)
            self.accumulate, self.last_step = state["accumulate"], state["last_step"]
            self.ahead = self.last_step + 1

    def _before_epoch(self) -> None:
        if self.batch_size != self.batch_given:
            raise RuntimeError(
                f"batch={self.batch_given} needs more memory than the device has, and Ultralytics went on with "
                f"batch={self.batch_size}, which no other run has; set a smaller batch for all"
            )
        if self.epoch == self.start_epoch > 0 and self.orders.state is not None:
            resuming.put_gradients(self.model, self.orders.state)  # the loop has just cleared them
            self.start_epoch = 0  # from here on all is as if it had never been cut
        self.iteration = self.epoch * len(self.train_loader) - 1

    def _before_pass(self, loader: Any) -> None:
        resuming.seed_epoch(loader, self.orders.seed, self.epoch)

    def _before_batch(self) -> None:
        self.iteration += 1

    def _after_epoch(self) -> None:
        state = resuming.taken(self)
        state |= {"rows": self.rows, "accumulate": self._accumulate, "last_step": self.last_step}
        state |= {"epochs": self.epochs, "epoch_seconds": self.epoch_time}
        self.orders.after_epoch(state)


class _Warned(logging.Handler):
    """Keeps the sentence of ``hooks/nonfinite.py`` that names the layer where NaN or infinity began."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        LOGGER.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the sentence of a record, if it has one."""
        found = SENTENCE.search(record.getMessage())  # a formatter may have put a sign in front
        if found is not None:
            self.text = found[0]


def _look(trainer: Any) -> None:
    """End a training that is about to begin, with what it would begin with.

    Raises:
        _Looked: always.
    """
    trainer.epoch = 0
    digest = hashlib.sha256()
    for batch in itertools.islice(trainer.train_loader, LOOKED_AT):
        for name in sorted(batch):
            value = batch[name]
            content = value.numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode("utf-8")
            digest.update(content)
    groups = [
        {name: value for name, value in group.items() if name != "params"} | {"parameters": len(group["params"])}
        for group in trainer.optimizer.param_groups
    ]
    found = {
        "batches": digest.hexdigest(),
        "optimizer": type(trainer.optimizer).__name__,
        "groups": groups,
        "accumulate": trainer.accumulate,
        "batch": trainer.batch_size,
        "rates": [float(trainer.lf(epoch)) for epoch in range(trainer.epochs)],
    }
    raise _Looked(found)
