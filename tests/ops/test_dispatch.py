"""Choosing a backend: by name, by force, by refusals; what is said about it; nothing is trusted untested."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys

import pytest
import torch

from yolomix.ops import dispatch, selftest
from yolomix.ops.dispatch import Backend, choose, use_backend, wanted
from yolomix.ops.selective_scan import BACKENDS, example, numba_cpu, selective_scan

SCAN = "yolomix.ops.selective_scan"
EAGER = Backend("eager", f"{SCAN}.eager")
REFERENCE = Backend("reference", f"{SCAN}.reference", automatic=False)
NUMBA = Backend("numba", f"{SCAN}.numba_cpu", device="cpu", needs="numba")
OTHER_DEVICE = Backend("triton", "nowhere", device="cuda", needs="triton")
TABLE = (OTHER_DEVICE, NUMBA, EAGER, REFERENCE)


@pytest.fixture(autouse=True)
def nothing_forced(monkeypatch):
    monkeypatch.delenv(dispatch.ENVIRONMENT, raising=False)
    monkeypatch.setattr(dispatch, "_announced", set())


@pytest.fixture
def arguments():
    return example.inputs("cpu")


def chosen(backend, arguments, table=TABLE) -> str:
    return choose("scan", table, backend, arguments[0], arguments).__module__.rpartition(".")[2]


def test_auto_takes_the_first_without_a_refusal(arguments):
    assert chosen("auto", arguments) == "numba_cpu"
    assert chosen("auto", arguments, (OTHER_DEVICE, EAGER)) == "eager"


def test_the_reference_is_only_taken_by_name(arguments):
    assert chosen("reference", arguments) == "reference"
    with pytest.raises(NotImplementedError, match="no backend of scan takes"):
        chosen("auto", arguments, (OTHER_DEVICE, REFERENCE))


def test_a_named_backend_runs_or_raises_with_its_reasons(arguments):
    doubles = type(arguments)(*(x.double() if isinstance(x, torch.Tensor) else x for x in arguments))
    with pytest.raises(
        NotImplementedError,
        match=r"(?s)no backend of scan takes \(1, 36, 19\) torch.float64 on cpu:\n  numba: it computes in float32, "
        r"which is less than torch.float64$",
    ):
        chosen("numba", doubles)
    assert chosen("auto", doubles) == "eager"


def test_every_backend_says_why_not(arguments):
    doubles = type(arguments)(*(x.double() if isinstance(x, torch.Tensor) else x for x in arguments))
    with pytest.raises(NotImplementedError, match=r"(?s)triton: it serves cuda tensors, not cpu\n  numba: it computes"):
        chosen("auto", doubles, (OTHER_DEVICE, NUMBA))


def test_an_unknown_name_and_one_that_the_operator_lacks(arguments):
    with pytest.raises(ValueError, match=r"unknown backend 'fast'; choose from auto, triton, numba, eager, reference"):
        wanted("fast")
    with pytest.raises(ValueError, match=r"scan has no backend 'numba'; choose from auto, eager"):
        chosen("numba", arguments, (EAGER,))


def test_a_block_forces_a_backend_and_ends(arguments):
    with use_backend("eager"):
        assert chosen("auto", arguments) == "eager"
        with use_backend("reference"):
            assert chosen("auto", arguments) == "reference"
        assert chosen("numba", arguments) == "numba_cpu", "an argument is stronger"
    assert chosen("auto", arguments) == "numba_cpu"
    with pytest.raises(ValueError, match="unknown backend 'x'"), use_backend("x"):
        pass


def test_the_environment_forces_a_backend(arguments, monkeypatch):
    monkeypatch.setenv(dispatch.ENVIRONMENT, "eager")
    assert chosen("auto", arguments) == "eager"
    with use_backend("reference"):
        assert chosen("auto", arguments) == "reference", "the block is nearer"
    monkeypatch.setenv(dispatch.ENVIRONMENT, "quick")
    with pytest.raises(ValueError, match="unknown backend 'quick'"):
        chosen("auto", arguments)
    monkeypatch.setenv(dispatch.ENVIRONMENT, "")
    assert chosen("auto", arguments) == "numba_cpu"


def test_force_passes_by_an_operator_without_that_backend(arguments):
    with use_backend("numba"):
        assert chosen("auto", arguments, (EAGER, REFERENCE)) == "eager"


def test_one_line_says_once_what_runs_and_why(arguments, caplog):
    with caplog.at_level(logging.INFO, logger="yolomix"):
        chosen("auto", arguments)
        chosen("auto", arguments)
    assert caplog.messages == ["scan runs on numba, because\n  triton: it serves cuda tensors, not cpu"]
    assert caplog.records[0].levelname == "INFO"


def test_missing_and_broken_packages_are_different_reasons(monkeypatch):
    assert dispatch._package_refusal.__wrapped__("no_such") == "no_such is not installed: pip install no_such"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    broken = dispatch._package_refusal.__wrapped__("no_such")
    assert broken == "no_such is installed but does not import: No module named 'no_such'"


def test_without_numba_eager_runs_and_says_why(arguments, monkeypatch, caplog):
    monkeypatch.setattr(dispatch, "_package_refusal", lambda package: f"{package} is not installed: pip install x")
    assert chosen("auto", arguments, (NUMBA, EAGER)) == "eager"
    assert caplog.records[0].levelname == "WARNING", "a slow path is seen without any logging set up"
    assert caplog.messages == ["scan runs on eager, because\n  numba: numba is not installed: pip install x"]
    with pytest.raises(NotImplementedError, match="numba is not installed"):
        chosen("numba", arguments)


@pytest.fixture
def untested():
    """Self-tests forgotten, before and after."""
    selftest.refusal.cache_clear()
    yield
    selftest.refusal.cache_clear()


def test_a_backend_that_is_off_by_a_percent_is_not_trusted(arguments, monkeypatch, untested):
    right = numba_cpu.run
    monkeypatch.setattr(numba_cpu, "run", lambda inputs: 1.01 * right(inputs))
    with pytest.raises(NotImplementedError, match=r"self-test on cpu is off by 1.0e-02 of the reference's norm, more"):
        chosen("numba", arguments)
    assert chosen("auto", arguments) == "eager"


def test_a_wrong_gradient_is_not_trusted(arguments, monkeypatch, untested):
    right = numba_cpu.run

    def steep(inputs):
        u = inputs.u
        return right(inputs._replace(u=u.detach() + 1.02 * (u - u.detach())))

    monkeypatch.setattr(numba_cpu, "run", steep)
    needing = arguments._replace(u=arguments.u.requires_grad_())
    assert chosen("auto", needing) == "eager"
    with torch.no_grad():
        assert chosen("auto", needing) == "test_dispatch", "without gradients nothing is wrong with it"


def test_a_backend_that_raises_or_gives_no_number_is_not_trusted(arguments, monkeypatch, untested):
    def broken(inputs):
        raise OSError("no such instruction\nand more")

    monkeypatch.setattr(numba_cpu, "run", broken)
    with pytest.raises(NotImplementedError, match=r"its self-test on cpu raised OSError: no such instruction$"):
        chosen("numba", arguments)
    selftest.refusal.cache_clear()
    monkeypatch.setattr(numba_cpu, "run", lambda inputs: inputs.u * torch.nan)
    assert "off by nan" in selftest.refusal(NUMBA.module, "cpu", False)


@pytest.mark.parametrize("capturing", [True, False])
def test_what_says_nothing_about_a_backend_is_not_remembered(monkeypatch, untested, capturing):
    def full(*args):
        raise torch.cuda.OutOfMemoryError("no memory left")

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    monkeypatch.setattr(selftest, "answer", full)
    said = "a CUDA graph is being captured: run the model once before" if capturing else "no memory left"
    with pytest.raises(RuntimeError, match=said):
        selftest.refusal(NUMBA.module, "cuda" if capturing else "cpu", False)
    assert selftest.refusal.cache_info().currsize == 0


def test_report_covers_every_operator_and_finds_numba_sound():
    found = {(s.op, s.backend): s.reasons for s in selftest.report()}
    assert found["selective_scan", "numba"] == found["ss2d", "numba"] == found["halo_attention", "eager"] == ()
    if not torch.cuda.is_available():
        assert found["ss2d", "triton"] == ("no CUDA device here",)
    missing = Backend("numba", "nowhere", needs="no_such")
    assert selftest.reasons(missing) == ["no_such is not installed: pip install no_such"]


def test_the_self_test_draws_no_random_numbers(untested):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert selftest.refusal(NUMBA.module, "cpu", False) is None
    assert torch.equal(torch.get_rng_state(), before)


def test_the_self_test_is_real_inside_fake_and_inference_modes(untested):
    from torch._subclasses.fake_tensor import FakeTensorMode

    for mode in (FakeTensorMode(), torch.inference_mode()):
        selftest.refusal.cache_clear()
        with mode:
            assert selftest.refusal(NUMBA.module, "cpu", True) is None


class Scan(torch.nn.Module):
    def __init__(self, backend):
        super().__init__()
        self.backend = backend

    def forward(self, *args):
        return selective_scan(*args, True, backend=self.backend)


@pytest.mark.parametrize(("backend", "is_node"), [("auto", False), ("numba", True)])
def test_torch_export_keeps_to_plain_operations_unless_a_backend_is_named(arguments, backend, is_node):
    tensors = arguments[:8]
    program = torch.export.export(Scan(backend), tensors)
    names = {str(node.target) for node in program.graph.nodes}
    assert ("yolomix.selective_scan_numba.default" in names) == is_node
    torch.testing.assert_close(program.module()(*tensors), selective_scan(*tensors, True), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_no_file_format_takes_a_named_backend(arguments):
    with pytest.raises(NotImplementedError, match="a file format knows only plain PyTorch operations"):
        torch.jit.trace(Scan("numba"), arguments[:8])


def test_the_table_of_the_scan_is_in_order_of_speed():
    assert [row.name for row in BACKENDS] == ["triton", "numba", "eager", "reference"]


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
    environment = os.environ | {"YOLOMIX_BACKEND": "auto"}
    done = subprocess.run([sys.executable, "-c", COLD], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for operator in ("ss2d", "selective_scan"):
        assert done.stderr.count(f"{operator} runs on eager, because") == 1
    assert "numba: it computes in float32, which is less than torch.float64" in done.stderr
