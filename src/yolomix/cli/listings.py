"""The verbs that list what there is: models, blocks, doctor, version."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from yolomix.host.streams import output_to
from yolomix.cli.request import Request

PIPED_WIDTH = 160  # columns of a table that no terminal shows


def models(request: Request) -> None:
    """Print the model zoo: name, parameters of each scale, what it is."""
    from yolomix import models as zoo

    rows = [described(name, (zoo.FOLDER / f"{name}.yaml").read_text("utf-8")) for name in zoo.names()]
    shown = [(row["model"], _counts(row["scales"]), row["about"]) for row in rows]
    _print(request, rows, ("model", "parameters of its scales (80 classes)", "what it is"), shown)


def described(name: str, text: str) -> dict[str, Any]:
    """What the file of a model says about it: in its header, and in the comments of its ``scales:``.

    Args:
        name: of the file, without suffix.
        text: what is in it.
    """
    comments = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    written = re.findall(r"^\s+(\w+):\s*\[.*#\s*([\d,]+) parameters", text, re.MULTILINE)
    source = re.search(r"Source: (.*)", text)
    return {
        "model": f"{name}.yaml",
        "scales": {letter: int(count.replace(",", "")) for letter, count in written},
        "about": comments[0] if comments else "",
        "source": source[1].rstrip(".;") if source else "",
    }


def _counts(scales: dict[str, int]) -> str:
    return "  ".join(f"{letter} {count / 1e6:.2f} M" for letter, count in scales.items())


def blocks(request: Request) -> None:
    """Print the blocks: name, arguments of a YAML row, channel rule, source."""
    import yolomix.nn  # noqa: F401, enters the blocks
    from yolomix.nn.registry import BLOCKS

    rows = [
        {"block": name, "arguments": block.signature, "channels": str(block.rule)}
        | {"source": block.source, "class": f"{block.cls.__module__}.{block.cls.__qualname__}"}
        for name, block in sorted(BLOCKS.items())
    ]
    shown = [(row["block"], row["arguments"], row["channels"], row["source"]) for row in rows]
    _print(request, rows, ("block", "arguments in a row", "constructor", "source"), shown)


def version(request: Request) -> None:
    """Print the version."""
    import yolomix

    sys.stdout.write((json.dumps({"yolomix": yolomix.__version__}) if request.json else yolomix.__version__) + "\n")


def doctor(request: Request) -> None:
    """Print what is installed and what computes each operator.

    Raises:
        RuntimeError: something keeps yolomix from working.
    """
    from yolomix import doctor as examination

    with output_to(sys.stderr):
        found = examination.facts()
    if request.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        _show_facts(found)
    if found["faults"]:
        raise RuntimeError("\n".join(found["faults"]))


def _show_facts(found: dict[str, Any]) -> None:
    console = _console()
    console.print(_table(("package", "version"), [(k, v or "not installed") for k, v in found["versions"].items()]))
    console.print(_table(("device", "name"), [(row["device"], row["name"]) for row in found["devices"]]))
    console.print(_table(("operator", "backend", "here"), _backend_rows(found["backends"])))
    console.print("\n".join(_sentences(found)), highlight=False, markup=False, soft_wrap=True)


def _sentences(found: dict[str, Any]) -> list[str]:
    from yolomix.ops.dispatch import ENVIRONMENT

    threads, host, network, folders = (found[key] for key in ("threads", "ultralytics", "network", "folders"))
    variables = [f"{name}={value}" for name, value in network["variables"].items() if value and name != ENVIRONMENT]
    forced = network["variables"][ENVIRONMENT]
    chosen = [f"backend: {forced} wherever an operator has it, by {ENVIRONMENT}"] if forced else []
    return [
        *chosen,
        f"threads: PyTorch takes {threads['torch']} of {threads['cores']} cores; Ultralytics sets "
        f"{threads['torch_in_ultralytics']} when it works on a CPU (one less than the cores, at most 8)",
        f"Ultralytics: {sum(host['hooks'].values())} of {len(host['hooks'])} hooks in place; "
        f"settings in {host.get('settings')}",
        f"network: {'offline, nothing is looked up' if network['offline'] else 'online'}; "
        f"{', '.join(variables) or 'no variable set'}",
        f"sample data: {folders['sample_data']}{'' if folders['rendered'] else ', rendered on first use'}",
    ]


def _backend_rows(table: dict[str, list[dict[str, Any]]]) -> Iterable[tuple[str, str, str]]:
    for op, rows in table.items():
        for row in rows:
            able = "runs" if row["automatic"] else "runs when named"
            yield op, row["backend"], "; ".join(row["refusals"]) or f"{able} on {row['device']} tensors"


def _print(request: Request, rows: list[dict[str, Any]], heads: Sequence[str], shown: Iterable[Sequence[str]]) -> None:
    """A table for people, or its rows as JSON for programs."""
    if request.json:
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        _console().print(_table(heads, shown))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*heads)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
