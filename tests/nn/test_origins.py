"""Blocks that are named with their module: imported where a person said the name, and nowhere else."""

from __future__ import annotations

import logging
import sys
from importlib import metadata

import pytest
from torch import nn

from tests.brought import GATE, Write, write  # noqa: F401
from yolomix.nn import origins
from yolomix.nn.registry import BLOCKS, find, known


def test_a_class_is_found_in_the_working_folder_and_the_log_says_whose_code_ran(write: Write, caplog):  # noqa: F811
    file = write("yx_gates.py", GATE)
    caplog.set_level(logging.INFO)
    block = origins.say("yx_gates.Gate")
    assert (block.name, str(block.rule), block.cls.__module__) == ("yx_gates.Gate", "(c, ...)", "yx_gates")
    assert find("yx_gates.Gate") is block
    assert f"yx_gates was imported from {file}" in caplog.text


def test_looking_up_imports_nothing(write: Write):  # noqa: F811
    write("yx_gates.py", GATE + "\nraise SystemExit('it ran')\n")
    assert known("yx_gates.Gate") is None
    assert "yx_gates" not in sys.modules


def test_a_module_that_somebody_imported_is_known_by_name(write: Write, tmp_path):  # noqa: F811
    write("yx_gates.py", GATE)
    sys.path.insert(0, str(tmp_path))
    import yx_gates

    assert known("yx_gates.Gate").cls is yx_gates.Gate
    assert known("yx_gates.nn") is None


def test_the_module_may_say_the_rule(write: Write):  # noqa: F811
    write("yx_gates.py", "import yolomix\nfrom torch import nn\nyolomix.register(nn.GELU, rule='', name='Bend')\n")
    origins.bring("yx_gates")
    assert (str(find("Bend").rule), find("Bend").home) == ("(...)", "yx_gates")
    text = GATE.replace("c, ratio", "planes, ratio").replace("(c", "(planes").replace("* ratio), c", "* ratio), planes")
    write("yx_others.py", f"import yolomix\n{text}\nyolomix.register(Gate, rule='c', name='Other')\n")
    assert str(origins.say("yx_others.Gate").rule) == "(c, ...)"


def test_a_bare_name_is_a_class_of_a_module_that_was_named(write: Write):  # noqa: F811
    write("yx_gates.py", GATE)
    assert known("Gate") is None
    origins.bring("yx_gates")
    assert (known("Gate").cls.__module__, known("Gate").home) == ("yx_gates", "yx_gates")


FAULTS = {
    "no module": ("no_such_module.Gate", ImportError, "no module 'no_such_module' in the working folder ("),
    "no inner module": ("yx_gates.inner.Gate", ImportError, "no module 'yx_gates.inner' in the working folder"),
    "no class": ("yx_gates.Gat", ImportError, "module yx_gates has no class 'Gat'; it has Gate"),
    "no block": ("yx_gates.LIMIT", TypeError, "a block is a class derived from torch.nn.Module, yx_gates.LIMIT is 3"),
    "a function": ("os.system", TypeError, "a block is a class derived from torch.nn.Module, os.system is <built-in"),
    "no rule": ("yx_gates.Odd", TypeError, "which channels Odd(strength) takes cannot be read from the names"),
    "fails": ("yx_fails.Gate", ImportError, "yx_fails fails while it is imported: ZeroDivisionError: division by zero"),
    "lacks": ("yx_lacks.Gate", ImportError, "yx_lacks fails while it is imported: No module named 'no_such_package'"),
    "a path": (
        "yx/gates.Gate",
        ImportError,
        "'yx/gates' is no name of a module; that of blocks/mine.py is blocks.mine",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_cannot_be_brought_is_said(case, write: Write):  # noqa: F811
    odd = "\nLIMIT = 3\nclass Odd(nn.Module):\n    def __init__(self, strength):\n        super().__init__()\n"
    write("yx_gates.py", GATE + odd)
    write("yx_fails.py", "1 / 0")
    write("yx_lacks.py", "import no_such_package")
    name, kind, words = FAULTS[case]
    with pytest.raises(kind) as error:
        origins.say(name)
    assert words in str(error.value)
    assert name not in BLOCKS


@pytest.mark.parametrize("fault", ["1 / 0", "import no_such_package"])
def test_a_module_that_fails_names_the_line(fault, write: Write):  # noqa: F811
    inner = write("yx_inner.py", f"\n{fault}\n")
    write("yx_outer.py", "import yx_inner")
    with pytest.raises(ImportError) as error:
        origins.bring("yx_outer")
    assert str(error.value).endswith(f" ({inner}, line 2)")


def test_a_syntax_error_names_the_line_once(write: Write):  # noqa: F811
    write("yx_fails.py", "\n1 /")
    with pytest.raises(ImportError, match=r"SyntaxError: invalid syntax \(yx_fails\.py, line 2\)$"):
        origins.bring("yx_fails")


def test_a_description_says_its_modules_and_classes_wherever_it_names_them(write: Write):  # noqa: F811
    for name in ("yx_a", "yx_b", "yx_c", "yx_d"):
        write(f"{name}.py", GATE)
    rows = [
        [-1, 1, "yx_a.Gate", []],
        [-1, 1, "ZeroGate", ["yx_b.Gate", ["no_such.Name"]]],
        [-1, 1, "Chain", [[1, "Conv", [8]], [1, "SameWidth", ["yx_c.Gate"]]]],
        [-1, 1, "nn.Upsample", [None, 2, "nearest.exact"]],
        ["odd"],
    ]
    origins.say_all({"imports": "yx_d", "backbone": rows, "head": None})
    assert {f"yx_{x}.Gate" for x in "abc"} <= set(BLOCKS)
    assert "yx_d" in origins.BROUGHT


def test_an_import_of_a_description_that_fails_names_the_file():
    with pytest.raises(ValueError, match=r"my\.yaml: imports: no module 'no_such_module' in the working folder"):
        origins.say_all({"imports": ["no_such_module"]}, "my.yaml")


class Point:
    """An entry point of a package that is not installed."""

    def __init__(self, name: str, module: str, found: object):
        self.name, self.module, self.found = name, module, found
        self.dist = type("Dist", (), {"name": "yx-package"})

    def load(self) -> object:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.fixture
def announced(write: Write, monkeypatch):  # noqa: F811
    """Entry points of the group, in place of those that are installed."""
    points: list[Point] = []
    monkeypatch.setattr(metadata, "entry_points", lambda group: points if group == "yolomix.blocks" else [])
    origins.enter_installed.cache_clear()
    yield points
    origins.enter_installed.cache_clear()


def test_blocks_that_packages_announce_are_known(announced, caplog):
    class Announced(nn.Module):
        def __init__(self, dim: int):
            super().__init__()

    announced += [Point("Soft", "yx.soft", Announced), Point("Broken", "yx.broken", RuntimeError("no such thing"))]
    assert (find("Soft").cls, find("Soft").home) == (Announced, "yx.soft")
    assert "the blocks that yx-package announces as 'Broken' are missing: no such thing" in caplog.text


def test_other_processes_are_told_what_they_need(write: Write):  # noqa: F811
    write("yx_gates.py", GATE)
    origins.bring("yx_gates")
    from yolomix.nn.registry import Block, enter
    from yolomix.nn.rules import ChannelRule

    enter(Block("Bend", nn.GELU, ChannelRule(()), "", "__main__"))
    assert "yx_gates" in origins.homes()
    assert not any(name.startswith("yolomix") for name in origins.homes())
    assert origins.told() == [("Bend", "torch.nn.modules.activation", "GELU", "")]
    told = origins.told()
    del BLOCKS["Bend"]
    origins.recall(*told[0])
    assert find("Bend").cls is nn.GELU
