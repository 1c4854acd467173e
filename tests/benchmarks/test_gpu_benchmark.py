"""The GPU benchmark as far as a CPU can run it: the four-copy pipeline, the refusal of wrong answers, its rows."""

from __future__ import annotations

import csv
import functools

import pytest
import torch

pytest.importorskip("triton", reason="the GPU benchmark needs Triton")

from benchmarks.four_copy import four_copy
from benchmarks.gpu_timing import Timing

from benchmarks import gpu, gpu_models, gpu_ops
from yolomix.ops.ss2d import ss2d


@pytest.fixture
def small_cpu(monkeypatch):
    """Everything on the CPU, with stages of a few spatial positions."""
    monkeypatch.setattr(gpu_ops, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_ops, "SHAPES", {"S1": (4, 5, 2), "S4": (6, 3, 2)})
    monkeypatch.setattr(gpu_models, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_models, "SIDE", 64)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    return gpu.Results(tmp_path / "results.csv")


def rows(results):
    with open(results.file.name) as file:
        return list(csv.DictReader(file))


def plain_double(*args):
    return gpu_ops.plain(*args)


def test_four_copies_compute_what_the_operator_computes(small_cpu):
    arguments = gpu_ops.Problem("ss2d", "S1", 2, torch.float32).arguments(False)
    arguments = [t.double() for t in arguments]
    want = ss2d(*arguments, backend="reference")
    torch.testing.assert_close(four_copy(*arguments, scan=plain_double), want.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", gpu_ops.TOLERANCE)
def test_right_answers_pass(small_cpu, dtype):
    gpu_ops.check("scan", "yolomix eager", gpu_ops.plain, dtype)
    gpu_ops.check("ss2d", "four copies", functools.partial(four_copy, scan=gpu_ops.plain), dtype)


def test_a_wrong_output_is_not_timed(small_cpu):
    with pytest.raises(RuntimeError, match=r"refusing to time a wrong answer: scan S1 by us in .*output is off by"):
        gpu_ops.check("scan", "us", lambda *a: 1.01 * gpu_ops.plain(*a), torch.float32)


def test_a_wrong_gradient_is_not_timed(small_cpu):
    def wrong(u, *rest):
        return gpu_ops.plain(u.detach() + 1.01 * (u - u.detach()), *rest)

    with pytest.raises(RuntimeError, match="gradient 0 is off by"):
        gpu_ops.check("scan", "us", wrong, torch.float32)


@pytest.mark.parametrize(("name", "ours"), [("yolomix triton", True), ("a peer", False)])
def test_a_wrong_answer_is_a_row_and_ours_is_remembered(small_cpu, results, monkeypatch, name, ours):
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(gpu_ops, "problems", lambda: [gpu_ops.Problem("scan", "S4", 1, torch.float32)])
    monkeypatch.setattr(gpu_ops, "contestants", lambda op: {name: lambda *args: -gpu_ops.plain(*args)})
    gpu.operators(results, 1e6, 1e6)
    assert [row["note"][:42] for row in rows(results)] == ["not available: RuntimeError: refusing to t"] * 2
    assert results.wrong is ours


def test_every_target_has_its_rows():
    found = list(gpu_ops.problems())
    assert len(found) == 2 * 4 * 3 * 3
    assert {p.batch for p in found[:24]} == {32}
    assert gpu_models.Case("mamba-yolo-t", True, True, False, gpu_models.FOUR_COPY) in list(gpu_models.cases())[:3]
    assert "four copies, yolomix triton" in gpu_ops.contestants("ss2d")
    cases = list(gpu_models.cases())
    assert len(cases) == len(set(cases)) == 2 + len(gpu_models.MODELS) * 8
    assert sum(case.compiled for case in cases[:5]) == 2


def test_without_a_gpu_it_says_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path / "x.csv")]) == 2
    assert "needs a GPU that PyTorch can use" in capsys.readouterr().err


def test_a_row_carries_its_conditions_and_its_share_of_the_limit(results, monkeypatch):
    monkeypatch.setattr(gpu, "measure", lambda function: Timing(1.0, 2.0, 3.0, 5, 7.0))
    results.time({"what": "scan"}, lambda: None, 100, floor=0.5)
    row = rows(results)[0]
    assert (row["ms_p50"], row["share"], row["extra_mb"], row["device"]) == ("2.0000", "0.250", "7.0", "a GPU")
    assert row["torch"] == torch.__version__


def test_a_failure_is_a_row_with_its_reason(results, monkeypatch):
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    results.time({"what": "scan"}, lambda: 1 / 0, 100)
    assert rows(results)[0]["note"] == "not available: ZeroDivisionError: division by zero"


def test_what_comes_too_late_is_a_row_that_says_so(results):
    results.time({"what": "scan"}, lambda: None, -1)
    assert rows(results)[0]["note"] == "not measured: out of time"


def test_operators_and_detectors_become_rows(small_cpu, results, monkeypatch):
    monkeypatch.setattr(gpu, "measure", lambda function: Timing(1.0, 2.0, 3.0, 5, 7.0))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(gpu_ops, "problems", lambda: [gpu_ops.Problem("scan", "S4", 1, torch.float32)])
    monkeypatch.setattr(gpu_ops, "contestants", lambda op: {"yolomix eager": gpu_ops.plain, "peer": lambda *a: 1 / 0})
    monkeypatch.setattr(gpu_models, "cases", lambda: [gpu_models.Case("yolo11n", False, False, False)])
    gpu.operators(results, 1e6, 1e6)
    gpu.detectors(results)
    found = rows(results)
    assert [row["mode"] for row in found] == ["forward", "forward+backward"] * 2 + ["inference"]
    assert [bool(row["note"]) for row in found] == [False, False, True, True, False]
    assert found[2]["note"] == "not available: ZeroDivisionError: division by zero"


def test_work_with_gradients_returns_one_for_every_argument(small_cpu):
    problem = gpu_ops.Problem("scan", "S4", 1, torch.float32)
    assert len(gpu_ops.work(gpu_ops.plain, problem, True)()) == 7
    assert gpu_ops.work(gpu_ops.plain, problem, False)().shape == (1, 24, 9)


def test_a_training_step_learns_and_a_forward_pass_runs(small_cpu, monkeypatch):
    monkeypatch.setattr(gpu_models.Case, "batch", 2)
    step = gpu_models.work(gpu_models.Case("mamba-yolo-t", True, False, False))
    assert torch.isfinite(step())
    with gpu_models.pipeline(gpu_models.FOUR_COPY):
        from yolomix.nn import ss2d as blocks

        assert blocks.ss2d.func is four_copy
    assert gpu_models.work(gpu_models.Case("yolo11n", False, False, False))() is not None
