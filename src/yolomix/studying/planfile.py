"""The YAML file of a plan, with the line of every key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml


class PlanError(ValueError):
    """A plan that cannot be carried out; nothing has run."""


class _TwiceError(ValueError):
    """A key that stands twice in one mapping."""


def opened(file: str, needed: Sequence[str]) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping in a YAML file, and the line of every key of it and of the mappings in it.

    Args:
        file: its path.
        needed: keys of a plan, for messages.

    Raises:
        PlanError: it cannot be read, is no mapping, or has a key twice.
    """
    try:
        text = Path(file).read_text("utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        given = yaml.safe_load(text)
        lines = dict(_lines(node))
    except OSError as error:
        raise PlanError(
            f"{file} cannot be read as a plan: {error.strerror}. Give a file: yolomix study study.yaml"
        ) from error
    except _TwiceError as error:
        raise PlanError(f"{file}, {error}; leave one of them") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}, line {mark.line + 1}" if mark else file
        raise PlanError(f"{where}: it is no YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(given, dict):
        raise PlanError(f"{file} needs {', '.join(f'{key}:' for key in needed)}, got {shown(given)}")
    return _numbers(given), lines


def _lines(node: yaml.Node | None, above: str = "") -> Iterable[tuple[str, int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value in seen:
            raise _TwiceError(f"line {line}: {key.value!r} stands there again, after line {seen[key.value]}")
        seen[key.value] = line
        name = f"{above}{key.value}"
        yield name, line
        yield from _lines(value, f"{name}.")


def _numbers(value: Any) -> Any:
    """The same with ``1e-3`` as a number, which YAML 1.1 reads as a text."""
    if isinstance(value, dict):
        return {key: _numbers(one) for key, one in value.items()}
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value):
        return float(value)
    return value


def shown(value: Any) -> str:
    """A value in a message, cut to 80 characters.

    >>> shown((1, 2)), shown(None)
    ('[1, 2]', 'nothing')
    """
    text = repr(value)
    if value is None:
        text = "nothing"
    elif isinstance(value, tuple | range):
        text = repr([*value])
    return text if len(text) <= 80 else f"{text[:77]}..."
