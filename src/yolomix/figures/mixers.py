"""Token mixers inside a model while it runs: every scan as the sequences that it reads, every attention as its inputs.

A scan in two dimensions is four sequences, Vim's layer two, ASSG's one whose order the image decides. All of them come
out as :class:`Path`, a selective scan and the cells that it reads in turn, so that every figure knows one thing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from yolomix.figures import opening
from yolomix.figures.opening import Subject
from yolomix.figures.values import Array
from yolomix.nn.mambairv2_parts import WindowAttention
from yolomix.nn.mambairv2_scan import ASSM, semantic_order
from yolomix.nn.running import Running, running
from yolomix.nn.vim import BidirectionalMamba
from yolomix.ops.dispatch import watching
from yolomix.ops.precision import full_precision
from yolomix.ops.selective_scan.inputs import ScanInputs
from yolomix.ops.ss2d.inputs import SS2DInputs
from yolomix.ops.ss2d.reference import orders

DIRECTIONS = ("along rows", "along columns", "rows backwards", "columns backwards")
BOTH_WAYS = ("forwards", "backwards")
SCANS = ("ss2d", "selective_scan")


class Path(NamedTuple):
    """One sequence that a scan reads, of one image.

    Args:
        direction: in words.
        scan: its inputs in the order of time, without a gate; B is 1.
        order: (L,), the cell, row by row, that each time step reads.
    """

    direction: str
    scan: ScanInputs
    order: Tensor


class Mixer(NamedTuple):
    """One token mixer and what it was given.

    Args:
        name: the module that calls it, as ``model.4.m.0``.
        operator: ``ss2d``, ``selective_scan``, ``halo_attention``, ``linear_attention`` or ``window_attention``.
        size: height and width of its feature map, in positions.
        inputs: of every call of the operator; of windows, the module and its input.
        read: of every call of a selective scan, the direction in words and the cells in the order of time, (L,).
    """

    name: str
    operator: str
    size: tuple[int, int]
    inputs: tuple[Any, ...]
    read: tuple[tuple[str, Tensor], ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The sequences of a scan; none of attention."""
        if self.operator == "ss2d":
            return _of_four(self.inputs[0])
        scans = zip(self.read, self.inputs, strict=False)
        return tuple(Path(direction, inputs, order) for (direction, order), inputs in scans)


class Routes(NamedTuple):
    """How one ASSG sorts the tokens of one image.

    Args:
        name: its module.
        size: height and width of its feature map, in positions.
        classes: (L,), of every cell.
        order: (L,), cells in the order in which they are scanned.
        kinds: how many classes there are.
    """

    name: str
    size: tuple[int, int]
    classes: Tensor
    order: Tensor
    kinds: int


def mixers(subject: Subject, x: Tensor) -> list[Mixer]:
    """Every token mixer of ours that one image (1, C, H, W) passes, in order."""
    found, calls = list[Mixer](), Counter[str]()
    windows = [module for module in subject.module.modules() if isinstance(module, WindowAttention)]
    with torch.no_grad(), running(subject.module) as stack:

        def _see(operator: str, inputs: Any) -> None:
            name = stack[-1].name
            found.append(_mixer(operator, inputs, stack, calls[name]))
            calls[name] += 1

        def _see_windows(module: WindowAttention, inputs: tuple[Tensor, ...]) -> None:
            H, W = inputs[0].shape[1:3]
            found.append(Mixer(stack[-1].name, "window_attention", (H, W), (module, inputs[0])))

        with watching(_see), _hooked(windows, _see_windows):
            subject.module(x)
    return _joined(found)


def scans(subject: Subject, x: Tensor) -> list[Mixer]:
    """Those of :func:`mixers` that are scans."""
    return [mixer for mixer in mixers(subject, x) if mixer.operator in SCANS]


def inside(subject: Subject, found: Sequence[Mixer], at: Any, what: str) -> list[Mixer]:
    """The mixers in the layers that are named; all of them where ``at`` is None.

    Args:
        subject: the model.
        found: its mixers.
        at: layers, as for a graft.
        what: it is that a figure needs, for a message: a scan, a token mixer.

    Raises:
        ValueError: there is none; the message has the layers that have one, or what can be drawn of any model.
    """
    have = dict.fromkeys(str(opening.layer_of(mixer.name)) for mixer in found)
    if not have:
        raise ValueError(f"{subject.name} has no {what}; of any model there are erf, cam, compare and insertion")
    if at is None:
        return [*found]
    wanted = opening.at_layers(subject, at)
    kept = [mixer for mixer in found if opening.layer_of(mixer.name) in wanted]
    if not kept:
        raise ValueError(f"{subject.name} has no {what} at {at}; layers with one: {', '.join(have)}")
    return kept


def last(subject: Subject, found: Sequence[Mixer], at: Any, what: str) -> Mixer:
    """The last mixer of the layers that are named, or of the backbone if it has any.

    Raises:
        ValueError: as :func:`inside`, or its map has one position.
    """
    kept = inside(subject, found, at, what)
    backbone = [layer.index for layer in subject.layers if layer.backbone]
    first = [mixer for mixer in kept if at is None and opening.layer_of(mixer.name) in backbone]
    chosen = (first or kept)[-1]
    opening.check_places(subject, chosen.name, chosen.size)
    return chosen


def time_steps(order: Tensor, size: tuple[int, int]) -> Array:
    """The time step at which each position is read, (H, W), from the cells in the order of time, (L,).

    >>> time_steps(torch.tensor([2, 0, 3, 1]), (2, 2)).tolist()
    [[1, 3], [0, 2]]
    """
    return order.argsort().reshape(size).cpu().numpy()


def routes(subject: Subject, x: Tensor) -> list[Routes]:
    """The routes of every ASSG that one image (1, C, H, W) passes, in order."""
    found = list[Routes]()
    routers = [module for module in subject.module.modules() if isinstance(module, ASSM)]
    with torch.no_grad(), running(subject.module) as stack:

        def _see(module: ASSM, inputs: tuple[Tensor, ...]) -> None:
            found.append(_routes(stack[-1].name, module, *inputs))

        with _hooked(routers, _see):
            subject.module(x)
    return found


@contextmanager
def _hooked(modules: Sequence[nn.Module], see: Callable[..., None]) -> Iterator[None]:
    handles = [module.register_forward_pre_hook(see) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _routes(name: str, module: ASSM, x: Tensor, token: Tensor) -> Routes:
    with full_precision(x):
        classes, _ = module.prompts(x.flatten(1, 2), token)
    order, _ = semantic_order(classes, module.num_tokens)
    H, W = x.shape[1:3]
    return Routes(name, (H, W), classes[0], order[0], module.num_tokens)


def _mixer(operator: str, inputs: Any, stack: list[Running], earlier: int) -> Mixer:
    """A call of an operator, by the innermost of the modules that are running, after so many calls of its own."""
    name = stack[-1].name
    if operator != "selective_scan":
        H, W = inputs[0].shape[2:]
        return Mixer(name, operator, (H, W), (inputs,))
    ungated = (inputs._replace(z=None, return_last_state=False),)
    for one in stack:
        if isinstance(one.module, ASSM):
            route = _routes(name, one.module, *one.inputs)
            return Mixer(name, operator, route.size, ungated, (("sorted by class", route.order),))
    steps = torch.arange(inputs.u.shape[2], device=inputs.u.device)
    backwards = isinstance(stack[-1].module, BidirectionalMamba) and earlier % 2 == 1
    read = (BOTH_WAYS[backwards], steps.flip(0) if backwards else steps)
    return Mixer(name, operator, _map_around(stack, len(steps)), ungated, (read,))


def _joined(found: list[Mixer]) -> list[Mixer]:
    """Both directions of Vim's layer, which are two calls, as one mixer."""
    joined = list[Mixer]()
    for mixer in found:
        last = joined[-1] if joined else None
        if last and last.name == mixer.name and mixer.read and mixer.read[0][0] == BOTH_WAYS[1]:
            joined[-1] = last._replace(inputs=last.inputs + mixer.inputs, read=last.read + mixer.read)
        else:
            joined.append(mixer)
    return joined


def _map_around(stack: list[Running], length: int) -> tuple[int, int]:
    """Height and width of the feature map (B, C, H, W) that a sequence was made of; one row where nobody says."""
    for one in reversed(stack):
        x = one.inputs[0] if one.inputs else None
        if isinstance(x, Tensor) and x.dim() == 4 and x.shape[2] * x.shape[3] == length:
            return int(x.shape[2]), int(x.shape[3])
    return 1, length


def _of_four(inputs: SS2DInputs) -> tuple[Path, ...]:
    """The four scans of a scan in two dimensions, each with what it projects from the map."""
    x, x_proj_weight, dt_projs_weight, dt_projs_bias, A, D = inputs
    channels, H, W = x.shape[1:]
    R, N = dt_projs_weight.shape[2], A.shape[1]
    cells = x.to(A.dtype).flatten(2)  # (B, D, L)
    found = []
    for k, order in enumerate(orders(H, W, x.device)):
        u = cells[:, :, order]
        r, B, C = torch.split(x_proj_weight[k] @ u, [R, N, N], dim=1)
        rows = slice(k * channels, (k + 1) * channels)
        delta = dt_projs_weight[k] @ r
        scan = ScanInputs(u, delta, A[rows], B, C, D[rows], delta_bias=dt_projs_bias[k], delta_softplus=True)
        found.append(Path(DIRECTIONS[k], scan, order))
    return tuple(found)
