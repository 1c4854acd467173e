"""Channel rules: read from a constructor, with behaviour instead of strings that others compare."""

from __future__ import annotations

import pytest
from torch import nn

from yolomix.nn.registry import BLOCKS, Block
from yolomix.nn.rules import ChannelRule


class Keeps(nn.Module):
    def __init__(self, c, depth=1):
        super().__init__()
        self.args = (c, depth)


class Changes(nn.Module):
    def __init__(self, c1, c2, k=1):
        super().__init__()
        self.args = (c1, c2, k)


class Repeats(nn.Module):
    def __init__(self, c1, c2, n=1, e=0.5):
        super().__init__()
        self.args = (c1, c2, n, e)


class Several(nn.Module):
    def __init__(self, ch, gain=1.0):
        super().__init__()
        self.args = (ch, gain)


class Other(nn.Module):
    def __init__(self, width, c):
        super().__init__()


TABLE = {  # rule, keeps, reads several, takes a width, takes repeats
    Keeps: (ChannelRule.KEEPS, True, False, False, False),
    Changes: (ChannelRule.CHANGES, False, False, True, False),
    Repeats: (ChannelRule.REPEATS, False, False, True, True),
    Several: (ChannelRule.SEVERAL, False, True, False, False),
}


@pytest.mark.parametrize("cls", TABLE)
def test_the_constructor_says_the_rule(cls):
    rule = ChannelRule.of(cls)
    assert (rule, rule.keeps_channels, rule.reads_several, rule.takes_width, rule.takes_repeats) == TABLE[cls]


@pytest.mark.parametrize(
    ("cls", "given", "args"),
    [
        (Keeps, {"read": 8, "args": [3]}, (8, 3)),
        (Keeps, {"read": 8, "c2": 16, "n": 4, "named": {"depth": 2}}, (8, 2)),
        (Changes, {"read": 8, "c2": 16, "args": [3]}, (8, 16, 3)),
        (Repeats, {"read": 8, "c2": 16, "n": 4, "args": [0.25]}, (8, 16, 4, 0.25)),
        (Several, {"read": [8, 16], "args": [2.0]}, ([8, 16], 2.0)),
    ],
)
def test_a_block_is_made_by_its_rule(cls, given, args):
    assert Block("B", cls, ChannelRule.of(cls), "").make(**given).args == args


@pytest.mark.parametrize(
    ("cls", "row", "graft"),
    [(Changes, "[c2, k=1]", "[k=1]"), (Repeats, "[c2, e=0.5]", "[e=0.5]"), (Keeps, "[depth=1]", "[depth=1]")],
)
def test_what_a_row_and_a_graft_may_give(cls, row, graft):
    block = Block("B", cls, ChannelRule.of(cls), "")
    assert (block.signature, block.graft_signature) == (row, graft)


def test_a_constructor_without_a_rule_is_told_the_rules():
    with pytest.raises(TypeError) as error:
        ChannelRule.of(Other)
    assert str(error.value) == (
        "Other(width, c) follows no channel rule: the first parameters of a block are one of (c, ...), (c1, c2, ...), "
        "(c1, c2, n, ...), (ch, ...)"
    )
    with pytest.raises(TypeError, match=r"a block is a class derived from torch\.nn\.Module, got 3"):
        ChannelRule.of(3)


def test_every_registered_block_has_the_rule_of_its_constructor():
    assert all(block.rule is ChannelRule.of(block.cls) for block in BLOCKS.values())
