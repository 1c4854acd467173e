"""Modules imported again, failing first, forgotten, or wrapped by somebody else, in any order, before and after us."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any
from unittest import mock

from tests.faults import judge
from tests.faults.kind import Bad, Case, Kind


def _hooks() -> list[tuple[str, str]]:
    """Module and target of every hook, read from the text, since the parent may not import it."""
    text = Path(judge.SOURCE, "hooks", "__init__.py").read_text("utf-8")
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    hooks = [call for call in calls if getattr(call.func, "id", "") == "Hook"]
    return [(ast.literal_eval(hook.args[0]), ast.literal_eval(hook.args[1])) for hook in hooks]


HOOKS = _hooks()
THEIRS = sorted({module for module, _ in HOOKS})
OURS = (
    "yolomix",
    "yolomix.hooks",
    "yolomix.hooks.chain",
    "yolomix.hooks.build",
    "yolomix.host.names",
    "yolomix.editing",
)
SMALL = """
nc: 2
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C3, [16]]
head:
  - [-1, 1, Classify, [nc]]
"""
US, USED = ["import", "yolomix"], ["use"]
PROBE = "only looking"
marks: list[str] = []  # who was called on the way from a function of Ultralytics to what stood there first


def listed() -> Iterator[Case]:
    """What x how x when, with steps that are carried out in order."""
    for name, before, times in itertools.product((*THEIRS, *OURS), ([], [USED]), (1, 2)):
        yield [US, *before, *times * [["reload", name]]]
    for name, before, again in itertools.product(
        ("yolomix", "ultralytics", *THEIRS, *OURS[1:]), ([], [USED]), ([], [US])
    ):
        yield [US, *before, ["forget", name], *again]
    for times, before in itertools.product((1, 3), ([], [USED])):
        yield [US, *before, *times * [["forget", "yolomix"], ["forget", "ultralytics"], US]]
    for name, how, when in itertools.product(THEIRS, ("is not found", "stops halfway"), (True, False)):
        failing = ["fail", name, how]
        yield [US, failing] if when else [failing, US]
    for hook, how, later in itertools.product(HOOKS, WRAPPERS, ([], [["forget", "yolomix"], US], [["join"]])):
        wrap = ["wrap", *hook, how]
        yield [wrap, US, *later]
        yield [US, wrap, *later]
        yield [wrap, US, wrap, *later]
    for hook, later in itertools.product(HOOKS, ([["join"]], [["forget", "yolomix"], US], [["use"]])):
        yield [US, ["put back", *hook], *later]
        yield [["patch", *hook], US, ["unpatch"], *later]


def draw(random: Random) -> Case:
    """Two to five steps in any order, ours among them."""
    steps = [US]
    for _ in range(random.randint(1, 4)):
        step: list[str] = random.choice(
            (
                US,
                USED,
                ["join"],
                ["reload", random.choice((*THEIRS, *OURS))],
                ["forget", random.choice(("yolomix", "ultralytics", *THEIRS, *OURS))],
                ["fail", random.choice(THEIRS), random.choice(("is not found", "stops halfway"))],
                ["wrap", *random.choice(HOOKS), random.choice([*WRAPPERS])],
            )
        )
        steps.insert(random.randrange(len(steps) + 1), step)
    return steps


def check(case: Case) -> str:
    """Carry the steps out, then build models of ours and of Ultralytics, and follow every hook to its end."""
    Path("small.yaml").write_text(SMALL)
    patches: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a hook that finds nothing to wrap
        for step in case:
            if step[0] == "patch":
                patches.append(mock.patch(".".join(step[1:]), _wrapped(step[1:3], "bare")))
                patches[-1].start()
            elif step[0] == "unpatch":
                patches.pop().stop()
            else:
                STEPS[step[0]](*step[1:])
        try:
            _build()
        except FileNotFoundError:
            if not _removed(case):
                raise
            return "ours gone"
        _follow()
    return "built"


def _removed(case: Case) -> bool:
    """Whether the one hook is gone that would be asked first, so that nothing of ours is called that could notice."""
    import yolomix

    first = ["ultralytics.engine.model", "yaml_model_load"]
    hook = next(hook for hook in yolomix.hooks.HOOKS if [*hook[:2]] == first)
    return ["join"] not in case and first in [step[1:] for step in case] and not yolomix.hooks.in_place(hook)


def _build() -> None:
    import ultralytics

    model = ultralytics.YOLO("small+MLLABlock@1.yaml")
    if not any(type(m).__name__ == "MLLABlock" for m in model.model.modules()):
        raise Bad("the model has no MLLABlock")
    stock = ultralytics.YOLO("small.yaml").model
    import yolomix

    if not yolomix.transfer(stock, model).complete:
        raise Bad("a transfer that should be complete is not")


def _follow() -> None:
    """Call every hooked function of Ultralytics and see that ours is reached, once."""
    import yolomix

    for hook in yolomix.hooks.HOOKS:
        if not yolomix.hooks.in_place(hook):
            raise Bad(f"{hook.module}.{hook.target} is not in place and nobody said so")
        file, name = hook.ours.split(".")
        ours = importlib.import_module(f"yolomix.hooks.{file}")
        marks.clear()
        with mock.patch.object(ours, name, _reached):
            _found(importlib.import_module(hook.module), hook.target)(PROBE)
        # engine.model imports functions by name that tasks has wrapped already; names and tasks may be asked for twice
        twice = hook.module == "ultralytics.engine.model" and "." not in hook.target
        if "ours" not in marks or (marks.count("ours") > 1 and not twice):
            raise Bad(f"{hook.module}.{hook.target} came by {marks}, not once by ours")


def _reached(native: Callable[..., Any], *args: Any) -> None:
    """Stands for a function of ours on the way from the outermost wrapper to what Ultralytics wrote."""
    marks.append("ours")
    _go_on(native, *args)


def _go_on(native: Any, *args: Any) -> None:
    """Call what is inside a wrapper, if it is one more wrapper."""
    is_ours = getattr(native, "__yolomix_wrapper__", None) is native
    if is_ours or getattr(native, "__code__", None) in _codes:
        native(*args)


_codes: set[Any] = set()  # of wrappers by strangers


def _wrapped(hook: list[str], how: str) -> Callable[..., Any]:
    """A stranger's wrapper around whatever stands there now."""
    native = _found(importlib.import_module(hook[0]), hook[1])

    def call(*args: Any, **kwargs: Any) -> Any:
        marks.append("theirs")
        return _go_on(native, *args) if PROBE in args else native(*args, **kwargs)

    _codes.add(call.__code__)
    return WRAPPERS[how](native, call)


WRAPPERS: dict[str, Callable[[Any, Any], Callable[..., Any]]] = {
    "bare": lambda native, call: call,
    "with wraps": lambda native, call: functools.wraps(native)(call),
}


def _wrap(module: str, target: str, how: str) -> None:
    wrapper = _wrapped([module, target], how)
    *parents, name = target.split(".")
    setattr(_found(importlib.import_module(module), ".".join(parents)), name, wrapper)


def _put_back(module: str, target: str) -> None:
    """Undo our wrapper as somebody does who knows ``functools.wraps``."""
    holder = importlib.import_module(module)
    *parents, name = target.split(".")
    wrapped = getattr(_found(holder, target), "__wrapped__", None)
    if wrapped is not None:
        setattr(_found(holder, ".".join(parents)), name, wrapped)


def _forget(package: str) -> None:
    for name in [*sys.modules]:
        if name == package or name.startswith(f"{package}."):
            del sys.modules[name]


def _reload(name: str) -> None:
    importlib.reload(importlib.import_module(name))


class _Fails:
    """Lets one import of a module fail, and is gone."""

    def __init__(self, name: str, halfway: bool) -> None:
        self.name, self.halfway, self.inside = name, halfway, False

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != self.name or self.inside:
            return None
        sys.meta_path.remove(self)
        if not self.halfway:
            raise ImportError("the first time")
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        native = spec.loader.exec_module

        def stops(module: ModuleType) -> None:
            native(module)
            raise ImportError("halfway")

        spec.loader.exec_module = stops  # type: ignore[method-assign]
        return spec


def _fail(name: str, how: str) -> None:
    finder = _Fails(name, how == "stops halfway")
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module(name)
        importlib.import_module("ultralytics").YOLO  # noqa: B018  it is imported on first use
    except ImportError as error:
        if str(error) not in ("the first time", "halfway"):
            raise
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)


def _use() -> None:
    from ultralytics import YOLO

    YOLO("small.yaml")


def _join() -> None:
    import yolomix

    yolomix.hooks.join()


def _found(module: Any, target: str) -> Any:
    for part in filter(None, target.split(".")):
        module = getattr(module, part)
    return module


STEPS: dict[str, Callable[..., Any]] = {
    "import": importlib.import_module,
    "use": _use,
    "join": _join,
    "reload": _reload,
    "forget": _forget,
    "fail": _fail,
    "wrap": _wrap,
    "put back": _put_back,
}


def _without_watcher() -> None:
    """Teach Ultralytics only what is loaded already."""
    _change("yolomix.hooks", "sys.meta_path.insert(0, _AfterImport(names))", "pass")


def _without_record() -> None:
    """Forget on which module something was wrapped."""
    _change("yolomix.host.original", "vars(module).setdefault(RECORD, {})", "{}")


def _change(module: str, old: str, new: str) -> None:
    """Let every import of a module from now on run another text, without touching its file."""
    native = SourceFileLoader.get_code
    file = Path(judge.SOURCE, *module.split(".")[1:])
    text = (file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_text("utf-8")
    if old not in text:
        raise RuntimeError(f"{module} no longer says {old}")

    def get_code(loader: SourceFileLoader, fullname: str) -> Any:
        if fullname != module:
            return native(loader, fullname)
        return compile(text.replace(old, new), loader.path, "exec")

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


KIND = Kind(
    name="imports",
    tries="modules of both packages reloaded, failing first, forgotten, wrapped before and after",
    figure="built, every hook reached once, or an error that says what is missing",
    check=check,
    target=600,
    listed=listed,
    draw=draw,
    bare=True,
    small=16,
    plants={"watcher": _without_watcher, "record": _without_record},
)
