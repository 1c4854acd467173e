"""The words of a command line: verbs, flags, a task in front, near names."""

from __future__ import annotations

import pytest

from yolomix import nearest
from yolomix.cli import request, verbs


@pytest.mark.parametrize(
    ("words", "verb", "rest", "about"),
    [
        ("train model=a.pt data=b.yaml", "train", ["model=a.pt", "data=b.yaml"], None),
        ("predict show model=a.pt", "predict", ["show", "model=a.pt"], None),
        ("obb val model=a.pt", "val", ["obb", "model=a.pt"], None),
        ("help", "help", [], None),
        ("help export", "help", [], "export"),
        ("export model=a.pt -h", "help", [], "export"),
        ("--version", "version", [], None),
        ("train --debug model=a.pt --json", "train", ["model=a.pt"], None),
    ],
)
def test_words_are_read_in_order(words, verb, rest, about):
    asked = request.read(words.split(), verbs.VERBS)
    assert (asked.verb, [*asked.words], asked.about) == (verb, rest, about)
    assert asked.json == ("--json" in words)


@pytest.mark.parametrize("words", ["help trian", "trian --help", "detect", "detect trian", "model=a.pt", "x=train"])
def test_words_without_a_verb_are_refused(words):
    with pytest.raises(request.UsageError, match="no verb"):
        request.read(words.split(), verbs.VERBS)


def test_a_task_may_come_first_as_in_yolo():
    asked = request.read(["segment", "train", "model=a.yaml", "--json"], verbs.VERBS)
    assert (asked.verb, asked.words, asked.json) == ("train", ["segment", "model=a.yaml"], True)


def test_near_names():
    assert nearest.near("epoch", ["epochs", "batch"]) == "did you mean epochs?"
    assert nearest.near("zzz", ["epochs", "batch"]) == "known: epochs, batch"
    assert nearest.near("zzz", map(str, range(99))).endswith("11, ...")
    assert nearest.near("epoch", ["epochs", "epoch0", "epoch1"]) == "did you mean epochs, epoch1 or epoch0?"
    assert nearest.near("zzz", []) == "it takes no arguments"


@pytest.mark.parametrize(("word", "known"), [("list", "edit"), ("info", "demo"), ("size", "save"), ("at", "args")])
def test_a_name_with_little_in_common_is_not_suggested(word, known):
    assert nearest.meant(word, [known]) == ""
    assert nearest.near(word, [known]) == f"known: {known}"
