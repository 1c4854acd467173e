"""Class activation maps: their values, what they explain, what leaves no trace, and what is refused."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.figures import explained
from tests.figures.models import description, image
from yolomix import figures
from yolomix.figures import gradcam, opening
from yolomix.figures.choosing import chosen
from yolomix.host import layercam, scores

TOLERANCE = 1e-5  # of maps from 0 to 1, of gradients in float32
EXACT = 1e-6  # of gradients in float64, rounded to float32 afterwards
SIZE = (48, 64)

own = pytest.mark.skipif(not layercam.is_there(), reason="Ultralytics has class activation maps since 8.4 of July 2026")


@pytest.fixture(autouse=True)
def noise(monkeypatch):
    """Two images of noise wherever a figure asks for images."""
    monkeypatch.setattr(opening, "images", lambda *_: [image(*SIZE), image(*SIZE, seed=1)])


@pytest.fixture
def brought():
    """Skips, and says so, where pytorch-grad-cam is not installed."""
    pytest.importorskip("pytorch_grad_cam", reason="pytorch-grad-cam check did not run: it is not installed")


def as_given(made: Any) -> Any:
    return SimpleNamespace(model=made, model_name="small.yaml", predictor=None)


def subject(made: Any) -> opening.Subject:
    return opening.opened(as_given(made))[0]


@own
@pytest.mark.parametrize("head", explained.HEADS)
def test_values_are_those_of_the_formula_for_any_prediction_of_any_head(head):
    made, x = explained.model(head, seed=2).double(), image(*SIZE).pixels.double()
    logits = scores.predictions(made, x).logits
    pairs = [(0, 0)] if head == "Classify" else [(1, 3), (0, logits.shape[1] - 1)]
    assert logits.max() > max(1, *(logits[pair] for pair in pairs))  # there are better ones, which are not explained
    for one in ([pairs[0]], pairs):
        got = layercam.layercam(made, x, one)
        torch.testing.assert_close(got.double(), explained.layercam(made, x, one), rtol=0, atol=EXACT)
        assert got.max() == 1


@pytest.mark.parametrize("head", ["Detect", "v10Detect", "Classify"])
def test_values_of_other_layers_are_those_of_the_formula(brought, head):
    made, x = explained.model(head), image(*SIZE).pixels
    pairs = [(1, 0)] if head == "Classify" else [(1, 100), (0, 230)]
    got = gradcam.of(subject(made), x, pairs, [0, 1], "layercam")
    np.testing.assert_allclose(got, explained.layercam(made, x, pairs, [0, 1]), rtol=0, atol=TOLERANCE)


def test_a_branch_that_is_cut_off_from_the_feature_maps_is_explained(brought, monkeypatch):
    """Ultralytics detaches what the one-to-one branch reads until 8.4 of July 2026."""
    made, x = explained.model("v10Detect"), image(*SIZE).pixels
    want = explained.layercam(made, x, [(1, 100)], [0])
    head = made.model[-1]
    if not hasattr(head, "forward_head"):
        pytest.skip("Ultralytics 8.3 cuts it off itself, and the test above has it")
    whole = head.forward_head
    monkeypatch.setattr(
        head, "forward_head", lambda x, *parts, **named: whole([y.detach() for y in x], *parts, **named)
    )
    got = gradcam.of(subject(made), x, [(1, 100)], [0], "layercam")
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("method", gradcam.METHODS)
def test_every_method_of_any_layer_gives_a_map(brought, method):
    figure = figures.cam(as_given(explained.model(seed=1)), at=[1], method=method, classes="cat", box=200)
    assert any(values.any() for values in figure.arrays.values())
    for values in figure.arrays.values():
        assert values.shape == SIZE
        assert values.min() >= 0
        assert values.max() == values.any()  # 1, or nothing raises the score
    assert figure.done["made_by"] == [gradcam.version()]


def test_eigencam_says_that_it_knows_no_class(brought):
    made = as_given(explained.model())
    cat, dog = (figures.cam(made, method="eigencam", classes=name, random=False) for name in ("cat", "dog"))
    np.testing.assert_array_equal(cat.arrays["row0"], dog.arrays["row0"])
    assert cat.drawn()._supxlabel.get_text().endswith("\neigencam is the same for every class and prediction")


@pytest.fixture(scope="module")
def detector() -> Any:
    return explained.model("Detect", "halo")


def test_what_is_explained_is_what_predict_shows(detector):
    one = subject(detector)
    every = chosen(one, image(*SIZE), None, None)
    assert len(every) == 16
    assert [each.score for each in every] == sorted((each.score for each in every), reverse=True)
    found = scores.predictions(detector, image(*SIZE).pixels)
    assert every[0].score == found.scores.max()
    assert {each.label for each in chosen(one, image(*SIZE), [1], None)} == {1}


def test_a_class_a_box_or_a_prediction_is_chosen(detector):
    given = as_given(detector)
    by_number = figures.cam(given, box=100, classes="dog", random=False)
    assert [(row[2], row[3].split()[0], row[4]) for row in by_number.rows[1:]] == [("1", "dog", "100")] * 2
    corners = [float(part) for part in by_number.rows[1][5].split(",")]
    found = scores.predictions(detector, image(*SIZE).pixels)
    wanted = torch.tensor(corners) * torch.tensor([SIZE[1], SIZE[0]] * 2)
    areas = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(1)
    inner = torch.minimum(found.boxes[:, 2:], wanted[2:]) - torch.maximum(found.boxes[:, :2], wanted[:2])
    both = inner.clamp(min=0).prod(1)
    fit = found.scores[1] * both / (areas + (wanted[2:] - wanted[:2]).prod() - both)
    by_box = figures.cam(given, box=corners, classes=1, random=False)
    assert by_box.rows[1][4] == str(int(fit.argmax()))


def test_a_box_where_nothing_is_predicted_is_refused(detector, monkeypatch):
    found = scores.predictions(detector, image(*SIZE).pixels)
    left = found._replace(boxes=found.boxes.clamp(max=20))
    monkeypatch.setattr(scores, "predictions", lambda *_: left)
    with pytest.raises(ValueError) as refused:
        chosen(subject(detector), image(*SIZE), None, [0.5, 0.5, 1, 1])
    assert str(refused.value) == (
        "no prediction of small.yaml for noise.png overlaps box=[0.5, 0.5, 1, 1]; without box= the strongest is "
        "explained"
    )


@own
def test_a_map_is_that_of_the_row_beside_it(detector):
    figure = figures.cam(as_given(detector), box=100, classes=["dog"])
    want = explained.layercam(detector, image(*SIZE, seed=1).pixels, [(1, 100)])
    np.testing.assert_allclose(figure.arrays["row1"], want, rtol=0, atol=TOLERANCE)
    other = opening.untrained(subject(detector)).module
    random = explained.layercam(other, image(*SIZE, seed=1).pixels, [(1, 100)])
    np.testing.assert_allclose(figure.arrays["row1_random_weights"], random, rtol=0, atol=TOLERANCE)
    ranks = [stats.rankdata(figure.arrays[name]) for name in ("row1", "row1_random_weights")]
    assert figure.rows[2][7] == f"{np.corrcoef(*ranks)[0, 1]:.2f}"


def test_a_map_does_not_depend_on_the_images_beside_it(detector, monkeypatch):
    both = figures.cam(as_given(detector), random=False)
    for i, seed in enumerate((0, 1)):
        monkeypatch.setattr(opening, "images", lambda *_, seed=seed: [image(*SIZE, seed=seed)])
        alone = figures.cam(as_given(detector), random=False)
        np.testing.assert_array_equal(both.arrays[f"row{i}"], alone.arrays["row0"])
        assert both.rows[i + 1] == alone.rows[1]


@pytest.mark.parametrize("at", [None, [0]])
def test_a_model_is_left_as_it_was_and_may_have_predicted_before(brought, detector, at):
    parameters = [*detector.parameters()]
    frozen = [not parameter.requires_grad for parameter in parameters]
    parameters[0].grad = torch.ones_like(parameters[0])
    detector.model[-1].shape = None
    with torch.inference_mode():  # anchors that no graph can hold
        before = detector(image(*SIZE).pixels)[0]
    figures.cam(as_given(detector), at=at, box=100)
    assert (parameters[0].grad == 1).all()
    assert [not parameter.requires_grad for parameter in parameters] == frozen
    assert set(frozen) == {True, False}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in detector.modules())
    with torch.inference_mode():
        torch.testing.assert_close(detector(image(*SIZE).pixels)[0], before, rtol=0, atol=0)
    parameters[0].grad = None


def test_diverged_weights_are_named(detector):
    broken = explained.model()
    next(broken.parameters()).data.fill_(float("nan"))
    with pytest.raises(
        ValueError, match=r"scores of small.yaml for noise.png are NaN or infinite: its weights have div"
    ):
        figures.cam(as_given(broken))


def test_nothing_that_raises_a_score_is_said():
    dead = explained.model()
    for branch in dead.model[-1].cv3:
        branch[-1].weight.data.zero_()
    figure = figures.cam(as_given(dead), classes="dog")
    assert (
        figure.verdict.splitlines()
        == [
            "small.yaml, noise.png: nothing in these layers raises the score of dog",
        ]
        * 2
    )
    assert figure.rows[1][6:] == ("none", "none")
    figure.drawn()


CLASSES = "small.yaml has no class {!r} among its 2, 0 to 1; {}"
REFUSED = {
    "class": ({"classes": "cot"}, CLASSES.format("cot", "did you mean cat?")),
    "number": ({"classes": 2}, CLASSES.format("2", "known: cat, dog")),
    "method": ({"method": "scorecam"}, "no method 'scorecam' of class activation maps; known: layercam, gradcam, "),
    "head": ({"at": 3}, "layer 3 (Detect) is the head, which stays last; what it reads is 'head-inputs'"),
    "box": ({"box": [0.5, 0.2, 0.1, 0.3]}, "box is left, top, right, bottom in fractions of the image, or the number"),
    "prediction": (
        {"box": 240},
        "small.yaml makes 240 predictions for an image of 48x64 pixels, 0 to 239, got box=240",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_there_is_not_is_refused_with_what_there_is(detector, case):
    given, told = REFUSED[case]
    with pytest.raises(ValueError) as refused:
        figures.cam(as_given(detector), **given)
    assert str(refused.value).startswith(told)


def test_a_layer_without_a_map_is_refused_with_layers_that_have_one():
    rows = description()
    rows["backbone"] += [[-1, 1, "nn.Flatten", []], [1, 1, "Conv", [16, 1]]]
    rows["head"][0][0] = [0, 3]
    with pytest.raises(
        ValueError, match=r"layer 2 \(nn.Flatten\) gives no single feature map.*Insertion points: layers 0"
    ):
        figures.cam(as_given(explained.built(rows)), at=2)


def test_a_layer_of_no_consequence_is_refused(brought):
    rows = description()
    rows["backbone"].append([0, 1, "Conv", [8, 1]])
    rows["head"][0][0] = [0, 1]
    with pytest.raises(
        ValueError, match=r"no class score of small.yaml depends on layer 2 \(Conv\), so there is no map"
    ):
        figures.cam(as_given(explained.built(rows)), at=[1, 2])


def test_images_without_places_are_refused(detector, monkeypatch):
    monkeypatch.setattr(opening, "images", lambda *_: [image(8, 8)])
    with pytest.raises(
        ValueError,
        match=r"layer 2 \(HaloAttention\) of small.yaml has a map of one position, which points nowhere; a larger ",
    ):
        figures.cam(as_given(detector))


def test_a_classifier_has_no_boxes():
    made = explained.model("Classify")
    with pytest.raises(ValueError, match="a model for classify has no boxes, so box= chooses nothing; classes= does"):
        figures.cam(as_given(made), box=[0, 0, 0.5, 0.5])


def test_a_missing_package_is_named_with_what_to_type(detector, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(
        ModuleNotFoundError,
        match=r"gradcam of these layers is made by pytorch-grad-cam, and "
        r"pytorch_grad_cam is not installed: pip install 'yolomix\[cam\]'",
    ):
        figures.cam(as_given(detector), method="gradcam")
