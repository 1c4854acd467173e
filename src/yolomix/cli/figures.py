"""The verb ``figures``: one figure of models, as files."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from yolomix import progress
from yolomix.cli.answer import Answer, Table
from yolomix.cli.request import UsageError
from yolomix.figures import kinds
from yolomix.host import offline


def figures(
    *,
    kind: str,
    models: list[str],
    source: str | None,
    at: list[str] | None,
    classes: list[str] | None,
    box: list[float] | None,
    method: str | None,
    query: list[float] | None,
    conf: list[float] | None,
    imgsz: list[int] | None,
    out: Path,
    gallery: bool,
) -> Answer:
    """Make a figure and write its files; the arguments are those that help explains.

    Raises:
        UsageError: an argument that the kind does not take, or a gallery without images.
    """
    given = {
        "source": source, "at": at, "classes": classes, "box": box, "method": method, "query": query,
        "conf": conf and conf[0], "imgsz": imgsz,
    }  # fmt: skip
    settings = {name: value for name, value in given.items() if value is not None}
    with progress.shown("loading PyTorch and Ultralytics") as said:
        offline.prepare()
        _check(kind, settings)
        said(0, 1, f"drawing {kind} of {', '.join(models)}")
        if gallery:
            return _gallery(kind, models, settings, out)
        figure = kinds.find(kind)(models, **settings)
        written = [str(file) for file in figure.save(out)]
    head, *rows = figure.as_rows()
    shown: list[str | Table] = [Table(head, rows)]
    if figure.verdict:
        shown += ["", figure.verdict]
    return Answer({"verb": "figures", "files": written, **figure.to_dict()}, [*shown, "", *written])


def _gallery(kind: str, models: list[str], settings: dict[str, Any], out: Path) -> Answer:
    from yolomix.figures.page import gallery

    if "source" not in settings:
        raise UsageError("a gallery needs source=, a folder of images")
    page = str(gallery(kind, models, out=out, **settings))
    return Answer({"verb": "figures", "kind": kind, "files": [page]}, [page])


def _check(kind: str, settings: dict[str, Any]) -> None:
    """Raise unless a kind takes all of these."""
    takes = [*inspect.signature(kinds.find(kind)).parameters]
    for name in settings:
        if name not in takes:
            raise UsageError(f"{kind} takes no {name}=; it takes {', '.join(takes)}")
