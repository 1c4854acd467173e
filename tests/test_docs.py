"""README and docs are true: snippets run, command lines parse, links lead somewhere, named tests and files exist."""

from __future__ import annotations

import ast
import contextlib
import doctest
import functools
import importlib.util
import io
import json
import pkgutil
import re
import shlex
import socket
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from sybil import Document, Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from tests.test_package import FLOORS
from tests.tiny import ROOT, write_dataset

PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text("utf-8")
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
}
OUTPUT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)

# What trains in a page trains for a moment here.
SHORT = {
    "epochs": 1,
    "imgsz": 32,
    "batch": 2,
    "workers": 0,
    "plots": False,
    "verbose": False,
    "device": "cpu",
    "exist_ok": True,
}

# Home-made words for what the field has a name for.
UNWANTED = (
    r"pictures?", r"things?", r"map scans?", r"the host", r"near:", r"on the wall", r"direct path", r"equal bits",
    r"side by side", r"stored numbers", r"plain parameters", r"GPU cards?", r"wide dtype",
)  # fmt: skip


# Snippets


class Printed(NamedTuple):
    """What a Python block wrote to stdout, and where in the page the block ends."""

    text: str
    end: int


class PythonRunner:
    """Runs a Python block in the namespace of its page and keeps what it prints for a ``text`` block behind it."""

    def __init__(self) -> None:
        self.evaluate = PythonEvaluator()

    def __call__(self, example: Example) -> None:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.evaluate(example)
        example.namespace["__printed__"] = Printed(out.getvalue(), example.end)


def compare_output(example: Example) -> str | None:
    """A ``text`` block right behind a Python block is what that block prints; ``...`` stands for anything."""
    printed = example.namespace.get("__printed__")
    if printed is None or example.document.text[printed.end : example.start].strip():
        return None
    want, got = str(example.parsed), printed.text.replace("\\", "/")  # paths, as Windows prints them
    if doctest.OutputChecker().check_output(want, got, OUTPUT):
        return None
    return f"expected:\n{textwrap.indent(want, '  ')}\ngot:\n{textwrap.indent(got, '  ')}"


def parsed(name: str) -> Document:
    """The page with its Python blocks and the outputs that it expects."""
    python, text = CodeBlockParser("python", PythonRunner()), CodeBlockParser("text", compare_output)
    return Document.parse(str(ROOT / name), python, text)


def run(page: Document) -> None:
    """Run the blocks of a page in order."""
    for example in page:
        example.evaluate()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for the yolo11n.pt of Ultralytics: the same architecture with random weights."""
    from yolomix.host import weights

    return weights.write(weights.from_yaml("yolo11n.yaml"), tmp_path_factory.mktemp("weights") / "yolo11n.pt")


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that holds a sample dataset of a few images."""
    from yolomix import data

    cache = tmp_path_factory.mktemp("cache")
    data.render(cache / data.FOLDER, dict.fromkeys(data.SPLITS, 4))
    return cache


@pytest.fixture
def desk(
    tmp_path: Path, checkpoint: Path, sample: Path, few_repetitions: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A folder with the files that pages speak of; no network, short trainings, and no block stays registered."""
    from ultralytics.engine.model import Model

    import yolomix.nn  # noqa: F401, enters the blocks
    from yolomix import data
    from yolomix.nn.registry import BLOCKS

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOMIX_CACHE", str(sample))
    monkeypatch.setattr(data, "SPLITS", dict.fromkeys(data.SPLITS, 4))
    monkeypatch.setattr(socket.socket, "connect", _refused)
    monkeypatch.setattr(socket, "getaddrinfo", _refused)
    for method in ("train", "val", "predict"):
        short = functools.partialmethod(_shortly, getattr(Model, method), tmp_path / "runs")
        monkeypatch.setattr(Model, method, short)
    (tmp_path / "yolo11n.pt").write_bytes(checkpoint.read_bytes())
    (tmp_path / "best.pt").write_bytes(checkpoint.read_bytes())
    cv2.imwrite(str(tmp_path / "image.jpg"), np.zeros((64, 48, 3), np.uint8))
    write_dataset(tmp_path / "dataset").rename(tmp_path / "your.yaml")
    known = set(BLOCKS)
    yield tmp_path
    for name in set(BLOCKS) - known:
        del BLOCKS[name]


def _shortly(model: Any, native: Any, runs: Path, *args: Any, **kwargs: Any) -> Any:
    return native(model, *args, **(kwargs | SHORT | {"project": str(runs)}))


def _refused(*args: Any, **kwargs: Any) -> None:
    raise OSError("pages are run without a network")


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if "```python" in text])
def test_python_blocks_run(name: str, desk: Path) -> None:
    run(parsed(name))


def test_a_wrong_output_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n")
    with pytest.raises(AssertionError, match=r"(?s)expected:\s+3.*got:\s+2"):
        run(parsed(str(page)))


# Links and names


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    prose = BLOCK.sub("", text)
    headings = re.findall(r"^#+ +(.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(name: str) -> Iterator[tuple[Path, str]]:
    """The files that a page links to, and the anchor in each or ""."""
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[name]):
        if not target.startswith(("http:", "https:")):
            file, _, anchor = target.partition("#")
            yield (ROOT / name).parent.joinpath(file).resolve() if file else ROOT / name, anchor


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for file, anchor in links(name):
        assert file.exists(), f"{name} links to {file}, which does not exist"
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), f"{name} links to #{anchor}, no heading of {file.name}"


@functools.cache
def functions_of(file: Path) -> set[str]:
    """The names of the test functions in a file."""
    return {node.name for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", PAGES)
def test_named_tests_exist(name: str) -> None:
    """A name like ``test_golden`` stands in a file that is linked before it in the same line; or names its file."""
    for line in BLOCK.sub("", PAGES[name]).splitlines():
        file = None
        for linked, full, short in re.findall(r"\]\(([^)]*test_\w+\.py)\)|`(tests/\S+::test_\w+)`|`(test_\w+)`", line):
            if linked:
                file = (ROOT / name).parent.joinpath(linked).resolve()
                continue
            where, _, test = full.partition("::") if full else ("", "", short)
            holder = ROOT / where if where else file
            assert holder is not None, f"{name}: no file is linked before {test} in its line"
            assert test in functions_of(holder), f"{name}: {holder.relative_to(ROOT)} has no {test}"


@pytest.mark.parametrize("name", PAGES)
def test_named_files_exist(name: str) -> None:
    """Paths in backticks start at the root or in the package; ``<operator>`` in one stands for any name."""
    folders = "src|docs|tests|benchmarks|ops|nn|models|data|surgery|host|hooks|cli"
    for path in re.findall(rf"`((?:{folders})/[\w./<>*-]*)`", BLOCK.sub("", PAGES[name])):
        pattern = re.sub(r"<\w+>", "*", path.rstrip("/"))
        if pattern.endswith("/*.py"):  # the file that somebody is about to write
            pattern = pattern.removesuffix("/*.py")
        assert any([*ROOT.glob(pattern), *(ROOT / "src/yolomix").glob(pattern)]), f"{name}: there is no {path}"


@pytest.mark.parametrize("name", PAGES)
def test_named_commands_exist(name: str) -> None:
    for module in re.findall(r"python -m (benchmarks[\w.]*)", PAGES[name]):
        assert importlib.util.find_spec(module) is not None, f"{name}: no module {module}"
    for path in re.findall(r"pytest (tests/\S+\.py)", PAGES[name]):
        assert (ROOT / path).is_file(), f"{name}: no file {path}"


@pytest.mark.parametrize("name", PAGES)
def test_named_objects_exist(name: str) -> None:
    for dotted in re.findall(r"`(yolomix(?:\.\w+)+)", BLOCK.sub("", PAGES[name])):
        assert pkgutil.resolve_name(dotted) is not None


@pytest.mark.parametrize("name", PAGES)
def test_words(name: str) -> None:
    found = re.findall(rf"\b(?:{'|'.join(UNWANTED)})(?!\w)", PAGES[name], re.IGNORECASE)
    assert not found, f"{name} says {sorted(set(found))}"


def test_the_floors_of_the_house_are_those_that_are_enforced() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGES["docs/design/house.md"], re.MULTILINE)
    told = {floor: set(re.findall(r"`(\w+)`", below)) for floor, below in rows}
    assert told == {floor: below for floor, below in FLOORS.items() if not floor.startswith("__")}


# Command lines


def shell_lines(text: str) -> Iterator[str]:
    """The command lines of a page: in blocks, and between backticks in running text; without variables set before."""
    for language, block in BLOCK.findall(text):
        if language in ("", "bash", "sh", "console"):
            for line in block.splitlines():
                yield re.sub(r"^(\$ )?(\w+=\S+ )*", "", line.strip())
    for span in re.findall(r"`([^`]+)`", BLOCK.sub("", text)):
        yield " ".join(span.split())


def commands() -> list[Any]:
    """Every ``yolomix ...`` line that is a command, and not a form of one."""
    found = []
    for name, text in PAGES.items():
        for line in dict.fromkeys(shell_lines(text)):
            if line.startswith("yolomix ") and not {"VERB", "..."} & set(line.split()):
                found.append(pytest.param(line, id=f"{name}: {line}"))
    return found


@pytest.mark.parametrize("line", commands())
def test_command_lines_are_understood(line: str) -> None:
    from yolomix.cli import passed
    from yolomix.cli.request import TASKS, read
    from yolomix.cli.verbs import VERBS
    from yolomix.host import entry

    request = read(shlex.split(line, comments=True)[1:], VERBS)
    if request.verb == "help":
        return
    verb = VERBS[request.verb]
    if not verb.passed_on:
        verb.parse(request.words)
        return
    for word in request.words:
        key, equals, value = word.partition("=")
        own = {argument.name for argument in verb.arguments}
        known = {*entry.ARGUMENTS, *passed.UNLISTED, *own} if equals else TASKS
        assert key in known, f"{line}: {verb.name} takes no {key!r}"
        assert value or not equals, f"{line}: {key} has no value"


ANSWERS = {
    "models": [],
    "blocks": [],
    "doctor": [],
    "help": [],
    "graft": ["model=yolo11n.pt", "block=MLLABlock", "at=p5", "plan=true"],
    "transfer": ["source=best.pt", "target=yolo11n+MLLABlock@p5.yaml", "save=start.pt"],
}


@pytest.mark.parametrize("verb", ANSWERS)
def test_json_has_the_keys_of_the_docs(verb: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from yolomix import cli

    section = PAGES["docs/cli.md"].partition("## JSON")[2]
    row = re.search(rf"^\| [^|]*`{verb}`[^|]* \| (.*`.*) \|$", section, re.MULTILINE)
    assert row is not None, f"docs/cli.md has no JSON keys of {verb}"
    told = re.sub(r"\([^)]*\)", "", row[1].partition("; written:")[0])
    assert cli.main([verb, *ANSWERS[verb], "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [*(answer[0] if isinstance(answer, list) else answer)] == re.findall(r"`(\w+)`", told)


def test_a_wrong_command_line_fails() -> None:
    from yolomix.cli.request import UsageError

    with pytest.raises(UsageError, match="graft takes no 'blok'; did you mean block"):
        test_command_lines_are_understood("yolomix graft model=yolo11n.pt blok=MLLABlock at=p5")
    with pytest.raises(AssertionError, match="train takes no 'epoch'"):
        test_command_lines_are_understood("yolomix train model=yolo11n-mlla.yaml data=sample epoch=3")
