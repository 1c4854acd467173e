"""Where blocks of the user's come from: a module that is named, a class named with its module, an installed package.

Code runs for a name only where a person said the name: in a model YAML, in a graft, as an argument. Whoever reads one
of these calls :func:`say` or :func:`bring`. Whoever builds a model asks :func:`yolomix.nn.registry.known`, which
imports nothing: a model dictionary may come out of a stranger's checkpoint. The log says whose code ran.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from types import ModuleType
from typing import Any

from torch import nn

from yolomix.nn import heads, registry
from yolomix.nn.registry import BLOCKS, Block
from yolomix.nn.rules import ChannelRule

LOGGER = logging.getLogger("yolomix")
GROUP = "yolomix.blocks"  # entry points of installed packages
NATIVE = ("nn.", "torchvision.ops.")  # what Ultralytics itself takes with a dot
AROUND = ("ZeroGate", "SameWidth")  # rows whose first argument is the name of a block
IMPORTS = "imports"  # the key of a model YAML with the modules whose import registers its blocks

BROUGHT: dict[str, ModuleType] = {}  # modules that the user named, by name


def bring(module: str) -> ModuleType:
    """Import a module that the user named. The blocks that it registers are known from now on.

    It is looked for in the working folder, in PYTHONPATH and in what is installed.

    >>> bring("no_such_blocks")
    Traceback (most recent call last):
    ImportError: no module 'no_such_blocks' in the working folder (...), in PYTHONPATH or among what is installed

    Raises:
        ImportError: it is not there, or it fails while it is imported.
    """
    if module in BROUGHT:
        return BROUGHT[module]
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", module):
        raise ImportError(f"{module!r} is no name of a module; that of blocks/mine.py is blocks.mine")
    if os.getcwd() not in sys.path and "" not in sys.path:  # as in `python -m`; a script has its own folder there
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()  # the file may be younger than the last look
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ImportError(f"{module} fails while it is imported: {error}{_line_of(error)}") from error
        raise ImportError(
            f"no module {error.name!r} in the working folder ({os.getcwd()}), in PYTHONPATH or among what is installed",
            name=error.name,
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}{_line_of(error)}"
        raise ImportError(f"{module} fails while it is imported: {reason}") from error
    LOGGER.info("%s was imported from %s", module, getattr(found, "__file__", None) or "a folder without __init__.py")
    BROUGHT[module] = found
    return found


def say(name: str) -> Block:
    """The block of a name that a person said. ``module.Class`` imports the module.

    >>> say("torch.nn.GELU")
    Traceback (most recent call last):
    TypeError: which channels GELU(approximate) takes cannot be read from the names of its parameters. ...

    Raises:
        ImportError: the module is not there, fails, or has no such class.
        TypeError: the class is no ``nn.Module``, or its constructor follows no channel rule.
        KeyError: there is no such block.
    """
    if is_dotted(name) and name not in BLOCKS:
        module, _, cls = name.rpartition(".")
        _enter(name, _class_of(bring(module), cls))
    return registry.find(name)


def say_all(model: dict[str, Any], file: str = "model YAML") -> None:
    """Import what a model dictionary that a person wrote names: its ``imports``, and classes with their modules.

    >>> say_all({"backbone": [[-1, 1, "no_such_blocks.Gate", []]], "head": []}, "my.yaml")
    Traceback (most recent call last):
    ValueError: my.yaml, row 0 [-1, 1, no_such_blocks.Gate, []]: no module 'no_such_blocks' in the working folder ...

    Raises:
        ValueError: one of them cannot be imported or is no block; the text names the file and the row.
    """
    imports = model.get(IMPORTS) or []
    modules = imports if isinstance(imports, list) else [imports]
    for module in modules:
        try:
            bring(str(module))
        except ImportError as error:
            raise ValueError(f"{file}: {IMPORTS}: {error}") from error
    rows = [row for part in ("backbone", "head") for row in model.get(part) or []]
    for i, row in enumerate(rows):
        for name in _names(row):
            try:
                say(name)
            except (ImportError, TypeError, ValueError) as error:
                raise ValueError(f"{file}, row {i} [{', '.join(map(str, row))}]: {error}") from error


def is_dotted(name: str) -> bool:
    """Whether a name says a class with its module, and is none of those that Ultralytics takes so.

    >>> is_dotted("myblocks.Gate"), is_dotted("nn.Upsample"), is_dotted("Gate")
    (True, False, False)
    """
    return "." in name and not name.startswith(NATIVE)


@functools.cache
def enter_installed() -> None:
    """Register what installed packages announce under the entry-point group ``yolomix.blocks``. Once.

    An entry point is a module that registers blocks, or a class, whose name is then that of the entry point. One that
    cannot be loaded is a warning: its owner may not be the one who builds this model.
    """
    for point in metadata.entry_points(group=GROUP):
        try:
            found = point.load()
            if isinstance(found, type) and not any(block.cls is found for block in BLOCKS.values()):
                registry.enter(Block(point.name, found, heads.rule(found), "", point.module))
        except Exception as error:  # noqa: BLE001, it is other people's code
            LOGGER.warning("the blocks that %s announces as %r are missing: %s", _package(point), point.name, error)
        else:
            LOGGER.info("%s was imported: %s announces blocks", point.module, _package(point))


def homes() -> list[str]:
    """The modules, of users and packages, whose import makes every block known that is known now."""
    found = set(BROUGHT)
    for block in BLOCKS.values():
        if not block.is_ours:
            found.update({block.home, block.cls.__module__})
    return sorted(found - {"", "__main__"})


def told() -> list[tuple[str, str, str, str]]:
    """What the script that was started registered of other people's classes, as :func:`recall` takes it."""
    found = []
    for block in BLOCKS.values():
        if not block.is_ours and block.home == "__main__" != block.cls.__module__:
            found.append((block.name, block.cls.__module__, block.cls.__qualname__, " ".join(block.rule.words)))
    return found


def recall(name: str, module: str, cls: str, rule: str) -> None:
    """Register in another process what a script registered in this one.

    >>> recall("Sigmoid", "torch.nn", "Sigmoid", "")
    >>> str(registry.find("Sigmoid").rule)
    '(...)'
    """
    found: Any = functools.reduce(getattr, cls.split("."), importlib.import_module(module))
    registry.enter(Block(name, found, ChannelRule(tuple(rule.split())), "", "__main__"))


def remembered(model: dict[str, Any], block: Block) -> dict[str, Any]:
    """A model dictionary that says where a block of the user's comes from, unless the block's name does.

    >>> remembered({"nc": 2}, Block("Mine", nn.Identity, ChannelRule(()), "", "myblocks"))
    {'nc': 2, 'imports': ['myblocks']}
    """
    if block.is_ours or is_dotted(block.name) or block.home in ("", "__main__"):
        return model
    imports = model.get(IMPORTS) or []
    known = imports if isinstance(imports, list) else [imports]
    if block.home in known:
        return model
    return {**model, IMPORTS: [*known, block.home]}


def _names(row: object) -> Iterator[str]:
    """The dotted names in a row: its own, what that has in brackets, and those of the rows and blocks that it holds."""
    if not isinstance(row, list) or len(row) < 3 or not isinstance(row[-2], str) or not isinstance(row[-1], list):
        return  # who builds the model says what is wrong with the row
    said = re.findall(r"[\w.]+", row[-2])
    if row[-2] in AROUND:
        said += [block for block in row[-1][:1] if isinstance(block, str)]
    for name in said:
        if is_dotted(name):
            yield name
    if row[-2] == "Chain":
        for inside in row[-1]:
            yield from _names(inside)


def _enter_imported(name: str) -> None:
    """Enter ``module.Class`` if somebody has imported the module already, as unpickling a checkpoint does."""
    module, _, cls = name.rpartition(".")
    if is_dotted(name) and module in sys.modules:
        with contextlib.suppress(ImportError, TypeError):
            _enter(name, _class_of(sys.modules[module], cls))


def _enter(name: str, cls: type[nn.Module]) -> None:
    """Enter a class under a dotted name, by the rule under which it is registered already or else its constructor's."""
    entered = next((block for block in BLOCKS.values() if block.cls is cls), None)
    if entered is not None:
        registry.enter(replace(entered, name=name, home=""))
    else:
        registry.enter(Block(name, cls, heads.rule(cls), ""))


def _class_of(module: ModuleType, name: str) -> type[nn.Module]:
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    if found is not None:
        raise TypeError(f"a block is a class derived from torch.nn.Module, {module.__name__}.{name} is {found!r}")
    has = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)]
    near = difflib.get_close_matches(name, has, n=3) or has
    raise ImportError(f"module {module.__name__} has no class {name!r}; it has {', '.join(near) or 'no blocks'}")


def _line_of(error: Exception) -> str:
    """Which line of an imported module an error comes from; empty of a syntax error, whose text says it."""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    return f" ({lines[-1].filename}, line {lines[-1].lineno})" if lines else ""


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "a package"


def _look(name: str) -> None:
    """Enter a name that is not known: an installed package's, a class of a module that was named or is imported."""
    enter_installed()
    for module in [] if name in BLOCKS else BROUGHT.values():
        if getattr(getattr(module, name, None), "__module__", "") == module.__name__:  # not what it imports
            cls = _class_of(module, name)
            registry.enter(Block(name, cls, heads.rule(cls), "", module.__name__))
            return
    if name not in BLOCKS:
        _enter_imported(name)


registry.SOURCES[:] = [_look]
