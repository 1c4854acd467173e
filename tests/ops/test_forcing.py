"""Which backend is wanted: the argument, a block, the environment variable; names that are none."""

from __future__ import annotations

import pytest

from tests.ops.choosing import EAGER, REFERENCE, chosen
from yolomix.ops import forcing, use_backend
from yolomix.ops.forcing import wanted


def test_an_unknown_name():
    with pytest.raises(ValueError, match=r"unknown backend 'fast'; choose from auto, triton, numba, eager, reference"):
        wanted("fast")
    with pytest.raises(ValueError, match=r"unknown backend 'nunba'; did you mean 'numba'\? Or choose from auto, tri"):
        wanted("nunba")


def test_a_block_forces_a_backend_and_ends(inputs):
    with use_backend("eager"):
        assert chosen("auto", inputs) == "eager"
        with use_backend("reference"):
            assert chosen("auto", inputs) == "reference"
        assert chosen("numba", inputs) == "numba_cpu", "an argument is stronger"
    assert chosen("auto", inputs) == "numba_cpu"
    with pytest.raises(ValueError, match="unknown backend 'x'"), use_backend("x"):
        pass


def test_the_environment_forces_a_backend(inputs, monkeypatch):
    monkeypatch.setenv(forcing.ENVIRONMENT, "eager")
    assert chosen("auto", inputs) == "eager"
    with use_backend("reference"):
        assert chosen("auto", inputs) == "reference", "the block is nearer"
    monkeypatch.setenv(forcing.ENVIRONMENT, "quick")
    with pytest.raises(ValueError, match="unknown backend 'quick'"):
        chosen("auto", inputs)
    monkeypatch.setenv(forcing.ENVIRONMENT, "")
    assert chosen("auto", inputs) == "numba_cpu"


def test_force_passes_by_an_operator_without_that_backend(inputs):
    with use_backend("numba"):
        assert chosen("auto", inputs, (EAGER, REFERENCE)) == "eager"
