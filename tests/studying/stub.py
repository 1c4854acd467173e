"""A process like that of a run: epochs that take a moment, a state that it goes on from, and a record at the end.

``python stub.py FOLDER``; the arguments of the spec say what becomes of it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main(folder: Path) -> int:
    spec = json.loads((folder / "spec.json").read_text())
    said = spec["arguments"]
    with (folder / "begun.txt").open("a") as file:
        file.write(f"{time.time()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')} {said['device']}\n")
    state = folder / "epochs.txt"
    done = len(state.read_text().split()) if state.exists() else 0
    for epoch in range(done, said["epochs"]):
        time.sleep(said.get("seconds", 0.0))
        with state.open("a") as file:
            file.write(f"{epoch} ")
        line = {"epoch": epoch + 1, "of": said["epochs"], "metric": 0.5, "seconds": said.get("seconds", 0.0)}
        print(json.dumps(line), flush=True)
        if said.get("end") == "killed" and epoch == done:
            os.kill(os.getpid(), signal.SIGKILL)
    if said.get("end") == "silent":
        (folder / "log.txt").write_text("Traceback\nRuntimeError: what it said last\n\n")
        return 3
    from yolomix.studying.record import Record, RunSpec

    status = said["end"] if said.get("end") in ("failed", "diverged") else "finished"
    reason = "" if status == "finished" else f"it {status}"
    seconds = done + said.get("seconds", 0.0)
    Record(RunSpec(**spec), status, reason, seconds=seconds, metrics={"metrics/mAP50-95(B)": 0.5}).save(
        folder / "record.npz"
    )
    (folder / "ended.txt").write_text(str(time.time()))
    return 0 if status == "finished" else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
