"""The list of verbs: what each does, an example, and the function that does it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from yolomix.cli import grafts
from yolomix.cli.request import Request

HOST_ARGUMENTS = "every argument of Ultralytics' own command: https://docs.ultralytics.com/usage/cfg"


@dataclass(frozen=True)
class Verb:
    """One verb.

    Args:
        name: what users type.
        module: the file of this package with a function of that name; for verbs of Ultralytics, its function ``run``.
        does: one sentence.
        examples: command lines.
        takes: our own verbs' arguments and what each means; None for verbs that Ultralytics carries out.
    """

    name: str
    module: str
    does: str
    examples: tuple[str, ...]
    takes: Mapping[str, str] | None = field(default_factory=dict)

    def load(self) -> Callable[[Request], None]:
        """Import the function; nothing heavy is imported before."""
        module = importlib.import_module(f"yolomix.cli.{self.module}")
        function: Callable[[Request], None] = getattr(module, "run" if self.takes is None else self.name)
        return function

    def help(self) -> str:
        """The text of ``yolomix VERB --help``."""
        lines = [f"yolomix {self.name}: {self.does}.", "", *(f"  {example}" for example in self.examples), ""]
        if self.takes is None:
            lines += [f"Arguments: {HOST_ARGUMENTS}.", "model= also takes a name that `yolomix models` lists, with its"]
            lines += ["scale letter: yolo11n-mlla.yaml. data= also takes sample, which needs no download.", ""]
        elif self.takes:
            lines += ["Arguments:", *(f"  {key + '=':10} {what}" for key, what in self.takes.items()), ""]
        return "\n".join([*lines, "--json answers for programs; --debug shows where an error came from.", ""])


def _passed(name: str, does: str, *examples: str) -> Verb:
    return Verb(name, "passed", does, examples, None)


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "demo",
            "demo",
            "make the sample data, train yolo11n-mlla on the CPU, validate it, show and export it (about 4 minutes)",
            ("yolomix demo", "yolomix demo seed=1 out=runs/demo1"),
            {
                "seed": "whole number that starts the training (0)",
                "epochs": "passes over the sample data",
                "out": "folder for the results (runs/demo)",
            },
        ),
        _passed("train", "train a model", "yolomix train model=yolo11n-mlla.yaml data=sample epochs=20 imgsz=320"),
        _passed("val", "measure a trained model", "yolomix val model=runs/detect/train/weights/best.pt data=sample"),
        _passed(
            "predict", "find things in pictures", "yolomix predict model=runs/detect/train/weights/best.pt source=a.jpg"
        ),
        _passed(
            "track",
            "follow things through a video",
            "yolomix track model=runs/detect/train/weights/best.pt source=a.mp4",
        ),
        _passed(
            "export",
            "write a model for another runtime",
            "yolomix export model=runs/detect/train/weights/best.pt format=onnx",
        ),
        _passed(
            "benchmark",
            "time and measure a model in every format",
            "yolomix benchmark model=runs/detect/train/weights/best.pt data=sample imgsz=320",
        ),
        Verb(
            "graft",
            "grafts",
            "put a block anywhere into a model, keep its weights and its outputs",
            (
                "yolomix graft model=yolo11n.pt block=HaloAttention args=2,1 at=p5",
                "yolomix graft model='yolo11n+HaloAttention(2,1)@p4,p5.yaml' plan=true",
            ),
            grafts.GRAFT,
        ),
        Verb(
            "edit",
            "grafts",
            "take layers out of a model, swap their types, change their repeats, and keep the weights",
            ("yolomix edit model=yolo11n.pt swap=C3k2:XSSBlock within=neck remove=9 plan=true",),
            grafts.EDIT,
        ),
        Verb(
            "transfer",
            "grafts",
            "copy weights into another architecture and say what became of every tensor",
            ("yolomix transfer source=best.pt target=yolo11n-mlla.yaml save=start.pt",),
            grafts.TRANSFER,
        ),
        Verb("models", "listings", "list the packaged models", ("yolomix models", "yolomix models --json")),
        Verb("blocks", "listings", "list the blocks that a model YAML may name", ("yolomix blocks",)),
        Verb("doctor", "listings", "say what is installed and what computes each operator", ("yolomix doctor --json",)),
        Verb("version", "listings", "print the version", ("yolomix version",)),
    )
}


def overview() -> str:
    """The text of ``yolomix help``."""
    lines = ["yolomix VERB key=value ...", ""]
    for verb in VERBS.values():
        lines += [f"  {verb.name:10} {verb.does}", f"  {'':10}   {verb.examples[0]}"]
    lines += [
        "",
        "yolomix VERB --help explains one. --json answers for programs, --debug shows where an error came from.",
        "",
    ]
    return "\n".join(lines)
