"""The verbs that Ultralytics carries out: checked beforehand, run by its own command line, their results kept."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolomix.host import offline
from yolomix.host.streams import children_to_stderr, output_to
from yolomix.cli.request import Request, UsageError, near

BARE = ("half", "int8", "end2end", "nms")  # switches that Ultralytics takes without "=True" and lists nowhere
UNLISTED = ("augmentations", "save_dir", "task", "cfg")


def run(request: Request) -> None:
    """Let Ultralytics carry out a verb and print what came of it.

    Raises:
        UsageError: an argument is unknown or a needed one is missing.
    """
    with children_to_stderr(), output_to(sys.stderr):
        offline.prepare()
        from yolomix.host import entry

        words = _merged(request.words)
        _check(request.verb, words)
        if request.verb in ("predict", "track") and not any(word.startswith("save=") for word in words):
            words.append("save=True")  # as `yolo` does, which keeps no results for us
        model, result = entry.entrypoint(request.verb, words)
    answer = summary(request.verb, model, result)
    if answer.get("pictures") == []:
        raise FileNotFoundError("nothing could be read from the source; the warnings above say why")
    sys.stdout.write(json.dumps(answer) + "\n" if request.json else _text(answer))


def summary(verb: str, model: Any, result: Any) -> dict[str, Any]:
    """What a program needs to go on: files written, measures, things found.

    Args:
        verb: what was done.
        model: the ``ultralytics`` model that did it.
        result: what its method returned.
    """
    if verb in ("predict", "track"):
        folders = {str(r.save_dir) for r in result if r.save_dir and Path(r.save_dir).is_dir()}
        found = [{"file": r.path, "things": r.summary()} for r in result]
        frames = Counter[str]()
        for picture in found if len({r.path for r in result}) < len(found) else ():  # a video
            picture["frame"] = frames[picture["file"]]
            frames[picture["file"]] += 1
        return {"verb": verb, "pictures": found, "folder": min(folders, default=None)}
    if verb == "export":
        return {"verb": verb, "file": str(result)}
    if verb == "benchmark":
        return {"verb": verb, "table": str(result)}
    weights = str(model.trainer.best) if verb == "train" else str(model.ckpt_path)
    measures = {key: float(value) for key, value in getattr(result, "results_dict", {}).items()}
    return {"verb": verb, "weights": weights, "folder": str(getattr(result, "save_dir", "")), "measures": measures}


def _text(answer: dict[str, Any]) -> str:
    lines = []
    for picture in answer.get("pictures", ()):
        frame = f" frame {picture['frame']}" if "frame" in picture else ""
        lines.append(f"{picture['file']}{frame}: {_found(picture['things'])}")
    lines += [f"{key}: {value:.4g}" for key, value in answer.get("measures", {}).items()]
    lines += [f"{key}: {answer[key]}" for key in ("weights", "folder", "file") if answer.get(key)]
    lines += [answer["table"]] if "table" in answer else []
    return "\n".join(lines) + "\n"


def _found(things: list[dict[str, Any]]) -> str:
    """How many of each class; of a whole picture (its things have no box) the likeliest classes."""
    if any("box" not in thing for thing in things):
        return ", ".join(f"{thing['name']} {thing['confidence']:.2f}" for thing in things)
    names = [thing["name"] for thing in things]
    return ", ".join(f"{names.count(n)} {n}" for n in dict.fromkeys(names)) or "nothing found"


def _merged(words: Sequence[str]) -> list[str]:
    from yolomix.host import entry

    try:
        return entry.merged(words)
    except (SyntaxError, IndexError) as error:
        raise UsageError(f"cannot read {' '.join(words)!r} as key=value words: {error}") from error


def _check(verb: str, words: Sequence[str]) -> None:
    """Refuse what would fail late, or would make Ultralytics download a default that nobody asked for."""
    given = dict(word.partition("=")[::2] for word in words)
    for key in given:
        _check_key(verb, key, bare=key in words)
    if "cfg" in given:
        return
    if "model" not in given:
        raise UsageError(f"{verb} needs a model: model=yolo11n-mlla.yaml (see `yolomix models`) or model=FILE.pt")
    resumes = given.get("resume", "False") not in ("False", "false", "0")
    described = given["model"].endswith((".yaml", ".yml"))
    if "data" not in given and ((verb == "train" and not resumes) or (verb == "val" and described)):
        raise UsageError(f"{verb} needs data: data=FILE.yaml, or data=sample, which needs no download")
    _check_model(given["model"])
    if verb == "train" and resumes and given["model"].endswith(".pt"):
        _check_unfinished(given["model"])


def _check_key(verb: str, key: str, bare: bool) -> None:
    """Refuse an argument that Ultralytics does not take, and a bare word where it wants a value."""
    from yolomix.host import entry

    known = {*entry.ARGUMENTS, *UNLISTED}
    if key == "mode" or (bare and key in entry.MODES):
        raise UsageError(f"one verb at a time: {verb} is given, and {key}")
    if bare and key in known and key not in BARE and not isinstance(entry.ARGUMENTS.get(key), bool):
        default = entry.ARGUMENTS.get(key)
        raise UsageError(f"{key} needs a value, in one word: {key}={'...' if default is None else default}")
    if not (key in known or key in BARE or (bare and key in entry.TASKS) or entry.was_known(key)):
        raise UsageError(f"{verb} takes no {key!r}; {near(key, known)}")


def _check_unfinished(checkpoint: str) -> None:
    """Refuse to resume what is done, for which Ultralytics would start another training on another dataset."""
    from yolomix.host import weights

    if weights.is_finished(checkpoint):
        raise UsageError(
            f"{checkpoint} is a finished training, there is nothing to resume; to train it further start a new one: "
            f"train model={checkpoint} data=... epochs=..."
        )


def _check_model(name: str) -> None:
    """Refuse a name without suffix, and a checkpoint that is neither a file nor offered by Ultralytics."""
    from yolomix import models
    from yolomix.host import entry, names

    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file() and not entry.describes_a_model(path):
        raise UsageError(f"{name} describes no model, it has no backbone; a description of pictures goes to data=")
    if "://" in name or path.is_dir() or path.suffix not in ("", ".pt"):
        return
    if path.suffix == "":
        if names.resolve(f"{name}.yaml").kind is names.Kind.PACKAGED:
            raise UsageError(f"no model {name!r}: write model={name}.yaml")
        choices = [f"{file}.yaml" for file in models.names()] + [f"{stem}.pt" for stem in sorted(entry.ASSETS)]
        raise UsageError(f"no model {name!r}: its name ends in .yaml or .pt; {near(name, choices)}")
    if not path.is_file() and path.stem not in entry.ASSETS:
        here = [str(file) for file in path.parent.glob("*.pt")]
        choices = here + [f"{stem}.pt" for stem in sorted(entry.ASSETS)]
        found = near(name, choices)
        raise FileNotFoundError(f"no checkpoint {name!r} on disk or among those that Ultralytics offers; {found}")
