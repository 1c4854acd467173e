"""What a study concludes, against the statistics package and against the truth of made records."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.studying import synthetic
from yolomix.statistics import (
    Contrast,
    Matches,
    average_precision,
    combined,
    contrast,
    mean_over_classes,
    verdicts,
    weightings,
)
from yolomix.studying.plan import Plan
from yolomix.studying.record import Record, RunSpec
from yolomix.studying.reporting import Analysis, analyse, page, parts, tables, terminal, words
from yolomix.studying.reporting import analysis as analysis_module
from yolomix.studying.reporting.values import Difference

Study = tuple[Plan, list[RunSpec], dict[str, Record]]

IMAGES, FEWER = 40, 200
LARGE = {"mlla": 0.5, "halo": 0.0, "mlla control": 0.0, "halo control": 0.0}
THREE = ("yolo11n", "mlla", "halo", "mlla control", "halo control", "yolo11n again")


@pytest.fixture(autouse=True)
def _few_weightings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the weightings, for speed."""
    monkeypatch.setattr(analysis_module, "WEIGHTINGS", FEWER)


def test_a_study_has_2000_weightings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert analysis_module.WEIGHTINGS == 2000


@functools.cache
def study(**changes: Any) -> Study:
    given = {"arms": THREE, "seeds": 5, "images": IMAGES, "effects": _Frozen(LARGE)} | changes
    return synthetic.study(**given)


class _Frozen(dict):
    def __hash__(self) -> int:
        return hash(tuple(self.items()))


@functools.cache
def whole() -> Analysis:
    return analyse(*study())


def of(analysis: Analysis, arm: str, family: str = "base", data: int = 0) -> Difference:
    found = analysis.datasets[data].of(arm, family)
    assert found is not None
    return found


def by_hand(records: Mapping[str, Record], specs: list[RunSpec], arm: str, other: str) -> Contrast:
    """The contrast without the report: its own weightings, its own pairs."""
    weights = np.vstack([np.ones(IMAGES), weightings(IMAGES, FEWER).weights])
    values = {}
    for name in (arm, other):
        rows = []
        for spec in sorted((one for one in specs if one.arm == name), key=lambda one: one.seed):
            run = records[spec.key].statistics
            assert run is not None
            found = Matches(run.tp, run.confidence, run.predicted, run.image, run.target, run.target_image)
            rows.append(mean_over_classes(average_precision(found, weights, 3)))
        values[name] = np.stack(rows, axis=1)
    differences = values[arm] - values[other]
    return contrast(differences[1:], differences[0], IMAGES)


def test_numbers_of_study_json_are_those_of_the_statistics_package() -> None:
    _, specs, records = study()
    plain = json.loads(json.dumps(whole().to_dict(), allow_nan=False))
    rows = {(row["family"], row["arm"]): row for row in plain["datasets"][0]["contrasts"]}
    families = {
        "base": [("mlla", "yolo11n"), ("halo", "yolo11n")],
        "control": [("mlla", "mlla control"), ("halo", "halo control")],
        "none": [("mlla control", "yolo11n"), ("halo control", "yolo11n"), ("yolo11n again", "yolo11n")],
    }
    assert {*rows} == {(family, arm) for family, pairs in families.items() for arm, _ in pairs}
    for family, pairs in families.items():
        expected = [by_hand(records, specs, *pair) for pair in pairs]
        said = verdicts(expected) if family != "none" else [None] * len(expected)
        for (arm, other), one, verdict in zip(pairs, expected, said, strict=True):
            row = rows[family, arm]
            assert row["other"] == other
            near = functools.partial(pytest.approx, rel=1e-9, abs=1e-12)
            assert row["difference"] == near(one.difference)
            assert row["interval"] == near([*one.interval()])
            assert (row["p"], row["better"]) == (near(one.p), near(one.better))
            assert row["better_interval"] == near([*one.better_interval()])
            assert row["shares"] == near(one.shares._asdict())
            assert (row["seeds"], row["units"]) == (5, IMAGES)
            if verdict is None:
                assert (row["verdict"], row["holm_p"]) == ("", None)
            else:
                assert (row["verdict"], row["text"]) == (verdict.word, verdict.text)
                assert row["holm_p"] == near(verdict.p)
                assert row["holm_p_equivalent"] == near(verdict.p_equivalent)


def test_the_truth_is_found() -> None:
    analysis = whole()
    assert analysis.complete
    assert of(analysis, "mlla").text == "better; few seeds"
    assert of(analysis, "mlla", "control").text == "better; few seeds"
    low, high = of(analysis, "halo").interval
    assert low < 0 < high
    assert of(analysis, "yolo11n again", "none").text == "as it should be"
    assert of(analysis, "mlla control", "none").text == ""


def test_arms_have_mean_sd_and_every_run() -> None:
    _, specs, records = study()
    arms = whole().to_dict()["datasets"][0]["arms"]
    values = [records[spec.key].metrics["metrics/mAP50-95(B)"] for spec in specs if spec.arm == "mlla"]
    assert arms["mlla"]["values"] == pytest.approx(values, abs=1e-12)
    assert arms["mlla"]["mean"] == pytest.approx(np.mean(values), abs=1e-12)
    assert arms["mlla"]["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)


def changed(arm: str, seed: int, **changes: Any) -> Analysis:
    """The analysis where one run is otherwise; with no changes it is missing."""
    plan, specs, records = study()
    key = next(spec.key for spec in specs if (spec.arm, spec.facts["pair"]) == (arm, seed))
    records = {**records, key: replace(records[key], **changes)} if changes else {**records}
    if not changes:
        del records[key]
    return analyse(plan, specs, records)


FAILED = {"statistics": None, "metrics": {}}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "missing"),
        ({"status": "failed", "reason": "out of memory", **FAILED}, "failed"),
        ({"status": "diverged", "reason": "loss is NaN", **FAILED}, "diverged"),
        ({"reason": "ended after epoch 30 of 60: patience"}, "ended early"),
        (FAILED, "failed"),  # finished, and yet without statistics
    ],
)
def test_an_arm_with_a_run_that_is_not_whole_has_no_verdict(changes: dict[str, Any], status: str) -> None:
    analysis = changed("halo", 3, **changes)
    assert not analysis.complete
    for family in ("base", "control"):
        one = of(analysis, "halo", family)
        assert one.contrast is None
        assert one.verdict is not None
        assert one.verdict.word == "no verdict"
        assert one.text == f"no verdict: halo seed 3 {status}"
    assert [(run.spec.arm, run.spec.seed, run.status) for run in analysis.not_whole] == [("halo", 3, status)]
    # Holm still counts the comparison that was planned.
    p = of(analysis, "mlla").verdict
    assert p is not None
    assert p.p == pytest.approx(2 * of(analysis, "mlla").contrast.p)
    assert {part.arm for part in analysis.datasets[0].classes} == {"mlla"}


def test_without_a_whole_base_nobody_has_a_verdict() -> None:
    analysis = changed("yolo11n", 0)
    assert [of(analysis, arm).text for arm in ("mlla", "halo")] == ["no verdict: yolo11n seed 0 missing"] * 2
    assert of(analysis, "yolo11n again", "none").text == "no verdict: yolo11n seed 0 missing"
    assert of(analysis, "mlla", "control").text == "better; few seeds", "which needs no base"
    assert not analysis.datasets[0].classes
    assert not analysis.datasets[0].largest


def test_the_reason_of_a_missing_run_is_kept() -> None:
    plan, specs, records = study()
    some = {key: record for key, record in records.items() if key != specs[0].key}
    analysis = analyse(plan, specs, some, {specs[0].key: "the budget of 8 hours is spent"})
    assert analysis.not_whole[0].reason == "the budget of 8 hours is spent"


def test_one_seed_has_no_interval_and_no_verdict() -> None:
    analysis = analyse(*study(seeds=1, arms=("yolo11n", "mlla")))
    one = of(analysis, "mlla")
    assert one.contrast is not None
    assert one.text.startswith("no verdict: 1 seed, at least 3 are needed")
    row = analysis.to_dict()["datasets"][0]["contrasts"][0]
    assert (row["interval"], row["p"], row["better"]) == ([None, None], None, None)
    assert row["difference"] == pytest.approx(one.contrast.difference)


def test_equal_runs_have_no_verdict_and_say_why() -> None:
    plan, specs, records = study(seeds=3, arms=("yolo11n", "mlla", "yolo11n again"))
    same = next(iter(records.values())).statistics
    equal = {key: replace(record, statistics=same) for key, record in records.items()}
    analysis = analyse(plan, specs, equal)
    assert "no verdict: the difference is 0 with every seed and on every image" in of(analysis, "mlla").text
    assert of(analysis, "yolo11n again", "none").text.startswith("nothing varies")
    assert analysis.to_dict()["datasets"][0]["contrasts"][0]["p"] is None
    assert tables.compared(of(analysis, "mlla"))[:3] == ("+0.000", "-", "-"), "no interval of width 0"
    assert "[" not in words.answer(analysis, of(analysis, "mlla"))


def test_a_broken_study_is_seen_in_its_base_against_itself() -> None:
    plan, specs, records = study(seeds=5, arms=("yolo11n", "yolo11n again"), effects=_Frozen({"yolo11n again": 2.0}))
    assert of(analyse(plan, specs, records), "yolo11n again", "none").text.startswith("broken (p <0.001)")


def test_no_record_at_all_is_an_error() -> None:
    plan, specs, _ = study()
    with pytest.raises(ValueError, match=r"at least one finished run, and blood-cells has none of 30; run it first"):
        analyse(plan, specs, {})
    with pytest.raises(ValueError, match="needs the runs of its plan, got none"):
        analyse(plan, [], {})


def test_an_unknown_metric_names_those_of_the_task() -> None:
    plan, specs, records = study()
    with pytest.raises(ValueError, match=r"no metric 'top1' for detect; known: mAP50-95, mAP50, mAP75"):
        analyse(replace(plan, metric="top1"), specs, records)


def of_key(records: Mapping[str, Record], key: str, **changes: Any) -> dict[str, Record]:
    return {**records, key: replace(records[key], **changes)}


def test_mixed_versions_are_an_error_that_names_both_runs() -> None:
    plan, specs, records = study()
    conditions = dict(records[specs[7].key].conditions)
    conditions["versions"] = conditions["versions"] | {"ultralytics": "8.3.0"}
    mixed = of_key(records, specs[7].key, conditions=conditions)
    with pytest.raises(ValueError, match="all runs of a study need equal versions") as raised:
        analyse(plan, specs, mixed)
    for part in (specs[0].folder, specs[7].folder, "{'ultralytics': '8.4.190'}", "{'ultralytics': '8.3.0'}"):
        assert part in str(raised.value)


def test_a_build_for_another_device_is_the_same_version() -> None:
    plan, specs, records = study(seeds=1, arms=("yolo11n", "mlla"))
    conditions = dict(records[specs[1].key].conditions)
    conditions["versions"] = conditions["versions"] | {"torch": "2.9.0+cu126"}
    analyse(plan, specs, of_key(records, specs[1].key, conditions=conditions))


def test_mixed_datasets_are_an_error_that_names_both_runs() -> None:
    plan, specs, records = study()
    other = replace(specs[4], facts={**specs[4].facts, "dataset_digest": "another"})
    with pytest.raises(ValueError, match=r"need equal dataset: \S+ has bccd\w+, \S+ has another"):
        analyse(plan, specs, of_key(records, specs[4].key, spec=other))
    statistics = records[specs[4].key].statistics
    assert statistics is not None
    renamed = replace(statistics, images=("other.jpg", *statistics.images[1:]))
    with pytest.raises(ValueError, match=f"need equal images of the split: {specs[0].folder} has"):
        analyse(plan, specs, of_key(records, specs[4].key, statistics=renamed))


def test_several_datasets_have_one_family_and_a_mean() -> None:
    plan, specs, records = study(datasets=("bccd", "visdrone"), arms=("yolo11n", "mlla", "halo"), images=20)
    analysis = analyse(plan, specs, records)
    one, other = (of(analysis, "mlla", data=k).contrast for k in (0, 1))
    assert one is not None
    assert other is not None
    summary = next(each for each in analysis.summaries if each.planned.arm == "mlla")
    assert summary.combined == combined([one, other])
    assert summary.combined.difference == pytest.approx((one.difference + other.difference) / 2)
    assert summary.text.endswith("over 2 datasets; from fewer than five nothing is said of others")
    p = [of(analysis, arm, data=k).verdict.p for arm in ("mlla", "halo") for k in (0, 1)]
    alone = [of(analysis, arm, data=k).contrast.p for arm in ("mlla", "halo") for k in (0, 1)]
    assert min(p) == pytest.approx(4 * min(alone)), "Holm over arms and datasets"
    assert analyse(plan, specs, {**records, specs[-1].key: replace(records[specs[-1].key], status="failed", **FAILED)}
                   ).summaries[1].text == "no summary: 1 of 2 datasets are whole"  # fmt: skip


def test_five_datasets_speak_of_others() -> None:
    names = ("a", "b", "c", "d", "e")
    analysis = analyse(*study(datasets=names, arms=("yolo11n", "mlla"), images=10, seeds=2))
    assert analysis.summaries[0].text.endswith("over 5 datasets")


def test_two_looks() -> None:
    plan, specs, records = study(seeds=6, looks=(3, 6), arms=("yolo11n", "mlla", "halo"))
    early = {key: record for key, record in records.items() if record.spec.facts["pair"] < 3}
    first = analyse(plan, specs, early)
    assert (first.look.number, first.look.level, first.look.seeds) == (1, 0.01, (0, 1, 2))
    assert of(first, "mlla").contrast.seeds == 3
    assert of(first, "mlla").interval == of(first, "mlla").contrast.interval(0.01)
    last = analyse(plan, specs, records)
    assert (last.look.number, last.look.level, len(last.look.seeds)) == (2, 0.04, 6)
    assert of(last, "mlla").at_first == of(first, "mlla").verdict
    assert of(last, "mlla").contrast.seeds == 6
    partly = {key: record for key, record in records.items() if record.spec.facts["pair"] < 5}
    between = analyse(plan, specs, partly)
    assert between.look.number == 1, "between two looks nobody looks"
    assert (between.complete, len(between.to_come), between.not_whole) == (False, 3, [])
    assert "3 runs belong to the second look and are not there yet" in words.notes(between)
    # A run of the second look that failed is no fault of the first, and one of the last.
    late = next(spec.key for spec in specs if spec.facts["pair"] == 5 and spec.arm == "mlla")
    broken = analyse(plan, specs, of_key(records, late, status="failed", **FAILED))
    assert of(broken, "mlla").text == "no verdict: mlla seed 5 failed"
    assert of(broken, "mlla").at_first == of(first, "mlla").verdict


def test_a_decision_at_the_first_look_is_not_forgotten() -> None:
    plan, specs, records = study(seeds=6, looks=(5, 6), arms=("yolo11n", "mlla"), effects=_Frozen({"mlla": 1.0}))
    one = of(analyse(plan, specs, records), "mlla")
    assert one.at_first is not None
    assert one.at_first.word == "better"
    assert any(note.startswith("the first look had decided: better (Holm p") for note in one.notes)


def test_where_every_run_failed_there_is_a_report_without_numbers() -> None:
    plan, specs, records = study(seeds=3, arms=("yolo11n", "mlla"))
    failed = {key: replace(record, status="failed", reason="no memory", **FAILED) for key, record in records.items()}
    analysis = analyse(plan, specs, failed)
    assert of(analysis, "mlla").text == "no verdict: yolo11n seed 0 failed, mlla seed 0 failed and 4 more"
    assert json.dumps(analysis.to_dict(), allow_nan=False)
    assert "no run evaluated" in terminal.shown(analysis)
    assert "no memory" in page.html(analysis)


def test_groups_of_images_are_weighted_together() -> None:
    plan, specs, records = study(arms=("yolo11n", "mlla"), groups=r"_000(\d)")
    assert of(analyse(plan, specs, records), "mlla").contrast.units == 4


def test_classes_and_sizes_describe_the_difference() -> None:
    data = whole().datasets[0]
    assert [(part.name, part.arm) for part in data.classes] == [
        (name, arm) for arm in ("mlla", "halo") for name in synthetic.CLASSES
    ]
    mlla = [part.contrast.difference for part in data.classes if part.arm == "mlla" and part.contrast]
    assert np.mean(mlla) == pytest.approx(of(whole(), "mlla").contrast.difference, abs=1e-6)
    truth = synthetic.labels(IMAGES)
    for part in data.classes:
        index = synthetic.CLASSES.index(part.name)
        assert part.labels == (truth.target == index).sum()
        assert part.images == part.contrast.units == len({*truth.target_image[truth.target == index]})
    assert [part.name for part in data.sizes if part.arm == "halo"] == ["small", "medium", "large"]
    assert "(COCO)" in data.bins


def test_classes_in_few_images_are_named() -> None:
    plan, specs, records = study(images=12, arms=("yolo11n", "mlla"))
    few = analyse(plan, specs, records).datasets[0].few
    truth = synthetic.labels(12)
    counts = [len({*truth.target_image[truth.target == c]}) for c in range(3)]
    assert few == {name: n for name, n in zip(synthetic.CLASSES, counts, strict=True) if n < 10}
    assert few, "else this shows nothing"


@pytest.mark.parametrize("tried", [500, 3], ids=["each", "candidates"])
def test_the_image_that_an_arm_spoils_moves_the_difference_most(tried: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "TRIED", tried)
    plan, specs, records = study(seeds=3, arms=("yolo11n", "mlla"), effects=_Frozen({}))
    spoilt = {}
    for key, record in records.items():
        found = record.statistics
        assert found is not None
        if record.spec.arm == "mlla":
            found = replace(found, tp=found.tp & (found.image != 7)[:, None])
        spoilt[key] = replace(record, statistics=found)
    first = analyse(plan, specs, spoilt).datasets[0].largest[0]
    assert (first.image, first.agree) == ("BloodImage_00007.jpg", 3)
    assert first.contribution < 0, "without it the arm does better"
    assert first.found[0] > first.found[1] == 0
    assert first.labels == (synthetic.labels(IMAGES).target_image == 7).sum()


def test_curves_are_means_with_bands() -> None:
    _, specs, records = study()
    curves = {(curve.arm, curve.what): curve for curve in whole().datasets[0].curves}
    found = curves["mlla", "metrics/mAP50-95(B)"]
    values = [[row[found.what] for row in records[spec.key].epochs] for spec in specs if spec.arm == "mlla"]
    assert found.mean == pytest.approx(np.mean(values, axis=0))
    assert found.low == pytest.approx(np.min(values, axis=0))
    assert found.high == pytest.approx(np.max(values, axis=0))
    loss = curves["mlla", "training loss"]
    assert loss.mean[0] == pytest.approx(np.mean([1.7 * records[s.key].epochs[0]["train/box_loss"]
                                                  for s in specs if s.arm == "mlla"]))  # fmt: skip


def test_curves_of_runs_that_diverged_end_where_they_end() -> None:
    history = [{"epoch": 1, "metrics/mAP50-95(B)": 0.1}, {"epoch": 2, "metrics/mAP50-95(B)": float("nan")}]
    analysis = changed("halo", 3, status="diverged", reason="NaN", epochs=history, **FAILED)
    curve = next(curve for curve in analysis.datasets[0].curves if curve.arm == "halo")
    assert len(curve.epochs) == 60
    assert np.isfinite([*curve.mean, *curve.low, *curve.high]).all()


def test_a_classifier_is_compared_by_top1() -> None:
    plan, _, _ = study(arms=("yolo11n", "mlla"), seeds=4)
    specs = [synthetic.spec(arm, seed, task="classify") for seed in range(4) for arm in ("yolo11n", "mlla")]
    records = {}
    for i, spec in enumerate(specs):
        found = synthetic.classified(60, 1.5 if spec.arm == "mlla" else 0.0, i)
        records[spec.key] = synthetic.record(spec, found, i)
    analysis = analyse(plan, specs, records)
    assert analysis.design.metric == "top1"
    assert of(analysis, "mlla").text == "better; few seeds"
    assert [part.name for part in analysis.datasets[0].classes] == [*synthetic.CLASSES]
    assert not analysis.datasets[0].sizes
    assert analysis.datasets[0].remarks == ()


def test_a_metric_that_is_not_that_of_ultralytics_is_said() -> None:
    analysis = changed("mlla", 2, metrics={"metrics/mAP50-95(B)": 0.9})
    assert "mAP50-95 from the stored detections is not what Ultralytics reported: runs/mlla-bccd-s2" in "".join(
        analysis.datasets[0].remarks
    )
    assert whole().datasets[0].remarks == ()


def test_other_machines_are_said() -> None:
    _, specs, records = study()
    conditions = dict(records[specs[1].key].conditions) | {"device": "NVIDIA H100"}
    analysis = changed("mlla", 0, conditions=conditions)
    said = next(text for text in analysis.remarks if "2 kinds of machines" in text)
    assert "NVIDIA H100 (runs/mlla-bccd-s0" in said
    assert not any("machines" in text for text in whole().remarks)
