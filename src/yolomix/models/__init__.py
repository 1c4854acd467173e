"""The model zoo: YAML files that Ultralytics reads. What a model name means says :func:`yolomix.host.names.resolve`.

``zoo.toml`` has the facts about each. They are not in the YAML files: what stands there travels into checkpoints and
into grafts, where a number of parameters is no longer true.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
FACTS = FOLDER / "zoo.toml"


@dataclass(frozen=True)
class Model:
    """One packaged model.

    >>> zoo()["mamba-yolo"].typed("t"), zoo()["yolov8-vim"].typed("d")
    ('mamba-yolo-t.yaml', 'yolov8d-vim.yaml')

    Attributes:
        name: of its file, without scale letter and suffix.
        about: what it is, in one sentence.
        task: what it does, as Ultralytics calls it.
        source: the paper and the code that it follows.
        parameters: how many every scale has with 80 classes, by scale letter.
        how: how it works, where the first sentence does not say it.
        differs: from what, and in what; empty where there is nothing to compare.
        graft: the graft into the stock model of its version that gives it; empty where none does.
    """

    name: str
    about: str
    task: str
    source: str
    parameters: Mapping[str, int]
    how: str = ""
    differs: str = ""
    graft: str = ""

    def typed(self, scale: str) -> str:
        """The name that ``model=`` takes, with a scale letter: behind the digits of a version, else at the end."""
        version = re.match(r"yolov?\d+", self.name)
        if version is None:
            return f"{self.name}-{scale}.yaml"
        return f"{version[0]}{scale}{self.name[version.end() :]}.yaml"

    def grafted(self, scale: str, suffix: str = "") -> str:
        """The name of its graft into a stock model, for another task with a suffix like "-seg"; empty without one.

        >>> zoo()["yolo11-mlla"].grafted("n", "-seg")
        'yolo11n-seg+MLLAttention@head-inputs:plain.yaml'
        """
        version = re.match(r"yolov?\d+", self.name)
        return f"{version[0]}{scale}{suffix}+{self.graft}.yaml" if version and self.graft else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a program."""
        return asdict(self)


@functools.cache
def zoo() -> Mapping[str, Model]:
    """The packaged models by name.

    >>> zoo()["yolo11-mlla"].parameters["n"]
    2801488
    """
    return {name: Model(name, **facts) for name, facts in tomllib.loads(FACTS.read_text("utf-8")).items()}


def names() -> list[str]:
    """The packaged models, without scale letters and suffix.

    >>> "yolo11-mlla" in names()
    True
    """
    return sorted(zoo())
