"""What the docstring of a block says, in Google's style, NumPy's or Sphinx's: anybody's class can be a block."""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import docstring_parser


class Told(NamedTuple):
    """A docstring, taken apart.

    Attributes:
        about: its first paragraph; empty without a docstring.
        details: the others, without examples.
        meanings: what each argument means, by name.
        example: the arguments of the first call of the block in its examples, by name.
    """

    about: str
    details: tuple[str, ...]
    meanings: Mapping[str, str]
    example: Mapping[str, Any]


def told(block: Callable[..., Any]) -> Told:
    '''What the docstring of a class says, and that of its constructor; or of a function.

    >>> class Twice:
    ...     """Multiply by two.
    ...
    ...     >>> Twice(8)
    ...
    ...     Args:
    ...         c: channels ``C``.
    ...     """
    ...     def __init__(self, c): ...
    >>> told(Twice)
    Told(about='Multiply by two.', details=(), meanings={'c': 'channels `C`.'}, example={'c': 8})

    Args:
        block: the class, or the function that makes a module.
    '''
    constructor = vars(block).get("__init__") if isinstance(block, type) else None
    paragraphs: list[str] = []
    meanings: dict[str, str] = {}
    for text in (block.__doc__, constructor.__doc__ if constructor else None):
        parsed = _parsed(text or "")
        paragraphs = paragraphs or _paragraphs(parsed.description or "")
        for parameter in parsed.params:
            for name in parameter.arg_name.split(","):
                meanings.setdefault(name.strip("* "), _plain(parameter.description or ""))
    about, *details = paragraphs or [""]
    return Told(about, tuple(details), meanings, _example(block))


def _parsed(text: str) -> docstring_parser.Docstring:
    """The text in the style that fits it best; one that none fits is a description as a whole."""
    try:
        return docstring_parser.parse(text)
    except docstring_parser.ParseError:
        found = docstring_parser.Docstring()
        found.short_description = inspect.cleandoc(text)
        return found


def _paragraphs(text: str) -> list[str]:
    """The paragraphs of a description, a line each, up to the first example in each."""
    found = [_plain(paragraph.partition(">>>")[0]) for paragraph in re.split(r"\n\s*\n", text)]
    return [paragraph for paragraph in found if paragraph]


def _plain(text: str) -> str:
    """One line without the marks of reStructuredText: ``a`` and :class:`a` are `a`."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text)
    return " ".join(text.replace("``", "`").split())


def _example(block: Callable[..., Any]) -> dict[str, Any]:
    name = getattr(block, "__name__", "")
    with contextlib.suppress(ValueError, TypeError, SyntaxError):  # an example that says nothing that a row can say
        for example in doctest.DocTestParser().get_examples(block.__doc__ or ""):
            for node in ast.walk(ast.parse(example.source)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                    values = [ast.literal_eval(value) for value in node.args]
                    named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
                    return inspect.signature(block).bind_partial(*values, **named).arguments
    return {}
