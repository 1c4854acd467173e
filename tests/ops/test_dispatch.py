"""One value per operator: what is chosen, by refusals and by name; what is said about it; inputs are checked first."""

from __future__ import annotations

import logging

import pytest
import torch

from tests.ops.choosing import EAGER, NUMBA, OTHER_DEVICE, REFERENCE, TABLE, chosen, in_float64
from yolomix.ops import backend
from yolomix.ops.dispatch import Operator
from yolomix.ops.selective_scan import OPERATOR
from yolomix.ops.selective_scan.inputs import check


def test_auto_takes_the_first_without_a_refusal(inputs):
    assert chosen("auto", inputs) == "numba_cpu"
    assert chosen("auto", inputs, (OTHER_DEVICE, EAGER)) == "eager"


def test_the_reference_is_only_taken_by_name(inputs):
    assert chosen("reference", inputs) == "reference"
    with pytest.raises(NotImplementedError, match="no backend of scan takes"):
        chosen("auto", inputs, (OTHER_DEVICE, REFERENCE))


def test_a_named_backend_runs_or_raises_with_its_reasons(inputs):
    doubles = in_float64(inputs)
    with pytest.raises(
        NotImplementedError,
        match=r"(?s)no backend of scan takes \(1, 36, 19\) torch.float64 on cpu:\n  numba: it computes in float32, "
        r"which is less than torch.float64$",
    ):
        chosen("numba", doubles)
    assert chosen("auto", doubles) == "eager"


def test_every_backend_says_why_not(inputs):
    with pytest.raises(NotImplementedError, match=r"(?s)triton: it serves cuda tensors, not cpu\n  numba: it computes"):
        chosen("auto", in_float64(inputs), (OTHER_DEVICE, NUMBA))


def test_a_name_that_the_operator_lacks(inputs):
    with pytest.raises(ValueError, match=r"scan has no backend 'numba'; choose from auto, eager"):
        chosen("numba", inputs, (EAGER,))


def test_one_line_says_once_what_runs_and_why(inputs, caplog):
    with caplog.at_level(logging.INFO, logger="yolomix"):
        chosen("auto", inputs)
        chosen("auto", inputs)
    assert caplog.messages == ["scan runs on numba, because\n  triton: it serves cuda tensors, not cpu"]
    assert caplog.records[0].levelname == "INFO"


def test_nothing_is_said_where_only_shapes_are_worked_out(inputs, caplog):
    with caplog.at_level(logging.INFO, logger="yolomix"):
        assert chosen("auto", type(inputs)(*(x.to("meta") for x in inputs[:8]))) == "eager"
    assert caplog.messages == []


def test_without_numba_eager_runs_and_says_why(inputs, monkeypatch, caplog):
    monkeypatch.setattr(backend, "_package_refusal", lambda package: f"{package} is not installed: pip install x")
    assert chosen("auto", inputs, (NUMBA, EAGER)) == "eager"
    assert caplog.records[0].levelname == "WARNING", "a slow path is seen without any logging set up"
    assert caplog.messages == ["scan runs on eager, because\n  numba: numba is not installed: pip install x"]
    with pytest.raises(NotImplementedError, match="numba is not installed"):
        chosen("numba", inputs)


def test_inputs_are_checked_then_prepared_then_run(inputs):
    operator = Operator("scan", TABLE, check, prepare=lambda scan: scan._replace(u=2 * scan.u))
    torch.testing.assert_close(operator(inputs, "eager"), 2 * OPERATOR(inputs, "eager"))
    with pytest.raises(ValueError, match="needs u of shape"):
        operator(inputs._replace(u=inputs.u[0]))


def test_the_table_of_the_scan_is_in_order_of_speed():
    assert [row.name for row in OPERATOR.backends] == ["triton", "numba", "eager", "reference"]
