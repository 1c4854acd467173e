"""Whole detectors on a GPU: an image through the network, and a training step."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks import gpu_ops, gpu_timing
from benchmarks.four_copy import four_copy
from benchmarks.gpu_record import Key, Record, Row, key
from benchmarks.gpu_timing import measure
from yolomix.profiling.latency import graphed
from yolomix.profiling.operations import count

# Ours, and the stock YOLO that costs as much: its name, or YOLOv8 at another width. GFLOPs stand in every row.
PEERS = {"mamba-yolo-t": "yolov8 width 0.38", "yolo11n-mlla": "yolo11n", "yolo11n-assg": "yolo11n",
         "yolov8n-vim": "yolov8 width 0.265"}  # fmt: skip
BATCHES = (16, 1, 64)
FOUR_COPY = "four copies"  # Mamba-YOLO with the official pipeline around the fastest scan at hand
COMPILER = "inductor"
SIDE = 640


@dataclass(frozen=True)
class Case:
    """One detector in one way of running: ``how`` is plain, CUDA graph or compiled."""

    model: str
    train: bool
    batch: int
    amp: bool = True
    how: str = "plain"
    who: str = "yolomix"

    @property
    def key(self) -> Key:
        """The first columns of its row."""
        mode = f"{'training step' if self.train else 'inference'}, {self.how}"
        return key(self.model, SIDE, self.batch, "amp" if self.amp else "float32", mode, self.who)


def cases() -> Iterator[Case]:
    """First what was promised, then what a user runs, then everything, plain before graphs before compiled."""
    models = tuple(dict.fromkeys(name for pair in PEERS.items() for name in pair))
    mamba = next(iter(PEERS))
    rivals = [f"{FOUR_COPY}, {scan}" for scan in (*gpu_ops.foreign(), "yolomix triton")][:1]
    yield from (Case(mamba, True, 32, amp, who=who) for amp in (True, False) for who in ("yolomix", *rivals))
    yield from (Case(model, True, 16) for model in models)
    yield from (Case(model, False, 1, how=how) for how in ("plain", "CUDA graph") for model in models)
    yield from (Case(model, train, 16, how="compiled") for model in (mamba, PEERS[mamba]) for train in (True, False))
    for how, amp, batch, train in itertools.product(
        ("plain", "CUDA graph", "compiled"), (True, False), BATCHES, (True, False)
    ):
        if not train or how != "CUDA graph":  # the loss reads numbers, which no graph can hold
            yield from (Case(model, train, batch, amp, how) for model in models)


def run(record: Record) -> None:
    """Measure what is left."""
    record.work({case.key: partial(timed, case) for case in cases()})


def timed(case: Case) -> list[Row]:
    """The row of one case."""
    with pipeline(case.who):
        figures = measure(work(case)).row()
    return [figures | {"note": f"{gflops(case.model):.2f} GFLOPs"}]


@functools.cache
def gflops(name: str) -> float:
    """Of one image."""
    return count(build(name), (1, 3, SIDE, SIDE))[""].total / 1e9


def pipeline(who: str) -> AbstractContextManager[object]:
    """While it lasts, Mamba-YOLO's blocks compute their four-direction scan that way."""
    if not who.startswith(FOUR_COPY):
        return nullcontext()
    scan = (gpu_ops.foreign() | {"yolomix triton": gpu_ops.ours})[who.removeprefix(f"{FOUR_COPY}, ")]
    return patch("yolomix.nn.ss2d.ss2d", partial(four_copy, scan=scan))


def work(case: Case) -> Callable[[], object]:
    """What is timed: a forward pass in eval mode, or a whole training step."""
    torch._dynamo.reset()  # models share code, and after a few versions of one it is not compiled again
    model = build(case.model).to(gpu_timing.DEVICE).to(memory_format=torch.channels_last)
    step = training_step(model, case) if case.train else inference(model, case)
    return graphed(step) if case.how == "CUDA graph" else step


def build(name: str) -> Any:
    """An untrained detector by the name of its YAML, or YOLOv8n's layers at another width."""
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    from yolomix import YOLO

    torch.manual_seed(0)
    stock, _, width = name.partition(" width ")
    if width:
        layers = yaml_model_load(f"{stock}n.yaml")
        depth, _, most = layers["scales"]["n"]
        model = DetectionModel(layers | {"scales": {"n": [depth, float(width), most]}}, verbose=False)
    else:
        model = YOLO(f"{name}.yaml").model
    model.args = get_cfg()
    return model


def compiled(model: Any, case: Case) -> Any:
    """The network of the case."""
    return torch.compile(model, backend=COMPILER) if case.how == "compiled" else model


def inference(model: nn.Module, case: Case) -> Callable[[], object]:
    """Images through the network."""
    images = torch.rand(case.batch, 3, SIDE, SIDE, device=gpu_timing.DEVICE).to(memory_format=torch.channels_last)
    network = compiled(model.eval(), case)

    @torch.no_grad()
    def run() -> object:
        with autocast(case):
            return network(images)

    return run


def autocast(case: Case) -> AbstractContextManager[object]:
    """Mixed precision, if the case asks for it."""
    dtype = torch.float16 if gpu_timing.DEVICE == "cuda" else torch.bfloat16
    return torch.autocast(gpu_timing.DEVICE, dtype, enabled=case.amp)


def training_step(model: Any, case: Case) -> Callable[[], Tensor]:
    """Forward, loss, backward and optimiser; the loss is returned."""
    batch = images_with_boxes(case.batch)
    optimiser = torch.optim.SGD(model.train().parameters(), lr=1e-3, momentum=0.9)
    scaler = torch.amp.GradScaler(gpu_timing.DEVICE, enabled=case.amp and gpu_timing.DEVICE == "cuda")
    network = compiled(model, case)

    def step() -> Tensor:
        with autocast(case):
            loss = model.loss(batch, network(batch["img"]))[0].sum()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def images_with_boxes(count: int) -> dict[str, Tensor]:
    """Random images with eight boxes each, as the loss of Ultralytics takes them."""
    torch.manual_seed(0)
    images = torch.rand(count, 3, SIDE, SIDE, device=gpu_timing.DEVICE).to(memory_format=torch.channels_last)
    middles = torch.rand(8 * count, 2, device=gpu_timing.DEVICE) / 2 + 0.25
    sizes = torch.rand(8 * count, 2, device=gpu_timing.DEVICE) / 4 + 0.05
    classes = torch.randint(80, (8 * count, 1), device=gpu_timing.DEVICE).float()
    index = torch.arange(count, device=gpu_timing.DEVICE).repeat_interleave(8).float()
    return {"img": images, "batch_idx": index, "cls": classes, "bboxes": torch.cat([middles, sizes], 1)}
