"""``kill -9`` of a training, at random moments and at every call on a file, again while it resumes; then resumed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.faults import apart, trainings
from tests.faults.injection import Injection
from tests.faults.kind import Bad, Case, Kind, Limits

EPOCHS = 3
CALLS = 60  # more calls on files of a run than such a training makes
DONE = Path("done.txt")  # a line for every epoch after whose end a checkpoint was saved
FINISHED = -1


def listed() -> Iterator[Case]:
    """Every call on a file of the run."""
    for n in range(1, CALLS):
        yield {"kills": [{"call": n}]}


def draw(random: Random) -> Case:
    """One to three kills, each at a random moment or call; all but the first while the training resumes."""
    kills: list[dict[str, float]] = []
    for _ in range(random.choice((1, 1, 2, 3))):
        moment = {"seconds": round(random.uniform(0.05, 1.5), 3)}
        kills.append(random.choice((moment, {"call": random.randint(1, CALLS)})))
    return {"kills": kills}


def check(case: Case) -> str:
    """Train, be killed, look, and resume until it is done."""
    trainings.prepare()
    killed = 0
    for kill in case["kills"]:
        if _finished():
            break
        killed += apart.killed(lambda kill=kill: (_arm(kill), _go_on()))  # type: ignore[misc]
        _look()
    goes_on = not _finished()
    if goes_on:
        apart.do(_go_on)
    if not _finished():
        raise Bad(f"resumed, last.pt holds epoch {trainings.kept_epoch(trainings.LAST)} and is not finished")
    rows = trainings.epochs()
    if rows != [*range(1, EPOCHS + 1)]:
        raise Bad(f"results.csv has rows of epochs {rows}")
    trainings.kept_epoch(trainings.BEST)
    left = [path.name for path in trainings.RUN.rglob("*") if ".yolomix-" in path.name]
    if left and goes_on:  # who is killed by the last writes of all has nobody behind it
        raise Bad(f"left over: {left}")
    return f"killed {killed} times"


def _finished() -> bool:
    """Whether there is nothing to resume: the last epoch is kept, perhaps with the optimiser still beside it."""
    return trainings.kept_epoch(trainings.LAST) in (FINISHED, EPOCHS - 1)


def _go_on() -> None:
    """Resume what there is to resume, else begin anew."""
    kept = trainings.kept_epoch(trainings.LAST)
    calls = {"on_model_save": _saved}
    trainer = trainings.train(EPOCHS, calls) if kept is None else trainings.resume(calls)
    if kept is not None and trainer.start_epoch != kept + 1:
        raise Bad(f"last.pt holds epoch {kept}, and the training went on with {trainer.start_epoch}")


def _saved(trainer: Any) -> None:
    with DONE.open("a") as file:
        file.write(f"{trainer.epoch}\n")


def _arm(kill: dict[str, Any]) -> None:
    """Let this process be killed at a moment of its CPU time, or at a call on a file."""
    if "call" in kill:
        Injection(trainings.RUN.resolve(), kill["call"], "kill").start()
    else:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends a process at once
        signal.setitimer(signal.ITIMER_PROF, kill["seconds"])


def _look() -> None:
    """What is kept is whole, and no epoch is missing that was saved."""
    kept, done = trainings.kept_epoch(trainings.LAST), _done()
    trainings.kept_epoch(trainings.BEST)
    if done and (kept is None or FINISHED < kept < done[-1]):
        raise Bad(f"epochs {done} were saved, and last.pt holds {kept}")


def _done() -> list[int]:
    return [int(line) for line in DONE.read_text().split()] if DONE.exists() else []


def _in_place() -> None:
    """Let Ultralytics write checkpoints over those that stand there."""
    from yolomix.hooks import saving

    saving.save_model = lambda native, trainer: native(trainer)


KIND = Kind(
    name="kills",
    tries="kill -9 of a training and of resuming it, at random moments and at every call on a file",
    figure="no epoch lost beyond the running one, rows of results.csv complete and unique",
    check=check,
    target=100,
    listed=listed,
    draw=draw,
    limits=Limits(seconds=60, wall=200),
    share=2.0,
    small=6,
    plants={"in place": _in_place},
)
