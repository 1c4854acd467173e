"""Outputs and detections beside each other: what counts as the same, and what does not."""

from __future__ import annotations

import numpy as np
import pytest

from yolomix.host.predicting import Candidates, Detections, overlaps
from yolomix.verifying.comparing import Agreement, Found, Layout, agreement, allowed, differences, parts

GRID = Layout("grid", "detect", 2, 64.0)
ROWS = Layout("rows", "detect", 3, 64.0)


def test_every_part_has_its_unit():
    rows = np.arange(1.0, 14.0)[None, :, None].repeat(5, axis=2)
    found = parts([rows], Layout("grid", "pose", 1, 4.0, keypoints=3))
    assert [*found] == ["boxes", "scores", "keypoints"]
    assert found["boxes"][0, :, 0].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found["keypoints"][0, :4, 0].tolist() == [6 / 4, 7 / 4, 8, 9 / 4]
    masks = parts([rows, np.zeros((1, 8, 4, 4))], Layout("grid", "segment", 1, 4.0))
    assert [*masks] == ["boxes", "scores", "mask coefficients", "mask prototypes"]
    assert [*parts([rows], Layout("grid", "obb", 8, 4.0))] == ["boxes", "scores", "angles"]
    assert [*parts([np.zeros((1, 3))], Layout("classes", "classify", 3, 4.0))] == ["scores"]


@pytest.mark.parametrize("wrong", [np.zeros((1, 6, 4)), np.full((1, 6, 5), np.nan), np.full((1, 6, 5), np.inf)])
def test_other_shapes_and_no_numbers_are_infinitely_far_off(wrong):
    assert differences([wrong], [np.zeros((1, 6, 5))], GRID) == {"boxes": np.inf, "scores": np.inf}


def test_float32_may_differ_by_its_floor_four_times_over():
    assert allowed({"boxes": 0.0, "scores": 1e-3}) == {"boxes": 1e-5, "scores": 4e-3}


def ranked(*rows) -> list[np.ndarray]:
    """Rows of box, score and class, in the order of scores."""
    return [np.array([[*([place] * 4), score, cls] for place, score, cls in rows], float)[None]]


def test_rows_are_matched_before_they_are_compared():
    want = ranked((8, 0.9, 0), (16, 0.8, 1), (40, 0.7, 2))
    swapped = ranked((16, 0.8001, 1), (8, 0.8, 0), (40, 0.7, 2))
    found = differences(swapped, want, ROWS)
    assert found["boxes"] == found["classes"] == 0
    assert found["scores"] == pytest.approx(0.1)


def test_rows_at_the_cut_may_be_others():
    want = ranked((8, 0.9, 0), (16, 0.3, 1))
    assert max(differences(ranked((8, 0.9, 0), (48, 0.3001, 1)), want, ROWS).values()) == 0
    assert differences(ranked((8, 0.9, 0), (48, 0.5, 1)), want, ROWS)["boxes"] == 0.5


BOX = (10.0, 10.0, 30.0, 30.0)
MOVED = (11.0, 10.0, 31.0, 30.0)  # IoU 0.905
NEAR = (12.0, 10.0, 32.0, 30.0)


def found(kept: list[tuple], others: list[tuple] = ()) -> Found:
    """Detections (box, score, class) of 3 classes, and further candidates."""
    boxes, scores = [], np.zeros((len(kept) + len(others), 3))
    for i, (box, score, cls) in enumerate([*kept, *others]):
        boxes.append(box)
        scores[i, cls] = score
    boxes, n = np.array(boxes, float).reshape(-1, 4), len(kept)
    classes = np.array([cls for _, _, cls in kept], float)
    best = np.array([score for _, score, _ in kept], float)
    return Found(Detections(classes, best, boxes[:n]), Candidates(scores, boxes))


def compared(torch: Found, file: Found, least_iou=0.99, score=1e-3, place=0.0) -> Agreement:
    return agreement(torch, file, overlaps, least_iou, score, place)


def test_the_same_detections():
    one = found([(BOX, 0.9, 1)])
    assert compared(one, one) == Agreement(compared=2, iou=1.0)
    assert compared(found([]), found([])) == Agreement()


@pytest.mark.parametrize(
    "file",
    [
        found([]),
        found([(BOX, 0.9, 2)]),
        found([(MOVED, 0.9, 1)]),
        found([(BOX, 0.8, 1)]),
    ],
    ids=["nothing", "class", "place", "score"],
)
def test_lost_and_added(file):
    one = found([(BOX, 0.9, 1)])
    result = compared(one, file)
    assert (result.lost, result.added) == (1, len(file.kept.scores))
    assert compared(file, one)[1:3] == result[2:0:-1]


def test_what_lies_at_the_threshold_is_not_compared():
    assert compared(found([(BOX, 0.2505, 1)]), found([], [(BOX, 0.2495, 1)])).compared == 0
    assert compared(found([(BOX, 0.2615, 1)]), found([])).lost == 1


def test_which_of_two_survives_suppression_may_be_chance():
    one = found([(BOX, 0.9, 1)], [(NEAR, 0.8999, 1)])
    other = found([(NEAR, 0.8999, 1)], [(BOX, 0.9, 1)])
    assert compared(one, other) == Agreement(compared=2, ties=2)


def test_and_so_may_be_the_class_of_equal_scores():
    one, other = found([(BOX, 0.9, 1)]), found([(BOX, 0.9, 2)])
    for side in (one, other):
        side.candidates.scores[0, 1:] = 0.9
    assert compared(one, other) == Agreement(compared=2, ties=2)


def test_which_of_equal_ones_are_among_the_best_may_be_chance():
    one, other = (found([(BOX, 0.9, 1), (NEAR, 0.8, cls)])._replace(cut=0.8) for cls in (1, 2))
    assert compared(one, other) == Agreement(compared=4, ties=2)
    assert compared(one._replace(cut=0.5), other._replace(cut=0.5)).lost == 1


def test_a_small_box_may_move_by_what_outputs_may_differ_by():
    one, other = found([(BOX, 0.9, 1)]), found([(MOVED, 0.9, 1)])
    assert compared(one, other, place=1.0).lost == 0
    assert compared(one, other, place=0.9).lost == 1
    assert compared(one, other, least_iou=0.9).lost == 0
