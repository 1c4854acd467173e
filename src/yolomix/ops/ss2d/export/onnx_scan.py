"""SS2D as ONNX nodes around one ``Scan``: four directions at once, each a group of channels."""

from __future__ import annotations

from yolomix.ops._onnx.lower import Call
from yolomix.ops._onnx.scan import Sizes, scan


def write(call: Call) -> str:
    """The name of the output, (B, D, H, W)."""
    g, x = call.graph, call.inputs["x"]
    batch, height, width = call.sizes(0, 2, 3)
    weights = {name: call.array(name) for name in call.inputs if name != "x"}
    A, (_, C, R), N = weights["A"], weights["dt_projs_weight"].shape, weights["A"].shape[1]
    rows = g.reshape(g.op("Transpose", x, perm=[2, 3, 0, 1]), 1, -1, batch, C)
    columns = g.reshape(g.op("Transpose", x, perm=[3, 2, 0, 1]), 1, -1, batch, C)
    forward = g.op("Concat", rows, columns, axis=0)  # (2, L, B, C)
    u = g.reshape(g.op("Concat", forward, g.reverse(forward, 1), axis=0), 4, -1, C)  # (4, L * B, C)
    projected = g.op("MatMul", u, g.constant(weights["x_proj_weight"].transpose(0, 2, 1)))
    r, b, c = g.split(projected, [R, N, N], axis=-1)
    delta = g.op("MatMul", r, g.constant(weights["dt_projs_weight"].transpose(0, 2, 1)))
    dt = g.softplus(g.op("Add", delta, g.constant(weights["dt_projs_bias"][:, None])), A.dtype)
    read = [(dt, C), (g.op("Mul", dt, u), C), (b, N), (c, N)]  # each becomes (L, 4, B, C) or (L, 4, B, N)
    inputs = [g.op("Transpose", g.reshape(x, 4, -1, batch, size), perm=[1, 0, 2, 3]) for x, size in read]
    rates = A.reshape(4, 1, C, N).transpose(0, 1, 3, 2)
    y = scan(call, inputs, rates, Sizes(g.product(height, width), 4, batch, C, N), rank=4)
    forward, backward = g.split(y, [2, 2], axis=1)
    rows, columns = g.split(g.op("Add", forward, g.reverse(backward, 0)), [1, 1], axis=1)
    rows = g.op("Transpose", g.reshape(rows, height, width, batch, C), perm=[2, 3, 0, 1])
    columns = g.op("Transpose", g.reshape(columns, width, height, batch, C), perm=[2, 3, 1, 0])
    # Every direction adds its skip at the cell itself, so the four skip weights act as their sum.
    skip = g.op("Mul", x, g.constant(weights["D"].reshape(4, C).sum(0)[:, None, None]))
    return g.op("Add", g.op("Add", rows, columns), skip)
