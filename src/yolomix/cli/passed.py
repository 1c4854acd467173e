"""The verbs that Ultralytics carries out: checked beforehand, run by its own command line, their results kept."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolomix.cli.answer import Answer
from yolomix.cli.arguments import SWITCH
from yolomix.cli.request import UsageError
from yolomix.cli.verb import Verb
from yolomix.host import names, offline
from yolomix.host.names import Kind
from yolomix.host.streams import children_to_stderr
from yolomix.nearest import near

BARE = ("half", "int8", "end2end", "nms")  # switches that Ultralytics takes without "=True" and lists nowhere
UNLISTED = ("augmentations", "save_dir", "task", "cfg")
OURS = ("verify", "kit")  # switches of export that are taken out before Ultralytics sees the words
WITH_IMAGES = ("predict", "track")


def run(verb: Verb, words: Sequence[str]) -> Answer:
    """Let Ultralytics carry out a verb, and say what came of it.

    Raises:
        UsageError: an argument is unknown or a needed one is missing.
        FileNotFoundError: there is no such model, or nothing in the source that could be read.
    """
    with children_to_stderr():
        offline.prepare()
        from yolomix.host import entry

        words = _merged(words)
        switches, words = _switches(verb, words)
        given = _given(verb, words)
        _check(verb, given)
        if verb.name in WITH_IMAGES and "save" not in given:
            words.append("save=True")  # as `yolo` does, which keeps no results for us
        if verb.name == "export":
            return _export(words, given, **switches)
        model, result = entry.entrypoint(verb.name, words)
    found = summary(verb.name, model, result)
    if found.get("images") == []:
        raise FileNotFoundError("nothing could be read from the source; the warnings above say why")
    return Answer(found, _lines(found))


def _export(words: Sequence[str], given: Mapping[str, str], verify: bool, kit: bool) -> Answer:
    """Write the file, perhaps with a kit, and compare it unless that is not wanted."""
    from yolomix.cli.verify import exported, unverified
    from yolomix.hooks import exports
    from yolomix.host import entry

    with exports.asked(verifies=True, kit=kit):
        model, file = entry.entrypoint("export", words)
    return exported(model, str(file), given) if verify else unverified(str(file))


def _switches(verb: Verb, words: Sequence[str]) -> tuple[dict[str, bool], list[str]]:
    """The switches of a verb that Ultralytics does not know, and the words without them.

    >>> from yolomix.cli.verbs import VERBS
    >>> _switches(VERBS["export"], ["format=onnx", "kit=True"])
    ({'verify': True, 'kit': True}, ['format=onnx'])
    """
    ours = {argument.name: bool(argument.default) for argument in verb.arguments if argument.name in OURS}
    left = []
    for word in words:
        name, _, text = word.partition("=")
        if name not in ours:
            left.append(word)
        elif (value := SWITCH.read(text or "true")) is None:
            raise UsageError(f"{name} must be {SWITCH.name}, got {word!r}")
        else:
            ours[name] = value
    return ours, left


def summary(verb: str, model: Any, result: Any) -> dict[str, Any]:
    """What a program needs to go on: files written, metrics, detections.

    >>> summary("benchmark", None, "| onnx |")
    {'verb': 'benchmark', 'table': '| onnx |'}

    Args:
        verb: what was done.
        model: the ``ultralytics`` model that did it.
        result: what its method returned.
    """
    if verb in WITH_IMAGES:
        return {"verb": verb, **_images(result)}
    if verb == "benchmark":
        return {"verb": verb, "table": str(result)}
    from yolomix.host import entry

    weights = model.trainer.best if verb == "train" else model.ckpt_path
    save_dir = str(getattr(result, "save_dir", ""))
    return {"verb": verb, "weights": str(weights), "save_dir": save_dir, "metrics": entry.metrics(result)}


def _images(results: Sequence[Any]) -> dict[str, Any]:
    """The detections of every image, and the folder where annotated copies are."""
    images: list[dict[str, Any]] = []
    frames = Counter[str]()
    save_dir = None
    for result in results:
        images.append({"file": result.path, "frame": frames[result.path], "detections": result.summary()})
        frames[result.path] += 1
        # Results name the folder even where nothing is saved.
        if result.save_dir and Path(result.save_dir).is_dir():
            save_dir = str(result.save_dir)
    if len(frames) == len(images):  # only frames of a video share a file
        for image in images:
            del image["frame"]
    return {"images": images, "save_dir": save_dir}


def _lines(found: dict[str, Any]) -> list[str]:
    """The same for people, a line each."""
    lines = []
    for image in found.get("images", ()):
        frame = f" frame {image['frame']}" if "frame" in image else ""
        lines.append(f"{image['file']}{frame}: {_counted(image['detections'])}")
    for name, value in found.get("metrics", {}).items():
        lines.append(f"{name}: {value:.4g}")
    for key in ("weights", "save_dir", "file"):
        if found.get(key):
            lines.append(f"{key}: {found[key]}")
    if "table" in found:
        lines.append(found["table"])
    return lines


def _counted(detections: list[dict[str, Any]]) -> str:
    """How many of each class; of a classified image, whose classes have no box, the likeliest ones.

    >>> _counted([{"name": "cat", "box": {}}, {"name": "dog", "box": {}}, {"name": "cat", "box": {}}])
    '2 cat, 1 dog'
    """
    if any("box" not in detection for detection in detections):
        return ", ".join(f"{detection['name']} {detection['confidence']:.2f}" for detection in detections)
    counts = Counter(detection["name"] for detection in detections)
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "no detections"


def _merged(words: Sequence[str]) -> list[str]:
    from yolomix.host import entry

    try:
        return entry.merged(words)
    except (SyntaxError, IndexError) as error:
        raise UsageError(f"cannot read {' '.join(words)!r} as key=value words: {error}") from error


def _given(verb: Verb, words: Sequence[str]) -> dict[str, str]:
    """The texts by key; a bare word is a key without one."""
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        _check_key(verb.name, key, bare=not equals)
        given[key] = value
    return given


def _check(verb: Verb, given: Mapping[str, str]) -> None:
    """Refuse what would fail late, or would make Ultralytics download a default that nobody asked for."""
    if "cfg" in given:  # a file that has further arguments, perhaps all of them
        return
    resume = given.get("resume", "False")
    resumes = resume.lower() not in ("false", "0", "none")
    left = resume if resume.lower() not in ("true", "1", "") else None  # the file of the training, where one is named
    if "model" not in given and resumes and left:
        raise UsageError(f"a training is resumed by its checkpoint: {verb.name} model={left} resume=True")
    if "model" not in given:
        raise verb.lacks("model")
    name = given["model"]
    _check_model(name)
    data = given.get("data", "None")
    if data.lower() != "none":
        _check_data(data)
    elif _needs_data(verb.name, name, resumes):
        raise verb.lacks("data")
    if verb.name in WITH_IMAGES and "source" not in given:
        raise verb.lacks("source")  # Ultralytics would look at two photographs of its own
    if verb.name == "train" and resumes:
        _check_resumable(left or name)


def _check_key(verb: str, key: str, bare: bool) -> None:
    """Refuse an argument that Ultralytics does not take, and a bare word where it wants a value."""
    from yolomix.host import entry

    known = [name for name in (*entry.ARGUMENTS, *UNLISTED) if name != "mode"]  # the verb says it
    if key == "mode" or (bare and key in entry.MODES):
        raise UsageError(f"one verb at a time: {verb} is given, and {key}")
    if bare and key in known and key not in BARE and not isinstance(entry.ARGUMENTS.get(key), bool):
        default = entry.ARGUMENTS.get(key)
        raise UsageError(f"{key} needs a value, in one word: {key}={'...' if default is None else default}")
    if not (key in known or key in BARE or (bare and key in entry.TASKS) or entry.was_known(key)):
        raise UsageError(f"{verb} takes no {key!r}; {near(key, known)}")


def _needs_data(verb: str, model: str, resumes: bool) -> bool:
    """Whether nothing else says the dataset: a checkpoint of a training remembers its own, a model YAML does not."""
    if verb == "train":
        return not resumes
    if verb != "val":
        return False
    found = names.resolve(model)
    if found.kind is Kind.CHECKPOINT and found.file is not None and not found.grafts:
        from yolomix.host import weights

        return not weights.read(found.file).args.get("data")
    return found.kind in (Kind.PACKAGED, Kind.YAML)


def _check_model(name: str) -> None:
    """Refuse a name without suffix, and a checkpoint that is neither a file nor offered by Ultralytics."""
    from yolomix.host import entry

    model = names.resolve(name)
    if model.kind is Kind.YAML and model.file is not None and not entry.describes_a_model(model.file):
        raise UsageError(f"{name} describes no model, it has no backbone; a dataset YAML goes to data=")
    if model.kind is not Kind.CHECKPOINT:
        return
    if Path(model.base).suffix == "":
        _refuse_bare(name)
    entry.check_there(name)


def _refuse_bare(name: str) -> None:
    from yolomix import models
    from yolomix.host import entry

    if names.resolve(f"{name}.yaml").kind is Kind.PACKAGED:
        raise UsageError(f"no model {name!r}: write model={name}.yaml")
    offered = sorted(f"{stem}.pt" for stem in entry.ASSETS)
    choices = [*(f"{file}.yaml" for file in models.names()), *offered]
    raise UsageError(f"no model {name!r}: its name ends in .yaml or .pt; {near(name, choices)}")


def _check_data(data: str) -> None:
    """Refuse a dataset that is not there before a model is built for it; what Ultralytics may download passes."""
    from yolomix.host import entry

    known = ["sample", *entry.datasets()]
    if data in known or "://" in data or "," in data or Path(data).exists():
        return
    stems = {Path(name).stem: name for name in [*known, *(file.name for file in Path().glob("*.yaml"))]}
    if close := difflib.get_close_matches(Path(data).stem, stems):
        raise UsageError(f"no dataset {data!r}; did you mean {' or '.join(stems[stem] for stem in close)}?")
    if Path(data).suffix in names.YAML:
        raise UsageError(f"no dataset {data!r}: it is a file, one that comes with Ultralytics (coco8.yaml), or sample")


def _check_resumable(checkpoint: str) -> None:
    """Refuse to resume what has no state of a training, for which Ultralytics would start another one."""
    from yolomix.host import weights

    if not names.resolve(checkpoint).has_weights:
        raise UsageError(
            f"{checkpoint} has no training to resume; give the checkpoint that the training left: "
            "train model=runs/detect/train/weights/last.pt resume=True"
        )
    if weights.is_finished(checkpoint):
        raise UsageError(
            f"{checkpoint} is a finished training, there is nothing to resume; to train it further start a new one: "
            f"train model={checkpoint} data=... epochs=..."
        )
