"""What ``yolomix.profile`` measures on a GPU: synchronised, with and without a CUDA graph, memory of the allocator."""

from __future__ import annotations

import pytest
import torch

import yolomix

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU check did not run: no GPU on this machine")


@pytest.mark.parametrize("name", ["yolov8n-vmamba.yaml", "yolo11n-mlla.yaml", "yolo11n-assg.yaml", "mamba-yolo-t.yaml"])
def test_a_model_on_a_gpu(name):
    found, stock = yolomix.profile(name, imgsz=320, batch=2, device="0", against=["yolov8n.yaml"], train=True).models
    assert found.conditions.device == torch.cuda.get_device_name()
    assert found.memory_training > found.memory > 0
    assert found.latency.median > 0
    assert found.latency_graphs is not None, found.remarks
    assert stock.latency_graphs.median < stock.latency.median
    assert {layer.memory for layer in found.layers} == {None}
    assert sum(layer.share for layer in found.layers) == pytest.approx(1.0)
