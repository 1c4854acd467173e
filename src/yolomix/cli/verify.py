"""The verb ``verify``, and what ``export`` says of the file that it wrote."""

from __future__ import annotations

import ast
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from yolomix import progress
from yolomix.cli.answer import Answer, Table, paragraph
from yolomix.host import offline

if TYPE_CHECKING:
    from yolomix.verifying.values import Verification

LOGGER = logging.getLogger("yolomix")


def verify(*, model: str, file: str, data: str | None, imgsz: list[int] | None) -> Answer:
    """Compare an exported file with PyTorch; the arguments are those that help explains."""
    with progress.shown("loading PyTorch and Ultralytics") as said:
        offline.prepare()
        from yolomix.host import entry
        from yolomix.verifying import verifying

        entry.check_there(model)
        found = verifying.verify(model, file, data, imgsz, said)
    return Answer({"verb": "verify", **found.to_dict()}, _shown(found), found.advice)


def exported(model: Any, file: str, given: Mapping[str, str]) -> Answer:
    """What ``export`` answers, when the file is written and compared.

    Args:
        model: the ``YOLO`` that was exported.
        file: the file.
        given: the texts of the arguments.
    """
    from yolomix.verifying import verifying

    with progress.shown(f"verifying {file}") as said:
        found = verifying.verify(model, file, _data(given), _imgsz(given), said)
    if found.verified is None:
        LOGGER.warning(found.advice)
    shown = _shown(found)
    if found.verified:
        shown = [f"verified, {len(found.checks)} checks: {found.file}.verification.md"]
    return Answer(_facts(file, found), [*shown, f"file: {file}"], found.advice if found.verified is False else "")


def unverified(file: str) -> Answer:
    """What ``export`` answers with ``verify=False``."""
    return Answer(_facts(file, None), [f"file: {file}"])


def _shown(found: Verification) -> list[str | Table]:
    """Verdict, checks, facts and costs, as wide as the terminal."""
    from yolomix.verifying.values import PROTOCOL

    verdict, head, *checks = found.in_short(), *found.as_rows()
    shown: list[str | Table] = [verdict, "", Table(head, checks), "", Table((), found.facts())]
    if found.costs:
        head, *costs = found.cost_rows()
        shown += ["", Table(head, costs), "", paragraph(PROTOCOL)]
    return shown


def _facts(file: str, found: Verification | None) -> dict[str, Any]:
    return {
        "verb": "export",
        "file": file,
        "verified": None if found is None else found.verified,
        "verification": None if found is None else found.to_dict(),
    }


def _data(given: Mapping[str, str]) -> str | None:
    data = given.get("data", "None")
    return None if data.lower() == "none" else data


def _imgsz(given: Mapping[str, str]) -> Any:
    """The image size in Ultralytics' own syntax: ``640`` or ``[480,640]``."""
    return ast.literal_eval(given["imgsz"]) if "imgsz" in given else None
