"""The selective scan as ONNX nodes around one ``Scan``."""

from __future__ import annotations

from yolomix.ops._onnx.lower import Call
from yolomix.ops._onnx.scan import Sizes, scan


def write(call: Call) -> str:
    """The name of the output, (B, D, L)."""
    g, given = call.graph, call.inputs
    batch, length = call.sizes(0, 2)
    A = call.array("A")
    (D, N), grouped = A.shape, call.flags["groups"]
    G = max(grouped, 1)
    P = D // G
    dt = given["delta"]
    if "delta_bias" in given:
        dt = g.op("Add", dt, g.op("Unsqueeze", given["delta_bias"], g.ints(1)))
    if call.flags["delta_softplus"]:
        dt = g.softplus(dt, A.dtype)
    b, c = (g.reshape(given[name], batch, G * N, length) if grouped else given[name] for name in "BC")
    read = (dt, g.op("Mul", dt, given["u"]), b, c)
    inputs = [g.op("Transpose", x, perm=[2, 0, 1]) for x in read]  # (L, B, D) or (L, B, G * N)
    rates = A.reshape(G, P, N).transpose(0, 2, 1)
    y = scan(call, inputs, rates, Sizes(length, batch, G, P, N), rank=3)
    y = g.op("Transpose", g.reshape(y, -1, batch, D), perm=[1, 2, 0])
    if "D" in given:
        y = g.op("Add", y, g.op("Mul", given["u"], g.op("Unsqueeze", given["D"], g.ints(1))))
    if "z" in given:
        y = g.op("Mul", y, g.op("Mul", given["z"], g.op("Sigmoid", given["z"])))
    return y
