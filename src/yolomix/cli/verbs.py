"""The verbs: what each does, its arguments, examples, and where the function is that does it. Nothing heavy in here."""

from __future__ import annotations

from yolomix.cli.arguments import Argument
from yolomix.cli.parameters import (
    CHECKED,
    DATA,
    DEMO,
    EDIT,
    FIGURES,
    FORMAT,
    GRAFT,
    KIT,
    MATRIX,
    ONE_BLOCK,
    ONE_MODEL,
    PROFILE,
    SHELL,
    SOURCE,
    STUDY,
    TO_RUN,
    TRAIN,
    TRANSFER,
    VERIFY,
)
from yolomix.cli.verb import Verb

ULTRALYTICS_ARGUMENTS = "https://docs.ultralytics.com/usage/cfg"


def _passed_on(name: str, does: str, example: str, *arguments: Argument) -> Verb:
    return Verb(name, "passed", does, (example,), (TO_RUN, *arguments), passed_on=True)


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "demo",
            "demo",
            "train, validate, export yolo11n-mlla on this CPU in 3 minutes",
            ("yolomix demo", "yolomix demo seed=1 out=runs/demo1"),
            DEMO,
        ),
        _passed_on(
            "train",
            "train a model",
            "yolomix train model=yolo11n-mlla.yaml data=sample epochs=20 imgsz=320",
            DATA,
            *TRAIN,
        ),
        _passed_on(
            "val",
            "validate a trained model",
            "yolomix val model=runs/detect/train/weights/best.pt data=sample",
            DATA,
        ),
        _passed_on(
            "predict",
            "detect objects in images",
            "yolomix predict model=runs/detect/train/weights/best.pt source=a.jpg",
            SOURCE,
        ),
        _passed_on(
            "track",
            "track objects in a video",
            "yolomix track model=runs/detect/train/weights/best.pt source=a.mp4",
            SOURCE,
        ),
        _passed_on(
            "export",
            "write a model for another runtime",
            "yolomix export model=runs/detect/train/weights/best.pt format=onnx",
            FORMAT,
            VERIFY,
            KIT,
        ),
        _passed_on(
            "benchmark",
            "time and validate in every format; `verify` compares outputs",
            "yolomix benchmark model=runs/detect/train/weights/best.pt data=sample",
            DATA,
        ),
        Verb(
            "graft",
            "grafts",
            "put a block anywhere into a model, keep its weights and outputs",
            (
                "yolomix graft model=yolo11n.pt block=HaloAttention args=2,1 at=p5",
                "yolomix graft model='yolo11n+HaloAttention(2,1)@p4,p5.yaml' plan=true",
            ),
            GRAFT,
        ),
        Verb(
            "edit",
            "grafts",
            "take out layers, swap types, change repeats, keep the weights",
            ("yolomix edit model=yolo11n.pt swap=C3k2:XSSBlock within=neck plan=true",),
            EDIT,
        ),
        Verb(
            "transfer",
            "grafts",
            "copy weights into another architecture, and say which arrived",
            ("yolomix transfer source=best.pt target=yolo11n-mlla.yaml save=start.pt",),
            TRANSFER,
        ),
        Verb(
            "profile",
            "profile",
            "parameters, GFLOPs, latency and memory of a model, by layer",
            (
                "yolomix profile model=yolo11n-mlla.yaml against=yolo11n.yaml imgsz=320",
                "yolomix profile model=mamba-yolo-t.yaml batch=1,4 save=table.csv",
            ),
            PROFILE,
        ),
        Verb(
            "verify",
            "verify",
            "run an exported file in its own runtime, compare with PyTorch",
            (
                "yolomix verify model=best.pt file=best.onnx",
                "yolomix verify model=best.pt file=best.onnx data=sample --json",
            ),
            CHECKED,
        ),
        Verb(
            "export-matrix",
            "matrix",
            "say in which formats and precisions models run, and agree",
            (
                "yolomix export-matrix model=best.pt data=your.yaml",
                "yolomix export-matrix model=a.pt model=b.pt formats=onnx,ncnn precision=32,16",
                "yolomix export-matrix formats=onnx out=zoo.csv",
            ),
            MATRIX,
        ),
        Verb(
            "figures",
            "figures",
            "draw what models look at, and whether a graft is used",
            (
                "yolomix figures erf models=best.pt",
                "yolomix figures gates models=runs/detect/train",
                "yolomix figures attention models=a.pt,b.pt source=images at=p4 query=0.3,0.6",
                "yolomix figures compare models=a.pt,b.pt source=images gallery=true",
            ),
            FIGURES,
        ),
        Verb(
            "study",
            "study",
            "say whether a change of a model helps, with seeds and controls",
            ("yolomix study study.yaml plan=true", "yolomix study study.yaml", "yolomix study runs/study/blood-cells"),
            STUDY,
        ),
        Verb(
            "models",
            "listings",
            "list the packaged models, or explain one",
            ("yolomix models", "yolomix models yolo11n-mlla.yaml", "yolomix models --json"),
            (ONE_MODEL,),
        ),
        Verb(
            "blocks",
            "listings",
            "list the blocks that a model YAML may name, or explain one",
            ("yolomix blocks", "yolomix blocks HaloAttention"),
            (ONE_BLOCK,),
        ),
        Verb("doctor", "doctor", "say what is installed and what computes each operator", ("yolomix doctor --json",)),
        Verb(
            "completion",
            "completion",
            "print a script for TAB completion; it says where to put it",
            ("yolomix completion bash", "yolomix completion zsh"),
            (SHELL,),
        ),
        Verb("version", "listings", "print the version", ("yolomix version",)),
    )
}
