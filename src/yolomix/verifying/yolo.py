"""``yolomix.YOLO``: the ``YOLO`` of Ultralytics, which finds our packaged names and verifies what it exports."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

from yolomix.hooks import exports
from yolomix.host import yolo
from yolomix.verifying.values import VerificationError
from yolomix.verifying.verifying import verify as verify_file

LOGGER = logging.getLogger("yolomix")


class Verifying:
    """What is put in front of a class of models of Ultralytics."""

    def export(self, *, verify: bool = True, kit: bool = False, **arguments: Any) -> str:
        """Write the model for another runtime, and compare the file with PyTorch in that runtime.

        Args:
            verify: false leaves the comparison out.
            kit: also write a folder that runs the file without PyTorch, by a script and a page, and verify it.
            arguments: of Ultralytics: ``format``, ``imgsz``, ``dynamic``, ``data`` and others.

        Returns: the file, or with ``kit`` that folder.

        Raises:
            ValueError: there is no kit for such a model or format; nothing is written.
            VerificationError: the file, which stays, differs from PyTorch; the error has the ``Verification``.
        """
        native: Any = super()
        with exports.asked(verifies=verify, kit=kit):
            file = str(native.export(**arguments))
        if not verify:
            return file
        found = verify_file(self, file, data=arguments.get("data"), imgsz=arguments.get("imgsz"))
        if found.verified is False:
            raise VerificationError(found)
        if found.verified is None:
            LOGGER.warning(found.advice)
        return file


class YOLO(Verifying, yolo.YOLO):
    """``ultralytics.YOLO`` that also builds our packaged models, and verifies exported files.

    Args:
        model: a checkpoint, a model YAML, or a packaged name with its scale letter (``yolo11n-mlla.yaml``).
        task: what it does (detect, segment, ...); read from the model if not given.
        verbose: log the layers while building.

    >>> model = YOLO("yolo11n-mlla.yaml")
    >>> model.task, sum(p.numel() for p in model.model.parameters())
    ('detect', 2801488)
    """

    def __init__(self, model: str | Path = "yolo11n-mlla.yaml", task: str | None = None, verbose: bool = False) -> None:
        super().__init__(model, task=task, verbose=verbose)
        became: Any = type(self)
        if not issubclass(became, Verifying):  # the last row was that of an RT-DETR
            self.__class__ = _verifying(became)


@functools.cache
def _verifying(cls: type[Any]) -> type[Any]:
    return type(cls.__name__, (Verifying, cls), {})
