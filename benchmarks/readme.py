"""The tables of README and docs that are made from measured rows: ``python -m benchmarks.readme`` writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks import export, precision, table, zoo
from yolomix.matrix import filling, values
from yolomix.matrix.values import Cell, Key, Matrix
from yolomix.models import Model
from yolomix.profiling.units import giga, millions

ROOT = Path(__file__).parents[1]
README, MODELS, EXPORT = ROOT / "README.md", ROOT / "docs" / "models.md", ROOT / "docs" / "export.md"
# Whose rows the README shows. They are older than the column that says the vector width.
MACHINE, VECTOR = "amd-epyc-zen4-avx512-1thread", "AVX-512"
ZOO = table.RESULTS / "zoo-amd-epyc-zen3-avx2-1thread.csv"
EXPORTS = table.RESULTS / "export-amd-epyc-zen3-avx2-1thread.csv"
BROWSER = table.RESULTS / "browser-amd-epyc-zen3-avx2-1thread.csv"
MATRIX = table.RESULTS / "matrix-amd-epyc-zen3-avx2-1thread.csv"
PRECISIONS = table.RESULTS / "precision-amd-epyc-zen3-avx2-1thread.csv"
STAGES = ("S1", "S2", "S3", "S4")
ROWS = (
    ("one time step after the other, as `selective_scan_ref` does", "scan", "sequential"),
    ("mambapy, parallel scan", "scan", "mambapy"),
    ("yolomix `eager`, plain PyTorch", "scan", "eager"),
    ("yolomix `numba`", "scan", "numba"),
    ("2D selective scan (`ss2d`), four copies around the same scan", "ss2d", "four copies, numba scan"),
    ("2D selective scan (`ss2d`), yolomix `numba`", "ss2d", "numba"),
)
Rows = dict[tuple[str, ...], dict[str, str]]


def file(name: str) -> Path:
    """The results of a benchmark that the README shows."""
    return table.RESULTS / f"{name}-{MACHINE}.csv"


def speed() -> str:
    """The table of scans with its conditions, from the files of ``MACHINE``."""
    ops, models = table.read(file("ops")), table.read(file("models"))
    ours = models["mamba-yolo-t", "1 x 640", "float32", "1", "eval", "auto"]
    stock = models["yolov8s", "1 x 640", "float32", "1", "eval", "auto"]
    here = next(iter(ops.values()))
    pytorch = here["torch"].split("+")[0]
    return "\n".join(
        [
            "## Speed without a compiler",
            "",
            "Scans of one image of 640 pixels in Mamba-YOLO-T's four stages, forward, milliseconds of CPU time:",
            "",
            "| | S1 | S2 | S3 | S4 |",
            "|---|---:|---:|---:|---:|",
            *(_line(ops, *row) for row in ROWS),
            "",
            f"The whole Mamba-YOLO-T takes {_ms(ours)} ms for such an image, stock YOLOv8s {_ms(stock)} ms.",
            f"One thread of an {here['machine']} with {VECTOR}, a virtual machine, PyTorch {pytorch}, Numba",
            f"{here['numba']}, {here['date']}; medians of one run (* measured once): `python -m benchmarks.ops`,",
            "`python -m benchmarks.models`. What the machine's limit is, the backward pass, memory and what was tried:",
            "[docs/design/cpu-kernels.md](docs/design/cpu-kernels.md).",
            "",
        ]
    )


def models() -> str:
    """Every packaged model at its smallest scale, beside its stock model."""
    rows = zoo.read(ZOO)
    lines = [
        "| name | what it is | scales | parameters | GFLOPs | of them scans | ms | of its stock model | MB |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for model in zoo.zoo().values():
        row = rows[model.typed(next(iter(model.parameters)))]
        stock = row["stock"].removesuffix(".yaml")
        lines.append(
            f"| `{row['model']}` | {model.about} | {' '.join(model.parameters)} | {_counts(row)} | "
            f"{float(row['cpu_ms']):.0f} | {float(row['ratio']):.2f} x {stock} | {float(row['memory_mb']):.0f} |"
        )
    return "\n".join([*lines, "", *_conditions(rows, "docs/profile.md"), ""])


def scales() -> str:
    """Every packaged model at every scale: what can be counted, and what was measured."""
    rows = zoo.read(ZOO)
    lines = []
    for model in zoo.zoo().values():
        lines += [f"### {model.name}", "", _about(model), "", *_scales(model, rows), ""]
    return "\n".join([*_conditions(rows, "profile.md"), "", *lines])


def exports() -> str:
    """What files of other runtimes take beside PyTorch."""
    rows = export.read(EXPORTS)
    lines = [
        "| model | format | MB | nodes | export, CPU s | load, s | boxes (allowed) | scores (allowed) | CPU ms | "
        "ratio | verified | verifying, CPU s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---:|",
    ]
    for row in rows:
        lines.append(
            f"| `{row['model'].removesuffix('.yaml')}` | {row['format']} | {row['size_mb']} | {row['nodes'] or '-'} | "
            f"{row['export_cpu_s']} | {row['load_s']} | {row['boxes']} ({row['boxes_allowed']}) | "
            f"{row['scores']} ({row['scores_allowed']}) | {row['cpu_ms']} | {row['ratio']} | "
            f"{'yes' if row['verified'] == 'True' else 'no'} | {row['verify_cpu_s']} |"
        )
    here = rows[0]
    runtimes = " and ".join(dict.fromkeys(row["runtime"] for row in rows))
    notes = {row["note"] for row in rows if row["note"]}
    return "\n".join(
        [
            f"Random weights, an image of {here['imgsz']} pixels, one thread. Differences are from float64. Ratio: CPU",
            "time of the file to that of PyTorch with our kernels, medians of 13 passes in turns. Verifying is without",
            f"`data=`. {here['machine']} with {here['vector']}, a virtual machine; {runtimes}, PyTorch",
            f"{here['torch'].split('+')[0]}, Ultralytics {here['ultralytics']}, {here['date']}:",
            "`python -m benchmarks.export`.",
            *(f"Of some rows: {note}." for note in sorted(notes)),
            "",
            *lines,
            "",
        ]
    )


def web() -> str:
    """What a browser takes beside ONNX Runtime."""
    rows = export.read(BROWSER)
    lines = [
        "| in the browser | CPU ms | ONNX Runtime, CPU ms | ratio | largest difference |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        took = f"{row['browser_ms']} | {row['native_ms']} | {row['ratio']} | {row['largest_difference']}"
        if not row["ratio"]:
            took = f"not run: {row['note']} | | |"
        lines.append(f"| {row['provider']} | {took} |")
    here = rows[0]
    return "\n".join(
        [
            *lines,
            "",
            f"Medians of {here['rounds']} passes in turns. {here['machine']} with {here['vector']}, a virtual machine;",
            f"{here['browser']}, onnxruntime-web {here['web']}, onnxruntime {here['onnxruntime']}, {here['date']}:",
            "`python -m benchmarks.browser`.",
            "",
        ]
    )


def matrix() -> str:
    """Which models run in which formats and precisions."""
    known = {cell.key: cell for cell in values.read(MATRIX)}
    keys = [
        Key(model, "", form, precision, "64")
        for precision in ("FP32", "FP16", "INT8")
        for model in filling.MODELS
        for form in filling.PACKAGES
    ]
    found = Matrix(tuple(known.get(key, Cell(key)) for key in keys))
    return "\n".join(
        [
            "Random weights, images of 64 pixels; INT8 is calibrated with the sample dataset. Of a file that agrees,",
            "how far boxes are from those of PyTorch, as a part of the side, or scores, where a model has no boxes;",
            "CPU time of a pass; size. FP32 is compared with float64 and judged by that, the others by detections.",
            f"{found.in_short()}; the rest says so. Every column, with PyTorch's own times, is in",
            f"[{MATRIX.name}](../benchmarks/results/{MATRIX.name}).",
            "",
            found.markdown(),
        ]
    )


def precisions() -> str:
    """What FP16 and INT8 cost trained models."""
    rows = [row for row in precision.read(PRECISIONS) if row["map_file"]]
    if not rows:
        return "Not measured yet: `python -m benchmarks.precision CHECKPOINT... --data your.yaml`.\n"
    lines = [
        "| model | images | format | | mAP50-95, PyTorch | file | difference, 95 % on other images | MB | ratio |",
        "|---|---|---|---|---:|---:|---|---:|---:|",
    ]
    for row in rows:
        told = f"{row['difference']} ({row['low']} to {row['high']})"
        lines.append(
            f"| `{row['model']}` | {row['images']} of {row['data']} | {row['format']} | {row['precision']} | "
            f"{row['map']} | {row['map_file']} | {told} | {row['mb']} | {row['ratio']} |"
        )
    here = rows[0]
    packages = ", ".join(dict.fromkeys(row["packages"] for row in rows))
    return "\n".join(
        [
            "Trained models, images of 160 pixels. Ratio: CPU time of the file to that of PyTorch with our kernels,",
            "medians of 13 passes in turns, on one thread of a busy machine; a CPU computes FP16 in FP32, with casts.",
            "INT8 is calibrated on the training images.",
            f"{here['machine']} with {here['vector']}, a virtual machine; {packages},",
            f"PyTorch {here['torch'].split('+')[0]}, Ultralytics {here['ultralytics']}, {here['date']}:",
            "`python -m benchmarks.precision`.",
            "",
            *lines,
            "",
        ]
    )


def _scales(model: Model, rows: zoo.Rows) -> list[str]:
    lines = [
        "| name | parameters | GFLOPs | of them scans | stock model | parameters | GFLOPs | ms | stock ms | ratio |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for scale in model.parameters:
        row = rows[model.typed(scale)]
        times = " | | "  # not measured at this scale
        if row["cpu_ms"]:
            times = f"{float(row['cpu_ms']):.0f} | {float(row['stock_cpu_ms']):.0f} | {float(row['ratio']):.2f}"
        stock = f"`{row['stock']}` | {millions(int(row['stock_parameters']))} | {giga(int(row['stock_flops']))}"
        lines.append(f"| `{row['model']}` | {_counts(row)} | {stock} | {times} |")
    return lines


def _about(model: Model) -> str:
    size = zoo.side(model)
    return f"{model.about}. Images of {size}x{size}; `yolomix models {model.name}` says more."


def _counts(row: dict[str, str]) -> str:
    return f"{millions(int(row['parameters']))} | {giga(int(row['flops']))} | {giga(int(row['scan_flops']))}"


def _conditions(rows: zoo.Rows, page: str) -> list[str]:
    here = next(iter(rows.values()))
    pytorch = here["torch"].split("+")[0]
    return [
        "Counts are of one image. Milliseconds and ratios are CPU time, medians, in turns with the stock model, on one",
        f"thread of an {here['machine']} with {here['vector']}, a virtual machine; PyTorch {pytorch}, Numba",
        f"{here['numba']}, Ultralytics {here['ultralytics']}, {here['date']}: `make benchmark-zoo`.",
        f"What every number is: [{page}]({page}).",
    ]


PARTS: dict[str, tuple[Path, Callable[[], str]]] = {
    "speed": (README, speed),
    "models": (README, models),
    "scales": (MODELS, scales),
    "exports": (EXPORT, exports),
    "browser": (EXPORT, web),
    "matrix": (EXPORT, matrix),
    "precision": (EXPORT, precisions),
}


def written(page: str, part: str) -> str:
    """The text of a page with today's rows between the two marks of a part.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- {part}: python -m benchmarks.readme -->\n", f"<!-- /{part} -->\n"
    before, found, rest = page.partition(begin)
    if not found:
        raise ValueError(f"no {begin.strip()} in the page")
    return before + begin + PARTS[part][1]() + end + rest.partition(end)[2]


def _line(ops: Rows, label: str, what: str, backend: str) -> str:
    """A row of the README's table: one backend at every stage."""
    cells = [_ms(ops[what, stage, "float32", "1", "forward", backend]) for stage in STAGES]
    return f"| {label} | {' | '.join(cells)} |"


def _ms(row: dict[str, str]) -> str:
    value = float(row["ms_p50"])
    once = "*" if row["reps"] == "1" else ""
    return f"{value:.0f}{once}" if value >= 100 else f"{value:.1f}{once}"


if __name__ == "__main__":
    for part, (path, _) in PARTS.items():
        path.write_text(written(path.read_text(encoding="utf-8"), part), encoding="utf-8")
