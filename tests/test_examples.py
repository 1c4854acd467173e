"""The examples in docstrings are run: what they show is what comes out."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import yolomix

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules() -> Iterator[str]:
    """Every module of the package that imports here; GPU kernels need Triton."""
    yield yolomix.__name__
    for info in pkgutil.walk_packages(yolomix.__path__, f"{yolomix.__name__}."):
        if not info.name.endswith("__main__"):
            yield info.name


def imported(name: str) -> object:
    if "triton" in name:
        pytest.importorskip("triton", reason="the GPU kernels need Triton, which has no wheel here")
    return importlib.import_module(name)


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings(name: str, tmp_path, monkeypatch) -> None:
    module = imported(name)
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    said: list[str] = []
    for case in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(case, out=said.append)
    assert not runner.summarize(verbose=False).failed, "".join(said)
