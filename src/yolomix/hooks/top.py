"""What is wrong with the top level of a model YAML: its lists of rows, scales, class count, multiples, activation."""

from __future__ import annotations

import ast
import logging
from typing import Any

from torch import nn
from ultralytics.nn import tasks

from yolomix.hooks.reserved import is_module_class
from yolomix.host import contents

LOGGER = logging.getLogger("yolomix")

_warned: set[str] = set()  # files whose scales have more than three numbers


def check(d: dict[str, Any], error: type[ValueError]) -> None:
    """Raise unless Ultralytics can use what stands beside the rows; leave out what it would not use.

    >>> d = {"backbone": [[-1, 1, "Conv", [8]]], "head": [[-1, 1, "Detect", []]], "scales": {"n": [0.3, 0.2, 64, 0]}}
    >>> check(d, ValueError)
    >>> d["scales"]
    {'n': [0.3, 0.2, 64]}

    Args:
        d: a model dictionary; its scales are cut to three numbers in place.
        error: the class of what is raised.

    Raises:
        ValueError: something is missing or of another kind; the text names the file, the key, and what it has to be.
    """
    file = d.get("yaml_file", "model YAML")
    if not all(isinstance(d.get(part), list) and d[part] for part in ("backbone", "head")):
        raise error(f"{file} is no model: it needs 'backbone' and 'head', each a list of rows, and has {[*d]}")
    for key in ("depth_multiple", "width_multiple"):
        if not contents.is_number(d.get(key, 1.0)):
            raise error(f"{file}: {key} is {d[key]!r}; it has to be a number, as in {key}: 0.5")
    nc = d.get("nc", 1)
    if nc is not None and not (isinstance(nc, int) and nc >= 1):
        raise error(f"{file}: nc is {nc!r}; it has to be the number of classes, as in nc: 80")
    act = d.get("activation")
    if act and not (isinstance(act, str) and is_activation(act)):
        raise error(f"{file}: activation is {act!r}; it has to construct a layer, as in activation: torch.nn.ReLU()")
    if wrong := contents.scale_fault(d):
        raise error(f"{file}: {wrong}")
    if d.get("scales"):
        _three_numbers(d, file)


def is_activation(text: str) -> bool:
    """Whether a text constructs one layer of PyTorch or Ultralytics from plain values: Ultralytics evaluates it.

    >>> is_activation("nn.LeakyReLU(0.1, inplace=True)"), is_activation("nn.SiLU"), is_activation("exit()")
    (True, False, False)
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call):
            return False
        for value in [*call.args, *(keyword.value for keyword in call.keywords)]:
            ast.literal_eval(value)
        package, _, name = ast.unparse(call.func).removeprefix("torch.").rpartition(".")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    known = {"nn": vars(nn), "": vars(tasks)}
    return is_module_class(known.get(package, {}).get(name))


def _three_numbers(d: dict[str, Any], file: str) -> None:
    """Leave out what a scale has beyond its three numbers, and say so once."""
    used = d.get("scale") or next(iter(d["scales"]))
    scale = d["scales"][used]
    if len(scale) > 3:
        d["scales"] = {**d["scales"], used: scale[:3]}
        if file not in _warned:
            _warned.add(file)
            form = contents.SCALE
            LOGGER.warning("%s: scales: %s has %d numbers; %s, and the rest is ignored", file, used, len(scale), form)
