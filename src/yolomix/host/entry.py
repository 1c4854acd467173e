"""Ultralytics' own command line: what it takes, running it, and what its methods returned."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from ultralytics import cfg, utils
from ultralytics.engine.model import Model
from ultralytics.utils import LOGGER, SETTINGS_FILE, checks, downloads

from yolomix.host import names
from yolomix.host.names import Kind
from yolomix.surgery import writing

ARGUMENTS: dict[str, Any] = cfg.DEFAULT_CFG_DICT
MODES = frozenset(cfg.MODES)
TASKS = frozenset(cfg.TASKS)
ASSETS = frozenset(downloads.GITHUB_ASSETS_STEMS)  # names of checkpoints that Ultralytics offers to download
SETTINGS = SETTINGS_FILE


def entrypoint(verb: str, words: Sequence[str]) -> tuple[Any, Any]:
    """Let Ultralytics carry out ``yolo VERB key=value ...``; returns the model and what its method returned."""
    with _recording(verb) as calls:
        # Ultralytics looks for the words of its command line in its own copy, wherever they were given.
        argv, cfg.ARGV = cfg.ARGV, ["yolo", verb, *words]
        try:
            cfg.entrypoint()
        finally:
            cfg.ARGV = argv
    return calls[-1]


def merged(words: Sequence[str]) -> list[str]:
    """``imgsz = 320`` as one word, and words without the dashes that Ultralytics would complain about.

    >>> merged(["imgsz", "=", "320", "--half"])
    ['imgsz=320', 'half']

    Raises:
        SyntaxError, IndexError: an equals sign without a side.
    """
    return [str(word).removeprefix("--") for word in cfg.merge_equals_args([*words])]


def check_there(model: str | Path) -> None:
    """Refuse a name that opens nothing, before Ultralytics asks the network for it.

    >>> check_there("yolo11n.pt")
    >>> check_there("yolo11nn.pt")
    Traceback (most recent call last):
    FileNotFoundError: no checkpoint 'yolo11nn.pt' on disk or among those that Ultralytics offers; did you mean ...?

    Raises:
        ValueError: it means a model YAML and does not end like one.
        FileNotFoundError: with the near names of the same folder and of what Ultralytics offers.
    """
    name = names.resolve(model)
    if name.kind in (Kind.YAML, Kind.PACKAGED) and not str(model).endswith(names.YAML):
        stem = Path(name.base).stem + writing.written(name.grafts)
        raise ValueError(f"{str(model)!r} means a model YAML, and such a name ends in .yaml: {stem}.yaml")
    if name.kind not in (Kind.CHECKPOINT, Kind.EXPORTED) or name.file is not None:
        return
    text = str(checks.check_yolov5u_filename(name.base.strip().replace("'", "")))  # as Ultralytics reads it
    file = Path(text)
    offered = name.kind is Kind.CHECKPOINT and (file.stem if file.suffix else file.name) in ASSETS
    if offered or (text and any(os.path.exists(path) for path in (text, utils.SETTINGS["weights_dir"] / file))):
        return
    folder = file.parent if os.path.isdir(file.parent) else Path()
    here = [str(path) for path in folder.glob(f"*{file.suffix or '.pt'}")]
    # Compared without the suffix, which all of them share.
    known = {os.path.splitext(one)[0]: one for one in [*here, *sorted(f"{stem}.pt" for stem in ASSETS)]}
    found = [known[stem] for stem in difflib.get_close_matches(os.path.splitext(name.base)[0], known, n=3)]
    hint = f"did you mean {' or '.join(found)}?" if found else f"here is {', '.join(here) or 'none'}"
    what = "checkpoint" if name.kind is Kind.CHECKPOINT else "file"
    raise FileNotFoundError(f"no {what} {name.base!r} on disk or among those that Ultralytics offers; {hint}")


def metrics(result: Any) -> dict[str, float]:
    """What a training or validation measured, under the names of Ultralytics; nothing where it measured nothing.

    >>> from types import SimpleNamespace
    >>> metrics(SimpleNamespace(results_dict={"metrics/mAP50(B)": 0.5}))
    {'metrics/mAP50(B)': 0.5}
    """
    return {name: float(value) for name, value in getattr(result, "results_dict", {}).items()}


def describes_a_model(file: Path) -> bool:
    """Whether a YAML has the rows of a model. A file that is no YAML passes: who builds the model says what is wrong.

    >>> _ = Path("data.yaml").write_text("names: [cat, dog]")
    >>> describes_a_model(Path("data.yaml"))
    False

    Args:
        file: it exists.
    """
    try:
        found = yaml.safe_load(file.read_text("utf-8", "ignore"))
    except yaml.YAMLError:
        return True
    return not isinstance(found, dict) or "backbone" in found


def datasets() -> list[str]:
    """The dataset YAMLs that Ultralytics finds by name.

    >>> "coco8.yaml" in datasets()
    True
    """
    return sorted(file.name for file in (utils.ROOT / "cfg" / "datasets").rglob("*.yaml"))


def was_known(key: str) -> bool:
    """Whether Ultralytics still takes an argument under an old name.

    >>> was_known("hide_labels"), was_known("no_such_argument")
    (True, False)
    """
    LOGGER.disabled = True  # it warns that the name is old; it will again when it gets the argument
    try:
        cfg.check_dict_alignment(cfg.DEFAULT_CFG_DICT, {key: None})
    except SyntaxError:
        return False
    finally:
        LOGGER.disabled = False
    return True


def no_lookups() -> None:
    """Leave out the one lookup that YOLO_OFFLINE leaves in: whether a font can be downloaded, before every dataset."""
    native = downloads.is_url

    def _is_url(url: object, check: bool = False) -> bool:
        return not check and bool(native(url))

    if not hasattr(native, "native"):
        _is_url.native = native  # type: ignore[attr-defined]
        downloads.is_url = _is_url


@contextlib.contextmanager
def _recording(verb: str) -> Iterator[list[tuple[Any, Any]]]:
    """Keep what a method of Ultralytics' models returns, which its command line throws away."""
    native, calls = getattr(Model, verb), list[tuple[Any, Any]]()

    def _recorded(model: Any, /, *args: Any, **kwargs: Any) -> Any:
        result = native(model, *args, **kwargs)
        calls.append((model, result))
        return result

    setattr(Model, verb, _recorded)
    try:
        yield calls
    finally:
        setattr(Model, verb, native)
