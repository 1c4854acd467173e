"""The verb ``doctor``: the facts about this machine as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from yolomix import progress
from yolomix.cli.answer import Answer, Table


def doctor() -> Answer:
    """What is installed, what computes each operator here, and what keeps yolomix from working."""
    with progress.shown("loading PyTorch and Ultralytics") as said:
        from yolomix import doctor as examination

        said(0, 1, "trying every backend of every operator")
        found = examination.facts()
    return Answer(found, _tables(found), "\n".join(found["faults"]))


def _tables(found: dict[str, Any]) -> list[str | Table]:
    installed = [(name, version or "not installed") for name, version in found["versions"].items()]
    devices = [(row["device"], row["name"]) for row in found["devices"]]
    return [
        Table(("package", "version"), installed),
        "",
        Table(("device", "name"), devices),
        "",
        Table(("operator", "backend", "here"), [*_backends(found["backends"])]),
        "",
        Table((), [*_rest(found)]),
    ]


def _backends(backends: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[str, str, str]]:
    """What runs, or why not, for every backend of every operator."""
    for op, rows in backends.items():
        for row in rows:
            able = "runs" if row["automatic"] else "runs when named"
            yield op, row["backend"], "; ".join(row["refusals"]) or f"{able} on {row['device']} tensors"


def _rest(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What there is one of: a word for it, and what is to be said."""
    forced = found["forced_backend"]
    if forced["backend"]:
        yield "backend", f"{forced['backend']} wherever an operator has it, by {forced['variable']}"
    yield "processor", _processor(found["processor"])
    threads = found["threads"]
    yield (
        "threads",
        f"PyTorch takes {threads['torch']} of {threads['cores']} cores; Ultralytics sets "
        f"{threads['torch_in_ultralytics']} when it works on a CPU (one less than the cores, at most 8)",
    )
    hooks = found["ultralytics"]["hooks"]
    placed = sum(hooks.values())
    yield "Ultralytics", f"{placed} of {len(hooks)} hooks in place; settings in {found['ultralytics'].get('settings')}"
    yield "network", _network(found["network"])
    folders = found["folders"]
    yield "sample dataset", f"{folders['sample_dataset']}{'' if folders['rendered'] else ', rendered on first use'}"


def _processor(found: dict[str, Any]) -> str:
    """Which processor a time is from, and how wide its vectors were."""
    return (
        f"{found['name']} ({found['model'] or 'model unknown'}, {found['architecture']}); CPU kernels run "
        f"{found['vector']} ({found['vector_bits']} bits), PyTorch {found['pytorch']}; "
        f"flags {' '.join(found['flags']) or 'unknown'}"
    )


def _network(found: dict[str, Any]) -> str:
    said = [f"{name}={value}" for name, value in found["variables"].items() if value]
    reach = "offline, nothing is looked up" if found["offline"] else "online"
    return f"{reach}; {', '.join(said) or 'no variable set'}"
