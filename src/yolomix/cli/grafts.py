"""The verbs that change models: graft, edit, transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yolomix.cli.answer import Answer, Table, paragraph
from yolomix.cli.parameters import EDIT
from yolomix.cli.request import UsageError
from yolomix.cli.verbs import VERBS
from yolomix.host import names, offline
from yolomix.surgery import grammar

if TYPE_CHECKING:
    from pathlib import Path

    from yolomix.planning import Plan

OPERATIONS = ("remove", "swap", "repeats")


def graft(
    *,
    model: str,
    block: str | None,
    at: list[str] | None,
    args: str,
    mode: str,
    n: int,
    gate: bool | None,
    save: str | None,
    seed: int,
    plan: bool,
    profile: bool,
    imgsz: list[int] | None,
) -> Answer:
    """Plan a graft, and write it unless only the plan is wanted; the arguments are those that help explains.

    Raises:
        UsageError: neither the arguments nor the name of the model say a block and where it goes.
    """
    if block is None and at is None:
        if not names.resolve(model).grafts:
            raise VERBS["graft"].lacks("block", "at")
    elif block is None:
        raise VERBS["graft"].lacks("block")
    elif at is None:
        raise VERBS["graft"].lacks("at")
    offline.prepare()
    from yolomix import editing  # only now: it imports Ultralytics, which has to know whether it is offline

    change = editing.edit(model)
    if block is not None and at is not None:
        change = editing.graft(change, block, at, mode, grammar.arguments(args), n, gate)
    return _finished(change.plan(imgsz or 640, profile), save, seed, plan)


def edit(
    *,
    model: str,
    remove: list[str] | None,
    swap: tuple[str, str] | None,
    within: str | None,
    args: str | None,
    repeats: tuple[str, int] | None,
    save: str | None,
    seed: int,
    plan: bool,
    profile: bool,
    imgsz: list[int] | None,
) -> Answer:
    """Plan a change of rows, and write it unless only the plan is wanted; the arguments are those that help explains.

    Raises:
        UsageError: there is nothing to do.
    """
    if remove is None and swap is None and repeats is None:
        raise UsageError(_nothing_to_do())
    offline.prepare()
    from yolomix import editing

    change = editing.edit(model)
    if remove is not None:
        change = change.remove(remove)
    if swap is not None:
        old, new = swap
        change = change.swap(old, new, None if args is None else grammar.arguments(args), within)
    if repeats is not None:
        layer, n = repeats
        change = change.repeats(layer, n)
    return _finished(change.plan(imgsz or 640, profile), save, seed, plan)


def transfer(*, source: str, target: str, save: str, any_task: bool) -> Answer:
    """Copy weights into another architecture and say what became of every tensor."""
    offline.prepare()
    from yolomix import transferring

    report = transferring.transfer(source, target, save, any_task=any_task)
    told = f"{report}\n\n{report.explain_missing()}".rstrip()
    return Answer({"file": save, **report.to_dict()}, [told, "", f"file: {save}"])


def _finished(plan: Plan, save: str | Path | None, seed: int, plan_only: bool) -> Answer:
    """The plan, and what was written unless only the plan is wanted."""
    head, *rows = plan.as_rows()
    shown: list[str | Table] = [Table(head, rows), paragraph(plan.summary), *map(paragraph, plan.cost.splitlines())]
    if plan_only:
        return Answer(plan.to_dict(), shown)
    done = plan.apply(save, seed=seed)
    if done.report is not None:
        shown += ["", paragraph(done.report.summary)]
    return Answer({**plan.to_dict(), **done.to_dict()}, [*shown, "", f"file: {done.file}"])


def _nothing_to_do() -> str:
    explained = [f"{argument.name}= {argument.meaning}" for argument in EDIT if argument.name in OPERATIONS]
    return f"edit needs remove=, swap= or repeats=, as in: {VERBS['edit'].examples[0]}\n{'; '.join(explained)}"
