"""The verbs that change models: graft, edit, transfer."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from yolomix.host import offline
from yolomix.host.streams import output_to
from yolomix.cli.request import Request, UsageError, values

if TYPE_CHECKING:
    from yolomix.grafting import Graft

GRAFT = {
    "model": "what to graft into: a checkpoint, a model YAML, or a name like yolo11n+MLLABlock@p5.yaml",
    "block": "the block, see `yolomix blocks`; not needed when the name says it",
    "at": "where: p3 p4 p5, neck, head-inputs, backbone, a layer's number or type, *; several with commas",
    "args": "the block's arguments after its channels, as in a model YAML: 2,1",
    "mode": "after (default), wrap (no layer changes its number) or replace",
    "n": "repeats, before depth scaling (1)",
    "gate": "false: the block starts as its paper does, and the outputs change",
    "save": "the file to write, .pt from a checkpoint, else .yaml",
    "seed": "for what the new layers start with (0)",
    "plan": "true: only show what would change",
}
EDIT = {
    "model": "what to change: a checkpoint or a model YAML",
    "remove": "layers to take out, named as `at` of graft does",
    "swap": "OLD:NEW, give every layer of one type another type",
    "within": "swap only in the backbone or the neck",
    "args": "arguments of NEW after its channels",
    "repeats": "LAYER:N, another number of repeats",
    "save": GRAFT["save"],
    "seed": GRAFT["seed"],
    "plan": GRAFT["plan"],
}
TRANSFER = {
    "source": "the checkpoint that has the weights",
    "target": "the model YAML that gets them",
    "save": "the .pt file to write",
    "any_task": "true: also from a model for another task, what both have",
}

Answer = tuple[dict[str, Any], list[str]]  # for programs, and for people


def _quiet(verb: Callable[[Request], Answer]) -> Callable[[Request], None]:
    """The verb with its answer on stdout, and everything that Ultralytics says on stderr."""

    @functools.wraps(verb)
    def run(request: Request) -> None:
        with output_to(sys.stderr):
            offline.prepare()
            answer, texts = verb(request)
        sys.stdout.write((json.dumps(answer) if request.json else "\n\n".join(texts)) + "\n")

    return run


@_quiet
def graft(request: Request) -> Answer:
    """Plan a graft, and write it unless only the plan is wanted."""
    given = _given(request, GRAFT, "model")
    from yolomix.grafting import edit, from_name
    from yolomix.surgery import grammar

    model = given["model"]
    change = from_name(model) if grammar.is_graft(model) else edit(model)
    if "block" in given or "at" in given:
        _needs(request, given, "block", "at")
        args = grammar.arguments(given.get("args", ""))
        gate = _flag(given, "gate", True) if "gate" in given else None
        at, mode, n = given["at"].split(","), given.get("mode", "after"), _number(given, "n", 1)
        change = change.graft(given["block"], at, mode, args, n, gate)
    elif not grammar.is_graft(model):
        _needs(request, given, "block", "at")
    return _finish(given, change)


@_quiet
def edit(request: Request) -> Answer:
    """Plan a change of rows, and write it unless only the plan is wanted."""
    given = _given(request, EDIT, "model")
    from yolomix.grafting import edit as opened
    from yolomix.surgery import grammar

    if not given.keys() & {"remove", "swap", "repeats"}:
        raise UsageError(f"edit needs remove=, swap= or repeats=: {EDIT['remove']}; {EDIT['swap']}; {EDIT['repeats']}")
    change = opened(given["model"])
    if "remove" in given:
        change = change.remove(given["remove"].split(","))
    if "swap" in given:
        old, new = _pair(given, "swap")
        change = change.swap(old, new, grammar.arguments(given["args"]) if "args" in given else None, given.get("within"))
    if "repeats" in given:
        layer, n = _pair(given, "repeats")
        change = change.repeats(layer, _number({"repeats": n}, "repeats", 1))
    return _finish(given, change)


@_quiet
def transfer(request: Request) -> Answer:
    """Copy weights into another architecture and print what became of every tensor."""
    given = _given(request, TRANSFER, "source", "target", "save")
    import yolomix

    report = yolomix.transfer(given["source"], given["target"], given["save"], any_task=_flag(given, "any_task", False))
    answer = {"file": given["save"], **_counts(report)}
    return answer, [f"{report}\n\n{report.missing()}".rstrip(), given["save"]]


def _finish(given: dict[str, str], change: Graft) -> Answer:
    """Plan, and write the model unless only the plan is wanted."""
    plan = change.plan()
    answer: dict[str, Any] = {"base": plan.base, "plan": plan.rows(), "kept": plan.kept, "tensors": plan.tensors}
    if _flag(given, "plan", False):
        return answer, [str(plan)]
    done = change.apply(given.get("save"), seed=_number(given, "seed", 0))
    answer |= {"file": str(done.file), "yaml": str(done.yaml)} | (_counts(done.report) if done.report else {})
    return answer, [str(plan), *([done.report.summary] if done.report else []), str(done.file)]


def _counts(report: Any) -> dict[str, Any]:
    """The numbers of a report."""
    return {"copied": report.copied, "source_tensors": report.source_tensors, "missing": report.missing().splitlines()}


def _given(request: Request, takes: dict[str, str], *needed: str) -> dict[str, str]:
    given = values(request, takes)
    _needs(request, given, *needed)
    return given


def _needs(request: Request, given: dict[str, str], *keys: str) -> None:
    from yolomix.cli.verbs import VERBS

    if missing := [key for key in keys if key not in given]:
        example = VERBS[request.verb].examples[0]
        raise UsageError(f"{request.verb} needs {', '.join(f'{key}=' for key in missing)}, as in: {example}")


def _pair(given: dict[str, str], key: str) -> tuple[str, str]:
    first, colon, second = given[key].partition(":")
    if not (first and colon and second):
        raise UsageError(f"{key}= is {EDIT[key]}, got {given[key]!r}")
    return first, second


def _number(given: dict[str, str], key: str, default: int) -> int:
    text = given.get(key, str(default))
    if not text.isdecimal():
        raise UsageError(f"{key}= is a whole number, got {text!r}")
    return int(text)


def _flag(given: dict[str, str], key: str, default: bool) -> bool:
    text = given.get(key, str(default)).lower()
    if text not in ("true", "false"):
        raise UsageError(f"{key}= is true or false, got {given[key]!r}")
    return text == "true"
