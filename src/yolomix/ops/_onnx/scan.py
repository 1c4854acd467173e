"""The recurrence that both operators share, as one ONNX ``Scan`` over time.

What makes it fast in ONNX Runtime: time is the first axis, so that a step is a slice without a copy; A is a constant of
the body, because one that is carried along is copied in every iteration; y_t = <h_t, C_t> is a MatMul.

Letters: L time steps, K steps of an iteration, X and Y two sizes of which one is the batch and one the groups, P
channels of a group, N state size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import GraphProto, ValueInfoProto, helper

from yolomix.ops._onnx.graph import Graph, Size
from yolomix.ops._onnx.lower import Call

# Time steps of an iteration, by target. 1, 2, 4, 8 and 16 were measured, on one thread, for 64 and 256 channels at 160
# and 40 px and N of 16. ONNX Runtime 1.31: within a sixth of each other, and 1 is the smallest graph; neither inputs
# that are taken apart before the loop nor B v as a MatMul made it faster. OpenVINO 2026.4.1: 8 takes half to three
# quarters of the time of 1, and 16 no less.
STEPS = {"onnx": 1, "openvino": 8}

# OpenVINO 2026.4.1 computes a state of one value wrong when every step has an iteration of its own, and it reads ONNX
# files, too: docs/design/openvino.md.
OF_ONE_STATE = 4


class Sizes(NamedTuple):
    """The sizes of a scan, those named X and Y in this module and the length maybe symbols.

    >>> Sizes(35, 1, 4, 64, 16).channels
    64
    """

    length: Size
    x: Size
    y: Size
    channels: int
    states: int


def steps(A: np.ndarray[Any, Any], target: str) -> int:
    """How many time steps share an iteration, for A of (..., N, P).

    >>> A = np.zeros((4, 1, 16, 64))
    >>> steps(A, "onnx"), steps(A[:, :, :1], "onnx"), steps(A, "openvino")
    (1, 4, 8)
    """
    return max(STEPS[target], OF_ONE_STATE if A.shape[-2] == 1 else 1)


def scan(call: Call, inputs: Sequence[str], A: np.ndarray[Any, Any], sizes: Sizes, rank: int) -> str:
    """h_t = exp(dt_t A) h_(t-1) + v_t B_t and y_t = <h_t, C_t>: the name of y, (L, X, Y, P).

    Args:
        call: for which the nodes are written.
        inputs: dt, v = dt * u, B and C, time first: (L, X, Y, P) or (L, X, Y, N), perhaps some of these axes in one.
        A: decay rates, in a shape that broadcasts to (X, Y, N, P).
        sizes: L, X, Y, P and N.
        rank: number of axes of each of the inputs.
    """
    g, K, (length, X, Y, P, N) = call.graph, steps(A, call.target), sizes
    filled = [_filled(g, x, rank, length, K) for x in inputs]
    tails = {"dt": (1, P), "v": (1, P), "b": (N, 1), "c": (1, N)}
    read = [g.reshape(x, -1, K, X, Y, *tail) for x, tail in zip(filled, tails.values(), strict=True)]
    if isinstance(X, int) and isinstance(Y, int):
        start = g.constant(np.zeros((1, X, Y, N, P), A.dtype))
    else:
        start = g.op("Expand", g.constant(np.zeros((), A.dtype)), g.sizes(1, X, Y, N, P))
    body = _body(g.name("body") + "/", A, K, tails)
    y = g.reshape(g.ops("Scan", start, *read, outputs=2, body=body, num_scan_inputs=4)[1], -1, X, Y, P)
    return y if filled == [*inputs] else g.op("Slice", y, g.ints(0), g.sizes(length), g.ints(0))


def _filled(g: Graph, x: str, rank: int, length: Size, K: int) -> str:
    """Zeros after the last time step up to a multiple of K: a step size of 0 keeps the state as it is."""
    if K == 1 or (isinstance(length, int) and length % K == 0):
        return x
    lacking = -length % K if isinstance(length, int) else g.op("Mod", g.op("Neg", length), g.ints(K))
    return g.op("Pad", x, g.sizes(*[0] * rank, lacking, *[0] * (rank - 1)))


def _body(prefix: str, A: np.ndarray[Any, Any], K: int, tails: dict[str, tuple[int, int]]) -> GraphProto:
    """K time steps: from the state (1, X, Y, N, P) to the next one, and their outputs (K, X, Y, 1, P)."""
    g, kind = Graph(prefix), helper.np_dtype_to_tensor_dtype(A.dtype)
    names = {name: prefix + name for name in ("h", *tails)}
    rates, h, outputs = g.constant(A), names["h"], list[str]()
    # The inputs of a step are small beside its state, so they are taken apart and states are not.
    for dt, v, b, c in zip(*(g.split(names[name], [1] * K, axis=0) for name in tails), strict=True):
        decay = g.op("Exp", g.op("Mul", dt, rates))
        h = g.op("Add", g.op("Mul", decay, h), g.op("Mul", b, v))
        outputs.append(g.op("MatMul", c, h))
    y = g.op("Concat", *outputs, axis=0) if K > 1 else outputs[0]

    def _value(name: str, lead: int, tail: Sequence[int]) -> ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, [lead, None, None, *tail])

    N, P = A.shape[-2:]
    read = [_value(names["h"], 1, (N, P)), *(_value(names[name], K, tail) for name, tail in tails.items())]
    return helper.make_graph(g.nodes, "steps", read, [_value(h, 1, (N, P)), _value(y, K, (1, P))], g.initializers)
