"""The page about a block: arguments with their meaning, a row that builds, a graft that is understood."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml

from tests.brought import Write, write  # noqa: F401
from tests.cli.commands import SMALL
from yolomix.cli import DONE, FAILED, blockpages, main
from yolomix.host.survey import survey
from yolomix.nn.registry import BLOCKS, find

OURS = sorted(name for name, block in BLOCKS.items() if block.is_ours)
SEVERAL = ("OneMap",)  # reads what no row in front of it gives here


def test_the_arguments_have_their_meaning_and_default(capsys):
    assert main(["blocks", "HaloAttention"]) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Blocked local self-attention on a feature map of any size."
    assert "block_size    needed   side of a block of queries, in positions." in lines
    assert "dim_head      64       width of a head." in lines
    assert "channels  (c, ...) keeps the channels" in lines
    assert lines[-2:] == [
        "  - [-1, 1, HaloAttention, [2, 1]]",
        "  yolomix graft model=yolo11n.pt block=HaloAttention args=2,1 at=p5",
    ]


@pytest.mark.parametrize("name", OURS)
def test_every_argument_of_ours_is_explained(name):
    data = blockpages.page(find(name)).data
    assert data["about"]
    assert all(argument["meaning"] for argument in data["parameters"])


@pytest.mark.parametrize("name", [name for name in OURS if name not in SEVERAL])
def test_the_row_builds(name):
    row = yaml.safe_load(blockpages.page(find(name)).data["row"])
    head = [[[1], 1, "Detect", ["nc"]]]
    model = {"nc": 2, "backbone": [[-1, 1, "Conv", [256, 3, 2]], row], "head": head}
    assert [layer.module for layer in survey(model)] == ["Conv", name, "Detect"]


@pytest.mark.parametrize("name", OURS)
def test_the_graft_is_understood_or_there_is_none(name, tmp_path, capsys):
    graft = blockpages.page(find(name)).data["graft"]
    if name in ("SimpleStem", "VisionClueMerge", "ZeroGate", "OneMap"):
        assert graft is None
        return
    (tmp_path / "small.yaml").write_text(SMALL)
    _, *words = shlex.split(graft.replace("yolo11n.pt", str(tmp_path / "small.yaml")))
    assert main([*words, "plan=true"]) == DONE
    assert f"ZeroGate {name}" in capsys.readouterr().out


def test_a_page_says_why_there_is_no_graft_and_not_what_computed_the_trial(capsys):
    assert main(["blocks", "VSSBlock"]) == DONE
    assert capsys.readouterr().err == ""
    assert main(["blocks", "SimpleStem"]) == DONE
    out = " ".join(capsys.readouterr().out.split())
    assert out.endswith(f"[-1, 1, SimpleStem, [256]] {blockpages.NO_GRAFT}")


OWN = '''
import yolomix
from torch import nn
from ultralytics.nn.modules import Detect

class Told(nn.Module):
    """Scale the channels.

    Args:
        dim: channels.
        ratio (float): how much of them
            is left.
    """
    def __init__(self, dim, ratio, *, act="silu"):
        super().__init__()
    def forward(self, x):
        return x * 0.5

class Silent(nn.Module):
    def __init__(self, c, *args, **kwargs):
        super().__init__()
    def forward(self, x):
        return x

@yolomix.register
class Several(nn.Module):
    def __init__(self, ch, c2, weight: float):
        super().__init__()

@yolomix.register
class Soft(Detect):
    """A soft head."""
    def __init__(self, nc=80, ch=(), *, soft=1):
        super().__init__(nc, ch=ch)

yolomix.register(Told, name="Registered", source="A paper, arXiv:1")
'''


def told(capsys, *words: str) -> dict:
    assert main(["blocks", *words, "--json"]) == DONE
    found: dict = json.loads(capsys.readouterr().out)
    return found


def test_a_block_of_ones_own_has_a_page_by_its_module(write: Write, capsys):  # noqa: F811
    write("yx_pages.py", OWN)
    found = told(capsys, "yx_pages.Told")
    assert (found["about"], found["row"]) == ("Scale the channels.", "[-1, 1, yx_pages.Told, [RATIO]]")
    assert found["parameters"] == [
        {"name": "ratio", "default": None, "meaning": "how much of them is left."},
        {"name": "act", "default": "'silu'", "meaning": ""},
    ]


def test_a_registered_one_is_imported_by_its_graft_line(write: Write, capsys):  # noqa: F811
    write("yx_pages.py", OWN)
    found = told(capsys, "import=yx_pages", "Registered")
    assert (found["source"], found["class"]) == ("A paper, arXiv:1", "yx_pages.Told")
    assert found["row"] == "[-1, 1, Registered, [RATIO]]"
    assert found["graft"] == "yolomix graft model=yolo11n.pt import=yx_pages block=Registered args=RATIO at=p5"


def test_without_a_docstring_the_page_has_what_the_class_says(write: Write, capsys):  # noqa: F811
    write("yx_pages.py", OWN)
    assert main(["blocks", "yx_pages.Silent"]) == DONE
    out = capsys.readouterr().out
    assert out.startswith("yx_pages.Silent has no docstring.\n")
    assert "argument" not in out
    assert "- [-1, 1, yx_pages.Silent, []]" in out


def test_several_inputs_and_heads(write: Write, capsys):  # noqa: F811
    write("yx_pages.py", OWN)
    several = told(capsys, "import=yx_pages", "Several")
    assert (several["row"], several["graft"]) == ("[[-1, 6], 1, Several, [256, WEIGHT]]", None)
    head = told(capsys, "import=yx_pages", "Soft")
    assert ([row["name"] for row in head["parameters"]], head["row"], head["graft"]) == (["soft"], None, None)
    assert main(["blocks", "Soft"]) == DONE
    assert "A head: its row is that of Detect, with its own name." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HaloAtention", "no block 'HaloAtention'; did you mean HaloAttention"),
        ("Zq", "'Zq' is not registered as a block; registered are ASSG"),
        ("no_such_module.Gate", "no module 'no_such_module'"),
    ],
)
def test_a_block_that_is_none(name, text, capsys):
    assert main(["blocks", name]) == FAILED
    out, err = capsys.readouterr()
    assert (out, text in err) == ("", True)
