"""Control arms: as many parameters at the same insertion points without the mixer; and the base under other seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from yolomix import editing
from yolomix.nn.mambaout import GatedConv
from yolomix.studying.arms import Arm, Role, made
from yolomix.studying.plan import Plan
from yolomix.surgery import csp, insertion
from yolomix.surgery.grammar import Part

BLOCK = GatedConv.__name__
WITHIN = 0.01  # of the arm's parameters
WIDEST = 1 << 14  # hidden width that is tried


def with_controls(plan: Plan, arms: Sequence[Arm]) -> list[Arm]:
    """The arms, and behind them the controls that the plan asks for.

    An arm that is no graft of the base has no matched control; its remark says so. Arms whose controls would be one
    model share one.

    Raises:
        PlanError: an arm has the name of a control.
    """
    base, found, controls = arms[0], [*arms[:1]], dict[str, Arm]()
    for arm in arms[1:]:
        if "matched" not in plan.controls:
            found.append(arm)
            continue
        if not arm.extends:
            found.append(replace(arm, remark=f"{arm.name} is no graft of the base, so it has no matched control"))
            continue
        try:
            control = matched(base, arm)
        except ValueError as error:
            found.append(replace(arm, remark=f"{arm.name} has no matched control: {error}"))
            continue
        control = controls.setdefault(control.content, control)
        found.append(replace(arm, control=control.name))
    found += controls.values()
    if "aa" in plan.controls:
        found.append(replace(base, name=f"{base.name} again", role=Role.AGAIN))
    for added in found[len(arms) :]:
        if added.name in plan.arms:
            raise plan.error(f"arms.{added.name}", f"{added.name!r} is the name of a control; name the arm otherwise")
    return found


def shift(plan: Plan) -> int:
    """What is added to a seed for the base again, so that no seed comes twice."""
    return 1000 * (max(plan.seeds) // 1000 + 1)


def matched(base: Arm, arm: Arm) -> Arm:
    """The control of a graft: :class:`GatedConv` at its insertion points, as large as its blocks.

    Raises:
        ValueError: nothing of that size can stand there.
    """
    parts, root = [*base.parts], editing.edit(base.root)
    for part in arm.parts[len(base.parts) :]:
        parts += _control_parts(root, part)
    control = made(base, f"{arm.name} control", Role.CONTROL, parts)
    wanted, got = arm.parameters(80), control.parameters(80)
    if abs(got - wanted) > WITHIN * wanted:
        raise ValueError(f"{BLOCK} there gives {got:,} parameters, and {wanted:,} need to be met to 1 %")
    return control


def _control_parts(model: editing.ModelEdit, part: Part) -> Iterator[Part]:
    """The grafts that stand for one of a root: per width of the feature map one, so that each block is met."""
    by_widths: dict[tuple[int, ...], list[str]] = {}
    block = BLOCK
    outer = csp.split(part.block)
    if outer is not None:
        block = f"{outer[0]}({BLOCK})"
    for index in insertion.resolve(list(part.at), model.base.layers):
        added = _added(model, replace(part, at=(str(index),)))
        channels = model.base.layers[index].channels or 0
        stand_in = replace(part, block=block, at=(str(index),))
        if part.mode == "replace":
            widths = _measured(model, stand_in, added)
        else:
            widths = _fitted(model, stand_in, channels, added)
        by_widths.setdefault(widths, []).append(str(index))
    for widths, at in by_widths.items():
        yield replace(part, block=block, at=tuple(at), args=_args(part, widths))


def _args(part: Part, widths: tuple[int, ...]) -> tuple[Any, ...]:
    """The arguments of the stand-in, by name; a CSP module around it keeps those that are its own."""
    named = dict(zip(("hidden", "convolved"), widths, strict=False))
    return (*(csp.without_mapping(part.args)[0] if csp.split(part.block) else ()), named)


def _added(model: editing.ModelEdit, part: Part) -> int:
    """How many parameters a graft adds."""
    change = editing.graft(model, part.block, list(part.at), part.mode, part.args, part.n, part.gate)
    return change.plan().parameters_added


def _fitted(model: editing.ModelEdit, part: Part, channels: int, added: int) -> tuple[int, ...]:
    """Hidden width and convolved channels of blocks behind a layer that add so many parameters together."""
    gate = 0 if part.gate is False else channels
    one = GatedConv.fitted(channels, 6 * channels + 52)  # of the smallest block, to count the repeats
    repeats = _added(model, replace(part, args=_args(part, one[:2]))) // (one.parameters + gate)
    fit = GatedConv.fitted(channels, added // repeats - gate)
    return fit[:2]


def _measured(model: editing.ModelEdit, part: Part, added: int) -> tuple[int, ...]:
    """The hidden width in the place of a layer: by bisection, since what else is in there counts too."""
    low, high = 1, WIDEST
    while high - low > 1:
        middle = (low + high) // 2
        if _added(model, replace(part, args=_args(part, (middle,)))) <= added:
            low = middle
        else:
            high = middle
    return (low,)
