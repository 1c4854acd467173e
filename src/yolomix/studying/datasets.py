"""The datasets of a study: resolved, hashed by content, and their splits checked against each other."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from yolomix.data import sample_dataset
from yolomix.host import datasets as host
from yolomix.studying.contents import Content, Contents, near_pairs
from yolomix.studying.plan import Plan, PlanError

SPLITS = ("train", "val", "test")
SHOWN = 3  # pairs of images, or classes, in a remark
NO_DATASET = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SyntaxError, AssertionError)


@dataclass(frozen=True)
class Split:
    """The images of a split with their labels.

    Attributes:
        images: in the order of Ultralytics.
        labels: a file for each that is there.
        contents: of the images.
        digests: of the labels; empty where there is no file.
        counts: labels of every class index in it.
    """

    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    contents: tuple[Content, ...] = field(repr=False)
    digests: tuple[str, ...] = field(repr=False)
    counts: Counter[int] = field(repr=False)


@dataclass(frozen=True)
class Dataset:
    """A dataset that passed all checks.

    Attributes:
        name: as the plan has it.
        data: what Ultralytics takes: a file or folder.
        classes: class names by index.
        channels: of the images.
        points: shape of the keypoints of a label, of a dataset for poses.
        split: of the verdict.
        splits: name to images.
        digest: hash of the content of all splits and of the class names; not of places.
        remarks: what is not wrong and has to be known.
    """

    name: str
    data: str
    classes: tuple[str, ...]
    channels: int
    points: tuple[int, ...]
    split: str
    splits: dict[str, Split] = field(repr=False)
    digest: str
    remarks: tuple[str, ...] = ()

    @property
    def judged(self) -> Split:
        """The split of the verdict."""
        return self.splits[self.split]

    def facts(self) -> dict[str, Any]:
        """What a report needs of it."""
        return {
            "dataset": self.name,
            "dataset_digest": self.digest,
            "images": {name: len(split.images) for name, split in self.splits.items()},
            "classes": [*self.classes],
        }


def resolve(plan: Plan, task: str, contents: Contents) -> list[Dataset]:
    """All datasets of a plan.

    Args:
        plan: names them.
        task: of the models.
        contents: reads files.

    Raises:
        PlanError: one is no dataset, or its splits cannot carry a verdict; the text names file and line.
    """
    return [_resolved(plan, name, task, contents) for name in plan.data]


def _resolved(plan: Plan, name: str, task: str, contents: Contents) -> Dataset:
    try:
        data = str(sample_dataset(task)) if name == "sample" else _found(plan, name)
        read = host.described(data, task)
        classes = tuple(
            map(
                str,
                dict(enumerate(read["names"])).values() if isinstance(read["names"], list) else read["names"].values(),
            )
        )
        splits = {split: _split(read[split], task, contents) for split in SPLITS if read.get(split)}
    except PlanError:
        raise
    except (*NO_DATASET, yaml.YAMLError) as error:
        raise plan.error("data", f"{name} cannot be read as a dataset for {task}: {error}") from error
    judged = plan.split or ("test" if "test" in splits else "val")
    if judged not in splits:
        raise plan.error("split", f"{name} has no {judged} split; it has {', '.join(splits)}")
    _check_labels(plan, name, judged, splits[judged])
    remarks = [] if plan.split else [f"{name}: verdict on its {judged} split, as the plan does not say one"]
    if plan.weights == "best" and judged == "val":
        remarks.append(f"{name}: best.pt was chosen on the val split, which is the split of the verdict too")
    remarks += _check_apart(plan, name, judged, splits)
    absent = [classes[i] for i in range(len(classes)) if not splits[judged].counts[i]]
    if absent:
        remarks.append(f"{name}: no label in the {judged} split of {len(absent)} classes: {_few(absent)}")
    _check_groups(plan, name, splits[judged])
    return Dataset(
        name,
        data,
        classes,
        int(read.get("channels", 3)),
        tuple(read.get("kpt_shape", ())),
        judged,
        splits,
        _digest(classes, splits),
        tuple(remarks),
    )


def _found(plan: Plan, name: str) -> str:
    """A path from the working folder, or from the folder of the plan; any other name is Ultralytics'."""
    if Path(name).exists():
        return str(Path(name).resolve())
    beside = Path(plan.source).parent / name
    return str(beside.resolve()) if beside.exists() else name


def _split(place: Any, task: str, contents: Contents) -> Split:
    images = host.images(place)
    found = contents.of(images, images=True)
    if task == "classify":
        classes = sorted({image.parent.name for image in images})
        counts = Counter(classes.index(image.parent.name) for image in images)
        return Split(tuple(images), (), tuple(found), tuple(image.parent.name for image in images), counts)
    wanted = host.label_files(images)
    there = [label for label in wanted if label.is_file()]
    digests = dict(zip(there, contents.of(there), strict=True))
    counts = Counter(index for label in there for index in _classes(label))
    texts = tuple(digests[label].digest if label in digests else "" for label in wanted)
    return Split(tuple(images), tuple(there), tuple(found), texts, counts)


def _classes(label: Path) -> Iterator[int]:
    """The class of every line of a label file; Ultralytics drops images whose labels it cannot read."""
    for line in label.read_text("utf-8", "replace").splitlines():
        first = line.split()[:1]
        if first and re.fullmatch(r"\d+(\.0*)?", first[0]):
            yield int(float(first[0]))


def _check_labels(plan: Plan, name: str, judged: str, split: Split) -> None:
    if len(split.images) < 2:
        raise plan.error(
            "data",
            f"a verdict needs at least two images in the {judged} split of {name}, got {len(split.images)}: "
            f"{split.images[0]}. Label more, or give another split",
        )
    if not split.counts:
        raise plan.error(
            "data",
            f"a verdict needs labels in the {judged} split of {name}, got none for its {len(split.images)} images "
            f"({host.label_files([split.images[0]])[0]}, ...). Label them, or say split: val",
        )


def _check_apart(plan: Plan, name: str, judged: str, splits: dict[str, Split]) -> Iterator[str]:
    """Raise if an image stands in the split of the verdict and in another one; what is only near is a remark."""
    for first, second in (("val", "test"), ("train", "test"), ("train", "val")):
        if first not in splits or second not in splits:
            continue
        one, other = splits[first], splits[second]
        for what in ("digest", "pixels"):
            seen = {getattr(content, what): i for i, content in enumerate(one.contents)}
            equal = [(seen[key], j) for j, c in enumerate(other.contents) if (key := getattr(c, what)) in seen]
            if not equal:
                continue
            i, j = equal[0]
            text = (
                f"{one.images[i]} and {other.images[j]} are one image ({'bytes' if what == 'digest' else 'pixels'} are "
                f"equal), in {first} and {second} of {name}; there are {len(equal)} such pairs"
            )
            if judged in (first, second):
                raise plan.error(
                    "data", f"{text}. A verdict needs images that no training has seen: take them out of {first}"
                )
            yield text
            break
        pairs = near_pairs((c.outline for c in one.contents), (c.outline for c in other.contents))
        pairs = [(i, j) for i, j in pairs if one.contents[i].pixels != other.contents[j].pixels]
        if pairs:
            texts = [f"{one.images[i].name} and {other.images[j].name}" for i, j in pairs]
            count = "1 near pair" if len(pairs) == 1 else f"{len(pairs)} near pairs"
            yield f"{name}: {count} of images between {first} and {second}: {_few(texts)}"


def _check_groups(plan: Plan, name: str, split: Split) -> None:
    if plan.groups is None:
        return
    found = [image for image in split.images if re.search(plan.groups, image.name)]
    if not found:
        raise plan.error(
            "groups",
            f"groups needs a regular expression that matches file names of {name}, and {plan.groups!r} matches none of "
            f"{len(split.images)} ({split.images[0].name}, ...)",
        )
    keys = {plan.group_of(str(image)) for image in split.images}
    if len(keys) == 1:
        raise plan.error(
            "groups",
            f"a verdict needs at least two groups of images in {name}, and {plan.groups!r} puts all of "
            f"{len(split.images)} into one, {keys.pop()!r}. Give an expression that tells videos, tiles or patients "
            "apart, or leave groups out",
        )


def _digest(classes: Iterable[str], splits: dict[str, Split]) -> str:
    plain: dict[str, Any] = {"classes": [*classes]}
    for name, split in splits.items():
        rows = zip(split.images, split.contents, split.digests, strict=True)
        plain[name] = [[image.name, content.digest, label] for image, content, label in rows]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _few(texts: list[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more
