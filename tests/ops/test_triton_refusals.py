"""What the Triton backends say when they cannot run, and how a scan is laid over a device."""

from __future__ import annotations

import types

import pytest
import torch

triton = pytest.importorskip("triton", reason="refusals of kernels that cannot be imported are the dispatcher's")

from yolomix.ops import selective_scan  # noqa: E402
from yolomix.ops._triton import available, plan  # noqa: E402
from yolomix.ops._triton.plan import ScanShape  # noqa: E402
from yolomix.ops.selective_scan import OPERATOR as SCAN  # noqa: E402
from yolomix.ops.selective_scan import triton_gpu  # noqa: E402
from yolomix.ops.selective_scan.inputs import ScanInputs  # noqa: E402
from yolomix.ops.ss2d import OPERATOR as SS2D  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing remembered from before, and a compiler named so that it is found."""
    available._toolchain.cache_clear()
    available._capability.cache_clear()
    monkeypatch.setenv("CC", "sh")
    yield
    available._toolchain.cache_clear()
    available._capability.cache_clear()


def arguments(dtype=torch.float32, states=4, matrix=(1, 4, 5)):
    u = torch.zeros(1, 3, 5, dtype=dtype)
    B = torch.zeros(matrix, dtype=dtype)
    return ScanInputs(u, u, torch.zeros(3, states, dtype=dtype), B, B, delta_softplus=True)


def refusals(*args, **kwargs):
    return " | ".join(triton_gpu.refusals(arguments(*args, **kwargs)))


def test_a_cpu_is_refused_in_words():
    assert refusals() == "it needs a GPU, and the tensors are on cpu"


def test_float64_is_refused_with_what_is_taken():
    assert "takes float32, bfloat16 and float16, not torch.float64" in refusals(torch.float64)


def test_too_many_states_are_refused_with_the_limit():
    assert "a state size N of at most 64, not 65" in refusals(states=65, matrix=(1, 65, 5))


def test_complex_rates_are_refused():
    inputs = arguments()
    inputs = inputs._replace(A=inputs.A.to(torch.complex64))
    assert "real A, B and C, not complex ones" in " | ".join(triton_gpu.refusals(inputs))


def test_constant_matrices_are_refused():
    assert "not constant ones of shape (D, N)" in refusals(matrix=(3, 4))


def test_an_old_triton_is_refused_with_its_version(monkeypatch):
    monkeypatch.setattr(available, "triton", types.SimpleNamespace(__version__="3.2.0"))
    assert "needs Triton 3.3 or newer, got 3.2.0" in refusals()


def test_a_missing_compiler_is_refused_with_the_next_step(monkeypatch):
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "neither gcc nor clang is found: install one or set CC" in refusals()


def test_a_compiler_that_is_named_but_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("CC", "/nowhere/cc")
    assert "named by CC, and '/nowhere/cc' is not found" in refusals()


def test_an_old_gpu_is_refused_with_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some GPU")
    assert available._capability_refusal(0) == (
        "it needs a GPU of compute capability 7.5 or newer, and Some GPU has 6.1"
    )


def test_an_endless_sequence_is_refused():
    u = torch.zeros(1).expand(1, 1, 2**31)
    assert f"fewer than {2**31}, not {2**31}" in " | ".join(available.refusals(u, 4, u.shape[2]))


@pytest.mark.parametrize("op", [SCAN, SS2D], ids=["selective_scan", "ss2d"])
def test_triton_is_the_first_choice_on_a_gpu(op):
    assert op.backends[0].name == "triton"
    assert op.backends[0].device == "cuda"


def test_asking_for_triton_on_a_cpu_never_falls_back():
    u, delta, A, B, C = arguments()[:5]
    with pytest.raises(NotImplementedError, match="triton: it serves cuda tensors, not cpu"):
        selective_scan(u, delta, A, B, C, backend="triton")


@pytest.mark.parametrize(("states", "padded"), [(1, 2), (2, 2), (3, 4), (16, 16), (20, 32)])
def test_states_are_padded_to_powers_of_two(states, padded):
    assert padded == ScanShape(1, 1, 8, states, 0, 1, 10).N


@pytest.mark.parametrize(("width", "wide"), [(2**20 - 1, False), (2**20, True)])
def test_offsets_of_a_large_image_take_64_bits(width, wide):
    assert ScanShape(1, 4, 128, 8, 4, 16, width).wide is wide
    assert ScanShape(1, 4, 8, 8, 16, 16, width).wide is wide  # 8 + 8 + 16 of B, C and inputs of Δ, four times
    assert ScanShape(1, 1, 128, 8, 0, 1, 16 * width).wide is wide


@pytest.mark.parametrize("use", [plan.FORWARD, plan.BACKWARD], ids=["forward", "backward"])
@pytest.mark.parametrize(("length", "batch"), [(1, 1), (63, 1), (64, 1), (129, 1), (25600, 1), (25600, 64), (400, 3)])
def test_chunks_cover_the_sequence_without_an_empty_one(length, batch, use):
    shape = ScanShape(batch, 1, 32, 16, 2, 1, length)
    count, steps = plan.chunks(shape, plan.BLOCK, use, CPU)
    assert steps % plan.CKPT == 0
    assert (count - 1) * steps < length <= count * steps


@pytest.mark.parametrize(("most", "count"), [(32, 32), (31, 16), (16, 16), (15, 15), (8, 8), (7, 7), (2, 2)])
def test_images_are_taken_as_many_as_fill_the_device(most, count, monkeypatch):
    monkeypatch.setattr(plan, "multiprocessors", lambda device: 132)  # 1056 programs, 64 for each image
    assert plan.images_at_once(ScanShape(32, 4, 512, 16, 16, 20, 20), 32, plan.BACKWARD, CPU, most) == count


def test_a_device_that_is_half_full_takes_sequences_whole_forward_and_cut_backward():
    shape = ScanShape(plan.BACKWARD.warps * 2, 1, 32, 16, 2, 1, 25600)
    assert plan.chunks(shape, plan.BLOCK, plan.BACKWARD, CPU)[0] == 2
    shape = ScanShape(plan.FORWARD.warps * 2, 1, 32, 16, 2, 1, 25600)
    assert plan.chunks(shape, plan.BLOCK, plan.FORWARD, CPU)[0] == 1


@pytest.mark.parametrize("use", [plan.FORWARD, plan.BACKWARD], ids=["forward", "backward"])
def test_few_sequences_fill_the_device_and_leave_no_second_wave(use):
    shape = ScanShape(3, 1, 32, 16, 2, 1, 256000)
    programs = plan.chunks(shape, plan.BLOCK, use, CPU)[0] * shape.programs(plan.BLOCK)
    room = use.warps * plan.multiprocessors(CPU)
    assert room - shape.programs(plan.BLOCK) < programs <= room


def test_carrying_over_chunks_never_takes_longer_than_a_chunk():
    count, steps = plan.chunks(ScanShape(1, 1, 32, 16, 2, 1, 1250), plan.BLOCK, plan.FORWARD, CPU)
    assert 1 < count < plan.FORWARD.warps * plan.multiprocessors(CPU)
    assert 2 * count <= steps + plan.CKPT
