"""Whole detectors on a GPU: an image through the network, and a training step."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.four_copy import four_copy
from benchmarks.gpu_ops import official, ours

MODELS = ("mamba-yolo-t", "yolo11n", "yolo11n-assg", "yolov8n-vim", "yolo11s", "mamba-yolo-b")
FOUR_COPY = "four-copy pipeline"  # Mamba-YOLO with the official pipeline around mamba_ssm's scan, or else ours
SIDE = 640
DEVICE = "cuda"


@dataclass(frozen=True)
class Case:
    """One detector in one way of running."""

    model: str
    train: bool
    amp: bool
    compiled: bool
    pipeline: str = "yolomix"

    @property
    def batch(self) -> int:
        """Images: what a user trains with, and one at a time."""
        return (8 if self.model.endswith("-b") else 32) if self.train else 1


def cases() -> Iterator[Case]:
    """The comparison of pipelines first, then every detector, plain before compiled."""
    first = [
        Case("mamba-yolo-t", True, True, False),
        Case("mamba-yolo-t", True, True, False, FOUR_COPY),
        Case("mamba-yolo-t", True, False, False, FOUR_COPY),
        Case("mamba-yolo-t", True, True, True),
        Case("mamba-yolo-t", False, True, True),
    ]
    rest = itertools.product((False, True), MODELS, (False, True), (True, False))
    later = (Case(model, train, amp, compiled) for compiled, model, train, amp in rest)
    yield from (*first, *(case for case in later if case not in first))


def pipeline(name: str) -> AbstractContextManager[object]:
    """While it lasts, Mamba-YOLO's blocks compute their four-direction scan that way."""
    if name != FOUR_COPY:
        return nullcontext()
    scan = official if importlib.util.find_spec("mamba_ssm") is not None else ours
    return patch("yolomix.nn.ss2d.ss2d", partial(four_copy, scan=scan))


def work(case: Case) -> Callable[[], object]:
    """What is timed: a forward pass in eval mode, or a whole training step."""
    torch._dynamo.reset()  # models share code, and after a few versions of one it is not compiled again
    model = build(case.model).to(DEVICE).to(memory_format=torch.channels_last)
    return training_step(model, case) if case.train else inference(model, case)


def build(name: str) -> Any:
    """An untrained detector by the name of its YAML."""
    from ultralytics.cfg import get_cfg

    from yolomix import YOLO

    torch.manual_seed(0)
    model = YOLO(f"{name}.yaml").model
    model.args = get_cfg()
    return model


def inference(model: nn.Module, case: Case) -> Callable[[], object]:
    """An image through the network."""
    images = torch.rand(case.batch, 3, SIDE, SIDE, device=DEVICE).to(memory_format=torch.channels_last)
    network = torch.compile(model.eval()) if case.compiled else model.eval()

    @torch.no_grad()
    def run() -> object:
        with torch.autocast("cuda", torch.float16, enabled=case.amp):
            return network(images)

    return run


def training_step(model: Any, case: Case) -> Callable[[], Tensor]:
    """Forward, loss, backward and optimiser; the loss is returned."""
    batch = images_with_boxes(case.batch)
    optimiser = torch.optim.SGD(model.train().parameters(), lr=1e-3, momentum=0.9)
    scaler = torch.amp.GradScaler("cuda", enabled=case.amp)
    network = torch.compile(model) if case.compiled else model

    def step() -> Tensor:
        with torch.autocast("cuda", torch.float16, enabled=case.amp):
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
    images = torch.rand(count, 3, SIDE, SIDE, device=DEVICE).to(memory_format=torch.channels_last)
    middles = torch.rand(8 * count, 2, device=DEVICE) / 2 + 0.25
    sizes = torch.rand(8 * count, 2, device=DEVICE) / 4 + 0.05
    classes = torch.randint(80, (8 * count, 1), device=DEVICE).float()
    index = torch.arange(count, device=DEVICE).repeat_interleave(8).float()
    return {"img": images, "batch_idx": index, "cls": classes, "bboxes": torch.cat([middles, sizes], 1)}
