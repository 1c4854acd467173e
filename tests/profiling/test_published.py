"""Figures that others print: as their counter saw the model, and as ours does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from ultralytics.nn.modules import Conv

import yolomix
from tests.profiling import closed_forms
from tests.profiling.closed_forms import Rows, Work
from tests.tiny import ROOT
from yolomix.ops import counting
from yolomix.profiling.operations import count, on_meta

SIDE = 640
DESIGN = ROOT / "docs/design/flops.md"  # has these tables, too

# Model, scale, and GFLOPs: as printed, as thop 0.1 saw the model as built, and fused as Ultralytics 8.2 fuses. Then
# what convolutions and linear layers take, the projections that no layer does, and the scans as 9 L D N + L D. Printed
# in the comments of the repository's YAML files, and for T and B without the LS block in its README.
PARTS = ("convolutions", "projections", "scans")
PRINTED = [
    ("mamba-yolo", "t", 14.3, 14.275, 14.253, 14.088, 1.992, 3.326),
    ("mamba-yolo", "b", 49.7, 49.767, 49.737, 49.406, 5.033, 6.652),
    ("mamba-yolo", "l", 156.2, 156.209, 156.168, 155.361, 17.262, 19.599),
    ("mamba-yolo-nolocal", "t", 13.2, 13.152, 13.130, 12.987, 1.992, 3.326),
    ("mamba-yolo-nolocal", "b", 45.4, 45.424, 45.393, 45.108, 5.033, 6.652),
]

# GFLOPs of classifiers at 224 x 224, from VMamba's own tables: variant, ratio, width, depths.
VMAMBA = [
    ("v0", 2.0, 96, (2, 2, 9, 2), 5.63),
    ("v0", 2.0, 96, (2, 2, 27, 2), 11.23),
    ("v0", 2.0, 128, (2, 2, 27, 2), 18.02),
    ("v05_noz", 2.0, 96, (2, 2, 5, 2), 4.86),
    ("v05_noz", 2.0, 96, (2, 2, 15, 2), 8.72),
    ("v05_noz", 2.0, 128, (2, 2, 15, 2), 15.36),
    ("v05_noz", 1.0, 96, (2, 2, 8, 2), 4.91),
    ("v05_noz", 1.0, 96, (2, 2, 20, 2), 8.61),
    ("v05_noz", 1.0, 128, (2, 2, 20, 2), 15.22),
]

# GFLOPs of fused models, from the tables of docs/en/models/yolov8.md and yolo11.md and docs/macros/yolo-det-perf.md in
# Ultralytics' repository. Its README of 8.4.190 has 5.5 for yolo26n. Comments in the model YAMLs are of unfused models.
STOCK = {"yolov8n": 8.7, "yolov8s": 28.6, "yolo11n": 6.5, "yolo11s": 21.5, "yolo26n": 5.4}


def as_thop_saw_it(rows: Rows) -> tuple[float, float]:
    """GFLOPs of thop 0.1, which Mamba-YOLO's authors used, times the two of Ultralytics: as built, and after `fuse()`.

    Only leaf modules count. A norm takes 2 per element, and twice that with a weight and a bias. An upsampling takes 1
    per output. Activations, products that no module does, and scans take nothing. Fused, the batch norms of
    Ultralytics' ``Conv`` are gone, and no others.
    """
    found: list[int] = []
    folded: list[int] = []

    def product(module: Any, args: Any, y: torch.Tensor) -> None:
        found.append(y.numel() * module.weight[0].numel())

    def norm(module: Any, args: Any, y: torch.Tensor) -> None:
        (folded if module in folding else found).append(2 * 2 * y.numel())

    def upsampling(module: Any, args: Any, y: torch.Tensor) -> None:
        found.append(y.numel())

    rules = {nn.Conv2d: product, nn.Linear: product, nn.BatchNorm2d: norm, nn.LayerNorm: norm, nn.Upsample: upsampling}
    folding = {module.bn for module in rows.modules() if isinstance(module, Conv)}
    handles = [m.register_forward_hook(rules[type(m)]) for m in rows.modules() if type(m) in rules]
    with torch.no_grad(), counting():
        rows(torch.empty(1, 3, SIDE, SIDE, device="meta"))
    for handle in handles:
        handle.remove()
    return 2 * sum(found + folded) / 1e9, 2 * sum(found) / 1e9


@pytest.mark.parametrize(("name", "scale", "printed", "built", "fused", *PARTS), PRINTED)
def test_what_mamba_yolo_prints_is_what_its_counter_saw(
    name, scale, printed, built, fused, convolutions, projections, scans
):
    rows = Rows(name, scale)
    seen = as_thop_saw_it(rows)
    assert seen == pytest.approx((built, fused), abs=5e-4)
    assert seen == pytest.approx((printed, printed), rel=0.01)
    work = sum(rows.work(SIDE, SIDE), Work())
    layers, functional = 2 * (work.macs - work.functional) / 1e9, 2 * work.functional / 1e9
    assert (layers, functional) == pytest.approx((convolutions, projections), abs=5e-4)
    assert work.papers / 1e9 == pytest.approx(scans, abs=5e-4)
    figures = [layers, functional, work.scan / 1e9, work.total / 1e9, layers + functional + work.papers / 1e9]
    columns = [f"`{name}` {scale}", str(printed), f"{built:.3f} / {fused:.3f}", *(f"{n:.3f}" for n in figures)]
    assert f"| {' | '.join(columns)} |" in DESIGN.read_text("utf-8").splitlines()


@pytest.mark.parametrize(("variant", "ratio", "width", "depths", "printed"), VMAMBA)
def test_the_same_formulas_give_vmambas_own_table(variant, ratio, width, depths, printed):
    """Its authors count multiply-adds, 9 L D N + L D, and 5 per element of a norm."""
    macs, states, normed = 0, 0, 0
    for stage, blocks in enumerate(depths):
        C, side = width * 2**stage, 56 // 2**stage
        work, _ = closed_forms.vmamba_block((C, side, side), blocks, variant, ratio)
        norms_of_width_c = 1 if variant == "v0" else 2
        macs, states = macs + work.macs, states + work.papers
        normed += blocks * side**2 * (norms_of_width_c * C + int(ratio * C))
        if stage == 3:
            macs, normed = macs + C * 1000, normed + C * side**2
        elif variant == "v0":  # merges 2 x 2 positions, norm before the linear layer
            macs, normed = macs + 4 * C * 2 * C * side**2 // 4, normed + 4 * C * side**2 // 4
        else:  # conv 3 x 3 / 2, norm behind it
            macs, normed = macs + 9 * C * 2 * C * side**2 // 4, normed + 2 * C * side**2 // 4
    if variant == "v0":  # conv 4 x 4 / 4
        macs, normed = macs + 16 * 3 * width * 56**2, normed + width * 56**2
    else:  # two convs 3 x 3 / 2
        half = width // 2
        macs += 9 * 3 * half * 112**2 + 9 * half * width * 56**2
        normed += half * 112**2 + width * 56**2
    assert (macs + states + 5 * normed) / 1e9 == pytest.approx(printed, abs=5e-3)


@pytest.mark.parametrize("name", STOCK)
def test_fused_stock_models_have_the_figures_of_ultralytics(name):
    """To 3 %, and to the last printed digit without the products of attention, which thop 0.1 did not see either."""
    fused = yolomix.YOLO(f"{name}.yaml").model.fuse(verbose=False)
    found = count(fused, (1, 3, SIDE, SIDE))[""]
    assert found.total / 1e9 == pytest.approx(STOCK[name], rel=0.03)
    empty = on_meta(fused).eval()
    with closed_forms.convolutions(empty) as works, torch.no_grad():
        empty(torch.empty(1, 3, SIDE, SIDE, device="meta"))
    work = sum(works, Work())
    assert found.total == work.total
    layers = 2 * (work.macs - work.functional) / 1e9
    assert round(layers, 1) == STOCK[name]
    columns = [name, str(STOCK[name]), f"{layers:.3f}", f"{found.total / 1e9:.3f}"]
    assert f"| {' | '.join(columns)} |" in DESIGN.read_text("utf-8").splitlines()
