"""Many cases of one kind: in several processes at once, counted, what fails kept."""

from __future__ import annotations

import collections
import itertools
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import hypothesis
from hypothesis import strategies
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.faults import forking
from tests.faults.forking import Outcome
from tests.faults.kind import Case, Kind


@dataclass
class Count:
    """What a kind came to.

    Attributes:
        kind: its name.
        tried: cases done.
        words: how many came to which end.
        bad: the failures, each with the command that repeats it.
        seconds: wall-clock time.
        cut: whether time was over before everything was tried.
        untried: why nothing was tried, or None.
    """

    kind: str
    tried: int = 0
    words: collections.Counter[str] = field(default_factory=collections.Counter)
    bad: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cut: bool = False
    untried: str | None = None

    def __str__(self) -> str:
        if self.untried:
            return f"{self.kind}: NOT TRIED, {self.untried}"
        ends = ", ".join(f"{n} {word}" for word, n in self.words.most_common())
        return f"{self.kind}: tried {self.tried}, bad {len(self.bad)} ({ends}; {self.seconds:.0f} s)"


@dataclass(frozen=True)
class Run:
    """How much of a kind is tried.

    Attributes:
        seed: the first seed; the cases of a drawn kind are those of ``seed``, ``seed + 1``, ...
        most: cases at most, None for no limit.
        until: ``time.monotonic()`` at which no further case begins.
        jobs: processes at once.
        search: whether Hypothesis looks for a quarter of the cases, and shrinks what it finds.
        plant: breaks yolomix in the processes that run the cases.
        keep: the folder of failing cases and of Hypothesis' examples.
    """

    seed: int = 0
    most: int | None = None
    until: float = float("inf")
    jobs: int = 2
    search: bool = False
    plant: Callable[[], None] | None = None
    keep: Path = Path(".faults")

    @property
    def over(self) -> bool:
        """Whether no further case may begin."""
        return time.monotonic() >= self.until


def count(kind: Kind, run: Run, say: Callable[[str], None] = print) -> Count:
    """Try the cases of a kind, in ``run.jobs`` processes that fork one child per case."""
    result = Count(kind.name, untried=kind.refusal())
    start, known = time.monotonic(), set[str]()
    if result.untried is None:
        for line in _drivers(kind, run):
            result.tried += 1
            result.words[line["word"]] += 1
            if line["text"]:
                result.bad.append(line["file"])
                say(f"  bad: {line['word']}: python -m tests.faults --case {line['file']}")
                if line["text"] not in known:  # what Hypothesis shrinks comes many times
                    say("    " + line["text"].strip().replace("\n", "\n    "))
                known.add(line["text"])
    result.seconds, result.cut = time.monotonic() - start, run.over
    say(str(result))
    return result


def _drivers(kind: Kind, run: Run) -> Iterator[dict[str, Any]]:
    """Lines of all drivers as they come; a driver that dies is an error here."""
    pids, pipes = [], []
    for job in range(run.jobs):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _driver(kind, run, job, write)
        os.close(write)
        pids.append(pid)
        pipes.append(read)
    try:
        yield from map(json.loads, _merged(pipes))
    finally:
        for pipe in pipes:
            os.close(pipe)
        for pid in pids:
            _, status = os.waitpid(pid, 0)
            if status:
                raise RuntimeError(f"a process that runs cases of {kind.name} ended with status {status}")


def _merged(pipes: list[int]) -> Iterator[bytes]:
    """Whole lines of all pipes as they come."""
    rest = dict.fromkeys(pipes, b"")
    while rest:
        for pipe in select.select(list(rest), [], [])[0]:
            piece = os.read(pipe, 65536)
            *lines, rest[pipe] = (rest[pipe] + piece).split(b"\n")
            yield from lines
            if not piece:
                del rest[pipe]


def _driver(kind: Kind, run: Run, job: int, pipe: int) -> None:
    """Do every ``run.jobs``-th case and write a line for each; never returns."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with os.fdopen(pipe, "w", buffering=1) as out:
            found: list[Outcome] = []  # of a plant, one is enough

            def tried(case: Case) -> Outcome:
                if run.plant is not None and found:
                    return found[0]
                outcome = forking.attempt(kind, case)
                found.extend([outcome] * outcome.bad)
                file = forking.kept(kind, case, outcome, run.keep) if outcome.bad else ""
                print(json.dumps({"word": outcome.word, "text": outcome.text, "file": str(file)}), file=out)
                return outcome

            if run.plant is not None:
                run.plant()
            if kind.walks:
                _walk(kind, run, job, tried)
            elif run.search and kind.draw is not None:
                most = run.most or 200
                _plain(kind, replace(run, most=most - most // 4), job, tried)
                _search(kind, replace(run, most=most // 4), job, tried)
            else:
                _plain(kind, run, job, tried)
        code = 0
    except BaseException:  # noqa: BLE001  the last words of this process
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _plain(kind: Kind, run: Run, job: int, tried: Callable[[Case], Outcome]) -> None:
    for case in itertools.islice(cases(kind, run), job, run.most, run.jobs):
        if run.over:
            return
        tried(case)


def cases(kind: Kind, run: Run) -> Iterator[Case]:
    """The cases of a kind in order: its list, in an order of the seed, or those of one seed after another."""
    yield from kind.first
    if kind.listed is not None:
        listed = list(kind.listed())
        Random(run.seed).shuffle(listed)
        yield from listed
    if kind.draw is not None:
        for seed in itertools.count(run.seed):
            yield kind.draw(Random(seed))


def _walk(kind: Kind, run: Run, job: int, tried: Callable[[Case], Outcome]) -> None:
    """Every start with n = 1, 2, ... until nothing fails any more, or a share of that if there is a limit.

    A walk that only fails would have no end, so it is left after ten failures. A start that says its own n is one case.
    """
    starts = list(cases(kind, run))[job :: run.jobs]
    left = None if run.most is None else run.most // run.jobs
    step = 1 if left is None else Random(run.seed + job).randint(2, 5)
    for start in starts:
        failures = 0
        for n in [start["n"]] if "n" in start else itertools.count(1, step):
            if run.over or left == 0:
                return
            left = left and left - 1
            outcome = tried({**start, "n": n})
            failures += outcome.bad
            if outcome.word == forking.ENDED or failures == 10:
                break


def _search(kind: Kind, run: Run, job: int, tried: Callable[[Case], Outcome]) -> None:
    """Let Hypothesis drive the same generator; a failure is shrunk, kept in its database, and tried first next time."""
    most = run.most or 0
    done, share = 0, most // run.jobs + (job < most % run.jobs)

    def body(random: Random) -> None:
        nonlocal done
        if run.over or done >= share:
            return
        assert kind.draw is not None
        case = kind.draw(random)  # which Hypothesis may cut short
        done += 1
        outcome = tried(case)
        assert not outcome.bad, outcome.word

    for round_ in itertools.count():
        test = hypothesis.given(random=strategies.randoms(use_true_random=False))(body)
        test = hypothesis.seed(run.seed + 1000 * round_ + job)(test)
        test = hypothesis.settings(
            max_examples=200,
            deadline=None,
            database=DirectoryBasedExampleDatabase(run.keep / "examples" / kind.name),
            suppress_health_check=list(hypothesis.HealthCheck),
        )(test)
        try:
            test()
        except (AssertionError, hypothesis.errors.HypothesisException):
            break  # found, shrunk and kept; or it takes our draws for inconsistent
        if run.over or done >= share:
            break
    # What it left, by plain seeds that nobody else has.
    for i in range(done, share):
        if run.over:
            return
        assert kind.draw is not None
        tried(kind.draw(Random(1_000_000 * (job + 1) + run.seed + i)))
