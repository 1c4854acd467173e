"""How many operations a model takes, per module: by formula and by shapes, on the meta device, computing nothing.

What is counted and what is not: ``docs/design/flops.md``.
"""

from __future__ import annotations

import copy
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from yolomix.ops import counting
from yolomix.ops.selective_scan.counted import papers_operations
from yolomix.profiling.layers import tensors

SCANS = frozenset({"yolomix.counted_scan", "yolomix.counted_scan_backward"})
# Operators of PyTorch that no count has: reductions and norms, pooling, resampling, sorting, moves, what makes tensors.
# Elementwise ones and views say so themselves.
FREE = frozenset(
    """
    _softmax _log_softmax _safe_softmax mean sum amax amin max min var var_mean norm linalg_vector_norm any all
    argmax argmin count_nonzero logsumexp native_batch_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update cudnn_batch_norm
    native_layer_norm native_group_norm _fused_rms_norm max_pool2d_with_indices avg_pool2d adaptive_max_pool2d
    _adaptive_avg_pool2d avg_pool3d max_pool3d_with_indices upsample_nearest1d upsample_nearest2d
    _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d sort topk gather scatter scatter_add index
    index_select index_put index_put_ index_add take_along_dim masked_select cat stack copy_ clone _to_copy
    contiguous constant_pad_nd reflection_pad2d replication_pad2d pixel_shuffle pixel_unshuffle roll flip rot90
    repeat im2col col2im tril triu embedding one_hot unfold_backward slice_backward select_backward slice_scatter
    select_scatter as_strided_scatter new_zeros new_full new_empty new_ones new_empty_strided zeros zeros_like
    ones ones_like full full_like empty empty_like empty_strided rand rand_like randn randn_like arange linspace
    scalar_tensor lift_fresh_copy fill fill_ zero_ bernoulli bernoulli_ native_dropout nonzero _unique2
    unbind_copy _local_scalar_dense equal is_same_size detach_ resize_ set_ masked_scatter bucketize searchsorted
    _reshape_copy _unsafe_index _unsafe_view _softmax_backward_data _log_softmax_backward_data
    embedding_dense_backward floor_divide
    """.split()  # noqa: SIM905
)
BACKWARD = "_backward"


@dataclass(frozen=True)
class Operations:
    """Operations of one pass of one image; a multiply-add is two.

    >>> both = Operations(10, 4, 6) + Operations(1, not_counted=frozenset({"aten.cumsum"}))
    >>> both.total, both.scan, both.scan_papers, sorted(both.not_counted)
    (11, 4, 6, ['aten.cumsum'])

    Attributes:
        total: of everything that is counted.
        scan: of the recurrences of scans, a part of ``total``.
        scan_papers: of the same in the convention of Mamba's and VMamba's authors, 9 B L D N + B L D.
        not_counted: operators that are neither counted nor on the list of those that never are.
    """

    total: int = 0
    scan: int = 0
    scan_papers: int = 0
    not_counted: frozenset[str] = frozenset()

    def __add__(self, other: Operations) -> Operations:
        return Operations(
            self.total + other.total,
            self.scan + other.scan,
            self.scan_papers + other.scan_papers,
            self.not_counted | other.not_counted,
        )


def count(model: nn.Module, shape: Sequence[int], backward: bool = False) -> dict[str, Operations]:
    """Operations per module, by its name in the model; that of the whole is "".

    >>> count(nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU()), (1, 3, 4, 4))["0"].total
    480

    Args:
        model: it stays as it is.
        shape: of the images, (B, 3, H, W).
        backward: also count the backward pass of the sum of all outputs, in training mode.

    Raises:
        RuntimeError: the model cannot run at that size.
    """
    try:
        return _counted(on_meta(model), shape, "meta", backward)
    except (RuntimeError, NotImplementedError):  # a block that reads numbers, or calls what has no meta kernel
        return _counted(copy.deepcopy(model).float().cpu(), shape, "cpu", backward)


def _counted(model: nn.Module, shape: Sequence[int], device: str, backward: bool) -> dict[str, Operations]:
    """Count while the model runs; it is the caller's copy."""
    model.train(backward)
    counter = _Counter()
    with torch.set_grad_enabled(backward), counting(), _plain_attention(), counter.tracker, counter:
        out = model(torch.zeros(*shape, device=device))
        if backward:
            torch.stack([t.float().sum() for t in tensors(out) if t.requires_grad]).sum().backward()  # type: ignore[no-untyped-call]
    return counter.by_name(type(model).__name__)


def on_meta(model: nn.Module) -> nn.Module:
    """A copy without values. Strides, which heads read number by number, keep theirs."""
    copied = copy.deepcopy(model).float().to("meta")
    for own, module in zip(copied.modules(), model.modules(), strict=True):
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and name == "stride":
                setattr(own, name, value)
            elif isinstance(value, Tensor):  # no buffer, so that `to` passed it by
                setattr(own, name, value.to("meta"))
    return copied


def _convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: object, stride: object, padding: object, dilation: object,
    transposed: bool, output_padding: object, groups: int, output_mask: Sequence[bool], **_: Any
) -> int:  # fmt: skip
    """The gradients of input and weight each take what the forward pass does; PyTorch's formula forgets the groups."""
    forward = 2 * (x if transposed else grad).numel() * weight[0].numel()
    return forward * sum(output_mask[:2])


FORMULAS = {**flop_registry, torch.ops.aten.convolution_backward: _convolution_backward}


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up, per module that is being called, what every operator of PyTorch takes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: defaultdict[str, Operations] = defaultdict(Operations)
        self.tracker = ModuleTracker()
        self.whole: set[Any] = set()  # operators without a decomposition, not to be asked again

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = FORMULAS.get(func._overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default and func not in self.whole:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
            self.whole.add(func)
        result = func(*args, **kwargs)
        taken = _taken(func, formula, args, kwargs, result)
        if taken != Operations():
            for name in self.tracker.parents:
                self.found[name] += taken
        return result

    def by_name(self, root: str) -> dict[str, Operations]:
        """What was found, by the names of the modules in the model."""
        found = {"": self.found["Global"]}
        for name, taken in self.found.items():
            if name.startswith(f"{root}."):
                found[name.removeprefix(f"{root}.")] = taken
        return found


def _taken(func: Any, formula: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> Operations:
    packet = str(func._overloadpacket)
    if formula is None:
        return Operations() if _is_free(func) else Operations(not_counted=frozenset({packet}))
    total = int(formula(*args, **kwargs, out_val=result))
    if packet not in SCANS:
        return Operations(total)
    papers = papers_operations(args[1], args[2]) if packet == "yolomix.counted_scan" else 0
    return Operations(total, total, papers)


@functools.cache
def _is_free(func: Any) -> bool:
    """Whether an operator is elementwise, a view, or on the list."""
    namespace, _, name = str(func._overloadpacket).partition(".")
    if namespace not in ("aten", "prim", "prims"):
        return False
    plain = name.removesuffix(BACKWARD)
    return torch.Tag.pointwise in func.tags or _is_view(func) or name in FREE or plain in FREE or _is_pointwise(plain)


def _is_pointwise(name: str) -> bool:
    """Whether the forward pass of an operator is elementwise."""
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and any(torch.Tag.pointwise in getattr(packet, o).tags for o in packet.overloads())


def _is_view(func: Any) -> bool:
    """Whether the result shares memory with an argument, by the schema."""
    return any(out.alias_info is not None and not out.alias_info.is_write for out in func._schema.returns)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention layer by layer, not as one operator that has no formula."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
