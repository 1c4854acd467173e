"""Checkpoints that are damaged, incomplete, forged or no checkpoints, through everything that takes one."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from random import Random
from typing import Any

from tests.faults import bytedamage, judge, modelfiles, mutate
from tests.faults.kind import Bad, Case, Kind
from tests.faults.modelfiles import FILE
from tests.faults.openers import ENTRIES

MODEL = (
    "yaml", "names", "stride", "args", "task", "nc", "save", "inplace", "pt_path", "model", "training", "criterion",
)  # fmt: skip
LAYER = (
    "i", "f", "type", "np", "stride", "nc", "nl", "no", "reg_max", "conv", "act", "gate", "block", "cv2", "cv3",
    "training",
)  # fmt: skip
KEYS = (
    "model", "ema", "train_args", "epoch", "optimizer", "updates", "best_fitness", "date", "version", "yolomix",
    "scaler",
    "train_metrics", "train_results", "modelopt",
)  # fmt: skip
RECORDED = ("base", "plan", "version", "weights")
ODD = (*mutate.ODD, *({"$": name} for name in (
    "tensor", "state dict", "module", "path", "type", "set", "bytes", "list", "the model", "wrapped", "ordered",
    "short", "tuple",
    "complex", "nan", "function", "parameter", "dtype",
)))  # fmt: skip


def draw(random: Random) -> Case:
    """A recipe: what the file begins as, changes of its content, damage of its bytes, and who opens it."""
    case: Case = {"source": random.choice(modelfiles.SOURCES), "changes": [], "damage": [], "protocol": 2}
    kind = random.random()
    if kind < 0.5:
        case["changes"] = [_change(random) for _ in range(random.choice((1, 1, 2)))]
    if kind > 0.45:
        case["damage"] = [_damage(random) for _ in range(random.choice((1, 1, 1, 2)))]
    if random.random() < 0.1:
        case["protocol"] = random.choice((0, 1, 3, 4, 5))
    # A tensor of another shape says so when it is computed with, in PyTorch's words.
    shaped = any(how == "tensors" and value in modelfiles.SHAPES for how, _, value in case["changes"])
    names = [name for name, entry in ENTRIES.items() if not (shaped and entry.runs)]
    case["entry"] = random.choices(names, [ENTRIES[name].often for name in names])[0]
    return case


def _change(random: Random) -> list[Any]:
    how = random.choice(("set", "set", "drop", "nested", "tensors", "whole"))
    if how == "whole":
        return [how, [], random.choice(ODD)]
    if how == "tensors":
        return [how, random.randrange(10_000), random.choice([*modelfiles.VALUES, *modelfiles.SHAPES])]
    inside = random.choice(("model", "ema"))
    path = random.choice(
        (
            [random.choice(KEYS)],
            [inside, random.choice(MODEL)],
            [inside, "model", random.randrange(8), random.choice(LAYER)],
            ["yolomix", random.choice(RECORDED)],
            ["train_args", random.choice(("imgsz", "data", "epochs", "task", "model", "save_dir", "device", "batch"))],
        )
    )
    if how == "nested":
        path = random.choice((["train_args"], [inside, "yaml"], [inside, "names"], ["yolomix"], ["optimizer"]))
        return [how, path, random.randrange(10**6)]
    return [how, path, random.choice(ODD)]


def _damage(random: Random) -> list[Any]:
    how = random.choice(("entries", "entries", "entries", *bytedamage.BYTES))
    rest: dict[str, list[Any]] = {
        "cut": [random.random()],
        "behead": [random.random()],
        "flip": [random.random(), random.choice((1, 1, 2, 16, 300))],
        "zero": [random.random(), random.choice((1, 16, 4096, 100_000))],
        "index": [random.randrange(400), random.randrange(256)],
        "entries": [
            random.choice(bytedamage.PARTS),
            random.choice((0, 0, 0, random.randrange(99))),
            random.randrange(10**6),
        ],
    }  # fmt: skip
    if how in ("before", "after", "instead"):
        return [how, random.choice([*bytedamage.MAGIC])]
    return [how, *rest.get(how, [])]


def check(case: Case) -> str:
    """Make the file, open it in one way, and see that what opens is what was saved."""
    from yolomix.host import entry as ultralytics_entry

    ultralytics_entry.no_lookups()  # of Ultralytics' own, for a font
    os.environ["YOLOMIX_BACKEND"] = "eager"  # the other one is compiled first, which takes seconds
    entry = ENTRIES[case["entry"]]
    found = modelfiles.content(case["source"])
    before = _tensors(found)
    raw = _made(case, found)
    if raw is None:
        return "not made"
    file = Path(entry.file)
    file.write_bytes(raw)
    try:
        opened = entry.does()
    except Exception as error:
        if judge.is_ours(error) and file.stem not in str(error) and "the source is a" not in str(error):
            raise Bad(f"the error does not name the file: {type(error).__name__}: {error}") from error
        raise
    if file.read_bytes() != raw and entry.file == FILE:
        raise Bad("the file was changed")
    # What was packed anew has checksums of its damaged entries: nobody can know.
    is_known = not case["changes"] and not any(how == "entries" for how, *_ in case["damage"])
    if is_known and entry.file == FILE and opened is not None:
        _compare(before, opened)
    return "opened"


def _made(case: Case, found: Any) -> bytes | None:
    """The bytes of the file; None if nobody can have written it."""
    is_fork = case["source"] == "fork"
    try:
        raw = modelfiles.saved(modelfiles.change(found, case["changes"]), is_fork, case["protocol"])
    except (pickle.PicklingError, TypeError, AttributeError, RuntimeError, NotImplementedError):
        return None
    return bytedamage.damage(raw, case["damage"])


def _tensors(found: Any) -> dict[str, Any]:
    """The weights that a file holds, as a model opened from it has them."""
    model = found.get("ema") or found["model"]
    is_fork = found["ema"] is None and "yolomix" not in found and found["epoch"] == 7
    return {name: tensor.half().float() if is_fork else tensor.float() for name, tensor in model.state_dict().items()}


def _compare(before: dict[str, Any], model: Any) -> None:
    """Raise if a damaged file opened with other weights than it was saved with."""
    after = model.state_dict()
    if after.keys() != before.keys():
        raise Bad(f"opened with {len(after)} tensors of {len(before)}")
    for name, tensor in before.items():
        if not tensor.equal(after[name].float()):
            raise Bad(f"opened with another {name}")


def theirs(error: BaseException) -> bool:
    """Errors of Ultralytics that say what is the matter: of data for another task, of a training that is finished."""
    text = str(error)
    of_data = ("Dataset '" in text and "error" in text) or "Classification datasets must be" in text
    if isinstance(error, ModuleNotFoundError) and error.name == "modelopt":
        return True  # it says which package to install, in a warning before
    return of_data or (isinstance(error, AssertionError) and FILE in text and "nothing to resume" in text)


def _take_whatever_is_there() -> None:
    from yolomix.planning import Plan

    Plan.is_in = lambda self, file, seed=0: True  # type: ignore[method-assign]


def _trust_the_bytes() -> None:
    from yolomix.host import contents

    contents.damaged = lambda file: None


def _say_it_bare() -> None:
    from yolomix.hooks import checkpoint

    checkpoint.torch_safe_load = lambda native, *args, **kwargs: native(*args, **kwargs)


KIND = Kind(
    name="checkpoints",
    tries="checkpoints with damaged bytes, parts missing or of other kinds, forged records, files of other programs",
    figure="only our errors, which name the file; what opens is what was saved; 20 s, 4 GiB; nothing run",
    check=check,
    target=2000,
    draw=draw,
    share=2.0,
    small=8,
    theirs=theirs,
    first=(
        {"source": "plain", "changes": [], "damage": [], "protocol": 2, "entry": "again"},
        {"source": "graft", "changes": [], "damage": [["flip", 0.46122, 2]], "protocol": 2, "entry": "open"},
        {"source": "plain", "changes": [], "damage": [["cut", 0.5]], "protocol": 2, "entry": "stock"},
        {"source": "stopped", "changes": [], "damage": [["index", 99, 151]], "protocol": 2, "entry": "open"},
    ),
    plants={
        "any file is the graft": _take_whatever_is_there,
        "checksums not compared": _trust_the_bytes,
        "bare errors": _say_it_bare,
    },
)
