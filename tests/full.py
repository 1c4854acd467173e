"""What is too heavy for every run, and runs with ``YOLOMIX_TEST_FULL=1``; a smaller part of it runs always."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from typing import Any

import pytest

FULL = os.environ.get("YOLOMIX_TEST_FULL", "0") not in ("", "0")
full = pytest.mark.skipif(not FULL, reason="heavy: runs with YOLOMIX_TEST_FULL=1")


def cases(every: Iterable[Any], always: Container[Any]) -> list[Any]:
    """All cases of a parametrized test, those that are not always run marked as heavy."""
    return [case if case in always else _heavy(case) for case in every]


def _heavy(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=full)
