"""The figure of a collection of model YAMLs: what is compared, how rules are read, a file that hangs or crashes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from torch import nn

from benchmarks import collection, collection_child, collection_classes

PARSER = """
def parse_model(d, ch):
    base_modules = frozenset(
        {
            Own, nn.ConvTranspose2d, Other,
        }
    )
    repeat_modules = frozenset(  # modules with 'repeat' arguments
        {
            Other
        }
    )
"""


def test_rules_are_those_of_the_parser():
    found = collection_classes.rules(PARSER)
    assert (found["Own"], found["Other"], found["MP"], found["SEAttention"]) == ("c1 c2", "c1 c2 n", "", "c (c2)")
    assert found["IDetect"] is None
    assert "ConvTranspose2d" not in found


def test_the_report_counts_what_both_build_and_says_why_not():
    own = {name: {"parameters": n} for name, n in (("a", 1), ("b", 2), ("c", 3), ("d", 4))} | {"e": {"error": "no"}}
    here = {"a": {"parameters": 1}, "b": {"parameters": 9}, "e": {"parameters": 5}}
    here["c"] = {"error": "RowError: /x/c.yaml, row 0 [-1, 1, X, []]: no block 'X' in yolomix. A block of your own is"}
    assert collection.report(own, here).splitlines() == [
        "1 of 3 files that the collection's own code builds (of 5) build here with as many parameters: 33.3 %",
        "   1  another number of parameters: b",
        "   1  no block 'X' in yolomix.: c",
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_file_is_built_in_a_process_of_its_own():
    def _build(file: Path) -> nn.Module:
        if file.name == "hangs":
            time.sleep(60)
        if file.name == "dies":
            os.kill(os.getpid(), 9)
        if file.name == "fails":
            raise ValueError("no such row")
        return nn.Linear(2, 3)

    found = {name: collection_child.forked(_build, Path(name), 1) for name in ("good", "fails", "dies", "hangs")}
    assert found["good"] == {"parameters": 9}
    assert found["fails"] == {"error": "ValueError: no such row"}
    assert found["dies"]["error"].startswith("ended by signal 9")
    assert found["hangs"]["error"].startswith("ended by signal 14")
