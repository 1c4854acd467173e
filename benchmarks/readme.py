"""The README's speed table, made from the measured rows: ``python -m benchmarks.readme`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from benchmarks import table

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- speed: python -m benchmarks.readme -->\n", "<!-- /speed -->\n"
# Whose rows the README shows. They are older than the column that says the vector width.
MACHINE, VECTOR = "amd-epyc-zen4-avx512-1thread", "AVX-512"
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


def text() -> str:
    """The table with its conditions, from the files of ``MACHINE``."""
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


def written(readme: str) -> str:
    """The README with the table of today's rows between its two marks."""
    before, _, rest = readme.partition(BEGIN)
    return before + BEGIN + text() + END + rest.partition(END)[2]


def _line(ops: Rows, label: str, what: str, backend: str) -> str:
    """A row of the README's table: one backend at every stage."""
    cells = [_ms(ops[what, stage, "float32", "1", "forward", backend]) for stage in STAGES]
    return f"| {label} | {' | '.join(cells)} |"


def _ms(row: dict[str, str]) -> str:
    value = float(row["ms_p50"])
    once = "*" if row["reps"] == "1" else ""
    return f"{value:.0f}{once}" if value >= 100 else f"{value:.1f}{once}"


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
