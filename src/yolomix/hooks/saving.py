"""Checkpoints that Ultralytics writes, whole or not at all: a full disk keeps the last good one."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from yolomix import files
from yolomix.hooks import nonfinite
from yolomix.host import gates

PATHS = ("last", "best", "wdir")  # where a trainer writes: two files, and the folder of those of single epochs


class _WholePath(type(Path())):  # type: ignore[misc]  # the path class of this system
    """A path whose content is replaced in one step; so are those of files below it."""

    def write_bytes(self, data: bytes) -> int:
        """Replace the content; the number of bytes, as ever."""
        files.write(Path(self), bytes(data))
        return len(data)


def save_model(native: Callable[..., Any], trainer: Any) -> Any:
    """``BaseTrainer.save_model``, which otherwise opens ``last.pt`` and ``best.pt`` and writes into them.

    What is not finite is not written: it would replace the last good checkpoint, and nothing can go on from it.

    Raises:
        RuntimeError: it is not finite, and there is no earlier checkpoint.
    """
    wrong = nonfinite.spoilt(trainer)
    if wrong is not None:
        _keep_the_last(trainer, wrong)
        return False
    given = {name: getattr(trainer, name) for name in PATHS}
    for name, path in given.items():
        setattr(trainer, name, _WholePath(path))
    try:
        return native(trainer)
    finally:
        for name, path in given.items():  # as they were: others compare and pickle them
            setattr(trainer, name, path)


def _keep_the_last(trainer: Any, wrong: str) -> None:
    """Say that a checkpoint is not written, or raise if there is none to go on from."""
    if not trainer.last.exists():
        raise RuntimeError(
            f"after epoch {trainer.epoch + 1} {wrong} is not finite, so there is no checkpoint to keep or to go on "
            "from; lower the learning rate (lr0=) or use amp=False"
        )
    LOGGER.warning(f"{wrong} is not finite after epoch {trainer.epoch + 1}: {trainer.last} stays as it was before")


def save_metrics(native: Callable[..., Any], trainer: Any, *args: Any, **kwargs: Any) -> Any:
    """``BaseTrainer.save_metrics``, which appends a row to ``results.csv`` before the checkpoint of the epoch is there.

    A process that was killed in between left a row of an epoch that is trained again, one without room half a row.
    The gates of grafts are written beside it.
    """
    _drop_rows(trainer.csv, trainer.epoch + 1)
    ema = getattr(trainer, "ema", None)  # what the checkpoint of the epoch will hold
    if ema is not None:
        gates.append(trainer.save_dir, trainer.epoch + 1, ema.ema)
    return native(trainer, *args, **kwargs)


def _drop_rows(file: Path, epoch: int) -> None:
    """Drop rows that are not whole, and those from an epoch on, which is counted from 1."""
    if not file.exists():
        return
    lines = file.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n")]
    kept = kept[:1] + [line for line in kept[1:] if _is_before(line, epoch)]
    if not kept:
        file.unlink()  # Ultralytics writes a head only where no file is
    elif kept != lines:
        files.write_text(file, "".join(kept))


def _is_before(row: str, epoch: int) -> bool:
    first = row.split(",")[0].strip()
    return not first.isdecimal() or int(first) < epoch


def strip_optimizer(native: Callable[..., Any], f: str | Path = "best.pt", s: str = "", *args: Any, **more: Any) -> Any:
    """``strip_optimizer``, which otherwise writes the finished checkpoint over the one that it was read from."""
    target = Path(s or f)
    aside = target.with_name(f".{target.name}{files.ASIDE}{os.getpid()}-stripped.pt")
    try:
        with _said_without(f" saved as {aside}," if not s else "", str(aside), s):
            result = native(f, str(aside), *args, **more)
        if aside.exists():  # nothing is written from a file that is no checkpoint
            files.write(target, aside.read_bytes())
    except (OSError, RuntimeError) as error:  # PyTorch's writer says neither which file nor why
        if isinstance(error, FileNotFoundError) or str(target) in str(error):
            raise
        why = str(error).split("\n")[0].replace(str(aside), "it")
        raise OSError(errno.EIO, f"cannot write {target}, is the disk full? PyTorch says: {why}") from error
    finally:
        with contextlib.suppress(OSError):  # the next write of the file removes it
            aside.unlink()
    return result


def save(native: Callable[..., Any], model: Any, filename: Any = "saved_model.pt", *args: Any, **more: Any) -> Any:
    """``Model.save``, which otherwise writes into the file that is there."""
    if not isinstance(filename, (str, os.PathLike)):
        return native(model, filename, *args, **more)
    content = io.BytesIO()
    result = native(model, content, *args, **more)
    files.write(os.fspath(filename), content.getvalue())
    return result


@contextmanager
def _said_without(words: str, aside: str, name: str) -> Iterator[None]:
    """Keep the name of the file aside out of what Ultralytics logs."""

    def _rewrite(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        record.msg, record.args = text.replace(words, "").replace(aside, name), ()
        return True

    LOGGER.addFilter(_rewrite)
    try:
        yield
    finally:
        LOGGER.removeFilter(_rewrite)
