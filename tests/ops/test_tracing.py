"""Operations that are recorded: programs of torch.export, files, compiled graphs of a process that starts with them."""

from __future__ import annotations

import pytest
import torch

from tests import fresh
from tests.ops import parity
from tests.ops.choosing import in_float64
from yolomix.ops.selective_scan import OPERATOR, selective_scan
from yolomix.ops.tracing import exporting, into_a_file, into_a_graph


class Scan(torch.nn.Module):
    def __init__(self, backend):
        super().__init__()
        self.backend = backend

    def forward(self, *args):
        return selective_scan(*args, True, backend=self.backend)


@pytest.mark.parametrize(("backend", "is_node"), [("auto", False), ("numba", True)])
def test_torch_export_keeps_to_plain_operations_unless_a_backend_is_named(inputs, backend, is_node):
    tensors = inputs[:8]
    Scan(backend)(*tensors)  # Numba has to be there before PyTorch replaces functions that it registers
    program = torch.export.export(Scan(backend), tensors)
    names = {str(node.target) for node in program.graph.nodes}
    assert ("yolomix.selective_scan_numba.default" in names) == is_node
    want = OPERATOR(in_float64(inputs), "reference")
    parity.assert_equal({"output": program.module()(*tensors)}, {"output": want})


FIRST = """
import torch
from yolomix.ops import selective_scan
class Scan(torch.nn.Module):
    def forward(self, u, A, B):
        return selective_scan(u, u, A, B, B, backend="numba")
args = torch.ones(1, 16, 8), -torch.ones(16, 4), torch.ones(1, 4, 8)
try:
    torch.export.export(Scan(), args)
except RuntimeError as error:
    print("refused" if "run the model once before that" in str(error) else error)
Scan()(*args)
torch.export.export(Scan(), args)
print("exported")
"""


def test_a_named_backend_that_was_never_used_asks_to_be_run_before_an_export():
    done = fresh.run(FIRST)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "exported"), done.stderr
    assert done.stdout.splitlines()[0] in ("refused", "exported")  # older PyTorch replaces nothing


@pytest.mark.filterwarnings("ignore")
def test_no_file_format_takes_a_named_backend(inputs):
    with pytest.raises(NotImplementedError, match="a file format knows only plain PyTorch operations"):
        torch.jit.trace(Scan("numba"), inputs[:8])


class Asked(torch.nn.Module):
    """Remembers what it was told while it ran."""

    def forward(self, x):
        self.told = exporting(), into_a_file(), into_a_graph()
        return x + 1


def asked(record) -> tuple[bool, ...]:
    module = Asked().eval()
    record(module, torch.ones(1))
    return module.told


@pytest.mark.filterwarnings("ignore")
def test_each_recorder_is_known(tmp_path):
    assert asked(lambda module, x: module(x)) == (False, False, False)
    assert asked(lambda module, x: torch.jit.trace(module, x, check_trace=False)) == (True, True, True)
    file = tmp_path / "asked.onnx"
    assert asked(lambda module, x: torch.onnx.export(module, (x,), file, dynamo=False)) == (True, True, True)
    compiled = asked(lambda module, x: torch.compile(module, backend="eager", fullgraph=True)(x))
    assert compiled == (False, False, True)


COLD = """
import torch
from yolomix.ops.selective_scan import selective_scan
from yolomix.ops.ss2d import example, ss2d

def both(x, *rest):
    u, n = x.flatten(2), rest[3].shape[1]
    B = u[:, :1].expand(-1, n, -1)
    return ss2d(x, *rest).sum() + selective_scan(u, u, rest[3][: u.shape[1]], B, B, delta_softplus=True).sum()

arguments = [x.double() for x in example.inputs("cpu")]
found = torch.compile(both, fullgraph=True, backend="aot_eager")(*arguments)
assert torch.equal(found, both(*arguments))
"""


def test_a_process_that_starts_with_a_compiled_graph_takes_two_operators_and_says_what_is_slow():
    done = fresh.run(COLD, YOLOMIX_BACKEND="auto")
    assert done.returncode == 0, done.stderr
    for operator in ("ss2d", "selective_scan"):
        assert done.stderr.count(f"{operator} runs on eager, because") == 1
    assert "numba: it computes in float32, which is less than torch.float64" in done.stderr


class Flat(torch.nn.Module):
    def forward(self, x):
        u = x.flatten(2)
        return selective_scan(u, u.sigmoid(), -torch.ones(u.shape[1], 4), u[:, :4], u[:, :4])


def test_a_program_takes_any_batch_and_refuses_another_length():
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    x = torch.randn(2, 6, 5, 4)
    program = torch.export.export(Flat(), (x,), dynamic_shapes={"x": {0: batch, 2: height, 3: width}}).module()
    for shape in ((3, 6, 5, 4), (2, 6, 4, 5)):
        x = torch.randn(shape)
        torch.testing.assert_close(program(x), Flat()(x))
    with pytest.raises((AssertionError, RuntimeError), match="20"):
        program(torch.randn(2, 6, 7, 4))
