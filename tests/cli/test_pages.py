"""Help, made from the declarations: every verb, every argument, an example each, and cheap."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from yolomix.cli import DONE, main, verbs
from yolomix.cli.verbs import VERBS


def test_help_has_an_example_for_each_verb(capsys):
    for words in ([], ["help"], ["--help"]):
        assert main(words) == DONE
        overview = capsys.readouterr().out
        assert all(verb.examples[0] in overview for verb in verbs.VERBS.values())
    for name in verbs.VERBS:
        for words in ([name, "--help"], ["help", name], [name, "model=x", "-h"]):
            assert main(words) == DONE
            assert f"  yolomix {name}" in capsys.readouterr().out


def test_help_and_lists_are_cheap():
    code = "import sys; from yolomix.cli import main; main(['help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_every_declared_argument_is_in_the_help(verb, capsys):
    assert main([verb.name, "--help"]) == DONE
    page = capsys.readouterr().out
    for argument in verb.arguments:
        assert f"  {argument.name + '=':10} {argument.described}" in page.splitlines()
    assert ("docs.ultralytics.com" in page) == verb.passed_on


def test_help_answers_for_programs(capsys):
    assert main(["help", "--json"]) == DONE
    found = {row["verb"]: row for row in json.loads(capsys.readouterr().out)}
    assert [*found] == [*VERBS]
    modes = next(row for row in found["graft"]["arguments"] if row["name"] == "mode")
    assert modes["choices"] == ["after", "wrap", "replace"]
    assert modes["default"] == "after"
    assert main(["help", "demo", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["arguments"][0]["kind"] == "a whole number of at least 0"


def test_the_declarations_import_nothing_heavy():
    code = (
        "import sys; from yolomix.cli.verbs import VERBS; [v.to_dict() for v in VERBS.values()]; "
        "sys.exit(bool({'torch', 'ultralytics', 'rich', 'numba', 'cv2', 'yaml'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
