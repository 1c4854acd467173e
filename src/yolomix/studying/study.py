"""``yolomix.Study``: a plan, its runs, and what is left of them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolomix import progress
from yolomix.progress import Progress
from yolomix.showing import Shown
from yolomix.studying import earlier, folder, guards, planning, runs
from yolomix.studying.plan import Plan
from yolomix.studying.planning import StudyPlan
from yolomix.studying.queue import Queue
from yolomix.studying.record import RECORD, Record, RunSpec
from yolomix.studying.setup import Setup, opened

REPORTING = "yolomix.studying.reporting"
ENGINES = ("local", "ray")


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """A run as it stands.

    Attributes:
        spec: what it is.
        record: what is left of it; None as long as it has not ended.
        reason: why it failed, or stopped, or is not there.
    """

    spec: RunSpec
    record: Record | None = None
    reason: str = ""

    @property
    def status(self) -> str:
        """``finished``, ``failed``, ``diverged`` or ``missing``."""
        return "missing" if self.record is None else self.record.status

    def in_short(self) -> str:
        """What it is and how it stands."""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.spec.arm} s{self.spec.seed} on {self.spec.facts.get('dataset')}: {self.status}{why}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a program."""
        said = {"arm": self.spec.arm, "seed": self.spec.seed, "dataset": self.spec.facts.get("dataset")}
        metrics = {} if self.record is None else dict(self.record.metrics)
        return said | {"status": self.status, "reason": self.reason, "folder": self.spec.folder, "metrics": metrics}


class Study(Shown):
    """Does it help? Arms, seeds and datasets, run one process each and compared so that the answer holds.

    >>> study = Study(data="sample", arms={"a": "yolo11n.yaml", "b": "yolo11n-mlla.yaml"}, base="a", seeds=[0, 1, 2])
    >>> study
    <Study study: 2 arms x 3 seeds on sample>
    >>> study.folder.as_posix()
    'runs/study/study'

    Args:
        plan: a plan in YAML, or the folder of a study.
        keys: the keys of a plan instead, see :class:`yolomix.studying.plan.Plan`.

    Raises:
        PlanError: all that is wrong with the plan itself. What it names is opened by :meth:`plan` and :meth:`run`.
    """

    def __init__(self, plan: str | Path | None = None, **keys: Any) -> None:
        if plan is not None and keys:
            raise TypeError(f"a study needs a plan or keys, got {str(plan)!r} and {', '.join(keys)}. Give one of them")
        self._setup: Setup | None = None
        self._reasons: dict[str, str] = {}
        if plan is not None and Path(plan).is_dir():
            self.folder = Path(plan)
            self.design = folder.opened(self.folder)[0]
        else:
            self.design = Plan.of(**keys) if plan is None else Plan.read(plan)
            self.folder = folder.ROOT / self.design.name

    def in_short(self) -> str:
        """The plan in a few words."""
        return self.design.in_short()

    def as_rows(self) -> list[tuple[str, str]]:
        """The plan, key by key."""
        return [("name", "value"), *((key, str(value)) for key, value in self.design.to_dict().items())]

    def plan(self, time: bool = True) -> StudyPlan:
        """What would run, how long it takes and what it can find; nothing is kept.

        Args:
            time: train the base for an epoch where no run has finished, to work out the hours.

        Raises:
            PlanError: the plan cannot be carried out.
            RuntimeError: the base does not train.
        """
        with progress.shown("opening models and data") as said:
            setup = self.setup(said)
            found = folder.records(self.folder, setup.specs)
            measured = planning.timed(setup.specs, found.values())
            if measured is None and time:
                base = setup.arms[0]
                measured = planning.epoch(setup.specs, setup.datasets, base, setup.room[0], said)
        finished = sum(record.status == "finished" for record in found.values())
        hours, basis = None, ""
        if measured is not None:
            seconds, basis = measured
            hours = seconds * (len(setup.specs) - finished) / len(setup.room) / 3600
        effect, spread = planning.detectable(self.design, setup.arms, setup.datasets, found, setup.metric)
        return StudyPlan(
            self.design.name,
            planning.rows(setup.arms, setup.specs, found),
            len(setup.specs),
            finished,
            hours,
            basis,
            effect,
            spread,
            self.design.budget,
            tuple(setup.remarks),
        )

    def run(self, retry: bool = False, engine: str = "local", address: str | None = None) -> list[Run]:
        """Carry out what is not there yet; returns all runs as they stand then.

        Where two looks are planned, this ends with the first, unless that has been reached before.

        Args:
            retry: repeat runs that failed or diverged.
            engine: ``"local"``, the queue of this machine, or ``"ray"``, a Ray cluster.
            address: of the cluster, as Ray takes it; None for one on this machine alone.

        Raises:
            ValueError: there is no such engine.
            PlanError: the plan cannot be carried out, or the folder holds another study.
            RuntimeError: another process works in the folder, its disk is full, or a guard found a fault.
            KeyboardInterrupt: the user ended it; the next call goes on.
        """
        if engine not in ENGINES:
            raise ValueError(f"engine needs {' or '.join(ENGINES)}, got {engine!r}; local is the queue of this machine")
        # Not the folder first: a wrong plan leaves nothing behind.
        with progress.shown("opening models and data") as said:
            setup = self.setup(said)
            folder.check(self.design, self.folder)
            with folder.locked(self.folder):
                runs.check_equal(self.design, self.folder, setup.specs)
                folder.claim(self.design, self.folder, setup.resolved(), setup.specs)
                setup.contents.save()
                self._carry_out(setup, retry, said, self._queue(setup, engine, address))
        return self.runs()

    def setup(self, said: Progress = lambda done, total, what: None) -> Setup:
        """Open and check everything that the plan names, once.

        Raises:
            PlanError: a model, a dataset or what they have in common is wrong.
        """
        if self._setup is None:
            self._setup = opened(self.design, self.folder, said)
        return self._setup

    def specs(self) -> list[RunSpec]:
        """All runs of the study as its folder has them.

        Raises:
            PlanError: the study has not begun.
        """
        return folder.opened(self.folder)[2]

    def records(self) -> dict[str, Record]:
        """The records that are there, by the key of their run.

        Raises:
            PlanError: the study has not begun.
            ValueError: a record is not whole.
        """
        return folder.records(self.folder, self.specs())

    def runs(self) -> list[Run]:
        """All runs as they stand, in the order in which they begin."""
        found = self.records()
        result = []
        for spec in self.specs():
            record = found.get(spec.key)
            reason = self._reasons.get(spec.key, "") or folder.stopped(self.folder, spec)
            result.append(Run(spec, record, reason if record is None else record.reason))
        return result

    def report(self) -> Any:
        """The report, from the records alone.

        Raises:
            RuntimeError: this installation has no reports.
        """
        reporter = getattr(importlib.import_module(REPORTING), "report", None)
        if reporter is None:
            raise RuntimeError(f"a report needs {REPORTING}.report, which is not there; records() has the numbers")
        return reporter(self)

    def _queue(self, setup: Setup, engine: str, address: str | None) -> Queue:
        if engine == "ray":
            from yolomix.studying.ray_engine import RayQueue

            return RayQueue(self.folder, setup.prepare, setup.room, setup.threads, address)
        return Queue(self.folder, setup.prepare, setup.room)

    def _carry_out(self, setup: Setup, retry: bool, said: Progress, queue: Queue) -> None:
        for one in setup.earlier:
            if not (self.folder / one.spec.folder / RECORD).exists():
                said(0, 1, f"evaluating {one.folder}")
                earlier.add(one, self.folder, setup.room[0].device)
        wanted = self._until_look(setup.specs)
        done = folder.records(self.folder, setup.specs)
        if any(spec.key not in done for spec in wanted):
            folder.check_room(self.folder, setup.specs, len(setup.room))
            guards.check(self.folder, setup.specs, setup.prepare, setup.room, said)

        def _done(spec: RunSpec, record: Record | None) -> None:
            if record is not None:
                runs.check_saved([record])
                if record.status == "finished":
                    setup.remove(spec)

        try:
            queue.run(wanted, retry, self.design.budget, said, _done)
        finally:
            self._reasons = queue.reasons

    def _until_look(self, specs: Sequence[RunSpec]) -> list[RunSpec]:
        """The runs up to the first look, if two are planned and it has not been reached; else all."""
        if self.design.looks is None:
            return [*specs]
        early = set(self.design.seeds[: self.design.looks[0]])
        first = [spec for spec in specs if spec.facts["pair"] in early]
        there = folder.records(self.folder, first)
        return first if any(spec.key not in there for spec in first) else [*specs]
