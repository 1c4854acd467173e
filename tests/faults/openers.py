"""Everything that takes a checkpoint, each as a function that gives it ``strange.pt`` in the current folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import modelfiles
from tests.faults.kind import Bad
from tests.faults.modelfiles import FILE
from tests.tiny import TINY, write_dataset


@dataclass(frozen=True)
class Entry:
    """A way to give a checkpoint to yolomix; ``does`` returns the model that was opened, if there is one to compare."""

    does: Callable[[], Any]
    often: int = 2
    file: str = FILE
    runs: bool = False  # whether the model computes


def _open() -> Any:
    import yolomix

    return yolomix.YOLO(FILE).model


def _stock() -> Any:
    import ultralytics

    return ultralytics.YOLO(FILE).model


def _fresh() -> Any:
    """A model with nothing of the file in it yet."""
    import yolomix

    Path("yolo0n-fresh.yaml").write_text(TINY)
    return yolomix.YOLO("yolo0n-fresh.yaml")


def _load() -> None:
    _fresh().load(FILE)


def _transfer() -> None:
    import yolomix

    _fresh()
    report = yolomix.transfer(FILE, "yolo0n-fresh.yaml", save="out.pt", any_task=True)
    if not report.copied:
        raise Bad("nothing was copied, and no error")
    yolomix.YOLO("out.pt")


def _graft() -> None:
    import torch

    import yolomix

    before = yolomix.YOLO(FILE).model
    after = yolomix.YOLO(yolomix.graft(FILE, "HaloAttention", at=0, args=[2, 1]).apply("out.pt").file).model
    kept = {tensor.double().sum().item() for tensor in after.state_dict().values()}
    lost = [name for name, tensor in before.state_dict().items() if tensor.double().sum().item() not in kept]
    if [name for name in lost if torch.isfinite(before.state_dict()[name]).all()]:
        raise Bad(f"lost in the graft: {lost}")


def _named() -> None:
    import yolomix

    yolomix.YOLO(f"{FILE}+HaloAttention(2,1)@1")


def _again() -> None:
    """The file lies where the graft of another base belongs."""
    import yolomix

    base = yolomix.YOLO(modelfiles.base("base.pt")).model.state_dict()
    made = yolomix.YOLO("base.pt+HaloAttention(2,1)@1").model.state_dict()
    if len(made) <= len(base) or not base["model.0.conv.weight"].equal(made["model.0.conv.weight"]):
        raise Bad("what was opened is not the graft of this base")


def _plan() -> None:
    import yolomix

    str(yolomix.edit(FILE).plan())


def _recorded() -> None:
    from yolomix.host import weights

    weights.record_of(FILE)
    weights.is_finished(FILE)


def _predict() -> Any:
    import numpy

    import yolomix

    model = yolomix.YOLO(FILE)
    model.predict(numpy.zeros((64, 64, 3), "uint8"), imgsz=64, verbose=False, save=False, device="cpu")


def _val() -> None:
    import yolomix

    given = {name: value for name, value in modelfiles.SETTINGS.items() if name != "amp"}
    yolomix.YOLO(FILE).val(**given, data=str(_data()))


def _data() -> Path:
    root = Path("data").resolve()
    return root / "data.yaml" if root.exists() else write_dataset(root)


class _StopError(Exception):
    """Enough of a training."""


def _stop(trainer: Any) -> None:
    raise _StopError


def _resume() -> None:
    import yolomix

    model = yolomix.YOLO(FILE)
    model.add_callback("on_train_start", _stop)
    with contextlib.suppress(_StopError):
        model.train(**modelfiles.SETTINGS, data=str(_data()), resume=True)


def _pretrained() -> None:
    model = _fresh()
    model.add_callback("on_train_start", _stop)
    with contextlib.suppress(_StopError):
        model.train(**modelfiles.SETTINGS, data=str(_data()), pretrained=FILE, epochs=1)


def _cli(*words: str) -> Callable[[], None]:
    def does() -> None:
        from yolomix import cli

        def failed(error: BaseException, words: object, code: int) -> int:
            raise error

        cli._failed = failed  # what it would say, as an error
        if "target=yolo0n-fresh.yaml" in words:
            _fresh()
        if "data=data/data.yaml" in words:
            _data()
        cli.main([*words])

    return does


OWN = ("imgsz=64", "device=cpu", "workers=0", "plots=False")
ENTRIES = {
    "open": Entry(_open, 6),
    "stock": Entry(_stock, 3),
    "load": Entry(_load),
    "transfer": Entry(_transfer),
    "graft": Entry(_graft),
    "named": Entry(_named),
    "again": Entry(_again, 4, "base+HaloAttention(2,1)@1.pt"),
    "plan": Entry(_plan),
    "recorded": Entry(_recorded),
    "predict": Entry(_predict, runs=True),
    "val": Entry(_val, runs=True),
    "resume": Entry(_resume, 4),
    "pretrained": Entry(_pretrained),
    "cli predict": Entry(
        _cli("predict", f"model={FILE}", "source=data/images/val", "data=data/data.yaml", *OWN), 1, runs=True
    ),
    "cli val": Entry(_cli("val", f"model={FILE}", "data=data/data.yaml", *OWN), 1, runs=True),
    "cli graft": Entry(_cli("graft", f"model={FILE}", "block=HaloAttention", "args=2,1", "at=0", "save=out.pt"), 1),
    "cli transfer": Entry(_cli("transfer", f"source={FILE}", "target=yolo0n-fresh.yaml", "save=out.pt"), 1),
    "cli resume": Entry(_cli("train", f"model={FILE}", "data=data/data.yaml", "resume=True"), 1),
}  # fmt: skip
