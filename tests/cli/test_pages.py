"""Help, made from the declarations: every verb, every argument, an example each, and cheap."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from yolomix.cli import DONE, USAGE, main, pages, verbs
from yolomix.cli.request import ELSEWHERE
from yolomix.cli.verbs import VERBS


def test_help_has_every_verb_in_one_group_and_an_example_on_its_page(capsys):
    assert sorted(name for names in pages.GROUPS.values() for name in names) == sorted(VERBS)
    for words in ([], ["help"], ["--help"]):
        assert main(words) == DONE
        overview = capsys.readouterr().out.splitlines()
        assert {*pages.GROUPS} < {*overview}
        assert all(f"  {verb.name:13}  {verb.does}" in overview for verb in VERBS.values())
    for name in verbs.VERBS:
        for words in ([name, "--help"], ["help", name], [name, "model=x", "-h"]):
            assert main(words) == DONE
            assert f"  {VERBS[name].examples[0]}" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", ["", "80"])  # where no terminal says its width, it is 80
def test_every_page_fits_80_columns(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    for words in (["help"], *(["help", name] for name in VERBS)):
        assert main(words) == DONE
        for line in capsys.readouterr().out.splitlines():
            assert len(line) <= 80, line


def test_a_narrow_terminal_wraps_help_between_words(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["help"]) == DONE
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


def test_help_lists_ten_arguments_of_a_training_with_the_defaults_of_ultralytics():
    from yolomix.host import entry

    used = [argument for argument in VERBS["train"].arguments if argument.name not in ("model", "data")]
    assert len(used) == 10
    for argument in used:
        assert argument.default == entry.ARGUMENTS[argument.name], argument.name


@pytest.mark.parametrize(
    "word", ["checks", "settings", "cfg", "tune", "copy-cfg", "solutions", "list", "info", "compare"]
)
def test_verbs_of_elsewhere_get_a_sentence_that_says_what_to_type(word, capsys):
    for words in ([word], [word, "model=a.pt"], ["help", word]):
        assert main(words) == USAGE
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"yolomix: no verb {word!r}: {ELSEWHERE[word]}\n")
    assert "`yol" in ELSEWHERE[word]


def test_no_verb_of_ours_is_said_to_be_elsewhere():
    assert not {*ELSEWHERE} & {*VERBS}


def test_help_and_lists_are_cheap():
    code = "import sys; from yolomix.cli import main; main(['help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_every_declared_argument_is_in_the_help(verb, capsys):
    assert main([verb.name, "--help"]) == DONE
    page = " ".join(capsys.readouterr().out.split())
    for argument in verb.arguments:
        name = argument.name.upper() if argument.bare else f"{argument.name}="
        assert f" {name} {argument.described}" in page
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
