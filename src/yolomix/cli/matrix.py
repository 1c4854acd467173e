"""The verb ``export-matrix``: which models run in which formats and precisions, as a table, CSV and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolomix import progress
from yolomix.cli.answer import Answer, Table
from yolomix.cli.request import UsageError
from yolomix.host import declared, offline
from yolomix.nearest import near

BITS = ("32", "16", "8")


def export_matrix(
    *,
    model: list[str],
    formats: list[str] | None,
    precision: list[str] | None,
    imgsz: int,
    limit: int,
    data: str | None,
    out: str,
) -> Answer:
    """Fill the cells that are not known yet; the arguments are those that help explains.

    Raises:
        UsageError: Ultralytics has no such format.
    """
    _check_formats(formats or ())
    with progress.shown("loading PyTorch and Ultralytics") as said:
        offline.prepare()
        from yolomix.matrix import filling

        path = Path(out) if out.endswith(".csv") else Path(out, "matrix.csv")
        models, forms = model or filling.MODELS, formats or [*filling.PACKAGES]
        bits = [int(one) for one in precision or BITS]
        found = filling.export_matrix(models, forms, bits, imgsz, limit, data, path, said)
    head, *rows = found.as_rows()
    shown: list[str | Table] = [Table(head, rows), "", found.in_short(), f"{path} and {path.with_suffix('.md')}"]
    return Answer({"verb": "export-matrix", "file": str(path), **found.to_dict()}, shown)


def _check_formats(forms: Sequence[str]) -> None:
    known = [form for form in declared.export_formats() if form != "-"]
    for form in forms:
        if form not in known:
            raise UsageError(f"export-matrix knows no format {form!r}; {near(form, known)}")
