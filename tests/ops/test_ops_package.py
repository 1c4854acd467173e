"""What ``yolomix.ops`` exports: functions whatever was imported before, at the price of torch alone; every backend."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from yolomix import ops

FUNCTIONS = ("selective_scan", "ss2d", "linear_attention", "halo_attention", "use_backend", "backends")

# After each of these, in a new process, the names of the package are functions.
ORDERS = {
    "nothing": "",
    "the folder": "import yolomix.ops.selective_scan",
    "a file of the folder": "import yolomix.ops.ss2d.eager, yolomix.ops.halo_attention.reference",
    "by importlib": "import importlib; importlib.import_module('yolomix.ops.selective_scan.eager')",
    "the function of the folder": "from yolomix.ops.linear_attention import linear_attention",
    "the self-test": "from yolomix.ops import selftest; selftest.refusal('yolomix.ops.ss2d.eager', 'cpu', False)",
    "the status": "import yolomix.ops.status",
    "the blocks": "import yolomix.nn, yolomix.nn.mlla",
    "the folder again": (
        "import sys, yolomix.ops.ss2d\n"
        "for name in [n for n in sys.modules if n.startswith('yolomix.ops.ss2d')]: del sys.modules[name]\n"
        "import yolomix.ops.ss2d.eager"
    ),
}
CHECK = """
import sys, types
from yolomix.ops import {names}
for function in ({names}):
    assert isinstance(function, types.FunctionType), function
import yolomix.ops
assert yolomix.ops.ss2d is ss2d
from yolomix.ops.selective_scan import selective_scan as same, eager
assert same is selective_scan and eager.__name__ == "yolomix.ops.selective_scan.eager"
import torch
q = torch.ones(1, 4, 2, 2)
assert linear_attention(q, q, q, 1).shape == q.shape
"""


@pytest.mark.parametrize("before", ORDERS.values(), ids=ORDERS)
def test_the_names_are_functions_whatever_was_imported_before(before, python):
    python(before + CHECK.format(names=", ".join(FUNCTIONS)))


def test_importing_the_operators_imports_no_framework():
    code = "import sys, yolomix.ops; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {name.partition(".")[0] for name in loaded} & {"numba", "llvmlite", "triton", "onnx", "ultralytics"}
    assert "torch._dynamo" not in loaded, "the compiler takes a second to import"


@pytest.mark.parametrize("name", ops.__all__)
def test_every_export_shows_its_use(name):
    assert ">>>" in getattr(ops, name).__doc__


def test_an_operator_may_still_be_replaced(monkeypatch):
    monkeypatch.setattr(ops, "ss2d", len)
    assert ops.ss2d is len


def test_an_operator_of_the_package_is_compiled_in_one_graph():
    torch._dynamo.reset()
    q = torch.randn(1, 4, 2, 3)
    compiled = torch.compile(lambda q: ops.linear_attention(q, q, q, 2), fullgraph=True, backend="eager")
    assert torch.equal(compiled(q), ops.linear_attention(q, q, q, 2))


def test_backends_lists_every_operator_and_finds_numba_sound():
    found = {(row.op, row.backend): row.refusals for row in ops.backends()}
    assert found["selective_scan", "numba"] == found["ss2d", "numba"] == found["halo_attention", "eager"] == ()
    assert found["linear_attention", "reference"] == ()
    if not torch.cuda.is_available():
        assert found["ss2d", "triton"] == ("no CUDA device here",)


def test_backends_lists_the_operators_of_every_folder():
    import pkgutil

    folders = {m.name for m in pkgutil.iter_modules(ops.__path__) if m.ispkg and not m.name.startswith("_")}
    assert {row.op for row in ops.backends()} == folders
