"""Small damage: values that are wrong, characters that do not belong, rows that moved."""

from __future__ import annotations

from random import Random
from typing import Any

NUMBERS = (0, -1, 1, 2, 3, 7, 64, 65, 513, -64, 10**6, 10**9, 10**30, 0.5, -0.1, 1e308, float("nan"), float("inf"))
WORDS = (
    "",
    " ",
    "nc",
    "None",
    "Conv",
    "x",
    "-1",
    "é",
    "日本",
    "a\nb",
    "nn.SiLU",
    "torch.nn.ReLU",
    "__import__('os').getcwd()",
)
HOLDERS = ([], [[]], [1], [-1, 4], [None], ["nc"], {}, {"a": 1}, {"c": 2}, {"bias": False}, {1: 2})
ODD: tuple[Any, ...] = (None, True, False, *NUMBERS, *WORDS, *HOLDERS)
CHARACTERS = "\t\r\n\0\x1b\x7f{}[]:,&*!|>#%@`'\"-?\\/~$()+=;<. é日\U0001f600\ufeff\u202e\u00a0"
LINES = """\
<<<<<<< HEAD|=======|---|...|%YAML 9.9|a: &a [1]|b: *a|c: *unknown|<<: *x|? x|- [|]|nc: 3|\tnc: 3|scales:|backbone: []
!!python/name:os.system|!!python/object/apply:os.system ['echo ran > it-ran']|activation: nn.SiLU()|ch: 4|task: segment
activation: __import__('os').system('echo ran > it-ran')|kpt_shape: [17]|reg_max: 0""".replace("\n", "|").split("|")


def text(random: Random, whole: str) -> bytes:
    """The bytes of a text file after one to three accidents."""
    data = whole
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(data) + 1)
        to = min(len(data), at + random.choice((1, 2, 8, 80, 1000)))
        lines = data.split("\n")
        line = random.randrange(len(lines))
        how = random.randrange(8)
        if how == 0:
            data = data[:at] + random.choice(CHARACTERS) + data[at:]
        elif how == 1:
            data = data[:at] + data[to:]
        elif how == 2:
            data = data[:at] + data[at:to] + data[at:]
        elif how == 3:
            data = "\n".join([*lines[:line], random.choice(LINES), *lines[line:]])
        elif how == 4:
            data = "\n".join([*lines[:line], *lines[line + 1 :]])
        elif how == 5:
            lines[line] = random.choice((" ", "  ", "\t")) + lines[line]
            data = "\n".join(lines)
        elif how == 6:
            data = data[:at]
        else:
            data = data.replace("\n", random.choice(("\r\n", "\r", "\n\n", " ")))
    raw = data.encode("utf-8", "surrogatepass")
    if random.random() < 0.1:
        raw = random.choice(
            (b"\xef\xbb\xbf" + raw, data.encode("utf-16"), data.encode("latin-1", "replace"), raw + b"\xff", b"")
        )
    return raw


def nested(random: Random, value: Any, depth: int = 0) -> Any:
    """A value of lists and mappings with one place in it changed."""
    if depth > 8 or not isinstance(value, (list, dict)) or not value or random.random() < 0.1:
        return random.choice(ODD)
    if isinstance(value, dict):
        key = random.choice(list(value))
        changed = dict(value)
        how = random.random()
        if how < 0.15:
            del changed[key]
        elif how < 0.25:
            changed[random.choice(("nc", "scale", "scales", "yaml_file", "ch", "activation", "width", 3, None))] = (
                random.choice(ODD)
            )
        else:
            changed[key] = nested(random, value[key], depth + 1)
        return changed
    at = random.randrange(len(value))
    items = list(value)
    how = random.random()
    if how < 0.08:
        del items[at]
    elif how < 0.16:
        items.insert(at, random.choice(ODD))
    elif how < 0.24:
        other = random.randrange(len(items))
        items[at], items[other] = items[other], items[at]
    else:
        items[at] = nested(random, items[at], depth + 1)
    return items


def word(random: Random, value: str) -> str:
    """A word with a slip of the finger, or more."""
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(value) + 1)
        how = random.randrange(6)
        if how == 0:
            value = value[:at] + random.choice(CHARACTERS) + value[at:]
        elif how == 1:
            value = value[:at] + value[at + 1 :]
        elif how == 2:
            value = value[:at] + value[at : at + 4] * random.choice((2, 3, 500)) + value[at + 4 :]
        elif how == 3:
            value = value[:at] + value[at:].swapcase()
        elif how == 4:
            value = value[at:] + value[:at]
        else:
            value = (
                value[:at]
                + random.choice(("../", "/", "~", "..", "%s", "{}", "*", "@", "+", ".pt", ".yaml", "x" * 300))
                + value[at:]
            )
    return value
