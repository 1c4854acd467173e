"""A model whose outputs depend on the image, as those of an untrained one hardly do."""

from __future__ import annotations

import torch
from torch import nn

import yolomix

GRAFT = "yolov8n+VSSBlock@p5:plain.yaml"  # without a gate, which would be zero


def spread(name: str) -> yolomix.YOLO:
    """Norms with the statistics of noise, and scores that fill 0 to 1."""
    torch.manual_seed(0)
    model = yolomix.YOLO(name)
    for module in model.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.model.train()(torch.rand(8, 3, 64, 64))  # norms have the statistics of these images
    model.model.eval()
    for branch in model.model.model[-1].cv3:
        branch[-1].bias.data.normal_()
    return model
