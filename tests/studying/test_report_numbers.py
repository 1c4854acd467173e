"""Digits, and the metric of a run under weightings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.studying import synthetic
from yolomix.statistics import Matches, average_precision, mean_over_classes, weightings
from yolomix.studying.record import ImageStatistics
from yolomix.studying.reporting import metrics
from yolomix.studying.reporting.numbers import decimals, interval, number, p_value

NAN = float("nan")


@pytest.mark.parametrize(
    ("half_width", "places"),
    [(0.012, 3), (0.0354, 3), (0.0356, 3), (0.0091, 3), (0.0036, 3), (0.0035, 4), (0.00012, 5), (1e-12, 6),
     (0.0999, 3), (0.12, 2), (0.5, 2), (3.0, 2), (0.0, 3), (NAN, 3), (float("inf"), 3)],
)  # fmt: skip
def test_an_interval_supports_so_many_decimals(half_width: float, places: int) -> None:
    assert decimals(half_width) == places


def test_numbers_are_shown_with_the_digits_of_their_interval() -> None:
    assert number(0.493217, 0.012) == "0.493"
    assert number(0.493217, 0.0012) == "0.4932"
    assert number(0.493217, 0.3) == "0.49"
    assert number(0.0131, 0.012, sign=True) == "+0.013"
    assert number(-0.0131, 0.012, sign=True) == "-0.013"
    assert number(-0.0001, 0.012, sign=True) == "+0.000", "a zero has no minus"
    assert (number(None), number(NAN)) == ("-", "-")
    assert interval(-0.0041, 0.0302) == "[-0.004, +0.030]"
    assert interval(NAN, 0.1) == ""
    assert [p_value(p) for p in (0.5, 0.0951, 0.0949, 0.0499, 0.001, 0.00099, NAN)] == [
        *("0.50", "0.10", "0.095", "0.050", "0.001", "<0.001", "-")
    ]


@pytest.fixture(scope="module")
def found() -> ImageStatistics:
    return synthetic.detected(synthetic.labels(30), 0.1, 3)


def plain(found: ImageStatistics, tp: np.ndarray | None = None) -> Matches:
    tp = found.tp if tp is None else tp
    return Matches(tp, found.confidence, found.predicted, found.image, found.target, found.target_image)


@pytest.mark.parametrize(("metric", "columns"), [("mAP50-95", slice(None)), ("mAP50", [0]), ("mAP75", [5])])
def test_metric_and_classes_are_those_of_the_statistics_package(found: ImageStatistics, metric: str, columns) -> None:
    weights = weightings(30, 20).weights
    measured = metrics.measure(found, metric, weights, None, ramp=False)
    ap = average_precision(plain(found), np.vstack([np.ones(30), weights]), 3)[..., columns]
    assert np.array_equal(measured.metric, mean_over_classes(ap))
    assert np.allclose(measured.classes, ap.mean(axis=2), rtol=1e-6, atol=0)
    assert measured.sizes.shape == (21, 0)


def test_masks_and_keypoints_have_their_own_matches(found: ImageStatistics) -> None:
    other = replace(found, other_tp={"M": found.tp & (np.arange(10) < 4)})
    ap = average_precision(plain(found, other.other_tp["M"]), np.ones((1, 30)), 3)
    assert metrics.whole(other, "mAP50-95(M)", False) == mean_over_classes(ap)[0]
    assert metrics.whole(other, "mAP50-95(M)", False) < metrics.whole(other, "mAP50-95", False)
    with pytest.raises(
        ValueError, match=r"metric mAP50\(P\) needs matches of P, got M; evaluate a model for that task"
    ):
        metrics.whole(other, "mAP50(P)", False)


def test_classifier_has_top1_and_top5_of_all_and_of_each_class() -> None:
    found = synthetic.classified(31, 0.2, 1)
    weights = weightings(31, 5).weights
    for metric, column in (("top1", 0), ("top5", 1)):
        measured = metrics.measure(found, metric, weights, None, ramp=False)
        right = found.correct[:, column]
        assert measured.metric[0] == pytest.approx(right.mean(), abs=1e-15)
        assert measured.metric[1:] == pytest.approx(weights @ right / weights.sum(axis=1), abs=1e-12)
        assert measured.classes[0] == pytest.approx([right[c::3].mean() for c in range(3)], abs=1e-6)


def test_without_an_image_is_the_metric_of_the_others(found: ImageStatistics) -> None:
    assert metrics.without(found, "mAP50-95", [4], False) == pytest.approx([_of_others(found, 4)], abs=1e-14)


def _of_others(found: ImageStatistics, image: int) -> float:
    detections, labels = found.image != image, found.target_image != image
    arrays = [array[detections] for array in (found.tp, found.confidence, found.predicted, found.image)]
    arrays += [found.target[labels], found.target_image[labels]]
    return float(mean_over_classes(average_precision(Matches(*arrays), np.ones((1, 30)), 3))[0])


def test_sizes_are_those_of_coco_or_terciles() -> None:
    coco = metrics.sizes(np.repeat([1023.0, 1024.0, 9215.0, 9216.0], 10))
    assert coco is not None
    assert coco.of_coco
    assert np.bincount(coco.bins(np.array([1023.0, 1024.0, 9215.0, 9216.0]))).tolist() == [1, 2, 1]
    areas = np.linspace(2000, 9000, 90)
    thirds = metrics.sizes(areas)
    assert thirds is not None
    assert not thirds.of_coco
    assert np.bincount(thirds.bins(areas)).tolist() == [30, 30, 30]
    assert metrics.sizes(np.full(100, 400.0)) is None
    assert metrics.sizes(np.zeros(0)) is None


def test_a_size_counts_the_images_that_have_it() -> None:
    """With one size in each image, the metric at a size is that of its images."""
    truth = synthetic.labels(60)
    area = np.array([500.0, 5000.0, 50000.0])[truth.target_image % 3].astype(np.float32)
    found = synthetic.detected(replace(truth, target_area=area), 0.1, 3)
    bins = metrics.sizes(area.astype(float))
    measured = metrics.measure(found, "mAP50-95", np.ones((0, 60)), bins, ramp=False)
    for k in range(3):
        weights = (np.arange(60) % 3 == k).astype(float)[None]
        alone = mean_over_classes(average_precision(plain(found), weights, 3))[0]
        assert measured.sizes[0, k] == pytest.approx(alone, rel=1e-6)


def test_a_class_of_one_size_has_its_own_ap_there() -> None:
    """Where classes differ in size, a size has the AP of its class, whatever else is in the image."""
    truth = synthetic.labels(60)
    area = np.array([500.0, 5000.0, 50000.0])[truth.target].astype(np.float32)
    found = synthetic.detected(replace(truth, target_area=area), 0.1, 3)
    only = found.predicted == found.predicted  # false detections stay where their class has labels
    only[len(truth.target) :] = False
    found = replace(found, tp=found.tp[only], confidence=found.confidence[only], predicted=found.predicted[only],
                    image=found.image[only])  # fmt: skip
    measured = metrics.measure(found, "mAP50-95", np.ones((0, 60)), metrics.sizes(area.astype(float)), ramp=False)
    assert measured.sizes[0] == pytest.approx(measured.classes[0], rel=1e-6)


def test_the_rule_of_ap_is_that_of_the_run_itself(found: ImageStatistics) -> None:
    record = synthetic.record(synthetic.spec("yolo11n", 0), found, 0)
    assert not metrics.has_ramp(record)
    old = metrics.whole(found, "mAP50-95", ramp=True)
    assert metrics.has_ramp(replace(record, metrics={"metrics/mAP50-95(B)": old}))
    assert not metrics.has_ramp(replace(record, metrics={}))
