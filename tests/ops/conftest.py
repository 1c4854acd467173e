"""What every test of the operators starts from: no backend is forced, and nothing has been said about one."""

from __future__ import annotations

import pytest

from yolomix.ops import dispatch, forcing, selftest
from yolomix.ops.selective_scan import example
from yolomix.ops.selective_scan.inputs import ScanInputs


@pytest.fixture(autouse=True)
def nothing_forced(monkeypatch) -> None:
    monkeypatch.delenv(forcing.ENVIRONMENT, raising=False)
    monkeypatch.setattr(dispatch, "_said", set())


@pytest.fixture
def inputs() -> ScanInputs:
    """A tiny scan."""
    return example.inputs("cpu")


@pytest.fixture
def untested():
    """Self-tests forgotten, before and after."""
    selftest._refusal.cache_clear()
    yield
    selftest._refusal.cache_clear()
