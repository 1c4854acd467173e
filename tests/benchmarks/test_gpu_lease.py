"""The lease of a GPU as far as a CPU can run it: limits, failures, what a cut leaves, and the whole rehearsal."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("triton", reason="the GPU benchmarks need Triton")

import torch
from benchmarks.gpu_record import BROKEN, COLUMNS, Lease, Record, best, key

from benchmarks import gpu_lease
from tests.full import full
from tests.tiny import ROOT

ONE, TWO, THREE = (key(name, mode="tried") for name in ("one", "two", "three"))


@pytest.fixture
def record(tmp_path):
    """Makes the record of a step, as its process does."""
    return lambda: Record(tmp_path, "b", "cpu")


def rows(path):
    with path.open() as file:
        return [(row["what"], row["note"]) for row in csv.DictReader(file)]


def measured(note="measured"):
    return lambda: [{"note": note}]


def cut():
    raise KeyboardInterrupt


def test_after_a_cut_the_rows_that_are_left_are_measured_and_no_others(record, tmp_path):
    first = record()
    with pytest.raises(KeyboardInterrupt):
        first.work({ONE: measured(), TWO: cut, THREE: measured()})
    assert first.lease.read()["steps"]["b"]["left"] == [" ".join(TWO), " ".join(THREE)]
    with (tmp_path / "b.csv").open("a") as file:
        file.write("two,,,half a li")
    record().work({ONE: measured("again"), TWO: measured(), THREE: measured()})
    assert rows(tmp_path / "b.csv") == [(name, "measured") for name in ("one", "two", "three")]
    assert record().lease.read()["steps"]["b"]["left"] == []


def test_a_failure_keeps_its_traceback_and_is_tried_again_in_the_next_call_alone(record, tmp_path):
    record().work({ONE: lambda: 1 / 0, TWO: measured()})
    assert rows(tmp_path / "b.csv") == [("one", "failed: ZeroDivisionError: division by zero"), ("two", "measured")]
    kept = Lease(tmp_path).read()["steps"]["b"]["failures"][" ".join(ONE)]["traceback"]
    assert "ONE: lambda: 1 / 0" in kept
    record().work({ONE: measured(), TWO: measured()})
    assert len(rows(tmp_path / "b.csv")) == 2
    Lease(tmp_path).update(calls=1)
    record().work({ONE: measured(), TWO: measured()})
    assert rows(tmp_path / "b.csv")[2:] == [("one", "measured")]
    assert Lease(tmp_path).read()["steps"]["b"]["failures"] == {}


def test_too_little_memory_is_a_result(record, tmp_path):
    def fails():
        raise torch.cuda.OutOfMemoryError("at 80 GB")

    record().work({ONE: fails})
    assert rows(tmp_path / "b.csv") == [("one", "not measured: out of memory")]
    assert Lease(tmp_path).read()["steps"]["b"]["failures"] == {}


def test_where_the_gpu_answers_nothing_more_another_process_goes_on(record, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_record.answers", lambda: False)
    with pytest.raises(SystemExit) as ended:
        record().work({ONE: lambda: 1 / 0, TWO: measured()})
    assert ended.value.code == BROKEN
    record().work({ONE: measured(), TWO: measured()})
    assert [name for name, _ in rows(tmp_path / "b.csv")] == ["one", "two"]


def test_a_process_is_ended_at_its_limit_with_what_it_began(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text(
        "import pathlib, subprocess, sys, time\n"
        "began = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(began.pid))\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr(gpu_lease, "PROGRAM", "slow")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert gpu_lease.process(tmp_path, "a", 10, dry_run=False) is None
    for _ in range(100):
        if not alive(int((tmp_path / "pid").read_text())):
            return
        time.sleep(0.1)
    pytest.fail("what the process began still runs")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def lease(tmp_path, monkeypatch, codes, minutes=8.0):
    """Run it with processes that end with these codes at once; returns the seconds that each was given."""
    limits = {}

    def process(out, step, limit, dry_run):
        limits[step] = limit
        return codes.get(step, 0)

    monkeypatch.setattr(gpu_lease, "process", process)
    return gpu_lease.lease(tmp_path, minutes, False), limits


def states(folder):
    return {step: entry["state"] for step, entry in Lease(folder).read()["steps"].items()}


def test_minutes_are_shared_as_planned_and_what_is_over_goes_to_those_behind(tmp_path, monkeypatch):
    code, limits = lease(tmp_path, monkeypatch, {}, minutes=16)
    assert code == 0
    assert limits["t"] == pytest.approx(180, abs=1)
    assert limits["b"] == pytest.approx(960 * 1.5 / 5, abs=1)
    assert limits["e"] == pytest.approx(960, abs=1)


def test_a_second_call_runs_what_is_not_done(tmp_path, monkeypatch):
    code, limits = lease(tmp_path, monkeypatch, {"b": None, "c": -9})
    assert (code, list(limits)) == (1, list("tabcde"))
    assert states(tmp_path) == {"t": "done", "a": "done", "b": "cut", "c": "failed", "d": "done", "e": "done"}
    assert "ended with exit code -9; lease.log" in Lease(tmp_path).read()["steps"]["c"]["traceback"]
    code, limits = lease(tmp_path, monkeypatch, {})
    assert (code, list(limits)) == (0, ["b", "c"])


def test_one_step_alone_has_all_minutes(tmp_path, monkeypatch):
    limits = {}
    monkeypatch.setattr(gpu_lease, "has_gpu", lambda: True)
    monkeypatch.setattr(gpu_lease, "process", lambda out, step, limit, dry_run: limits.setdefault(step, limit) and 0)
    assert gpu_lease.main(["--out", str(tmp_path), "--minutes", "8", "--only", "t"]) == 0
    assert limits == {"t": pytest.approx(480, abs=1)}
    assert states(tmp_path) == {"t": "done"}


def test_a_step_that_fails_leaves_its_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("yolomix.processes.watch", lambda: None)
    monkeypatch.setitem(gpu_lease.STEPS, "a", (1, "no_such_step"))
    assert gpu_lease.main(["--out", str(tmp_path), "--step", "a"]) == 1
    assert "ModuleNotFoundError: No module named 'no_such_step'" in Lease(tmp_path).read()["steps"]["a"]["traceback"]


def test_the_best_three_of_every_size(tmp_path):
    with (tmp_path / "c.csv").open("w") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for who, ms in (("slow", "9"), ("third", "3"), ("first", "1"), ("second", "2"), ("failed", "")):
            writer.writerow({"shape": "S1", "batch": 1, "mode": "forward", "who": who, "ms_p50": ms})
    assert best(tmp_path / "c.csv") == {"S1 1  forward": ["first: 1.0000 ms", "second: 2.0000 ms", "third: 3.0000 ms"]}


def test_without_a_gpu_it_says_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_lease.main(["--out", str(tmp_path / "x")]) == gpu_lease.NO_GPU
    assert "needs a GPU that PyTorch can use" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@full
def test_the_rehearsal_is_killed_and_goes_on_to_its_end(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu_lease", "--dry-run", "--minutes", "9", "--out", str(tmp_path)]
    first = subprocess.Popen(command, cwd=ROOT)
    while len(rows(tmp_path / "a.csv") if (tmp_path / "a.csv").exists() else ()) < 1:
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait()
    before = rows(tmp_path / "a.csv")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ)
    found = json.loads((tmp_path / "lease.json").read_text())
    assert done.returncode == 0, (done.stdout, (tmp_path / "lease.log").read_text()[-4000:])
    assert (found["calls"], found["conditions"]["device"]) == (2, "cpu")
    assert states(tmp_path) == dict.fromkeys("tabcde", "done")
    names = [name for name, _ in rows(tmp_path / "a.csv")]
    assert before[0][0] in names
    assert len(names) == len(set(names)) == 4  # bits every time, two about autocast, large offsets
    assert {row["who"] for row in csv.DictReader((tmp_path / "b.csv").open())} >= {
        "yolomix triton", "yolomix eager", "four copies, yolomix triton",
    }  # fmt: skip
    assert len(found["best_plans"]) == 2
    assert [bool(loss) for loss in (row["loss"] for row in csv.DictReader((tmp_path / "e.csv").open()))] == [1, 1, 0]
