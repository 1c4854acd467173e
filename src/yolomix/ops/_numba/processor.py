"""What Numba compiles for: system, processor and features, and how many float32 values a vector holds."""

from __future__ import annotations

from llvmlite import binding
from numba.core import config
from numba.core.codegen import get_host_cpu_features


def compiles_for(feature: str) -> bool:
    """Whether Numba compiles for processors with this feature. The processor at hand may have more of them.

    >>> compiles_for("no-such-feature")
    False
    """
    return f"+{feature}" in _features().split(",")


def _features() -> str:
    # NUMBA_CPU_NAME alone narrows nothing: Numba then adds the features of the processor at hand to that name.
    return get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES


AVX512 = compiles_for("avx512f")
LANES = 16 if AVX512 else 8


def target() -> str:
    """All that machine code depends on besides its sources.

    >>> f"{LANES} lanes" in target()
    True
    """
    name = config.CPU_NAME or binding.get_host_cpu_name()
    return f"{binding.get_process_triple()} {name} {LANES} lanes {_features()}"
