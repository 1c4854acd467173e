"""Nothing is trusted untested: wrong and broken backends are found, and what says nothing about them is not kept."""

from __future__ import annotations

import pytest
import torch

from tests.ops.choosing import NUMBA, chosen
from yolomix.ops import selftest
from yolomix.ops.selective_scan import numba_cpu


def test_a_backend_that_is_off_by_a_percent_is_not_trusted(inputs, monkeypatch, untested):
    right = numba_cpu.run
    monkeypatch.setattr(numba_cpu, "run", lambda inputs: 1.01 * right(inputs))
    with pytest.raises(NotImplementedError, match=r"self-test on cpu is off by 1.0e-02 of the reference's norm, more"):
        chosen("numba", inputs)
    assert chosen("auto", inputs) == "eager"


def test_a_wrong_gradient_is_not_trusted(inputs, monkeypatch, untested):
    right = numba_cpu.run

    def steep(inputs):
        u = inputs.u
        return right(inputs._replace(u=u.detach() + 1.02 * (u - u.detach())))

    monkeypatch.setattr(numba_cpu, "run", steep)
    needing = inputs._replace(u=inputs.u.requires_grad_())
    assert chosen("auto", needing) == "eager"
    with torch.no_grad():
        assert chosen("auto", needing) == "numba_cpu", "without gradients nothing is wrong with it"


def test_a_backend_that_raises_or_gives_no_number_is_not_trusted(inputs, monkeypatch, untested):
    def broken(inputs):
        raise OSError("no such instruction\nand more")

    monkeypatch.setattr(numba_cpu, "run", broken)
    with pytest.raises(NotImplementedError, match=r"its self-test on cpu raised OSError: no such instruction$"):
        chosen("numba", inputs)
    selftest._refusal.cache_clear()
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
    assert selftest._refusal.cache_info().currsize == 0


def test_the_self_test_draws_no_random_numbers(untested):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert selftest.refusal(NUMBA.module, "cpu", False) is None
    assert torch.equal(torch.get_rng_state(), before)


def test_the_self_test_is_real_inside_fake_and_inference_modes(untested):
    from torch._subclasses.fake_tensor import FakeTensorMode

    for mode in (FakeTensorMode(), torch.inference_mode()):
        selftest._refusal.cache_clear()
        with mode:
            assert selftest.refusal(NUMBA.module, "cpu", True) is None
