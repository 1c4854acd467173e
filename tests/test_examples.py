"""The examples in docstrings are run: what they show is what comes out."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import yolomix
from yolomix.nn.registry import BLOCKS

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules() -> Iterator[str]:
    """Every module of the package; importing ``__main__`` would run the command."""
    yield yolomix.__name__
    for info in pkgutil.walk_packages(yolomix.__path__, f"{yolomix.__name__}."):
        if not info.name.endswith("__main__"):
            yield info.name


def imported(name: str) -> ModuleType:
    if "triton" in name:
        pytest.importorskip("triton", reason="the GPU kernels need Triton, which has no wheel here")
    return importlib.import_module(name)


@pytest.mark.parametrize("name", [*modules()])
def test_examples_in_docstrings(name: str, tmp_path, monkeypatch) -> None:
    module = imported(name)
    monkeypatch.chdir(tmp_path)
    registered = dict(BLOCKS)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    said: list[str] = []
    try:
        for case in doctest.DocTestFinder(exclude_empty=True).find(module, name):
            runner.run(case, out=said.append)
    finally:  # an example may register a block
        BLOCKS.clear()
        BLOCKS.update(registered)
    assert not runner.summarize(verbose=False).failed, "".join(said)
