"""The verbs that list what there is, models and blocks, and explain one of them."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from yolomix import models as packaged
from yolomix.cli.answer import Answer, Listing, Table, paragraph
from yolomix.models import Model
from yolomix.nearest import meant

DATA = {"detect": "sample", "segment": "sample", "classify": "FOLDER"}  # for a task; for others FILE.yaml


def models(name: str | None = None) -> Answer:
    """The model zoo, or one model of it.

    >>> models().data[0]["scales"]["t"]
    6131704
    >>> models("yolo11s-mlla.yaml").data["model"]
    'yolo11-mlla.yaml'

    Args:
        name: a model with or without scale letter and suffix; None lists all.

    Raises:
        ValueError: there is no such model.
    """
    if name is not None:
        model = _found(name)
        return Answer(_model(model), _model_page(model))
    zoo = packaged.zoo().values()
    shown = [(model.typed(next(iter(model.parameters))), model.task, _millions(model)) for model in zoo]
    records = [
        (model.typed(scale), model.task, str(count)) for model in zoo for scale, count in model.parameters.items()
    ]
    table = Table(("model", "task", "million parameters by scale (80 classes)"), shown)
    hint = "`yolomix models NAME` explains one. A name takes the letter of any of its scales: yolo11x-mlla.yaml."
    return Answer([_model(model) for model in zoo], [Listing(table, hint, records)])


def blocks(name: str | None = None) -> Answer:
    """The blocks that a model YAML may name, or one of them.

    >>> next(row["channels"] for row in blocks().data if row["block"] == "C2PSAMLLA")
    '(c1, c2, n, ...)'
    >>> blocks("HaloAttention").data["row"]
    '[-1, 1, HaloAttention, [2, 1]]'

    Args:
        name: a block, or ``module.Class``; None lists all.

    Raises:
        KeyError: there is no such block.
        ImportError: its module is not there, fails, or has no such class.
        TypeError: the class is no block.
    """
    from yolomix.cli import blockpages  # only now: the blocks need PyTorch
    from yolomix.nn import origins

    if name is not None:
        return blockpages.page(origins.say(name))
    origins.enter_installed()
    return blockpages.listing()


def version() -> Answer:
    """The version of yolomix.

    >>> version().data
    {'yolomix': '0.1.0'}
    """
    installed = metadata.version("yolomix")
    return Answer({"yolomix": installed}, [installed])


def _found(name: str) -> Model:
    """The model of a name that has a scale letter and a suffix, or not."""
    known: dict[str, Model] = {}
    for model in packaged.zoo().values():
        known[model.name] = model
        known.update({model.typed(scale).removesuffix(".yaml"): model for scale in model.parameters})
    stem = name.removesuffix(".yaml")
    if stem not in known:
        raise ValueError(f"no packaged model {name!r}; {meant(stem, known) or '`yolomix models` lists them'}")
    return known[stem]


def _model(model: Model) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "model": f"{model.name}.yaml",
        "task": model.task,
        "scales": dict(model.parameters),
        "names": {scale: model.typed(scale) for scale in model.parameters},
        "about": model.about,
        "how": model.how,
        "source": model.source,
        "differs": model.differs,
        "file": str(packaged.FOLDER / f"{model.name}.yaml"),
    }


def _model_page(model: Model) -> list[str | Table]:
    sizes = [(model.typed(scale), f"{count:,}") for scale, count in model.parameters.items()]
    file = str(packaged.FOLDER / f"{model.name}.yaml")
    facts = [("task", model.task), ("source", model.source), ("differs", model.differs), ("file", file)]
    data, imgsz = DATA.get(model.task, "FILE.yaml"), 224 if model.task == "classify" else 320
    return [
        paragraph(f"{model.about}. {model.how}".rstrip()),
        "",
        Table(("model", "parameters with 80 classes"), sizes),
        "",
        Table((), [fact for fact in facts if fact[1]]),
        "",
        f"  yolomix train model={sizes[0][0]} data={data} epochs=20 imgsz={imgsz}",
    ]


def _millions(model: Model) -> str:
    """The parameters of every scale in two digits or more: ``n 2.8  s 10``."""
    found = []
    for scale, count in model.parameters.items():
        millions = count / 1e6
        found.append(f"{scale} {millions:.{0 if millions >= 9.95 else 1}f}")
    return "  ".join(found)
