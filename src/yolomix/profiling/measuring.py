"""``yolomix.profile``: what models take, counted by formula and measured by one protocol, in turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yolomix.host import names, runtime, weights
from yolomix.host.names import Kind
from yolomix.host.survey import image_size
from yolomix.profiling import memory
from yolomix.profiling.costs import Counts, counts_of, parameters
from yolomix.profiling.latency import Latency, graphed, measured
from yolomix.profiling.layer import Layer
from yolomix.profiling.layers import Seen, tensors, watched
from yolomix.profiling.operations import Operations
from yolomix.profiling.values import BUSY, NOT_FINITE, ModelProfile, Profile
from yolomix.records import Conditions

PASSES = 10  # of a model whose layers are timed
EXPORTED = "a file of another runtime: timed as it is, nothing inside it can be counted"
ALLOCATOR = "memory is what PyTorch allocates; buffers of NumPy and of our CPU kernels are not in it"

Call = Callable[[Tensor], Any]


@dataclass(frozen=True)
class _Subject:
    """A model to look at: a module, or a file of another runtime that can only be called."""

    name: str
    module: nn.Module | None
    call: Call  # of images, as predict runs it: fused, in eval mode
    fused: nn.Module | None
    channels: int


def profile(
    model: Any,
    imgsz: int | Sequence[int] = 640,
    batch: int | Sequence[int] = 1,
    device: str = "cpu",
    against: Sequence[Any] = (),
    train: bool = False,
    depth: int = 1,
) -> Profile:
    """Parameters, operations, latency and memory of models, in all and per layer.

    Parameters and operations are those of the model as built and of one image. Latency and memory are those of the
    fused model and of the batch, without post-processing outside of the model. Several models are timed in turns.

    >>> found = profile("yolov8n-cls.yaml", imgsz=64)
    >>> found.models[0].parameters, found.models[0].layers[0].module
    (2719288, 'Conv')

    Args:
        model: a checkpoint, a model YAML, a packaged name, an exported file, a ``YOLO`` or its model.
        imgsz: height and width of the images in pixels, or one number for both.
        batch: images at once; several numbers give a profile of each.
        device: ``cpu``, ``cuda`` or ``0``, ``mps``.
        against: further models.
        train: also measure the memory of a forward and a backward pass.
        depth: 2 also shows the modules inside a layer.

    Raises:
        ValueError: a size or a batch that is none, a device that is not there, a model that cannot run at that size.
        FileNotFoundError: there is no such model.
    """
    size, batches, place = image_size(imgsz), _batches(batch), _device(device)
    if depth not in (1, 2):
        raise ValueError(f"depth is 1 for layers or 2 for the modules inside them, got {depth}")
    subjects = [_opened(one, place) for one in (model, *against)]
    runs = [(subject, images) for subject in subjects for images in batches]
    inputs = [torch.rand(images, subject.channels, *size, device=place) for subject, images in runs]
    finite = [_is_finite(subject, x, size) for (subject, _), x in zip(runs, inputs, strict=True)]
    timed = [i for i, is_finite in enumerate(finite) if is_finite]
    calls = {i: partial(runs[i][0].call, inputs[i]) for i in timed}
    with torch.inference_mode():
        graphs, refused = _graphs(calls) if place.startswith("cuda") else ({}, {})
        times = measured([*calls.values(), *graphs.values()], place)
    latency = dict(zip(calls, times[: len(calls)], strict=True))
    replayed = dict(zip(graphs, times[len(calls) :], strict=True))
    counts = {id(subject): _counts(subject, size) for subject in subjects}  # whatever the batch
    found = []
    for i, (subject, images) in enumerate(runs):
        one = _of(subject, counts[id(subject)], images, size, inputs[i], latency.get(i), place, train, depth)
        remarks = (*one.remarks, *([f"no CUDA graph: {refused[i]}"] if i in refused else []))
        found.append(replace(one, latency_graphs=replayed.get(i), remarks=remarks))
    return Profile(tuple(found))


def _graphs(calls: Mapping[int, Callable[[], object]]) -> tuple[dict[int, Callable[[], object]], dict[int, str]]:
    """The calls as CUDA graphs, and why some cannot be."""
    found, refused = {}, {}
    for i, call in calls.items():
        try:
            found[i] = graphed(call)
        except RuntimeError as error:
            refused[i] = str(error).strip().partition("\n")[0]
    return found, refused


def _of(
    subject: _Subject,
    counts: Counts | None,
    images: int,
    size: tuple[int, int],
    x: Tensor,
    latency: Latency | None,
    device: str,
    train: bool,
    depth: int,
) -> ModelProfile:
    remarks = [NOT_FINITE] if latency is None else [BUSY] if latency.is_busy else []
    conditions = Conditions.here(device.partition(":")[0])
    if subject.module is None or subject.fused is None or counts is None:
        return ModelProfile(subject.name, size, images, latency, conditions, (*remarks, EXPORTED))
    module, fused = subject.module, subject.fused
    if counts.untrained:
        remarks.append(f"cannot be trained at that size: {counts.untrained}")
    layers, held = _layers(module, fused, x, counts.forward, device, depth)
    if device == "cpu":
        remarks.append(ALLOCATOR)
    return ModelProfile(
        model=subject.name,
        imgsz=size,
        batch=images,
        parameters=parameters(module),
        operations=counts.forward[""],
        flops_training=counts.training,
        fused_parameters=parameters(fused),
        fused_flops=counts.fused,
        flops_ultralytics=counts.ultralytics,
        latency=latency,
        memory=held,
        memory_training=memory.peak(partial(_trained, module, x, device), device) if train else None,
        layers=layers,
        conditions=conditions,
        remarks=tuple(remarks),
    )


def _counts(subject: _Subject, size: tuple[int, int]) -> Counts | None:
    if subject.module is None or subject.fused is None:
        return None
    return counts_of(subject.module, subject.fused, size)


def _layers(
    module: Any, fused: Any, x: Tensor, forward: Mapping[str, Operations], device: str, depth: int
) -> tuple[tuple[Layer, ...], float | None]:
    """Every layer, with the modules inside where they are wanted; and the memory of a whole pass."""
    owners = Counter(id(child) for module in fused.modules() for child in module.children())  # some share an activation
    looked_at: dict[str, nn.Module] = {}
    for i, layer in enumerate(fused.model):
        looked_at[str(i)] = layer
        if depth == 2:
            looked_at |= {f"{i}.{name}": child for name, child in _inside(layer) if owners[id(child)] == 1}
    with torch.inference_mode():
        with watched(looked_at, device) as timed:
            for _ in range(PASSES):
                fused(x)
        with watched(looked_at, device) as seen:
            changes = memory.changes(partial(fused, x)) if device == "cpu" else None
    all_of_them = sum(_median(timed[str(i)]) for i in range(len(fused.model))) or 1.0
    layers = []
    for name, inside in looked_at.items():
        built = module.get_submodule(f"model.{name}") if _has(module, f"model.{name}") else inside
        index = int(name.partition(".")[0])
        spans = seen[name].spans
        layers.append(
            Layer(
                name=name,
                module=_kind(inside),
                stage=_stage(module, index),
                shapes=timed[name].shapes,
                parameters=parameters(built),
                operations=forward.get(f"model.{name}", Operations()),
                latency=timed[name].latency,
                share=_median(timed[name]) / all_of_them,
                memory=None if changes is None else max((memory.highest(changes, *s) for s in spans), default=0.0),
                backends=timed[name].backends,
            )
        )
    held = memory.peak(partial(_inferred, fused, x), device) if changes is None else memory.highest(changes)
    return tuple(layers), held


def _inside(layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a layer that are called; those of a list by themselves."""
    for name, child in layer.named_children():
        if isinstance(child, nn.ModuleList):
            yield from ((f"{name}.{inner}", module) for inner, module in _inside(child))
        else:
            yield name, child


def _kind(module: nn.Module) -> str:
    """Its type; of repeats that of one, and how many."""
    inside = [type(child).__name__ for child in module.children()]
    if type(module) is nn.Sequential and len(set(inside)) == 1:
        return f"{inside[0]} x{len(inside)}"
    return type(module).__name__


def _median(seen: Seen) -> float:
    return seen.latency.median if seen.latency else 0.0


def _has(module: nn.Module, name: str) -> bool:
    try:
        module.get_submodule(name)
    except AttributeError:  # fusing made it
        return False
    return True


def _stage(model: Any, index: int) -> str:
    if index == len(model.model) - 1:
        return "head"
    return "backbone" if index < len(model.yaml.get("backbone", ())) else "neck"


def _inferred(model: nn.Module, x: Tensor) -> object:
    with torch.inference_mode():
        return model(x)


def _trained(model: nn.Module, x: Tensor, device: str) -> None:
    """A forward and a backward pass of the sum of all outputs, in training mode, of a copy."""
    copied = deepcopy(model).float().train().requires_grad_().to(device)
    outputs = [t.float().sum() for t in tensors(copied(x)) if t.requires_grad]
    torch.stack(outputs).sum().backward()  # type: ignore[no-untyped-call]


def _opened(model: Any, device: str) -> _Subject:
    """A model by name, or as it is."""
    if isinstance(model, str | Path):
        if names.resolve(model).kind is Kind.EXPORTED:
            return _Subject(str(model), None, runtime.opened(model, device), None, 3)
        from yolomix.host.yolo import YOLO

        module, name = YOLO(str(model)).model, str(model)
    else:
        module = model if weights.is_layered(model) else getattr(model, "model", None)
        name = str(
            getattr(module, "pt_path", None) or getattr(module, "yaml", {}).get("yaml_file") or type(module).__name__
        )
    if not weights.is_layered(module):
        raise TypeError(f"profile takes a model name, a YOLO or its model, got {type(model).__name__}")
    fused = deepcopy(module).float().eval()
    fused = fused.fuse(verbose=False).to(device)
    return _Subject(name, module, fused, fused, int(module.yaml.get("channels", 3)))


def _is_finite(subject: _Subject, x: Tensor, size: tuple[int, int]) -> bool:
    """Whether a forward pass gives finite numbers.

    Raises:
        ValueError: it cannot run at that size.
    """
    try:
        with torch.inference_mode():
            out = subject.call(x)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{subject.name} cannot run on images of {size[0]}x{size[1]}: {reason}. Give another imgsz="
        ) from error
    return all(bool(torch.as_tensor(t).isfinite().all()) for t in tensors(out))


def _batches(batch: int | Sequence[int]) -> list[int]:
    batches = [*batch] if isinstance(batch, Sequence) else [batch]
    if not batches or not all(type(images) is int and images >= 1 for images in batches):
        raise ValueError(f"batch is a number of images from 1 on, or several of them; got {batch}")
    return batches


def _device(device: str) -> str:
    """A device of PyTorch that is there."""
    wanted = f"cuda:{device}" if str(device).isdecimal() else str(device)
    if wanted == "cpu":
        return wanted
    there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    kind, _, index = wanted.partition(":")
    if there is None or there.type != kind or (index and int(index) >= torch.accelerator.device_count()):
        raise ValueError(f"no device {device!r} here; there is cpu{'' if there is None else f' and {there.type}'}")
    return wanted
