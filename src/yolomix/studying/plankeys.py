"""The keys of a plan: how the value of each is read, and what is said of one that is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from yolomix.studying.record import SPLITS, WEIGHTS

CONTROLS = ("matched", "aa")


class Key(NamedTuple):
    """A key of a plan.

    Attributes:
        read: makes its value; raises ValueError or TypeError of what is none.
        wanted: what it needs.
        example: what to write.
    """

    read: Callable[[Any], Any]
    wanted: str
    example: str


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str | Path) and str(one) for one in value):
        raise TypeError
    if len(set(map(str, value))) < len(value):
        raise ValueError
    return tuple(map(str, value))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def _name(value: Any) -> str:
    if not re.fullmatch(r"[\w+-][\w.+-]*", _text(value)):
        raise ValueError
    return str(value)


def _arms(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError
    for name, model in value.items():
        if not (isinstance(name, str) and name and isinstance(model, str | Path) and str(model)):
            raise TypeError
    return {name: str(model) for name, model in value.items()}


def _seeds(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple | range):
        raise TypeError
    seeds = tuple(value)
    if not all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError
    return seeds


def _above_zero(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError
    return float(value)


def _groups(value: Any) -> str | None:
    if value is not None:
        re.compile(_text(value))
    return value


def _looks(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    first, last = value
    if not (type(first) is type(last) is int and 1 < first < last):
        raise ValueError
    return first, last


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError
    return dict(value)


def _out_of(*choices: str) -> Any:
    def _one(value: Any) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return _one


def _controls(value: Any) -> tuple[str, ...]:
    found = _texts(value)
    if not set(found) <= set(CONTROLS):
        raise ValueError
    return found


KEYS = {
    "data": Key(_texts, "a dataset YAML, or a list of different ones", "data: bccd/data.yaml, or data: sample"),
    "arms": Key(
        _arms, "a name and a model for every arm", "arms: {base: yolo11n.yaml, mlla: yolo11n+MLLABlock@p5.yaml}"
    ),
    "base": Key(_text, "the name of an arm", "base: base, the arm that the others are compared with"),
    "seeds": Key(_seeds, "a list of different whole numbers from 0 on", "seeds: [0, 1, 2, 3, 4]"),
    "name": Key(
        _name, "letters, digits, dots, dashes and underscores", "name: blood-cells, which is also that of its folder"
    ),
    "split": Key(_out_of(*SPLITS), "test or val", "split: test"),
    "weights": Key(_out_of(*WEIGHTS), "last or best", "weights: last"),
    "train": Key(_mapping, "arguments of Ultralytics by name", "train: {epochs: 60, imgsz: 224}"),
    "metric": Key(_text, "the name of a metric", "metric: mAP50-95"),
    "margin": Key(_above_zero, "a number above zero, the difference that is as good as none", "margin: 0.005"),
    "budget": Key(
        lambda value: None if value is None else _above_zero(value),
        "a number of hours above zero",
        "budget: 8, in hours",
    ),
    "groups": Key(_groups, "a regular expression", "groups: '^(.*)_frame', a regular expression on file names"),
    "looks": Key(_looks, "two ascending numbers of seeds", "looks: [5, 10]"),
    "controls": Key(_controls, "a list out of matched, aa", "controls: [matched], [matched, aa] or []"),
    "earlier": Key(_texts, "results folders of trainings, each once", "earlier: [runs/detect/train3]"),
}
