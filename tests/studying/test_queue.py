"""The queue: as many runs at once as there is room, none twice, and a state that goes on whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from yolomix import files
from yolomix.studying import queue
from yolomix.studying.folder import STOPPED
from yolomix.studying.queue import Queue, Slot, duration, slots, why
from yolomix.studying.record import Record, RunSpec

STUB = Path(__file__).with_name("stub.py")
CPU = Slot("cpu")


def how(folder: Path) -> list[str]:
    return [sys.executable, str(STUB), str(folder)]


def spec(name: str, **arguments: object) -> RunSpec:
    said = {"epochs": 2, **arguments}
    return RunSpec(name, "m.pt", 0, "d.yaml", "test", "last", said, f"runs/{name}", name, {"pair": 0, "role": "arm"})


def run(folder: Path, specs: list[RunSpec], room=(CPU, CPU), **options: object) -> Queue:
    made = Queue(folder, lambda given: given, list(room), how)
    made.run(specs, **options)
    return made


def record(folder: Path, name: str) -> Record:
    return Record.load(folder / "runs" / name / "record.npz")


def lines(folder: Path, name: str, file: str = "begun.txt") -> list[str]:
    return (folder / "runs" / name / file).read_text().splitlines()


def test_runs_begin_in_order_as_many_at_once_as_there_is_room(tmp_path):
    most = []
    made = Queue(tmp_path, lambda given: given, [CPU, CPU], how)
    ended = []
    made.run(
        [spec(name, seconds=0.2) for name in "abcd"],
        said=lambda done, total, what: most.append(len(made.jobs)),
        done=lambda spec, record: ended.append((spec.arm, record.status)),
    )
    assert max(most) == 2
    began = {name: float(lines(tmp_path, name)[0].split()[0]) for name in "abcd"}
    assert max(began["a"], began["b"]) < min(began["c"], began["d"])
    assert sorted(ended) == [(name, "finished") for name in "abcd"]


def test_a_finished_run_is_never_repeated(tmp_path):
    specs = [spec("a"), spec("b")]
    run(tmp_path, specs)
    run(tmp_path, specs, retry=True)
    assert [len(lines(tmp_path, name)) for name in "ab"] == [1, 1]


@pytest.mark.parametrize("end", ["failed", "diverged"])
def test_what_failed_is_recorded_and_repeated_on_request_only(tmp_path, end):
    run(tmp_path, [spec("a", end=end), spec("b")])
    assert (record(tmp_path, "a").status, record(tmp_path, "a").reason) == (end, f"it {end}")
    assert record(tmp_path, "b").status == "finished"
    run(tmp_path, [spec("a"), spec("b")])
    assert record(tmp_path, "a").status == end
    run(tmp_path, [spec("a"), spec("b")], retry=True)
    assert record(tmp_path, "a").status == "finished"
    assert len(lines(tmp_path, "b")) == 1


def test_a_killed_run_is_told_and_goes_on_next_time(tmp_path):
    made = run(tmp_path, [spec("a", epochs=3, end="killed")])
    assert made.reasons["a"].startswith("killed by SIGKILL, by somebody or by the system for lack of memory; started")
    assert (tmp_path / "runs" / "a" / STOPPED).read_text().strip() == made.reasons["a"]
    run(tmp_path, [spec("a", epochs=3)])
    assert lines(tmp_path, "a", "epochs.txt") == ["0 1 2 "]  # no epoch twice
    assert not (tmp_path / "runs" / "a" / STOPPED).exists()
    assert record(tmp_path, "a").status == "finished"


def test_a_silent_end_is_told_with_the_last_words(tmp_path):
    made = run(tmp_path, [spec("a", end="silent")])
    assert made.reasons["a"] == (
        "ended with exit code 3 and without a record; it said last: RuntimeError: what it said last"
    )


def test_a_full_disk_is_the_reason(tmp_path, monkeypatch):
    (tmp_path / "log.txt").write_text("OSError: [Errno 28] No space left on device\n")
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr(queue.shutil, "disk_usage", lambda folder: usage)
    assert why(1, tmp_path).startswith(f"the disk is full ({tmp_path}); make room and start the study again.")


def test_a_run_that_cannot_begin_is_told_and_the_others_run(tmp_path):
    def _prepare(given: RunSpec) -> RunSpec:
        if given.arm == "a":
            raise OSError("cannot write inits/a.pt: No space left on device")
        return replace(given, model="here.pt")

    made = Queue(tmp_path, _prepare, [CPU], how)
    made.run([spec("a"), spec("b")])
    assert made.reasons == {"a": "could not begin: cannot write inits/a.pt: No space left on device"}
    assert record(tmp_path, "b").spec.model == "here.pt"


def test_nothing_begins_after_the_budget(tmp_path):
    made = run(tmp_path, [spec("a", seconds=0.3), spec("b"), spec("c")], room=[CPU], budget=0.1 / 3600)
    assert record(tmp_path, "a").status == "finished"
    assert {key: made.reasons[key] for key in "bc"} == dict.fromkeys(
        "bc", "not begun: the budget of 2.77778e-05 hours is spent"
    )
    assert not (tmp_path / "runs" / "b").exists()


def test_each_run_has_a_device(tmp_path):
    room, _ = slots(3, "0,3")
    assert room == [Slot("0", {"CUDA_VISIBLE_DEVICES": "0"}), Slot("0", {"CUDA_VISIBLE_DEVICES": "3"})]
    run(tmp_path, [spec("a", seconds=0.1), spec("b", seconds=0.1)], room)
    assert sorted(lines(tmp_path, name)[0].split()[1] for name in "ab") == ["0", "3"]
    assert record(tmp_path, "a").spec.arguments["device"] == "0"


@pytest.mark.parametrize(
    ("runs", "cores", "memory", "kept", "room", "threads"),
    [
        (10, 2, 64, 0, 2, 1),
        (1, 8, 64, 0, 1, 8),
        (4, 16, 64, 0, 4, 4),
        (40, 16, 9, 0, 3, 5),  # memory for three
        (10, 2, 64, 2, 1, 2),  # as the study began
        (10, 1, 64, 4, 1, 4),
    ],
)
def test_threads_are_divided(monkeypatch, runs, cores, memory, kept, room, threads):
    monkeypatch.setattr(queue, "_cores", lambda: cores)
    monkeypatch.setattr(queue, "_memory", lambda: memory << 30)
    found, each = slots(runs, "cpu", kept)
    assert (len(found), each) == (room, threads)
    assert room * threads <= cores or room == 1


def test_progress_says_what_runs_and_how_long_it_takes(tmp_path):
    said = []
    run(
        tmp_path,
        [spec(name, seconds=0.3, epochs=3) for name in "ab"],
        room=[CPU],
        said=lambda done, total, what: said.append((done, total, what)),
    )
    assert said[0][:2] == (0, 2)
    assert any(what.startswith("a s0 epoch 1/3 0.500; about ") and what.endswith(" left") for _, _, what in said)
    assert said[-1] == (2, 2, "no run at work; about 0 s left")


@pytest.fixture
def interruptible():
    """Ctrl-C ends what runs, also where the shell began the tests in the background and had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_runs_and_the_next_call_goes_on(tmp_path):
    specs = [spec(name, seconds=0.2, epochs=5) for name in "ab"]
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    made = Queue(tmp_path, lambda given: given, [CPU], how)
    pids = []
    with pytest.raises(KeyboardInterrupt):
        made.run(specs, said=lambda *_: pids.extend(job.process.pid for job in made.jobs))
    assert made.jobs == []
    assert not any(files.runs(pid) for pid in set(pids))
    assert 1 <= len(lines(tmp_path, "a", "epochs.txt")[0].split()) < 5
    run(tmp_path, specs)
    assert lines(tmp_path, "a", "epochs.txt") == ["0 1 2 3 4 "]


QUEUE = """
import sys
from pathlib import Path
from tests.studying import test_queue
from yolomix.studying import queue
from yolomix.studying.queue import Queue

CHILD = '''
import runpy
from yolomix import processes
processes.watch()
runpy.run_path(STUB, run_name="__main__")
'''
def how(folder):
    return [sys.executable, "-c", CHILD.replace("STUB", repr(str(test_queue.STUB))), str(folder)]
folder = Path(sys.argv[1])
made = Queue(folder, lambda given: given, [test_queue.CPU], how)
made.run([test_queue.spec("a", seconds=0.3, epochs=50)])
"""


def test_a_killed_queue_takes_its_runs_with_it(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", QUEUE, str(tmp_path)], cwd=STUB.parents[2])
    try:
        state = tmp_path / "runs" / "a" / "epochs.txt"
        wait(lambda: state.exists())
    finally:
        process.kill()
        process.wait()
    time.sleep(0.5)
    before = state.read_text()
    time.sleep(1.0)
    assert state.read_text() == before, "the run goes on without its queue"


def wait(until, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def test_durations():
    assert [duration(seconds) for seconds in (5, 300, 7200)] == ["5 s", "5 min", "2.0 h"]
