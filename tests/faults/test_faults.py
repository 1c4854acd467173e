"""The fixed small part of the campaign, that every kind finds what is planted for it, and the page of the last run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings

import pytest

from tests.faults import campaign, forking, kinds, report
from tests.faults.campaign import Run
from tests.faults.kind import Bad, Kind, Limits
from tests.full import FULL, full
from tests.tiny import ROOT


def faults(*args: str) -> tuple[int, str]:
    """Run the campaign in a process that has imported nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
def test_the_small_part_of_every_kind():
    most = () if FULL else ("--most", "2")
    code, said = faults("--small", "--seed", "1", "--jobs", "1", *most)
    assert code == 0, said[-6000:]
    for name in kinds.names():
        assert re.search(rf"^{name}: (tried [1-9]\d*, bad 0 |NOT TRIED, )", said, re.MULTILINE), said[-3000:]
    for line in set(re.findall(r"^\w+: NOT TRIED, .*", said, re.MULTILINE)):
        warnings.warn(line, stacklevel=1)  # into the summary


@full
def test_every_kind_finds_what_is_planted():
    code, said = faults("--plants", "--seed", "1")
    assert code == 0, said[-6000:]
    assert "NOT FOUND" not in said
    for name in kinds.names():
        kind = kinds.load(name)
        assert kind.plants, f"{name} has no plant"
        assert kind.refusal() or f"{name}: " in said


def test_the_page_has_the_counts():
    assert report.PAGE.read_text("utf-8") == report.page(json.loads(report.COUNTS.read_text("utf-8")))


def test_a_case_that_hangs_dies_grows_or_starts_a_program_is_a_failure(tmp_path):
    """In a process of its own: pytest runs threads, and a process with threads must not fork."""
    code = f"""
import json, os, signal, subprocess, sys, time
from tests.faults import forking
from tests.faults.kind import Bad, Kind, Limits

def check(case):
    if case == "hang": time.sleep(60)
    if case == "die": os.kill(os.getpid(), signal.SIGSEGV)
    if case == "exit": os._exit(3)
    if case == "grow": bytearray(3 << 30)
    if case == "burn":
        while time.process_time() < 2: pass
    if case == "start": subprocess.run(["true"])
    if case == "bare": [][0]
    if case == "bad": raise Bad("half a file")
    return "built"

kind = Kind("one", "", "", check, limits=Limits(seconds=1, wall=8, memory=0.5))
words = {{case: forking.attempt(kind, case).word for case in sys.argv[1:]}}
print(json.dumps(words))
left = [name for name in os.listdir({str(tmp_path)!r})]
assert not left, left
"""
    cases = ("fine", "hang", "die", "exit", "grow", "burn", "start", "bare", "bad")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code, *cases], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = json.loads(done.stdout)
    assert words.pop("grow") in ("MemoryError", "large")
    assert words == {
        "fine": "built",
        "hang": "hangs",
        "die": "died",
        "exit": "died",
        "burn": "slow",
        "start": "started",
        "bare": "IndexError",
        "bad": "bad",
    }


def test_the_same_seed_makes_the_same_cases():
    for name in kinds.names():
        kind = kinds.load(name)
        if kind.draw is not None:
            first, second = ([*_firsts(kind)] for _ in range(2))
            assert json.dumps(first) == json.dumps(second)


def _firsts(kind: Kind):
    found = campaign.cases(kind, Run(seed=3))
    return [next(found) for _ in range(5)]


def test_a_failing_case_is_kept_as_a_command(tmp_path):
    kind = Kind("one", "", "", lambda case: "built", limits=Limits())
    file = forking.kept(kind, {"a": 1}, forking.Outcome("bad", str(Bad("half"))), tmp_path / "kept")
    assert json.loads(file.read_text()) == {
        "kind": "one",
        "case": {"a": 1},
        "outcome": {"word": "bad", "text": "half", "seconds": 0.0, "memory": 0.0},
    }
