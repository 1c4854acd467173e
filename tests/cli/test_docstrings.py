"""What docstrings of blocks say, in every style that people write."""

from __future__ import annotations

import pytest
from torch import nn

from yolomix.cli.docstrings import told


class Google:
    """Scale what comes in.

    A second paragraph with ``code`` and a :class:`~nn.Module`,
    over two lines.

    >>> Google(8, 2, mode="a")

    Args:
        c: channels.
        factor (int): what it is multiplied by,
            on two lines: yes.
        mode, *rest: both of them.

    Raises:
        ValueError: never.
    """

    def __init__(self, c: int, factor: int, mode: str = "b") -> None: ...


class NumPy:
    """Scale what comes in.

    Parameters
    ----------
    c : int
        channels.
    factor : int, optional
        what it is multiplied by.
    """


class Sphinx:
    """Scale what comes in.

    :param c: channels.
    :param factor: what it is multiplied by.
    """


class Constructor:
    def __init__(self, c: int, factor: int) -> None:
        """Scale what comes in.

        Args:
            c: channels.
            factor: what it is multiplied by.
        """


def test_paragraphs_arguments_and_the_first_call_of_an_example():
    found = told(Google)
    assert found.about == "Scale what comes in."
    assert found.details == ("A second paragraph with `code` and a `nn.Module`, over two lines.",)
    assert found.meanings == {
        "c": "channels.",
        "factor": "what it is multiplied by, on two lines: yes.",
        "mode": "both of them.",
        "rest": "both of them.",
    }
    assert found.example == {"c": 8, "factor": 2, "mode": "a"}


@pytest.mark.parametrize("block", [NumPy, Sphinx, Constructor])
def test_every_style_and_the_docstring_of_the_constructor(block):
    assert told(block).about == "Scale what comes in."
    assert told(block).meanings == {"c": "channels.", "factor": "what it is multiplied by."}


class Plain(nn.Module):
    pass


def function(c):
    return nn.Identity()


@pytest.mark.parametrize("block", [Plain, function])
def test_without_a_docstring_nothing_is_said_and_nothing_is_inherited(block):
    assert told(block) == ("", (), {}, {})


ODD = (
    "", " ", "Args:", "Args:\n  a", "Args:\n x\n    y: z\n  w", "Parameters\n---", ":param", ":param :", ">>> (",
    ">>>Odd", ">>> Odd(1, 2, 3)", ">>> Odd(c=c)", ">>> Odd(*a, **b)", "\x00", "Args:\n\ta:\tb\n  c: d", "@param",
    "Δ → ×\n\n\n\n",
)  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_odd_docstrings_do_no_harm(text):
    odd = type("Odd", (), {"__doc__": text, "__init__": lambda self, c: None})
    assert told(odd).example == {}
