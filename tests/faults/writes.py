"""Every write of yolomix, interrupted at every call on the disk: full, broken, forbidden, or the process killed."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.faults import judge
from tests.faults.forking import ENDED
from tests.faults.injection import ERRORS, Injection
from tests.faults.kind import Bad, Case, Kind, Limits
from tests.tiny import TINY, write_dataset

GRAFT = "base.pt+MLLABlock@1"
WAYS = (*ERRORS, "kill", "room")
ROOM = 20_000  # bytes more that a file may have at every step
UNTOUCHED, REFUSED, THEIRS, UNKNOWN, WENT_ON = 0, 10, 11, 12, 13
ENDS = {REFUSED: "refused", THEIRS: "refused by Ultralytics", WENT_ON: "went on"}


def listed() -> Iterator[Case]:
    """Every writer with every way to fail."""
    for writer, how in itertools.product(WRITERS, WAYS):
        yield {"writer": writer, "how": how}


def check(case: Case) -> str:
    """Prepare, be interrupted, look at every file, do it again; each in a process of its own: it may use threads."""
    prepare, act = WRITERS[case["writer"]]
    _whole(prepare, "what comes before fails")
    before = _files()
    injection = Injection(Path(), case["n"] * (ROOM if case["how"] == "room" else 1), case["how"])
    status, said = _apart(act, injection)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == UNTOUCHED:
        return ENDED
    _check_files(before)
    _check_end(status, said, case)
    _whole(act, f"the next call fails, after {said}")
    _check_files({})
    left = [name for name in _files() if ".yolomix-" in name]
    if left:
        raise Bad(f"left over after the next call: {left}")
    return ENDS.get(os.WEXITSTATUS(status), "killed") if os.WIFEXITED(status) else "killed"


def _whole(act: Callable[[], Any], what: str) -> None:
    status, said = _apart(act, Injection(Path(), -1, "full"))
    if status != UNTOUCHED:
        raise Bad(f"{what}: {said}")


def _apart(act: Callable[[], Any], injection: Injection) -> tuple[int, str]:
    """Do it in a forked process with an injection; its status, and what it said."""
    log = Path("..", "said.txt").resolve()
    pid = os.fork()
    if pid == 0:
        code = UNKNOWN
        said = open(log, "w")  # noqa: SIM115  before the calls are counted
        try:
            injection.start()
            act()
            code = WENT_ON if injection.fired or injection.too_large(_largest()) else UNTOUCHED
        except BaseException as error:  # noqa: BLE001  what came is the question
            code = _code(error, injection)
            said.write(judge.described(error) if code != UNKNOWN else traceback.format_exc())
        finally:
            said.write(f"\n{injection.fired}")
            said.flush()
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return status, log.read_text()


def _code(error: BaseException, injection: Injection) -> int:
    if judge.is_ours(error):
        return REFUSED
    # What Ultralytics writes itself (args.yaml, results.csv) fails as Python says it: with the file.
    named = isinstance(error, OSError) and error.filename is not None
    return THEIRS if named and not injection.fired.split(" ", 1)[-1].endswith((".pt", ".json")) else UNKNOWN


def _check_end(status: int, said: str, case: Case) -> None:
    """It was killed because the case said so, or it raised one error with the file and the reason."""
    if os.WIFSIGNALED(status):
        if case["how"] != "kill":
            raise Bad(f"ended by signal {os.WTERMSIG(status)}: {said}")
        return
    code = os.WEXITSTATUS(status)
    if code == UNKNOWN:
        raise Bad(f"an error that is not ours: {said}")
    if code == REFUSED and not ("cannot write" in said or "cannot read" in said):
        raise Bad(f"the error does not name the file and the reason: {said}")


def _check_files(before: dict[str, str]) -> None:
    """No file is half: each is as before, or one that can be opened."""
    now = _files()
    # A new training into the folder of an earlier one begins its results anew, as exist_ok=True asks for.
    if lost := {name for name in set(before) - set(now) if not name.endswith("results.csv")}:
        raise Bad(f"lost: {sorted(lost)}")
    for name, digest in now.items():
        if before.get(name) != digest and ".yolomix-" not in name:
            _check_whole(Path(name))


def _check_whole(file: Path) -> None:
    import torch

    from yolomix import files

    try:
        if file.suffix == ".pt":
            kept = torch.load(file, weights_only=False)
            if not (kept.get("model") or kept.get("ema")):
                raise ValueError("no model in it")
        elif file.suffix == ".yaml" and file.read_bytes().startswith(files.SIGNED.encode()):
            if not files.is_ours(file):
                raise ValueError("its digest is another")
        elif file.name == "data.yaml":
            yaml.safe_load(file.read_text())["names"]
    except Exception as error:
        raise Bad(f"{file} is half: {type(error).__name__}: {error}") from error


def _files() -> dict[str, str]:
    found = {}
    for path in sorted(Path().rglob("*")):
        if path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _largest() -> int:
    return max((path.stat().st_size for path in Path().rglob("*") if path.is_file()), default=0)


def _model() -> None:
    """``base.pt`` and ``yolo0-tiny.yaml``."""
    import yolomix
    from yolomix.host import weights

    Path("yolo0-tiny.yaml").write_text(TINY)
    weights.write(yolomix.YOLO("yolo0n-tiny.yaml", verbose=False).model, Path("base.pt"))


def _model_and_graft() -> None:
    _model()
    _graft_by_name()


def _trained_before() -> None:
    _model()
    write_dataset(Path("data").resolve())
    _train()


def _save() -> None:
    import yolomix

    yolomix.YOLO("base.pt").save("base.pt")


def _graft_by_name() -> None:
    import yolomix

    yolomix.YOLO(GRAFT)


def _graft_to_file() -> None:
    import yolomix

    yolomix.graft("base.pt", "MLLABlock", at=1).apply(save="out.pt")


def _plan_to_yaml() -> None:
    import yolomix

    yolomix.graft("yolo0n-tiny.yaml", "MLLABlock", at=1).apply(save="out.yaml")


def _transfer() -> None:
    import yolomix

    yolomix.transfer("base.pt", "yolo0n-tiny.yaml", save="moved.pt")


def _sample() -> None:
    from yolomix import data

    data.sample_dataset(root=Path("sample"))


def _cache() -> None:
    os.environ["YOLOMIX_CACHE"] = str(Path("cache").resolve())
    from yolomix import data

    data.SPLITS.clear()
    data.SPLITS.update(train=2, val=1)
    data.sample_dataset()


def _train() -> None:
    import yolomix

    yolomix.YOLO("base.pt").train(
        data="data/data.yaml", epochs=1, imgsz=64, batch=3, workers=0, plots=False, verbose=False, device="cpu",
        project=str(Path("runs").resolve()), name="run", exist_ok=True, val=False,
    )  # fmt: skip


WRITERS: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
    "save": (_model, _save),
    "graft by name": (_model, _graft_by_name),
    "graft by name, there already": (_model_and_graft, _graft_by_name),
    "graft to a file": (_model, _graft_to_file),
    "plan to a YAML": (_model, _plan_to_yaml),
    "transfer": (_model, _transfer),
    "sample dataset": (lambda: None, _cache),
    "training": (_trained_before, _train),
}


def write_in_place() -> None:
    """Plant: open the file itself and write into it."""
    from yolomix import files

    def replaced(path: Any, content: bytes, flush: bool) -> Path:
        with open(path, "wb") as file:
            file.write(content)
        return Path(path)

    files._replace = replaced


def leave_aside() -> None:
    """Plant: never remove what was being written."""
    from yolomix import files

    files._remove_leftovers = lambda target: None


KIND = Kind(
    name="writes",
    tries="every write of ours x every call on the disk x full, broken, interrupted, forbidden, killed, no room",
    figure="0 half files, 0 files lost, 0 that fail afterwards",
    check=check,
    listed=listed,
    first=({"writer": "plan to a YAML", "how": "kill", "n": 3},),
    walks=True,
    limits=Limits(seconds=60, file=64),
    share=2.0,
    small=10,
    plants={"write-in-place": write_in_place, "leave-aside": leave_aside},
)
