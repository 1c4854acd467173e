"""The effective receptive field against closed forms."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from tests.figures.models import description, image, subject
from yolomix import figures
from yolomix.figures.kinds.erf import area, gradients
from yolomix.figures.opening import Subject


def stack(depth: int) -> Subject:
    """Convolutions of 3x3 whose weights are ones, each a layer."""
    layers = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(depth)))
    for layer in layers:
        nn.init.ones_(layer.weight)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = layers

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x)

    return Subject("stack", Model(), (), SimpleNamespace())


@pytest.mark.parametrize("depth", [1, 4])
def test_a_stack_of_convolutions_has_the_field_of_its_closed_form(depth):
    """Trinomial coefficients along each side: the box of three, convolved with itself."""
    one = np.ones(1)
    for _ in range(depth):
        one = np.convolve(one, np.ones(3))
    want = np.zeros((15, 15))
    reach = slice(7 - depth, 8 + depth)
    want[reach, reach] = np.outer(one, one)
    found = gradients(stack(depth), torch.rand(1, 1, 15, 15), [depth - 1])[depth - 1]
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-6)


def test_areas_of_a_known_field():
    field = np.zeros((9, 9))
    field[4, 4], field[3, 4] = 3, 1
    assert area(field, 0.75) == 1 / 81
    assert area(field, 0.76) == 9 / 81
    assert area(np.ones((4, 6)), 0.99) == 1


def test_fields_are_means_over_images_and_each_model_stands_beside_random_weights(tmp_path):
    small, shown = subject("halo"), [image(seed=seed) for seed in (0, 1)]
    from yolomix.figures.kinds.erf import _fields

    both = _fields(small, shown, [1])[1]
    single = [_fields(small, [one], [1])[1] for one in shown]
    np.testing.assert_allclose(both, (single[0] + single[1]) / 2, rtol=1e-6)


def test_the_figure_says_what_it_drew(tmp_path, monkeypatch):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(description("halo")))
    monkeypatch.chdir(tmp_path)
    figure = figures.erf("small.yaml", at="p3", imgsz=64)
    assert [row[0] for row in figure.rows] == ["model", "small.yaml", "small.yaml, random weights"]
    assert {"model0_layer2", "model1_layer2"} == {*figure.arrays}
    written = figure.save(tmp_path)
    assert [file.name for file in written] == ["erf.png", "erf.pdf", "erf.npz", "erf.csv", "erf.json"]
    np.testing.assert_array_equal(np.load(written[2])["model0_layer2"], figure.arrays["model0_layer2"])
    assert written[0].read_bytes() == figure.save(tmp_path / "again")[0].read_bytes()
