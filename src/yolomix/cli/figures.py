"""The verb ``figures``: one figure of models, as files."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from yolomix import progress
from yolomix.cli.answer import Answer, Table
from yolomix.cli.request import UsageError
from yolomix.host import offline


def figures(*, kind: str, models: list[str], source: str | None, out: Path, gallery: bool, **given: Any) -> Answer:
    """Make a figure and write its files; the arguments are those that help explains.

    Raises:
        UsageError: an argument that the kind does not take.
    """
    with progress.shown("loading PyTorch and Ultralytics") as said:
        offline.prepare()
        import yolomix.figures

        draw = getattr(yolomix.figures, kind)
        if "class" in given:  # a word of Python's own
            given["classes"] = given.pop("class")
        settings = {name: value for name, value in given.items() if value is not None}
        if source is not None:
            settings["source"] = source
        _check(kind, [*inspect.signature(draw).parameters], settings)
        said(0, 1, f"drawing {kind} of {', '.join(models)}")
        if gallery:
            if source is None:
                raise UsageError("a gallery needs source=, a folder of images")
            page = yolomix.figures.gallery(kind, models, out=out, **settings)
            return Answer({"verb": "figures", "kind": kind, "files": [str(page)]}, [str(page)])
        figure = draw(models, **settings)
        written = [str(file) for file in figure.save(out)]
    head, *rows = figure.as_rows()
    shown: list[str | Table] = [Table(head, rows)]
    if figure.verdict:
        shown += ["", figure.verdict]
    return Answer({"verb": "figures", "files": written, **figure.to_dict()}, [*shown, "", *written])


def _check(kind: str, takes: list[str], settings: dict[str, Any]) -> None:
    for name in settings:
        if name not in takes:
            others = ", ".join("class" if other == "classes" else other for other in takes)
            raise UsageError(f"{kind} takes no {'class' if name == 'classes' else name}=; it takes {others}")
