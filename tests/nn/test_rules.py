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


class SeveralToWidth(nn.Module):
    def __init__(self, ch, c2, k=1):
        super().__init__()
        self.args = (ch, c2, k)


class Other(nn.Module):
    def __init__(self, width, c):
        super().__init__()
        self.args = (width, c)


TABLE = {  # rule, keeps, reads several, takes a width, takes repeats
    Keeps: ("c", True, False, False, False),
    Changes: ("c1 c2", False, False, True, False),
    Repeats: ("c1 c2 n", False, False, True, True),
    Several: ("ch", False, True, False, False),
    SeveralToWidth: ("ch c2", False, True, True, False),
}


@pytest.mark.parametrize("cls", TABLE)
def test_the_constructor_says_the_rule(cls):
    rule = ChannelRule.of(cls)
    said = " ".join(rule.words)
    assert (said, rule.keeps_channels, rule.reads_several, rule.takes_width, rule.takes_repeats) == TABLE[cls]


@pytest.mark.parametrize(
    ("cls", "given", "args"),
    [
        (Keeps, {"read": 8, "args": [3]}, (8, 3)),
        (Keeps, {"read": 8, "c2": 16, "n": 4, "named": {"depth": 2}}, (8, 2)),
        (Changes, {"read": 8, "c2": 16, "args": [3]}, (8, 16, 3)),
        (Repeats, {"read": 8, "c2": 16, "n": 4, "args": [0.25]}, (8, 16, 4, 0.25)),
        (Several, {"read": [8, 16], "args": [2.0]}, ([8, 16], 2.0)),
        (SeveralToWidth, {"read": [8, 16], "c2": 32}, ([8, 16], 32, 1)),
    ],
)
def test_a_block_is_made_by_its_rule(cls, given, args):
    assert Block("B", cls, ChannelRule.of(cls), "").make(**given).args == args


@pytest.mark.parametrize(
    ("rule", "read", "args"),
    [
        ("c", 8, (8, 5)),
        ("c1 c2", 8, (8, 16)),
        ("n c2", 8, (3, 16)),
        ("ch c2", [8, 24], ([8, 24], 16)),
        ("ch[1] ch[-2]", [8, 24, 32], (24, 24)),
        ("sum(ch) n", [8, 24], (32, 3)),
        ("c (c2)", 8, (8, 5)),
        ("", 8, (4, 5)),
    ],
)
def test_a_rule_that_is_said_fills_the_first_parameters_in_its_order(rule, read, args):
    block = Block("B", Other, ChannelRule.of(Other, rule), "")
    rest = [4, 5][block.rule.filled :]
    assert block.make(read, 16, 3, rest).args == args


@pytest.mark.parametrize(
    ("cls", "row", "graft"),
    [(Changes, "[c2, k=1]", "[k=1]"), (Repeats, "[c2, e=0.5]", "[e=0.5]"), (Keeps, "[depth=1]", "[depth=1]")],
)
def test_what_a_row_and_a_graft_may_give(cls, row, graft):
    block = Block("B", cls, ChannelRule.of(cls), "")
    assert (block.signature, block.graft_signature) == (row, graft)


def test_what_a_row_gives_where_the_rule_is_said():
    assert Block("B", Other, ChannelRule.of(Other, "c (c2)"), "").signature == "[c2, c]"
    assert Block("B", Other, ChannelRule.of(Other, ""), "").signature == "[width, c]"


def named(*names: str) -> type[nn.Module]:
    """A class whose constructor has these parameters."""
    space: dict = {"nn": nn}
    exec(f"class Named(nn.Module):\n def __init__(self, {', '.join(names)}):\n  super().__init__()", space)
    return space["Named"]


SPELLINGS = {  # parameters -> rule; None where they leave it open
    ("in_channels", "out_channels", "k=1"): "c1 c2",
    ("dim", "dim_out"): "c1 c2",
    ("inp", "oup", "stride"): "c1 c2",
    ("ch_in", "ch_out", "n"): "c1 c2 n",
    ("inc", "ouc"): "c1 c2",
    ("in_chs", "out_chs=None", "k=3"): "c1 c2",
    ("dim", "out_channels"): "c1 c2",
    ("dim", "k=3"): "c",
    ("channels",): "c",
    ("d_model", "heads"): "c",
    ("channel", "reduction=16"): "c",
    ("ch", "c2"): "ch c2",
    ("in_channels_list", "out_channels"): "ch c2",
    ("c", "out_channels"): "c",  # our own word says it, whatever follows
    ("dim", "heads", "dim_out=None"): None,  # which of the two are the channels that come out
    ("dim", "in_channels"): None,
    ("in_channels", "k=3"): None,  # a sampler, or a block that keeps them
    ("out_channels", "in_channels"): None,
    ("planes",): None,
    ("strength",): None,
    ("num_heads", "dim"): None,
    ("in_features", "hidden", "out_features"): None,
    ("*", "dim"): None,  # by name only
    (): None,
}


@pytest.mark.parametrize("names", SPELLINGS, ids=",".join)
def test_common_spellings_say_the_rule_where_they_can_mean_one(names):
    wanted = SPELLINGS[names]
    if wanted is None:
        with pytest.raises(TypeError, match=r"cannot be read from the names of its parameters"):
            ChannelRule.of(named(*names) if names else nn.Dropout)
    else:
        assert " ".join(ChannelRule.of(named(*names)).words) == wanted


def test_a_constructor_without_a_rule_is_told_what_to_write():
    with pytest.raises(TypeError) as error:
        ChannelRule.of(Other)
    assert str(error.value).startswith(
        "which channels Other(width, c) takes cannot be read from the names of its parameters. Say it where the block "
        'is registered: register(Other, rule="c"). A rule is one of "c" keeps the channels; "c1 c2" changes them; '
    )
    with pytest.raises(
        TypeError, match=r"a block is a class derived from torch\.nn\.Module, or a function that makes one, got 3"
    ):
        ChannelRule.of(3)


@pytest.mark.parametrize(
    ("rule", "kind", "words"),
    [
        ("c3", ValueError, "'c3' is no channel rule: there is no word 'c3'. A rule is one of \"c\" keeps"),
        ("c c2", ValueError, "'c' keeps the channels and 'c2' changes them"),
        ("c1 ch", ValueError, "'c' and 'c1' are of one input and 'ch' of several"),
        ("c1, c2", ValueError, "there is no word 'c1,'"),
        ("c1 c2 n", TypeError, "rule='c1 c2 n' fills 3 parameters, and Other(width, c) takes 2 by position"),
        (["c"], TypeError, "a channel rule is a text, such as \"c1 c2\", got ['c']"),
    ],
)
def test_a_rule_that_is_none_or_does_not_fit(rule, kind, words):
    with pytest.raises(kind) as error:
        ChannelRule.of(Other, rule)
    assert words in str(error.value)


def test_every_registered_block_has_the_rule_of_its_constructor():
    said = {"OneMap": ""}  # is told no channels
    ours = [block for block in BLOCKS.values() if block.is_ours]
    assert all(block.rule == ChannelRule.of(block.cls, said.get(block.name)) for block in ours)
