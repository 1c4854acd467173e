"""What a model name means: one function that everybody asks, and the model dictionary behind a YAML name.

::

    yolo11n-mlla.yaml              a packaged model at scale n
    folder/yolo11n-mine.yaml       a file, or the file folder/yolo11-mine.yaml at scale n
    yolo11n.yaml                   a model YAML of Ultralytics
    best.pt                        a checkpoint, on disk or among those that Ultralytics offers
    best.onnx, best_openvino_model an exported file or folder
    yolo11n+MLLABlock@p5.yaml      one of these with grafts, see ``yolomix.surgery.grammar``
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from yolomix import models
from yolomix.host import backbone, original
from yolomix.nn import origins
from yolomix.surgery import grammar
from yolomix.surgery.grammar import Part

YAML, CHECKPOINT = (".yaml", ".yml"), ".pt"
TASKS = ("seg", "pose", "obb", "cls")  # what names of Ultralytics' models for other tasks end in


class Kind(StrEnum):
    """What stands behind a model name."""

    PACKAGED = "packaged model YAML"
    YAML = "model YAML"
    CHECKPOINT = "checkpoint"
    EXPORTED = "exported model"
    REMOTE = "address"


@dataclass(frozen=True)
class ModelName:
    """A model name, understood.

    Attributes:
        text: the name as it was given.
        base: the name without its grafts.
        kind: what the base is.
        file: where the base is on disk; None where only Ultralytics can know it.
        scale: the scale letter that the name asked for where it is no part of the file's name, else "".
        grafts: what is grafted into the base, in order.
    """

    text: str
    base: str
    kind: Kind
    file: Path | None = None
    scale: str = ""
    grafts: tuple[Part, ...] = ()

    @property
    def has_weights(self) -> bool:
        """Whether it means a model with weights that can be trained on."""
        return self.kind is Kind.CHECKPOINT


def resolve(name: str | Path) -> ModelName:
    """What a model name means. Nothing is opened, built or downloaded.

    >>> found = resolve("yolo11n-mlla.yaml")
    >>> found.kind.value, found.file.name, found.scale
    ('packaged model YAML', 'yolo11-mlla.yaml', 'n')
    >>> resolve("yolo11n+HaloAttention(2,1)@p5.yaml").grafts[0].block
    'HaloAttention'

    Args:
        name: what a user gives as ``model=``.

    Raises:
        GraftNameError: it has a "+" and does not follow the grammar of grafts; the message points at the character.
    """
    text = str(name)
    if "://" in text:
        return ModelName(text, text, Kind.REMOTE)
    # What is there by exactly that name comes first: a file, or the folder of an exported model.
    if "+" not in Path(text).name or os.path.exists(text):
        return _without_grafts(text)
    parsed = grammar.parse(text)
    base = _without_grafts(parsed.base)
    return ModelName(text, base.base, base.kind, base.file, base.scale, parsed.parts)


def described(name: str | Path, native: Callable[..., dict[str, Any]] | None = None) -> dict[str, Any]:
    """The model dictionary of a model YAML, with its ``scale`` and ``yaml_file``.

    >>> described("yolo11n-mlla.yaml")["scale"]
    'n'

    Args:
        name: any name of a model YAML without grafts.
        native: Ultralytics' function for the names that are its own.

    Raises:
        FileNotFoundError: nobody has it; the text has the near names of packaged models.
        ValueError: it is no YAML, or none of a model; or a block that it names with its module cannot be imported.
    """
    found = resolve(name)
    file = found.file
    if file is None or (not found.scale and found.kind is Kind.YAML):
        model = _natively(native or _native(), name)
    else:
        model = _read(name, lambda: yaml.safe_load(file.read_text(encoding="utf-8")))
    if not isinstance(model, dict) or not all(isinstance(model.get(part), list) for part in ("backbone", "head")):
        has = type(model).__name__
        if isinstance(model, dict):
            has = ", ".join(str(key) for key in model if key not in ("scale", "yaml_file"))  # set by who read it
        raise ValueError(
            f"{name} is no model YAML: it needs 'backbone' and 'head', each a list of rows, and has {has or 'nothing'}"
        )
    if found.kind is Kind.YAML and found.file is not None:  # somebody's file, and the file names its blocks
        origins.say_all(model, str(name))
        model = backbone.spread(model)
    if found.scale:
        model = {**model, "scale": found.scale}
    return {"scale": "", **model, "yaml_file": str(name)}


def written(name: str | Path) -> str:
    """The text of a model YAML as its author wrote it; empty of what is none, or cannot be read.

    >>> written("yolo11n-mlla.yaml").splitlines()[0][:1], written("best.pt")
    ('#', '')

    Args:
        name: any name of a model without grafts.
    """
    found = resolve(name)
    if found.kind not in (Kind.PACKAGED, Kind.YAML):
        return ""
    file = found.file or _file_of_ultralytics(Path(found.base))
    try:
        return file.read_text("utf-8-sig") if file else ""
    except (OSError, ValueError):
        return ""


def near(name: str) -> list[str]:
    """The packaged models with a name near to this one, with its scale letter where they have that scale.

    >>> near("yolo11s-mla.yaml")[0]
    'yolo11s-mlla.yaml'
    """
    found: dict[str, str] = {}
    for stem, scale in _readings(Path(name).stem):
        for close in difflib.get_close_matches(stem, models.names()):
            model = models.zoo()[close]
            found[close] = model.typed(scale if scale in model.parameters else next(iter(model.parameters)))
    return list(found.values())


def for_another_task(stem: str) -> str:
    """The graft that is a packaged model with another head, for a name like ``yolo11n-mlla-seg``; empty without one.

    >>> for_another_task("yolo11n-mlla-seg")
    'yolo11n-seg+MLLAttention@head-inputs:plain.yaml'
    """
    base, dash, task = stem.rpartition("-")
    if task in TASKS:
        for name, scale in _readings(base):
            if name in models.names() and (grafted := models.zoo()[name].grafted(scale, f"{dash}{task}")):
                return grafted
    return ""


def _without_grafts(text: str) -> ModelName:
    path = Path(text)
    if path.suffix in YAML:
        return _yaml(text, path)
    # os.path, since pathlib raises where a name is too long for the system
    if path.suffix in (CHECKPOINT, "") and not os.path.isdir(path):
        return ModelName(text, text, Kind.CHECKPOINT, path if os.path.isfile(text) else None)
    return ModelName(text, text, Kind.EXPORTED, path if os.path.exists(text) else None)


def _yaml(text: str, path: Path) -> ModelName:
    """A model YAML: a file, the file of another scale beside it, a packaged model, or a name of Ultralytics."""
    if os.path.isfile(path):
        return ModelName(text, text, Kind.YAML, path)
    packaged = [(models.FOLDER, path.stem.lower(), ".yaml", Kind.PACKAGED)] if path.name == text else []
    for folder, name, suffix, kind in [(path.parent, path.stem, path.suffix, Kind.YAML), *packaged]:
        for stem, scale in _readings(name):
            file = folder / f"{stem}{suffix}"
            if os.path.isfile(file):
                return ModelName(text, text, kind, file, scale)
    return ModelName(text, text, Kind.YAML)


def _readings(stem: str) -> Iterator[tuple[str, str]]:
    """The name without its scale letter, and the letter, in every way that it can be read.

    The letter stands after the digits of a version (``yolo11n-mlla``) or alone (``mamba-yolo-t``). Ultralytics removes
    it with a pattern over the whole path, so that it looks for ``/env3s/yolo11n-a.yaml`` in ``/env3``.
    """
    yield stem, ""
    if match := re.fullmatch(r"(yolo(?:e-)?v?\d+)([a-z])(-.*)?", stem):
        yield match[1] + (match[3] or ""), match[2]
    elif match := re.fullmatch(r"(.*?\d)([nslmx])(.*)", stem):  # as Ultralytics finds the file of any other name
        yield match[1] + match[3], match[2]
    parts = stem.split("-")
    for k, part in enumerate(parts):
        if len(part) == 1:
            yield "-".join(parts[:k] + parts[k + 1 :]), part


def _file_of_ultralytics(path: Path) -> Path | None:
    from ultralytics.utils.checks import check_yaml

    for stem, _ in _readings(path.stem):
        if file := check_yaml(f"{stem}{path.suffix}", hard=False):
            return Path(file)
    return None


@functools.cache
def _native() -> Callable[..., dict[str, Any]]:
    from ultralytics.nn import tasks

    return original.native(tasks, "yaml_model_load")


def _natively(native: Callable[..., dict[str, Any]], name: str | Path) -> dict[str, Any]:
    try:
        return _read(name, lambda: native(name))
    except (FileNotFoundError, AssertionError) as error:  # AssertionError: another suffix
        if grafted := for_another_task(Path(name).stem):
            raise FileNotFoundError(f"no model file {str(name)!r}; a graft gives it: model='{grafted}'") from error
        found = near(str(name))
        hint = f"did you mean {' or '.join(found)}?" if found else "`yolomix models` lists those of yolomix"
        raise FileNotFoundError(f"no model file {str(name)!r} on disk, in Ultralytics or in yolomix; {hint}") from error


def _read(name: str | Path, read: Callable[[], Any]) -> Any:
    """What ``read`` reads of a model YAML, with errors that name the file and the reason."""
    try:
        return read()
    except FileNotFoundError:
        raise
    except (OSError, ValueError, yaml.YAMLError, TypeError, AttributeError) as error:  # TypeError: Ultralytics 8.3.0
        raise ValueError(f"{name} cannot be read as a model YAML: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Why a YAML cannot be read: place and reason, without the advice of others."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "is not a valid YAML mapping" in str(error) or isinstance(error, (TypeError, AttributeError)):
        return "it needs 'backbone' and 'head', each a list of rows, and is no mapping"
    text = str(error).partition("Verify YAML")[0]
    return re.sub(r"^YAML syntax error in '.*?': ", "", text).replace(' in "<unicode string>",', "").strip()
