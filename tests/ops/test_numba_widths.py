"""The Numba kernels at every width that this processor can run beside its own: each in a process of its own."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from llvmlite import binding

from tests.full import cases
from yolomix.ops._numba.processor import AVX512, LANES, compiles_for

ROOT = Path(__file__).parents[2]
X86 = platform.machine().lower() in ("x86_64", "amd64")

# The functions that kernels are made of, and the kernels of B and C that vary in time, of which N1 and N3 are cases. To
# compile those of maps as well takes four times as long, and the ones of constant B and C half as long again.
TESTS = ("test_numba_kernels.py", "test_ss2d.py", "test_selective_scan.py")
CHOSEN = {
    "functions and scans": "test_numba_kernels and (functions or the_scan)",
    "maps too": "test_numba_kernels or (test_ss2d and numba) or N1-numba or N3-numba",
}

START = """
import sys
from yolomix.ops._numba import processor
lanes, avx512, *arguments = sys.argv[1:]
if lanes == "16":
    processor.LANES = 16
assert (processor.LANES, processor.AVX512) == (int(lanes), avx512 == "True"), processor.target()
import pytest
sys.exit(pytest.main(arguments))
"""


@dataclass(frozen=True)
class Width:
    """A way to compile the kernels, the variables that ask for it, and what the processor has to have."""

    name: str
    lanes: int
    variables: dict[str, str]
    needs: str


# NUMBA_CPU_NAME without NUMBA_CPU_FEATURES would keep the features of the processor at hand. PyTorch's own kernels are
# narrowed as well, because the code around ours runs on them.
WIDTHS = [
    Width("AVX-512", 16, {}, "avx512f"),
    Width(
        "AVX2",
        8,
        {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma", "ATEN_CPU_CAPABILITY": "avx2"},
        "avx2",
    ),
    Width("SSE2, as every x86-64 has it", 8, {"NUMBA_CPU_NAME": "generic", "ATEN_CPU_CAPABILITY": "default"}, "sse2"),
    Width("16 lanes without AVX-512", 16, {}, ""),
]


OTHER = [width for width in WIDTHS if width.lanes != LANES][-1:]
"""One with vectors of another length, which any processor that runs the other tests can compile for."""


def own_width() -> str:
    """The name of the width at which the rest of the suite runs."""
    if AVX512:
        return "AVX-512"
    return "AVX2" if compiles_for("avx2") else "SSE2, as every x86-64 has it"


def reason_to_skip(width: Width) -> str | None:
    """Why there is nothing to run, for the summary of the suite."""
    if X86 and width.name == own_width():
        return f"{width.name}: all other tests run at this width here"
    if width.name.startswith("16 lanes") and AVX512:
        return "16 lanes: all other tests have as many here"
    if not width.needs:
        return None
    if not X86:
        return f"NOT RUN at {width.name}: this processor is {platform.machine()}"
    if not binding.get_host_cpu_features().get(width.needs, False):
        return f"NOT RUN at {width.name}: this processor has no {width.needs}"
    return None


@pytest.mark.slow
@pytest.mark.parametrize("width", cases(WIDTHS, always=OTHER), ids=lambda width: width.name)
@pytest.mark.parametrize("what", cases(CHOSEN, always=["functions and scans"]))
def test_another_width(what, width):
    if reason := reason_to_skip(width):
        pytest.skip(reason)
    chosen = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "ATEN_CPU_CAPABILITY")
    variables = {k: v for k, v in os.environ.items() if k not in chosen and not k.startswith("PYTEST_")}
    tests = [f"tests/ops/{name}" for name in TESTS]
    command = [sys.executable, "-c", START, str(width.lanes), str(width.name == "AVX-512")]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:xdist", "-k", CHOSEN[what], *tests],
        cwd=ROOT, env=variables | width.variables, capture_output=True, text=True, timeout=550,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"\d+ skipped", done.stdout), done.stdout
