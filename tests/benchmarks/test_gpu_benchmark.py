"""The GPU benchmark as far as a CPU can run it: the four-copy pipeline, the refusal of wrong answers, its rows."""

from __future__ import annotations

import csv
import functools

import pytest
import torch

pytest.importorskip("triton", reason="the GPU benchmark needs Triton")

from benchmarks.four_copy import four_copy
from benchmarks.gpu_record import Lease, Record
from benchmarks.gpu_timing import Timing

from benchmarks import gpu_models, gpu_operators, gpu_ops, gpu_plans, gpu_small, gpu_tensorrt, gpu_timing
from tests.verifying import inprocess
from yolomix.host import tools
from yolomix.ops._triton import launch, plan
from yolomix.ops.ss2d import ss2d


@pytest.fixture
def small_cpu(monkeypatch, tmp_path):
    """Everything on the CPU, with stages of a few spatial positions."""
    gpu_small.apply(tmp_path, monkeypatch.setattr)
    monkeypatch.setattr(gpu_ops, "SHAPES", {"S1": (4, 5, 2), "S4": (6, 3, 2)})
    monkeypatch.setattr(gpu_models, "SIDE", 64)
    monkeypatch.setattr(gpu_ops, "foreign", dict)


@pytest.fixture
def record(tmp_path):
    return Record(tmp_path, "b", "cpu")


def rows(record):
    with record.path.open() as file:
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


def test_a_wrong_answer_is_a_failure_and_is_not_timed(small_cpu, record, monkeypatch):
    monkeypatch.setattr(gpu_operators, "copy_rate", lambda: 1e6)
    monkeypatch.setattr(gpu_operators, "exponential_rate", lambda: 1e6)
    monkeypatch.setattr(gpu_operators, "measure", lambda function: Timing(1.0, 2.0, 3.0, 5, 7.0))
    monkeypatch.setattr(gpu_ops, "problems", lambda: [gpu_ops.Problem("scan", "S4", 1, torch.float32)])
    known = {"yolomix eager": gpu_ops.plain, "a peer": lambda *args: -gpu_ops.plain(*args)}
    monkeypatch.setattr(gpu_ops, "contestants", lambda op: known)
    gpu_operators.run(record)
    found = rows(record)
    assert [row["mode"] for row in found] == ["copy", "exp2"] + ["forward", "forward+backward"] * 2
    assert [row["ms_p50"] for row in found] == ["", "", "2.0000", "2.0000", "", ""]
    assert found[2]["share"] != ""
    assert found[2]["torch"] == torch.__version__
    assert found[4]["note"].startswith("failed: RuntimeError: RuntimeError: refusing to time a wrong answer: scan")
    assert len(Lease(record.path.parent).read()["steps"]["b"]["failures"]) == 2


def test_every_target_has_its_rows(monkeypatch):
    found = list(gpu_ops.problems())
    assert len(found) == 2 * 4 * 3 * 3
    assert {p.batch for p in found[:24]} == {32}
    assert "four copies, yolomix triton" in gpu_ops.contestants("ss2d")
    monkeypatch.setattr(gpu_ops, "foreign", dict)
    cases = list(gpu_models.cases())
    assert [case.who for case in cases[:4]] == ["yolomix", "four copies, yolomix triton"] * 2
    assert {(case.batch, case.train) for case in cases[:4]} == {(32, True)}
    keys = {case.key for case in cases}
    assert len(keys) == 4 + len({*gpu_models.PEERS, *gpu_models.PEERS.values()}) * 3 * 2 * 5
    assert not any("training" in one[4] and "graph" in one[4] for one in keys)


def test_the_fastest_foreign_scan_is_taken_for_the_official_pipeline(monkeypatch):
    monkeypatch.setattr(gpu_ops, "foreign", lambda: {"mamba_ssm": gpu_ops.official, "VMamba": len})
    assert list(gpu_models.cases())[1].who == "four copies, mamba_ssm"


def test_a_row_carries_its_share_of_the_limit():
    assert Timing(1.0, 2.0, 3.0, 5, 7.0).row(0.5) == {
        "ms_p20": "1.0000", "ms_p50": "2.0000", "ms_p80": "3.0000", "reps": 5, "extra_mb": "7.0", "share": "0.250",
    }  # fmt: skip


def test_a_candidate_is_the_plan_while_it_lasts():
    before = plan.FORWARD, launch.CKPT
    with gpu_plans.planned(gpu_plans.Candidate(ckpt=16, unroll=8, segment=1, fill=0.5)):
        assert (plan.CKPT, launch.CKPT, launch.UNROLL, launch.SEGMENT) == (16, 16, 8, 1)
        assert launch.FORWARD.warps == plan.FORWARD.warps // 2
    assert before == (plan.FORWARD, launch.CKPT)
    assert launch.FORWARD is plan.FORWARD


@pytest.mark.parametrize("backward", [False, True])
def test_the_plan_as_it_is_stands_first_among_different_candidates(backward):
    found = gpu_plans.candidates(backward)
    assert found[0] == gpu_plans.Candidate()
    assert len(found) == len({str(one) for one in found}) == (15 if backward else 9)


@pytest.mark.parametrize("model", gpu_models.PEERS)
def test_peers_cost_as_much(model):
    ours, stock = gpu_models.gflops(model), gpu_models.gflops(gpu_models.PEERS[model])
    assert stock == pytest.approx(ours, rel=0.07)


def test_work_with_gradients_returns_one_for_every_argument(small_cpu):
    problem = gpu_ops.Problem("scan", "S4", 1, torch.float32)
    assert len(gpu_ops.work(gpu_ops.plain, problem, True)()) == 7
    assert gpu_ops.work(gpu_ops.plain, problem, False)().shape == (1, 24, 9)


def test_a_training_step_learns_and_a_forward_pass_runs(small_cpu):
    step = gpu_models.work(gpu_models.Case("mamba-yolo-t", True, 2, amp=False))
    assert torch.isfinite(step())
    with gpu_models.pipeline(f"{gpu_models.FOUR_COPY}, yolomix triton"):
        from yolomix.nn import ss2d as blocks

        assert blocks.ss2d.func is four_copy
    assert gpu_models.work(gpu_models.Case("yolo11n", False, 1))() is not None


def test_timing_on_the_cpu_of_a_rehearsal(small_cpu):
    assert gpu_timing.measure(lambda: None).reps == 2


def test_an_engine_is_verified_and_timed_and_its_rehearsal_is_the_graph_that_is_handed_over(
    small_cpu, record, monkeypatch
):
    inprocess.use(monkeypatch)
    gpu_tensorrt.run(record)
    (row,) = rows(record)
    assert (row["what"], row["shape"], row["dtype"], row["who"]) == ("yolo0n-tiny", "64", "FP32", "TensorRT")
    assert float(row["ms_p50"]) > 0
    assert row["note"].endswith("FP32; yolo0n-tiny.onnx: verified")


def test_without_tensorrt_every_engine_says_so_and_is_tried_again(record, monkeypatch):
    monkeypatch.setattr(gpu_tensorrt, "build", None)
    monkeypatch.setitem(tools.WRITERS, "engine", ("nobody",))
    gpu_tensorrt.run(record)
    missing = "failed: ModuleNotFoundError: format=engine: nobody is not installed: pip install 'nobody'"
    assert [row["note"] for row in rows(record)] == [missing] * 8
    assert len(record.failures) == 8
