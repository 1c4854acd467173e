"""What a backend is: files that keep the contract, and packages that are missing or broken."""

from __future__ import annotations

import importlib
import importlib.util
import inspect

import pytest
import torch

from yolomix.ops import backend
from yolomix.ops.backend import needs_gradients
from yolomix.ops.status import OPERATORS

FILES = [pytest.param(row, id=row.module.removeprefix("yolomix.ops.")) for o in OPERATORS for row in o.backends]


@pytest.mark.parametrize("row", FILES)
def test_a_backend_file_takes_one_inputs_value(row):
    if row.needs is not None:
        pytest.importorskip(row.needs, reason=f"the file imports {row.needs}")
    package = row.module.rpartition(".")[0]
    (value,) = [v for n, v in vars(importlib.import_module(f"{package}.inputs")).items() if n.endswith("Inputs")]
    for function in ("refusals", "run"):
        found = inspect.signature(getattr(row.load(), function), eval_str=True).parameters
        assert [(name, p.annotation) for name, p in found.items()] == [("inputs", value)]


def test_missing_and_broken_packages_are_different_reasons(monkeypatch):
    assert backend._package_refusal.__wrapped__("no_such") == "no_such is not installed: pip install no_such"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    broken = backend._package_refusal.__wrapped__("no_such")
    assert broken == "no_such is installed but does not import: No module named 'no_such'"


def test_no_backward_pass_follows_without_gradients():
    leaf = torch.ones(1, requires_grad=True)
    assert needs_gradients((None, leaf, True))
    with torch.no_grad():
        assert not needs_gradients((leaf,))
