"""A model YAML as its author wrote it, with the rows of an edit in it: comments, order and spelling stay.

Only the characters that say something else are changed. PyYAML says where every value begins and ends, so nothing has
to be read or written a second way. An index that begins the remark of a row (``# 9-P5/32``) moves with the row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

import yaml

from yolomix.surgery.graph import Layer, Row

PARTS = ("backbone", "head")
SET_BY_ULTRALYTICS = ("scale", "yaml_file")

INDEX = re.compile(r"([ \t,\]]*#[ \t]*)(\d+)(?![\d.%]|[ \t]*[a-z])")  # "# 9", "# 9-P5/32", "# 9 (P5)"; not "# 9 heads"
OURS = re.compile(r"\d+(-P\d+/\d+)?, \d+ channels$", re.MULTILINE)
ALONE = re.compile(r"[ \t]*(,?)[ \t]*(#.*)?")  # what may follow a row that has its line for itself

Change = tuple[int, int, str]  # from and to where, in characters, and what comes there instead


def rewritten(source: str, model: dict[str, Any], origin: Sequence[int | None], layers: Sequence[Layer]) -> str | None:
    """The text of a model YAML with other rows; None where that cannot be done.

    >>> conv = Layer(0, (-1,), 1, "Conv", channels=16, stride=2, parameters=432, tensors=6, backbone=True)
    >>> block = Layer(1, (0,), 1, "MLLABlock", channels=16, stride=2, parameters=99, tensors=9, backbone=True)
    >>> head = Layer(2, (1,), 1, "Detect", channels=None, stride=None, parameters=99, tensors=9, backbone=False)
    >>> source = '''# MIT licence
    ... nc: 2   # cats, dogs
    ... backbone:
    ...   - [-1, 1, Conv,   [16, 3, 2]]  # 0-P1/2
    ... head:  # mine
    ...   - [[0], 1, Detect, [nc]]  # 1
    ... '''
    >>> rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "MLLABlock", []], [[1], 1, "Detect", ["nc"]]]
    >>> model = {"nc": 2, "backbone": rows[:2], "head": rows[2:]}
    >>> print(rewritten(source, model, [0, None, 1], [conv, block, head]), end="")
    # MIT licence
    nc: 2   # cats, dogs
    backbone:
      - [-1, 1, Conv,   [16, 3, 2]]  # 0-P1/2
      - [-1, 1, MLLABlock, []] # 1-P1/2, 16 channels
    head:  # mine
      - [[1], 1, Detect, [nc]]  # 2

    Args:
        source: what its author wrote.
        model: the model dictionary.
        origin: for each of its rows the row in ``source``; None for one that is new.
        layers: what is known of its layers.
    """
    source = source.removesuffix("\n") + "\n"
    try:
        text = _changed(source, [*_Text(source, model).changes(origin, layers)])
        found = yaml.safe_load(text)
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError):
        return None
    # What was written with anchors, or in a form that nobody foresaw, may not say the same any more.
    wanted = {key: value for key, value in model.items() if key not in SET_BY_ULTRALYTICS}
    is_whole = _plain(found) == _plain(wanted) and _first_scale(found) == _used_scale(model)
    return text if is_whole else None


def flow(value: Any) -> str:
    """One line of YAML.

    >>> flow([-1, 1, "Conv", [16, True]])
    '[-1, 1, Conv, [16, true]]'
    """
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).strip().removesuffix("...").strip()


def remark(layer: Layer) -> str:
    """``16-P3/8, 64 channels``, in the manner of Ultralytics' own files."""
    if layer.stride is None:
        return str(layer.index)
    level = ""
    if layer.stride & (layer.stride - 1) == 0:
        level = f"-P{layer.stride.bit_length() - 1}/{layer.stride}"
    return f"{layer.index}{level}, {layer.channels} channels"


def pair(key: str, value: Any) -> list[str]:
    """The lines of a key at the top."""
    if isinstance(value, dict):
        return [f"{key}:", *(f"  {k}: {flow(v)}" for k, v in value.items())]
    return [f"{key}: {flow(value)}"]


class _Loader(yaml.SafeLoader):
    """Nodes of which each knows its own place, also where it stands for another."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        node: Any = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            node = copy(node)
            node.start_mark, node.end_mark, node.is_alias = event.start_mark, event.end_mark, True
        return node


class _Text:
    """The author's text beside the model dictionary that it is to say."""

    def __init__(self, source: str, model: dict[str, Any]) -> None:
        self.source, self.model = source, model
        self.was: dict[str, Any] = yaml.safe_load(source)
        root: Any = _Loader(source).get_single_node()
        self.pairs: list[tuple[Any, Any]] = root.value
        self.values = {key.value: value for key, value in self.pairs}  # of a key said twice the last, as everywhere

    def changes(self, origin: Sequence[int | None], layers: Sequence[Layer]) -> Iterator[Change]:
        """All that has to be written in other words."""
        yield from self._keys()
        yield from self._scales()
        yield from self._rows(origin, layers)

    def _rows(self, origin: Sequence[int | None], layers: Sequence[Layer]) -> Iterator[Change]:
        was = [row for part in PARTS for row in self.was[part]]
        nodes = [node for part in PARTS for node in self.values[part].value]
        in_flow = [self.values[part].flow_style for part in PARTS for _ in self.was[part]]
        rows = [row for part in PARTS for row in self.model[part]]
        new: dict[int, list[int]] = {}  # by the row of the author that they come after
        last = 0
        for index, old in enumerate(origin):
            if old is None:
                new.setdefault(last, []).append(index)
                continue
            last = old
            yield from _row(nodes[old], was[old], rows[index])
            yield from self._index(_end(nodes[old]), old, layers[index])
        for old in {*range(len(was))} - {*origin}:
            yield self._without(nodes[old])
        for old, indices in new.items():
            lines = [(flow(rows[index]), remark(layers[index])) for index in indices]
            yield from (self._in_flow if in_flow[old] else self._in_block)(nodes[old], lines)

    def _index(self, end: int, old: int, layer: Layer) -> Iterator[Change]:
        """The layer index in the remark behind a row; all of the remark where it is one of ours."""
        found = INDEX.match(self.source, end)
        if found and int(found[2]) == old:
            ours = OURS.match(self.source, found.start(2))
            yield (*ours.span(), remark(layer)) if ours else (*found.span(2), str(layer.index))

    def _in_block(self, node: Any, lines: Sequence[tuple[str, str]]) -> Iterator[Change]:
        """New rows behind one that has a dash before it."""
        start = node.start_mark.index
        dash = re.match(r"[ \t]*- *", self.source[self._line(start) : start])
        at = self._next(_end(node))
        if dash:
            yield at, at, "".join(f"{dash[0]}{row} # {said}\n" for row, said in lines)

    def _in_flow(self, node: Any, lines: Sequence[tuple[str, str]]) -> Iterator[Change]:
        """New rows behind one that is in brackets together with the others."""
        start, end = node.start_mark.index, _end(node)
        after, at = ALONE.fullmatch(self.source, end, self._next(end) - 1), self._next(end)
        if after is None:
            yield end, end, "".join(f", {row}" for row, _ in lines)
            return
        indent = " " * (start - self._line(start))
        commas = [","] * (len(lines) - 1) + [after[1]]
        if not after[1]:
            yield end, end, ","
        yield (
            at,
            at,
            "".join(f"{indent}{row}{comma} # {said}\n" for (row, said), comma in zip(lines, commas, strict=True)),
        )

    def _without(self, node: Any) -> Change:
        """A row taken out, with its line where it has one for itself."""
        start, end = node.start_mark.index, _end(node)
        line, after = self._line(start), self._next(end)
        if self.source[line:start].strip(" \t-") == "" and ALONE.fullmatch(self.source, end, after - 1):
            return line, after, ""
        comma = re.compile(r"\s*,\s*").match(self.source, end)
        return start, comma.end() if comma else end, ""

    def _keys(self) -> Iterator[Change]:
        """What stands beside the rows."""
        for key, value in self.model.items():
            if key in (*PARTS, *SET_BY_ULTRALYTICS):
                continue
            if key not in self.values:
                keys = [name.value for name, _ in self.pairs]
                at = self._next(_end(self.pairs[keys.index("backbone") - 1][1]))
                yield at, at, "\n".join(pair(key, value)) + "\n"
            elif _plain(self.was[key]) != _plain(value):
                node = self.values[key]
                yield node.start_mark.index, _end(node), flow(value)

    def _scales(self) -> Iterator[Change]:
        """The scale in use becomes the first, which Ultralytics takes where a file's name says none."""
        used = _used_scale(self.model)
        if used is None or used == _first_scale(self.was):
            return
        node = self.values["scales"]
        if node.flow_style:
            scales = self.model["scales"]
            yield node.start_mark.index, _end(node), _mapping({used: scales[used], **scales})
            return
        spans = {key.value: (self._line(key.start_mark.index), self._next(_end(value))) for key, value in node.value}
        start, end = spans[used]
        first = next(iter(spans.values()))[0]
        yield first, first, self.source[start:end]
        yield start, end, ""

    def _line(self, at: int) -> int:
        """Where the line begins."""
        return self.source.rfind("\n", 0, at) + 1

    def _next(self, at: int) -> int:
        """Where the next line begins."""
        return self.source.index("\n", at) + 1


def _row(node: Any, was: Row, now: Row) -> Iterator[Change]:
    """What changes inside a row that stays."""
    if getattr(node, "is_alias", False):
        if _plain(was) != _plain(now):
            yield node.start_mark.index, node.end_mark.index, flow(now)
        return
    for part, before, after in zip(node.value, was, now, strict=True):
        if _plain(before) != _plain(after):
            yield part.start_mark.index, _end(part), flow(after)


def _end(node: Any) -> int:
    """Where a value ends; what PyYAML says of one without brackets is where the next begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and not getattr(node, "is_alias", False):
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _changed(source: str, changes: Sequence[Change]) -> str:
    parts, at = [], 0
    for start, end, text in sorted(changes, key=lambda change: change[:2]):
        parts += [source[at:start], text]
        at = end
    return "".join(parts) + source[at:]


def _plain(value: Any) -> str:
    """A text that is the same for what a model takes for the same, and tells 1 from True."""
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{key!r}: {_plain(item)}' for key, item in value.items()))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return repr(value)


def _mapping(values: dict[str, Any]) -> str:
    """A mapping in one line, in its own order."""
    return f"{{{', '.join(f'{flow(key)}: {flow(value)}' for key, value in values.items())}}}"


def _first_scale(model: dict[str, Any]) -> str | None:
    return next(iter(model.get("scales") or {}), None)


def _used_scale(model: dict[str, Any]) -> str | None:
    return model.get("scale") or _first_scale(model)
