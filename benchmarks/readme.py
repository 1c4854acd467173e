"""The README's speed table, made from the measured rows: ``python -m benchmarks.readme`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from benchmarks import table

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- speed: python -m benchmarks.readme -->\n", "<!-- /speed -->\n"
STAGES = ("S1", "S2", "S3", "S4")
ROWS = (
    ("one step after the other, as `selective_scan_ref` does", "scan", "sequential"),
    ("mambapy, parallel scan", "scan", "mambapy"),
    ("yolomix `eager`, plain PyTorch", "scan", "eager"),
    ("yolomix `numba`", "scan", "numba"),
    ("map scan (`ss2d`), four copies around the same scan", "ss2d", "four copies, numba scan"),
    ("map scan (`ss2d`), yolomix `numba`", "ss2d", "numba"),
)


def text() -> str:
    """The table with its conditions, from ``results/ops-1.csv`` and ``results/models-1.csv``."""
    ops, models = (table.read(table.RESULTS / f"{name}-1.csv") for name in ("ops", "models"))
    lines = [
        f"| {label} | "
        + " | ".join(_ms(ops[what, stage, "float32", "1", "forward", backend]) for stage in STAGES)
        + " |"
        for label, what, backend in ROWS
    ]
    ours, stock = (models[name, "1 x 640", "float32", "1", "eval", "auto"] for name in ("mamba-yolo-t", "yolov8s"))
    here = next(iter(ops.values()))
    return "\n".join(
        [
            "## Speed without a compiler",
            "",
            "Scans of one picture of 640 pixels in Mamba-YOLO-T's four stages, forward, milliseconds of CPU time:",
            "",
            "| | S1 | S2 | S3 | S4 |",
            "|---|---:|---:|---:|---:|",
            *lines,
            "",
            f"The whole Mamba-YOLO-T takes {_ms(ours)} ms for such a picture, stock YOLOv8s {_ms(stock)} ms.",
            f"One thread of an {here['machine']}, a virtual machine, PyTorch {here['torch'].split('+')[0]}, Numba",
            f"{here['numba']}, {here['date']}; medians of one run (* measured once): `python -m benchmarks.ops`,",
            "`python -m benchmarks.models`. What the machine's limit is, the backward pass, memory and what was tried:",
            "[docs/backends.md](docs/backends.md).",
            "",
        ]
    )


def written(readme: str) -> str:
    """The README with the table of today's rows between its two marks."""
    before, _, rest = readme.partition(BEGIN)
    return before + BEGIN + text() + END + rest.partition(END)[2]


def _ms(row: dict[str, str]) -> str:
    value = float(row["ms_p50"])
    return (f"{value:.0f}" if value >= 100 else f"{value:.1f}") + ("*" if row["reps"] == "1" else "")


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
