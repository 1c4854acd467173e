"""The scan kernels compiled for GPUs that are not here: registers, spills, instructions per state and time step.

What a lane does per element decides the speed: 5 instructions are arithmetic of the recurrence itself, one of them the
exponential, of which the hardware starts one per eight cycles.
"""

from __future__ import annotations

import pytest

triton = pytest.importorskip("triton", reason="machine code is read where Triton has a wheel")

from triton.backends.compiler import GPUTarget  # noqa: E402

from tests.full import cases  # noqa: E402
from tests.ops import machine_code  # noqa: E402
from yolomix.ops._triton import plan  # noqa: E402
from yolomix.ops._triton.backward import scan_backward  # noqa: E402
from yolomix.ops._triton.forward import scan_ends, scan_forward  # noqa: E402

NVIDIA = {name: GPUTarget("cuda", int(name[3:]), 32) for name in ("sm_80", "sm_90")}
SIZES = ["s_l", "s_xk", "s_yb", "s_yk", "s_gb", "s_gk", "s_rl", "s_rc", "CG", "LC"]  # multiples of 16 in practice
STATES = 16
MAP = {
    "K": 4,
    "N": STATES,
    "R": 4,
    "BD": 32,
    "MAP": True,
    "SOFTPLUS": True,
    "BIAS": True,
    "RAGGED": False,
    "WIDE": False,
}
MODES = {"scan": MAP | {"R": 0, "MAP": False}, "ss2d": MAP}
ENDS = {"U": plan.UNROLL, "BACK": False}
FORWARD = {
    "U": plan.UNROLL,
    "CKPT": plan.CKPT,
    "CHUNKED": True,
    "SAVE": False,
    "LAST": False,
    "SKIP": True,
    "GATE": False,
}
BACKWARD = {"TS": plan.SEGMENT, "CKPT": plan.CKPT, "CHUNKED": True, "LAST": False, "SKIP": True}
TYPES = {"float32": {}, "bfloat16": {"p_x": "*bf16", "p_delta": "*bf16", "p_q": "*bf16"}}


@pytest.fixture(params=cases(NVIDIA, always=["sm_90"]))
def built(request, tmp_path):
    """A function that compiles a kernel for one architecture and reads what it became."""

    def build(kernel, constants, dtype="float32"):
        found = machine_code.compiled(kernel, constants, SIZES, NVIDIA[request.param], TYPES[dtype])
        return machine_code.read(found, tmp_path)

    return build


@pytest.mark.parametrize("dtype", cases(TYPES, always=["float32"]))
@pytest.mark.parametrize("mode", cases(MODES, always=["ss2d"]))
def test_forward_is_at_most_11_instructions_per_element_and_spills_nothing(built, mode, dtype):
    code = built(scan_forward, MODES[mode] | FORWARD, dtype)
    assert code.spills == 0
    assert code.registers <= 128  # four warps on each quarter of a multiprocessor
    assert code.instructions(STATES * plan.UNROLL, STATES * plan.UNROLL) <= 11


@pytest.mark.parametrize("rank", cases([4, 8], always=[4]))
def test_forward_of_a_training_keeps_to_the_registers_that_it_is_planned_with(built, rank):
    code = built(scan_forward, MAP | FORWARD | {"R": rank, "SAVE": True})
    assert code.registers * plan.BLOCK * plan.TRAINING.warps <= 65536
    assert not code.spills_in_loops


@pytest.mark.parametrize("back", [False, True], ids=["states", "gradients"])
def test_pass_over_chunk_ends_is_at_most_8_instructions_per_element(built, back):
    code = built(scan_ends, MAP | ENDS | {"BACK": back})
    assert code.spills == 0
    assert code.instructions(STATES * plan.UNROLL, STATES * plan.UNROLL) <= 8


@pytest.mark.parametrize("dtype", cases(TYPES, always=["float32"]))
@pytest.mark.parametrize("mode", cases(MODES, always=["ss2d"]))
def test_backward_is_at_most_34_instructions_per_element_and_spills_nothing(built, mode, dtype):
    code = built(scan_backward, MODES[mode] | BACKWARD, dtype)
    assert code.spills == 0
    assert len(code.walks(STATES * plan.SEGMENT)) == 2  # forward and back
    assert code.round(STATES, MODES[mode]["R"], plan.CKPT) / STATES <= 34


@pytest.mark.parametrize("rank", cases([8, 16, 32, 64], always=[16]))
def test_loops_spill_nothing_at_any_rank_of_delta(built, rank):
    code = built(scan_backward, MAP | BACKWARD | {"R": rank})
    assert not code.spills_in_loops


def test_a_kernel_without_a_loop_of_exponentials_is_not_measured(built):
    code = built(scan_ends, MAP | ENDS)
    with pytest.raises(ValueError, match="empty"):
        code.instructions(1, 10**6)


@pytest.mark.parametrize("states", cases([2, 8], always=[2]))
def test_other_state_sizes_spill_nothing(built, states):
    sizes = MAP | {"N": states}
    assert built(scan_forward, sizes | FORWARD).spills == 0
    assert built(scan_backward, sizes | BACKWARD | {"BD": plan.tile(states)}).spills == 0


ONES = ["L", "H", "W", "CG", "NS", "RS", "s_l", "s_xk", "s_yb", "s_yk", "s_gb", "s_gk"]


@pytest.mark.parametrize("mode", cases(MODES, always=["ss2d"]))
@pytest.mark.parametrize(("kernel", "more"), [(scan_ends, ENDS), (scan_forward, FORWARD), (scan_backward, BACKWARD)],
                         ids=["ends", "forward", "backward"])  # fmt: skip
def test_sizes_of_one_compile(kernel, more, mode):
    """A launch turns an argument of 1 into a compile-time constant, which is another type inside the kernel."""
    ones = {name: 1 for name in ONES if name in kernel.arg_names}
    constants = MODES[mode] | more | ones | {"N": 2, "RAGGED": True}
    found = machine_code.compiled(kernel, constants, SIZES, NVIDIA["sm_90"], {})
    assert found.asm["cubin"]


@pytest.mark.skipif("amd" not in triton.backends.backends, reason="this Triton has no AMD backend")
@pytest.mark.parametrize("mode", cases(MODES, always=["ss2d"]))
@pytest.mark.parametrize(("kernel", "more"), [(scan_ends, ENDS), (scan_forward, FORWARD), (scan_backward, BACKWARD)],
                         ids=["ends", "forward", "backward"])  # fmt: skip
def test_kernels_compile_for_amd(kernel, more, mode):
    found = machine_code.compiled(kernel, MODES[mode] | more, SIZES, GPUTarget("hip", "gfx942", 64), {})
    assert ".amdhsa_kernel" in found.asm["amdgcn"]
