"""Files of somebody who means harm: each wants to run something, or to ask the network, through an entry of ours."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults import judge, modelfiles
from tests.faults.kind import Bad, Case, Kind, Limits
from tests.faults.modelfiles import FILE
from tests.faults.openers import ENTRIES
from tests.faults.plantings import (
    ARGS,
    CALLS,
    DOCUMENTED,
    MARK,
    OPCODES,
    PACKED,
    PLACES,
    ROWS,
    TEXT,
    YAMLS,
    Call,
)

OPENERS = [name for name in ENTRIES if name not in ("again", "cli val", "cli resume")]


def listed() -> Iterator[Case]:
    """Every way to plant something, through every entry, without and with weights-only loading."""
    through = list(itertools.product(OPENERS, (False, True)))
    for call, place, packed, fork in itertools.product(CALLS, PLACES, PACKED, (False, True)):
        turn = hash_of(call, place, packed, fork)
        entry, safe = through[turn % len(through)]
        yield {"call": call, "place": place, "packed": packed, "fork": fork, "entry": entry, "safe": safe}
    for code, packed, fork, (entry, safe) in itertools.product(OPCODES, ("zip", "pickle"), (False, True), through):
        if hash_of(code, packed, fork, entry, safe) % 3 == 0:
            yield {"code": code, "packed": packed, "fork": fork, "entry": entry, "safe": safe}
    for rows, (entry, safe) in itertools.product(ROWS, through):
        yield {"rows": rows, "fork": True, "entry": entry, "safe": safe}
    for entry, safe in itertools.product((*OPENERS, "bare val", "bare cli val"), (False, True)):
        yield {"args": True, "fork": True, "entry": entry, "safe": safe}
    for line, what, safe in itertools.product(YAMLS, ("model", "data"), (False, True)):
        yield {"line": line, "fork": False, "entry": what, "safe": safe}


def hash_of(*values: object) -> int:
    """A number that is the same in every process."""
    return sum(map(ord, repr(values))) * 7919


def check(case: Case) -> str:
    """Give the file to its entry, and see whether anything was run or asked for."""
    from ultralytics import utils
    from ultralytics.nn import tasks

    from yolomix.host import entry as ultralytics_entry

    if case["safe"] and not hasattr(tasks, "SAFE_LOAD"):
        return "not tried: this Ultralytics has no weights-only loading"
    ultralytics_entry.no_lookups()
    os.environ["YOLOMIX_BACKEND"] = "eager"
    tasks.SAFE_LOAD = utils.SAFE_LOAD = case["safe"]
    act = _made(case)
    seen = judge.watch()
    word = "opened"
    try:
        act()
    except Exception as error:  # noqa: BLE001  what ran is the question
        word = "refused" if judge.is_ours(error) else "refused by Ultralytics"
    if "args" in case:  # without a dataset Ultralytics asks for its own
        seen = [line for line in seen if "127.0.0.1" in line]
    ran = [*map(str, Path().rglob("it-ran*")), *seen]
    if not ran:
        return f"nothing ran, {word}"
    is_model = "line" not in case
    if case["fork"] or (case["safe"] and is_model) or not (is_model or case["line"] in DOCUMENTED):
        raise Bad(f"ran: {ran[:5]}")
    return (
        "ran, as Ultralytics documents without ULTRALYTICS_SAFE_LOAD"
        if is_model
        else "ran, a YAML that Ultralytics runs"
    )


def _made(case: Case) -> Callable[[], Any]:
    """Write the file; returns what opens it."""
    if "line" in case:
        return _yaml(case)
    if "call" in case:
        found = _planted(modelfiles.content("fork" if case["fork"] else "plain"), case["place"], Call(case["call"]))
        raw = modelfiles.saved(found, case["fork"])
        raw = _packed(raw, case["packed"])
    elif "code" in case:
        raw = _coded(OPCODES[case["code"]] + (MARK if case["fork"] else b""), case["packed"])
    else:
        raw = modelfiles.saved(_described(case), fork=True)
    Path(FILE).write_bytes(raw)
    Path("strange2.yaml").write_text(f"activation: {TEXT!r}\nnc: 1\nbackbone: [[-1, 1, Conv, [8]]]\nhead: []\n")
    return {"bare val": _bare_val, "bare cli val": _bare_cli_val}.get(case["entry"]) or ENTRIES[case["entry"]].does


def _planted(found: dict[str, Any], place: str, call: Call) -> Any:
    if place == "whole":
        return {"model": call, "mark": "ultralytics.nn.modules.mamba_yolo"} if found["epoch"] == 7 else call
    if place == "train_args":
        found["train_args"] = {**found["train_args"], "data": call}
    elif place == "names":
        found["model"].names = {0: call}
    elif place == "model":
        vars(found["model"])["criterion"] = call
    else:
        found[place] = call
    return found


def _packed(raw: bytes, how: str) -> bytes:
    """The file that torch.save wrote, packed in another way."""
    if how == "zip":
        return raw
    if how in ("compressed", "twice", "nested"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(raw)) as given, zipfile.ZipFile(buffer, "w") as out:
            for entry in given.infolist():
                kind = zipfile.ZIP_DEFLATED if how == "compressed" else zipfile.ZIP_STORED
                out.writestr(entry.filename, given.read(entry), kind)
            if how == "twice":
                out.writestr(given.namelist()[0], b"\x80\x02}q\x00.")
        if how == "nested":
            outer = io.BytesIO()
            with zipfile.ZipFile(outer, "w") as archive:
                archive.writestr("archive/data.pkl", buffer.getvalue())
            return outer.getvalue()
        return buffer.getvalue()
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        inside = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    if how == "legacy":  # magic number, protocol, system, content, storage keys
        return (
            b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
            + inside
            + pickle.dumps([], 2)
        )
    if how == "tar":
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, content in (
                ("sys_info", pickle.dumps({}, 2)),
                ("pickle", inside),
                ("storages", pickle.dumps(0, 2)),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return buffer.getvalue()
    return {"pickle": bytes, "gzip": gzip.compress, "bz2": bz2.compress}[how](inside)  # type: ignore[operator]


def _coded(code: bytes, how: str) -> bytes:
    if how == "pickle":
        return code
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, inside in (("data.pkl", code), ("version", b"3\n"), ("byteorder", b"little")):
            out.writestr(f"archive/{name}", inside)
    return buffer.getvalue()


def _described(case: Case) -> dict[str, Any]:
    """A checkpoint of the fork without any code in it, whose model dictionary or arguments mean harm."""
    found = modelfiles.content("fork")
    if "args" in case:
        found["train_args"] = {**found["train_args"], **ARGS}
        return found
    changes = dict(ROWS[case["rows"]])
    if changes.get("backbone") == "twice":
        value: Any = [1]
        for _ in range(40):
            value = [value, value]
        changes["backbone"] = [[-1, 1, "Conv", value]]
    found["model"].yaml = {**found["model"].yaml, **changes}
    return found


def _yaml(case: Case) -> Callable[[], Any]:
    import yolomix
    from tests.tiny import TINY, write_dataset

    line = YAMLS[case["line"]]
    if case["entry"] == "model":
        key = line.partition(":")[0]
        kept = [part for part in TINY.split("\n\n") if not part.startswith(key)]
        Path("yolo0n-odd.yaml").write_text("\n".join(kept) + "\n" + line)
        return lambda: yolomix.YOLO("yolo0n-odd.yaml")
    root = Path("data").resolve()
    file = write_dataset(root)
    text = file.read_text().replace("images/val", "nowhere") if line.startswith("download") else file.read_text()
    key = line.partition(":")[0]
    file.write_text("\n".join(part for part in text.splitlines() if not part.startswith(key)) + "\n" + line)
    from ultralytics.data.utils import check_det_dataset

    return lambda: check_det_dataset(str(file))


def _bare_val() -> None:
    import yolomix

    yolomix.YOLO(FILE).val(imgsz=64, workers=0, plots=False, device="cpu")


def _bare_cli_val() -> None:
    from yolomix import cli

    cli.main(["val", f"model={FILE}", "imgsz=64", "workers=0", "plots=False", "device=cpu"])


def _one_more_name() -> None:
    from yolomix.host import fork_rows

    fork_rows.LAYERS |= {"DetectionModel"}
    fork_rows._is_argument = lambda value: True


def _like_any_other() -> None:
    from yolomix.host import foreign

    foreign.is_foreign = lambda file: False


def _call_classes() -> None:
    import contextlib

    from yolomix.hooks import checkpoint

    @contextlib.contextmanager
    def _allowed():
        checkpoint.allow_classes()
        yield

    checkpoint._restricted = _allowed


def _addresses_stay() -> None:
    from yolomix.host import foreign

    foreign._plain_items = lambda args: args


KIND = Kind(
    name="planted",
    tries="files that want to run something or ask the network, through every entry, weights-only loading off and on",
    figure="files of the fork, and weights-only loading: 0 run, 0 network calls",
    check=check,
    target=1000,
    listed=listed,
    first=(
        {"rows": "a model", "fork": True, "entry": "open", "safe": False},
        {"call": "exec", "place": "whole", "packed": "zip", "fork": True, "entry": "open", "safe": False},
        {"call": "exec", "place": "whole", "packed": "compressed", "fork": True, "entry": "plan", "safe": False},
        {"args": True, "fork": True, "entry": "bare val", "safe": False},
        {"call": "TorchVision", "place": "names", "packed": "zip", "fork": False, "entry": "open", "safe": True},
    ),
    runs_nothing=False,
    limits=Limits(file=64.0),
    small=12,
    plants={
        "one more name": _one_more_name,
        "the fork is opened as any": _like_any_other,
        "addresses stay": _addresses_stay,
        "weights-only loading calls classes": _call_classes,
    },
)
