"""A profile as a file: rows for programs and papers, or a figure."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from yolomix import files
from yolomix.profiling.layer import STAGES, Layer
from yolomix.profiling.values import ModelProfile, Profile

COLUMNS = (
    "model", "imgsz", "batch", "index", "name", "module", "stage", "shape", "parameters", "flops", "scan_flops",
    "scan_flops_papers", "latency_ms_median", "latency_ms_p20", "latency_ms_p95", "share", "memory_mb", "backend",
)  # fmt: skip
TEX = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#"})
COLOURS = dict(zip(STAGES, ("#4477aa", "#ccbb44", "#aa3377"), strict=True))


def save(profile: Profile, file: str | Path) -> Path:
    """Write a profile in the form that the suffix of the file says.

    >>> save(Profile(()), "none.doc")
    Traceback (most recent call last):
    ValueError: none.doc: a profile is saved as .csv, .json, .md, .tex, .png

    Raises:
        ValueError: the suffix is none of these.
    """
    path = Path(file)
    check(path)
    return files.write(path, FORMS[path.suffix](profile))


def check(file: str | Path) -> None:
    """Raise ValueError unless the suffix of a file is one of ``FORMS``."""
    if Path(file).suffix not in FORMS:
        raise ValueError(f"{file}: a profile is saved as {', '.join(FORMS)}")


def _csv(profile: Profile) -> bytes:
    """A row per layer and one, without index, per model."""
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    rows.writeheader()
    for model in profile.models:
        whole = {"model": model.model, "imgsz": "x".join(map(str, model.imgsz)), "batch": model.batch}
        found = model.to_dict()
        total = {**found, **whole, "latency_ms": found["latency_ms"], "memory_mb": model.memory}
        for row in (*(found["layers"] or ()), total):
            latency = row["latency_ms"] or {}
            times = {f"latency_ms_{name}": latency.get(name) for name in ("median", "p20", "p95")}
            backend = " ".join(f"{op}:{name}" for op, name in row.get("backend", {}).items())
            cells = {**row, **whole, **times, "backend": backend}
            rows.writerow({name: cells.get(name) for name in COLUMNS})
    return text.getvalue().encode()


def _json(profile: Profile) -> bytes:
    return json.dumps(profile.to_dict(), indent=1).encode()


def _markdown(profile: Profile) -> bytes:
    lines = []
    for rows in _tables(profile):
        head, *body = rows
        lines += [_bar(head), _bar(["---"] * len(head)), *map(_bar, body), ""]
    return "\n".join(lines).encode()


def _bar(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(profile: Profile) -> bytes:
    """Tables for the package booktabs."""
    lines = []
    for rows in _tables(profile):
        head, *body = ([cell.translate(TEX) for cell in row] for row in rows)
        lines += [
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            rf"{' & '.join(head)} \\",
            r"\midrule",
        ]
        lines += [rf"{' & '.join(row)} \\" for row in body]
        lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines).encode()


def _tables(profile: Profile) -> list[Sequence[Sequence[str]]]:
    found: list[Sequence[Sequence[str]]] = [model.as_rows() for model in profile.models if model.layers]
    return [*found, profile.as_rows()]


def _figure(profile: Profile) -> bytes:
    """Bars per layer, the models below each other on the same scales: latency on the left, operations on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    models = [model for model in profile.models if model.layers]
    if not models:
        raise ValueError("a figure needs a model with layers, and a file of another runtime shows none")
    figure = Figure(figsize=(12, 0.6 + 2.6 * len(models)), layout="constrained")
    axes = figure.subplots(len(models), 2, squeeze=False, sharey="col")
    for model, (left, right) in zip(models, axes, strict=True):
        _bars(left, model, [layer.latency.median if layer.latency else 0.0 for layer in _outer(model)])
        _bars(right, model, [layer.operations.total / 1e9 for layer in _outer(model)])
        scans = [layer.operations.scan / 1e9 for layer in _outer(model)]
        if any(scans):
            right.bar(range(len(scans)), scans, color="white", alpha=0.6, hatch="///", label="scan")
        size = f"{model.imgsz[0]}x{model.imgsz[1]}, batch {model.batch}"
        total = f"{model.latency.median:.1f} ms" if model.latency else "not timed"
        if model.latency and model.latency.is_busy:
            total += ", on a busy machine"
        left.set_title(f"{model.model}, {size}: {total}", fontsize=9)
        left.set_ylabel("ms")
        right.set_ylabel("GFLOPs")
        right.legend(fontsize=8)
    figure.supxlabel(models[0].conditions.in_short(), fontsize=8)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)  # type: ignore[no-untyped-call]
    return content.getvalue()


def _outer(model: ModelProfile) -> list[Layer]:
    return [layer for layer in model.layers or () if layer.depth == 1]


def _bars(axes: Any, model: ModelProfile, values: Sequence[float]) -> None:
    layers = _outer(model)
    for stage in STAGES:
        chosen = [i for i, layer in enumerate(layers) if layer.stage == stage]
        axes.bar(chosen, [values[i] for i in chosen], color=COLOURS[stage], label=stage)
    names = [textwrap.shorten(layer.module, 20, placeholder="...") for layer in layers]
    axes.set_xticks(range(len(layers)), names, rotation=90, fontsize=6)


FORMS: dict[str, Callable[[Profile], bytes]] = {
    ".csv": _csv,
    ".json": _json,
    ".md": _markdown,
    ".tex": _latex,
    ".png": _figure,
}
