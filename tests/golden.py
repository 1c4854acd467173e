"""Reference outputs of the official implementations, and the one pair of tolerances against them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

FOLDER = Path(__file__).parent / "goldens"
OUTPUT = 2e-5  # of the largest value, at least 1: outputs in fp32
GRADIENT = 5e-4  # of the largest value of the gradient tensor


@dataclass(frozen=True)
class Golden:
    """One file: its tensors by name and its metadata, JSON values decoded."""

    name: str
    tensors: dict[str, Tensor]
    meta: dict[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name starts with the prefix, without it."""
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def names(folder: str, pattern: str = "*") -> list[str]:
    """Names of the golden files of a folder. An empty match is an error, so that no test passes on nothing."""
    found = sorted(p.stem for p in (FOLDER / folder).glob(f"{pattern}.safetensors"))
    if not found:
        raise FileNotFoundError(f"no golden {folder}/{pattern}.safetensors in {FOLDER}")
    return found


def load(folder: str, name: str) -> Golden:
    """Read one golden file."""
    with safe_open(FOLDER / folder / f"{name}.safetensors", framework="pt") as f:
        tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        meta = {k: _decoded(v) for k, v in (f.metadata() or {}).items()}
    return Golden(name, tensors, meta)


def assert_close(what: str, got: Tensor, want: Tensor) -> None:
    """An output within ``OUTPUT`` of the largest value of the reference.

    An absolute bound would depend on the vector width and the BLAS of the machine: sums of large values round more.
    """
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, reference {tuple(want.shape)}"
    if want.numel() == 0:
        return
    scale = max(want.abs().max().item(), 1.0)
    error = (got.double() - want.double()).abs().max().item()
    assert error <= OUTPUT * scale, f"{what}: error {error:.2e} of maximum {scale:.2e}"


def assert_gradient(what: str, got: Tensor | None, want: Tensor) -> None:
    """A gradient within ``GRADIENT`` of the largest value of the reference."""
    assert got is not None, f"{what}: no gradient"
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, reference {tuple(want.shape)}"
    scale = want.abs().max().item()
    error = (got.double() - want.double()).abs().max().item()
    assert error <= GRADIENT * max(scale, 1e-6), f"{what}: error {error:.2e} of maximum {scale:.2e}"


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
