"""Exports of every format: what cannot be is refused before anything is traced, and files are put in place whole."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from ultralytics import utils
from ultralytics.engine import exporter as exporters

from yolomix import files
from yolomix.hooks import wanted
from yolomix.host import exported, holding, tools
from yolomix.host.exported import Contents
from yolomix.kit import folder as kits
from yolomix.ops import tracing

# How many elements a format's runtime sorts at most. ncnn and x2paddle have neither a sort nor a scatter, and
# litert-torch 0.10 makes an invalid one of a sort, whose indices are 64 bits wide. TensorRT sorts fewer than 3840.
SORTED = {"ncnn": 0, "paddle": 0, "litert": 0, "engine": 3839}


class Asked(NamedTuple):
    """What is asked of an export beside what Ultralytics knows."""

    verifies: bool = False  # whether who exports also verifies
    kit: bool = False


NOTHING = Asked()
_asked: contextvars.ContextVar[Asked] = contextvars.ContextVar("yolomix_asked", default=NOTHING)


def export(native: Callable[..., Any], exporter: Any, *args: Any, **kwargs: Any) -> Any:
    """``Exporter.__call__``, which writes into a folder beside the file and only then puts it in place.

    Raises:
        ModuleNotFoundError: the format needs a package that is not installed.
        ValueError: the format has none of what was asked for, or a package that it needs is of another version or
            declares another PyTorch; or it lacks the precision, or INT8 images to be calibrated on.
        PrecisionError: the file has not the precision that was asked for; what was there before is.
        OSError: nothing can be written.
    """
    model, more = args[0] if args else kwargs["model"], _asked.get()
    check(exporter)
    wanted.check(exporter, _format(exporter), model)
    if more.kit:
        kits.check(model, _format(exporter), exporter.args.batch or 1, bool(exporter.args.dynamic))
    precision = wanted.precision(exporter.args)  # which Ultralytics may change on its way
    most = SORTED.get(_format(exporter))
    recorded = nullcontext() if most is None else tracing.sorting_at_most(most)
    with _Aside(exporter, precision), recorded:
        written = native(exporter, *args, **kwargs)
    if more.kit:
        written = str(_kit(Path(written), model, exporter))
    if not more.verifies:
        rows = getattr(model, "yaml", None) or {}
        name = getattr(model, "pt_path", None) or rows.get("yaml_file", "...")
        utils.LOGGER.info(f"Verify:          yolomix verify model={name} file={written}")
    return written


class PrecisionError(RuntimeError):
    """A file was written in another precision than was asked for."""


@contextmanager
def asked(verifies: bool = False, kit: bool = False) -> Iterator[None]:
    """Ask for more of the exports inside the block.

    Args:
        verifies: say nothing about the command that verifies a file: who exports does that.
        kit: write a kit beside the file, which is then what an export gives.
    """
    token = _asked.set(Asked(verifies, kit))
    try:
        yield
    finally:
        _asked.reset(token)


def _kit(file: Path, model: Any, exporter: Any) -> Path:
    contents = Contents.of(exporter.metadata, dynamic=bool(exporter.args.dynamic))
    chosen = kits.settings(file, contents, exported.layout(model, contents), exporter.metadata["license"])
    told = f"Not verified: `yolomix verify model=MODEL file={kits.place(file)}` does it, and writes here what it finds."
    return kits.write(file, chosen, told)


def check(exporter: Any) -> None:
    """Refuse what would fail late, in the middle of a log, or be left out without an error."""
    form = _format(exporter)
    if not utils.AUTOINSTALL and (refusal := tools.refusal(form)):
        raise (ModuleNotFoundError if "not installed" in refusal else ValueError)(refusal)
    table = exporters.export_formats()
    taken = dict(zip(table["Argument"], table.get("Arguments", ()), strict=False))
    if form not in taken:  # an alias, or Ultralytics 8.3.0, which has no such table
        return
    for name in ("nms", "dynamic"):
        if getattr(exporter.args, name, None) and name not in taken[form]:
            have = [one for one, arguments in taken.items() if name in arguments]
            raise ValueError(f"format={form} has no {name}=True; formats that have it: {', '.join(have)}")


def _format(exporter: Any) -> str:
    return str(exporter.args.format).lower()


class _Aside(ExitStack):
    """Lets the methods ``export_...`` of an exporter write into a folder aside, which the outermost call empties.

    One format passes through another on its way, and names of formats have aliases: a call inside a call is on the way.
    """

    def __init__(self, exporter: Any, precision: str | None) -> None:
        super().__init__()
        self.exporter, self.precision, self.is_inside = exporter, precision, False

    def __enter__(self) -> _Aside:
        super().__enter__()
        for name in dir(type(self.exporter)):
            if name.startswith("export_"):
                setattr(self.exporter, name, self._around(getattr(self.exporter, name)))
                self.callback(delattr, self.exporter, name)
        return self

    def _around(self, native: Callable[..., Any]) -> Callable[..., Any]:
        def _export(*args: Any, **kwargs: Any) -> Any:
            if self.is_inside:
                return native(*args, **kwargs)
            target = Path(self.exporter.file)
            with files.folder_aside(target.with_suffix("")) as aside, _told(str(aside), str(target.parent)):
                self.is_inside, self.exporter.file = True, aside / target.name
                try:
                    written = native(*args, **kwargs)
                finally:
                    self.is_inside, self.exporter.file = False, target
                self._check_precision(written)
                return _in_place(written, aside, target.parent)

        return _export

    def _check_precision(self, written: Any) -> None:
        if self.precision is None:
            return
        parameters = sum(weight.numel() for weight in self.exporter.model.parameters())
        if refusal := holding.refusal(_path(written), self.precision, parameters):
            raise PrecisionError(
                f"format={_format(self.exporter)} was asked for {self.precision}, and the file has {refusal}; it was "
                "not put in place. Export in FP32, or to another format"
            )


def _path(written: Any) -> Path:
    return Path(written[0] if isinstance(written, tuple) else written)


def _in_place(written: Any, aside: Path, place: Path) -> Any:
    """Put everything in place, the result last; returns its final name, in the form in which it was given."""
    path = _path(written).relative_to(aside)
    result = aside / path.parts[0]
    for one in sorted(aside.iterdir(), key=lambda one: one == result):
        files.put_in_place(one, place / one.name)
    final = str(place / path)
    return (final, *written[1:]) if isinstance(written, tuple) else final


@contextmanager
def _told(aside: str, place: str) -> Iterator[None]:
    """Let the log of Ultralytics name the place where files will be, not the folder that they are written into."""

    def _renamed(record: logging.LogRecord) -> bool:
        record.msg = str(record.msg).replace(aside, place)
        return True

    utils.LOGGER.addFilter(_renamed)
    try:
        yield
    finally:
        utils.LOGGER.removeFilter(_renamed)
