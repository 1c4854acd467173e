"""A study in sentences: question and verdict for everybody, a methods paragraph for a paper."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from yolomix.statistics import LOOKS
from yolomix.studying.arms import Role
from yolomix.studying.reporting.design import HELPS, MIXER, Design, Run
from yolomix.studying.reporting.numbers import interval, number
from yolomix.studying.reporting.result import Analysis
from yolomix.studying.reporting.tables import confidence
from yolomix.studying.reporting.values import Difference, OnDataset

HOW_TO_READ = {
    "Difference": "mean over seeds of arm minus the other, run by run with equal seeds.",
    "Interval": (
        "covers what new seeds and new images like these would show. It counts both, and counts once what belongs to a "
        "seed and an image together. Intervals over seeds alone, or over images alone, are too narrow."
    ),
    "Holm p": (
        "how surprising such a difference would be between equal arms, corrected for the number of comparisons in its "
        "family. One family asks whether arms beat the base, the other whether they beat their controls."
    ),
    "Equivalent": "the difference is shown to be smaller than the margin. This is more than finding none.",
    "Undecided": (
        "the study cannot tell. It does not mean that arms are equal. The numbers behind it say what would find a "
        "difference of the margin four times in five."
    ),
    "P(better)": (
        "how often one new pair of runs ranks the arm first on these images. 0.75 is often asked for. It is no test."
    ),
    "Control": (
        "as many parameters at the same insertion points, without the mixer. An arm that beats the base and not its "
        "control gains by size."
    ),
    "A/A": (
        "the base under other seeds against itself. A difference there is chance: one healthy study in twenty shows p "
        "below 0.05."
    ),
    "Classes, sizes, images": (
        "descriptions of where a difference comes from, not corrected for their number. They are for the next study, "
        "not for a claim."
    ),
}


def questions(analysis: Analysis, data: OnDataset) -> Iterator[tuple[str, Difference, str]]:
    """A question, its contrast, and the answer, for each planned contrast in a family."""
    for one in data.differences:
        arm, other = one.planned.arm, one.planned.other
        if one.planned.family == HELPS:
            yield f"Is {arm} better than {other}?", one, answer(analysis, one)
        elif one.planned.family == MIXER:
            yield f"Is {arm} better than a control of its size ({other})?", one, answer(analysis, one)


def answer(analysis: Analysis, one: Difference) -> str:
    """The verdict in a sentence, and the difference with its interval."""
    arm, other, metric = one.planned.arm, one.planned.other, analysis.design.metric
    word = one.verdict.word if one.verdict else ""
    rest = one.text.partition(": ")[2] or one.text
    said = {
        "better": f"Yes. {arm} is better than {other}.",
        "worse": f"No. {arm} is worse than {other}.",
        "equivalent": f"They are equivalent: {arm} and {other} differ by less than {analysis.design.plan.margin:g}.",
        "undecided": f"Undecided. To find a difference of {analysis.design.plan.margin:g} four times in five: {rest}.",
    }.get(word, f"No verdict: {rest}.")
    if one.contrast is None:
        return said
    value = number(one.contrast.difference, one.half_width, sign=True)
    ends = interval(*one.interval) if one.contrast.varies else ""
    said += f" Difference {value} {metric}"
    return f"{said}, {confidence(analysis)} interval {ends}." if ends else f"{said}."


def methods(analysis: Analysis) -> str:
    """A paragraph that can be pasted into a paper; every sentence follows from the plan or from the records."""
    parts = [*_trained(analysis), *_evaluated(analysis), *_inferred(analysis), *_excluded(analysis)]
    return " ".join(parts)


def _trained(analysis: Analysis) -> Iterator[str]:
    design = analysis.design
    base = design.arm(design.plan.base)
    yield f"We compared {_named(design, Role.ARM) or 'the base with itself'} with the base {base.name} ({base.model})."
    controls = _named(design, Role.CONTROL)
    if controls:
        yield (
            "Parameter-matched controls put gated convolutions (MambaOut) at the same insertion points, within 1 % of "
            f"the arm's parameters: {controls}."
        )
    without = [arm.name for arm in design.arms if arm.role == Role.ARM and not arm.control]
    if without:
        yield f"No parameter-matched control was trained for {', '.join(without)}."
    if _named(design, Role.AGAIN):
        yield "The base was also trained under other seeds and compared with itself, as a check (A/A)."
    for data in analysis.datasets:
        yield f"On {data.name} (images: {_counted(data.images)}; content hash {data.digest[:12]}) {_arguments(data)}."
    seeds = ", ".join(map(str, analysis.look.seeds))
    yield f"Each model was trained with {len(analysis.look.seeds)} seeds ({seeds}), paired across models by seed."
    if design.plan.earlier:
        yield (
            "Runs of earlier trainings were taken in after their arguments were found equal to those of the plan; "
            "nothing pairs their seeds with those of other runs."
        )
    record = next(run.record for run in design.runs if run.record)
    yield f"Software: {versions(record.conditions)}."


def _named(design: Design, role: Role) -> str:
    return ", ".join(f"{arm.name} ({arm.model})" for arm in design.arms if arm.role == role)


def _evaluated(analysis: Analysis) -> Iterator[str]:
    plan, metric = analysis.design.plan, analysis.design.metric
    splits = sorted({data.split for data in analysis.datasets})
    which = "the weights of the last epoch"
    if plan.weights == "best":
        which = "the weights that the val split chose (best.pt)"
    yield f"We evaluated {which} on the {' and '.join(splits)} split by {metric} as Ultralytics computes it."
    if plan.weights == "best" and "val" in splits:
        yield "That split also chose the weights."


def _inferred(analysis: Analysis) -> Iterator[str]:
    plan = analysis.design.plan
    units = f"groups of images (file names, {plan.groups})" if plan.groups else "images"
    yield (
        f"Differences are means over paired seeds; {confidence(analysis)} intervals are for new seeds and new {units} "
        f"alike. The part of {units} comes from {analysis.weightings} exponential weightings (Bayesian bootstrap, "
        "Rubin 1981), equal for all runs; what belongs to a seed and an image together is counted once; quantiles are "
        "of Student's t."
    )
    yield from _families(analysis)
    if plan.looks:
        which = "first" if analysis.look.number == 1 else "last"
        yield (
            f"Two looks were planned, at {plan.looks[0]} and {plan.looks[1]} seeds, at levels {LOOKS[0]} and "
            f"{LOOKS[1]}; this is the {which}."
        )
    if len(analysis.datasets) > 1:
        yield f"Over {len(analysis.datasets)} datasets we report the mean of the differences, with equal weights."


def _families(analysis: Analysis) -> Iterator[str]:
    sizes = Counter(one.planned.family for data in analysis.datasets for one in data.differences)
    families = []
    for family, what in ((HELPS, "arms with the base"), (MIXER, "arms with their controls")):
        if sizes[family]:
            families.append(f"{sizes[family]} of {what}")
    if not families:
        return
    form = "form one family" if len(families) == 1 else "form two families"
    yield (
        f"Planned contrasts {form} ({'; '.join(families)}), corrected by Holm's method; p-values belong to the same "
        "half width as the intervals. Arms count as equivalent if two one-sided tests put the difference within "
        f"±{analysis.design.plan.margin:g}."
    )


def _excluded(analysis: Analysis) -> Iterator[str]:
    if analysis.not_whole:
        runs = "; ".join(listed(analysis.not_whole))
        yield f"{wrong(analysis)} ({runs}); contrasts with these arms have no verdict."
    else:
        yield "No run was excluded."


def wrong(analysis: Analysis) -> str:
    """How many runs are not whole."""
    count, of = len(analysis.not_whole), len(analysis.design.runs) - len(analysis.to_come)
    return f"{count} of {of} runs {'is' if count == 1 else 'are'} not whole"


def notes(analysis: Analysis) -> list[str]:
    """All that a reader has to know beside the tables, each once."""
    found = [*analysis.remarks]
    for data in analysis.datasets:
        found += data.remarks
        if data.few:
            named = ", ".join(f"{name} ({count})" for name, count in data.few.items())
            found.append(
                f"classes with fewer than 10 labelled images in the {data.split} split of {data.name}: {named}"
            )
        found += _of_contrasts(data)
    if analysis.to_come:
        found.append(f"{len(analysis.to_come)} runs belong to the second look and are not there yet")
    return list(dict.fromkeys(found))


def _of_contrasts(data: OnDataset) -> Iterator[str]:
    """The notes of contrasts, those that several have in common once."""
    owners: dict[str, list[str]] = defaultdict(list)
    for one in data.differences:
        for note in one.notes:
            owners[note].append(f"{one.planned.arm} - {one.planned.other}")
    count = sum(one.verdict is not None for one in data.differences)
    for note, names in owners.items():
        yield f"{'every contrast' if len(names) == count > 1 else ', '.join(names)}: {note}"


def listed(runs: Sequence[Run]) -> list[str]:
    """Runs with what became of them, those of an arm on a dataset together."""
    seeds: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for run in runs:
        seeds[run.spec.arm, run.dataset, run.status].append(str(run.spec.seed))
    return [
        f"{arm} {'seed' if len(found) == 1 else 'seeds'} {', '.join(found)} on {data}: {status}"
        for (arm, data, status), found in seeds.items()
    ]


def versions(conditions: Mapping[str, Any]) -> str:
    """Names and versions of what computed.

    >>> versions({"versions": {"torch": "2.9", "python": "3.13"}})
    'torch 2.9, python 3.13'
    """
    return ", ".join(f"{name} {version}" for name, version in conditions.get("versions", {}).items())


def _counted(images: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in images.items()) or "unknown"


def _arguments(data: OnDataset) -> str:
    trained = data.runs[0].run.spec.facts.get("trained") or data.runs[0].run.spec.arguments
    return f"each was trained with {', '.join(f'{name}={value}' for name, value in trained.items())}"
