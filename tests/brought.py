"""A user's modules in a folder of their own, and everything that they register forgotten afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from yolomix.nn import origins
from yolomix.nn.registry import BLOCKS

GATE = """
from torch import nn

class Gate(nn.Module):
    def __init__(self, c, ratio=0.5):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(c, int(c * ratio), 1), nn.SiLU(), nn.Conv2d(int(c * ratio), c, 1))

    def forward(self, x):
        return x * self.layers(x).sigmoid()
"""
Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a file into the working folder, which is an empty one."""
    blocks, brought, modules = dict(BLOCKS), dict(origins.BROUGHT), set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])

    def _write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.write_text(text)
        return file

    yield _write
    for kept, now in ((blocks, BLOCKS), (brought, origins.BROUGHT)):
        now.clear()
        now.update(kept)
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
