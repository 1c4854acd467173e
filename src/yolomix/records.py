"""A number travels with its conditions: versions, device, threads, processor, operating system and date of a run.

``yolomix demo``, ``yolomix doctor`` and the benchmarks say them in the same words. The processor comes with the width
of the vectors that ran: a time from AVX-512 kernels says nothing about AVX2 ones.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from yolomix._version import __version__
from yolomix.ops.backend import package_refusal
from yolomix.showing import Shown

PACKAGES = ("yolomix", "torch", "numba", "triton", "ultralytics")
# The instructions that decide how fast our kernels and PyTorch's are.
FLAGS = (
    *("avx2", "fma", "f16c", "avxvnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx512bf16"),
    *("amx-tile", "amx-bf16", "amx-int8", "neon", "dotprod", "fullfp16", "bf16", "i8mm", "sve", "sve2"),
)
SIGNIFICANT = ".6g"  # digits of a metric in a CSV row: more than a measurement has


@dataclass(frozen=True, repr=False)
class Processor(Shown):
    """A processor, and the vector instructions that ran on it.

    >>> zen4 = Processor("AMD EPYC", "znver4", "x86_64", 2, ("avx2", "avx512f"), "AVX-512", "AVX512")
    >>> str(zen4), zen4.slug, zen4.vector_bits
    ('AMD EPYC (znver4, x86_64)', 'amd-epyc-zen4-avx512', 512)

    Attributes:
        name: as the operating system knows it.
        model: the microarchitecture, as LLVM knows it; empty where LLVM cannot be asked.
        architecture: the instruction set, such as ``x86_64`` or ``arm64``.
        cores: how many the operating system shows.
        flags: those of ``FLAGS`` that the processor has.
        vector: the widest vector instructions that our CPU kernels are compiled for.
        pytorch: the vector instructions that PyTorch's own kernels use, in PyTorch's word.
    """

    name: str
    model: str
    architecture: str
    cores: int
    flags: tuple[str, ...]
    vector: str
    pytorch: str

    def in_short(self) -> str:
        """The processor, and the width of its vectors."""
        return f"{self}, {self.vector}"

    def __str__(self) -> str:
        known = [word for word in (self.model, self.architecture) if word]
        return f"{self.name} ({', '.join(known)})"

    @property
    def vector_bits(self) -> int:
        """The width of one vector register, in bits."""
        return {"AVX-512": 512, "AVX2": 256}.get(self.vector, 128)

    @property
    def slug(self) -> str:
        """A name for files, from what makes one machine faster than another."""
        name, model = slug(self.name), slug(self.model.replace("znver", "zen"))
        words = [name, slug(self.vector).replace("-", "")]
        if model not in ("", "generic") and model not in name:  # Apple's names already end in the model
            words.insert(1, model)
        return "-".join(words)

    @classmethod
    def here(cls) -> Processor:
        """The processor of this machine.

        >>> Processor.here().vector_bits in (128, 256, 512)
        True
        """
        model, features = _asked_of_llvm()
        pytorch = torch.backends.cpu.get_cpu_capability()
        flags = tuple(flag for flag in FLAGS if flag in features)
        vector = _vector(platform.machine(), pytorch)
        return cls(_processor_name(), model, platform.machine(), os.cpu_count() or 1, flags, vector, pytorch)

    def to_dict(self) -> dict[str, Any]:
        """The fields and the vector width as plain values."""
        return {
            "name": self.name,
            "model": self.model,
            "architecture": self.architecture,
            "cores": self.cores,
            "flags": [*self.flags],
            "vector": self.vector,
            "vector_bits": self.vector_bits,
            "pytorch": self.pytorch,
        }


@dataclass(frozen=True, repr=False)
class Conditions(Shown):
    """What a number is worth nothing without.

    >>> here = Conditions.here()
    >>> [*here.to_dict()]
    ['versions', 'device', 'threads', 'processor', 'system', 'date']
    >>> here.row()["device"], here.row()["vector"] == here.processor.vector
    ('cpu', True)

    Attributes:
        versions: of Python and of those of ``PACKAGES`` that are installed.
        device: ``cpu``, or the name of the GPU.
        threads: how many PyTorch and our kernels take.
        processor: the processor, also where a GPU computes.
        system: the operating system and its release.
        date: of the run, in UTC, as ``2026-11-20``.
    """

    versions: Mapping[str, str]
    device: str
    threads: int
    processor: Processor
    system: str
    date: str

    @classmethod
    def here(cls, device: str = "cpu") -> Conditions:
        """The conditions of this process, now.

        Args:
            device: what computes, ``cpu`` or ``cuda``.
        """
        found = {"python": platform.python_version(), "torch": str(torch.__version__), "yolomix": __version__}
        for package, version in versions(PACKAGES).items():
            if version is not None:
                found.setdefault(package, version)  # PyTorch itself says more than its package: which CUDA
        name = torch.cuda.get_device_name() if device == "cuda" else device
        date = time.strftime("%Y-%m-%d", time.gmtime())
        return cls(found, name, torch.get_num_threads(), Processor.here(), system(), date)

    @property
    def slug(self) -> str:
        """A name for the file with the results of this machine; of a GPU its name, else processor and threads."""
        if self.device != "cpu":
            return slug(self.device)
        plural = "" if self.threads == 1 else "s"
        return f"{self.processor.slug}-{self.threads}thread{plural}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "versions": dict(self.versions),
            "device": self.device,
            "threads": self.threads,
            "processor": self.processor.to_dict(),
            "system": self.system,
            "date": self.date,
        }

    def in_short(self) -> str:
        """What computes, and when."""
        plural = "" if self.threads == 1 else "s"
        return f"{self.device}, {self.threads} thread{plural}, {self.processor}, {self.date}"

    def as_rows(self) -> list[tuple[str, str]]:
        """The columns of a CSV row."""
        return [("name", "value"), *self.row().items()]

    def row(self) -> dict[str, str]:
        """The columns of a CSV row; every package has its own."""
        return {
            **self.versions,
            "device": self.device,
            "threads": str(self.threads),
            "machine": str(self.processor),
            "vector": self.processor.vector,
            "system": self.system,
            "date": self.date,
        }


@dataclass(frozen=True, repr=False)
class Record(Shown):
    """The metrics of a run and the conditions under which they hold.

    >>> record = Record({"ms_p50": 23.41234567}, Conditions.here())
    >>> record.row()["ms_p50"], record.to_dict()["metrics"]
    ('23.4123', {'ms_p50': 23.41234567})

    Attributes:
        metrics: name to value.
        conditions: where, with what and when they were measured.
    """

    metrics: Mapping[str, float]
    conditions: Conditions = field(default_factory=Conditions.here)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``metrics`` and ``conditions``."""
        return {"metrics": dict(self.metrics), "conditions": self.conditions.to_dict()}

    def in_short(self) -> str:
        """The metrics."""
        return ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())

    def as_rows(self) -> list[tuple[str, str]]:
        """The columns of a CSV row."""
        return [("name", "value"), *self.row().items()]

    def row(self) -> dict[str, str]:
        """The columns of a CSV row: the metrics, then the conditions."""
        metrics = {name: format(value, SIGNIFICANT) for name, value in self.metrics.items()}
        return metrics | self.conditions.row()


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """The installed version of every package; None for one that is not installed.

    >>> versions(["no-such-package"])
    {'no-such-package': None}
    """
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def system() -> str:
    """The operating system and its release, such as ``Linux 6.12.3``."""
    return f"{platform.system()} {platform.release()}"


def slug(text: str) -> str:
    """A text as a part of a file name.

    >>> slug("Intel(R) Xeon(R) Platinum 8480C CPU @ 2.00GHz"), slug("AMD EPYC 9654 96-Core Processor")
    ('intel-xeon-platinum-8480c', 'amd-epyc-9654')
    """
    text = re.sub(r"\((r|tm)\)|@.*|\bcpu\b|\d+-core|\bprocessor\b", " ", text.lower())
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def _processor_name() -> str:
    """The name that the operating system shows to people; ``platform.processor()`` is empty or vague on most."""
    info = Path("/proc/cpuinfo")
    text = info.read_text("utf-8", "replace") if info.exists() else ""
    if found := re.search(r"^model name\s*:\s*(.+)", text, re.MULTILINE):
        return found[1].strip()
    if platform.system() == "Darwin":
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        if name := subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip():
            return name
    return platform.processor() or platform.machine()


def _asked_of_llvm() -> tuple[str, frozenset[str]]:
    """The microarchitecture and the features of the processor at hand, whatever kernels are compiled for."""
    if package_refusal("llvmlite") is not None:
        return "", frozenset()
    from llvmlite import binding

    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot read them on every system
        features = {}
    has = frozenset(name for name, present in features.items() if present)
    return binding.get_host_cpu_name(), has


def _vector(architecture: str, pytorch: str) -> str:
    """The widest instructions that our kernels are compiled for; without Numba those of PyTorch."""
    if architecture.lower() in ("arm64", "aarch64"):
        return "NEON"
    if package_refusal("numba") is not None:
        return {"AVX512": "AVX-512", "AVX2": "AVX2"}.get(pytorch, "SSE")
    from yolomix.ops._numba.processor import compiles_for

    if compiles_for("avx512f"):
        return "AVX-512"
    return "AVX2" if compiles_for("avx2") else "SSE"
