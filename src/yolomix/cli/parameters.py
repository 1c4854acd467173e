"""What every verb takes: its arguments, in the order in which help shows them."""

from __future__ import annotations

from yolomix.cli.arguments import (
    BLOCK,
    CHECKPOINT,
    DATASET,
    EXPORT_FORMAT,
    EXPORT_FORMATS,
    FILE,
    FOLDER,
    LAYER_AND_NUMBER,
    LAYER_TYPES,
    MODEL,
    MODELS,
    POINTS,
    PRECISIONS,
    SWITCH,
    TEXT,
    Argument,
    fractions,
    numbers,
    one_of,
    whole,
)
from yolomix.figures import KINDS
from yolomix.surgery.grammar import MODES

SAVE = Argument("save", "file to write, .pt from a checkpoint, else .yaml", FILE)
SEED = Argument("seed", "whole number, the seed of the initialisation of new layers", whole(0), default=0)
PLAN = Argument("plan", "true: only show what would change", SWITCH, default=False)
PROFILED = Argument("profile", "true: also time the model before and after", SWITCH, default=False)
IMGSZ = Argument("imgsz", "height and width in pixels, as 480,640, or one number for both (640)", numbers(1, 2))
WRITTEN = (SAVE, SEED, PLAN, PROFILED, IMGSZ)  # of an edited model

DEMO = (
    Argument("seed", "whole number, the seed of the initial weights and of the order of images", whole(0), default=0),
    Argument("epochs", "passes over the sample dataset", whole(1), default=9),
    Argument("out", "folder for the results", FOLDER, default="runs/demo"),
)
GRAFT = (
    Argument("model", "a checkpoint, a model YAML, or a name like yolo11n+MLLABlock@p5.yaml", MODEL, required=True),
    Argument(
        "block", "what to put in, see `yolomix blocks`, or module.Class; needless when the model's name says it", BLOCK
    ),
    Argument(
        "at", "where: p3 p4 p5, neck, head-inputs, backbone, a layer index or type, *; several with commas", POINTS
    ),
    Argument("args", "the block's arguments after its channels, as in a model YAML: 2,1", TEXT, default=""),
    Argument("mode", "after a layer, wrap (no layer index changes) or replace", one_of(*MODES), default="after"),
    Argument("n", "repeats, before depth scaling", whole(1), default=1),
    Argument("gate", "false: the block is initialised as in its paper, and the outputs change", SWITCH),
    *WRITTEN,
)
EDIT = (
    Argument("model", "a checkpoint or a model YAML", MODEL, required=True),
    Argument("remove", "layers to take out, named as by `at` of graft", POINTS),
    Argument("swap", "OLD:NEW, give every layer of one type another type", LAYER_TYPES),
    Argument("within", "backbone or neck: swap only there", one_of("backbone", "neck")),
    Argument("args", "arguments of NEW after its channels", TEXT),
    Argument("repeats", "LAYER:N, another number of repeats", LAYER_AND_NUMBER),
    *WRITTEN,
)
TRANSFER = (
    Argument("source", "checkpoint that has the weights", CHECKPOINT, required=True),
    Argument("target", "model YAML that gets them", MODEL, required=True),
    Argument("save", "the .pt file to write", FILE, required=True),
    Argument("any_task", "true: also from a model for another task, what both have", SWITCH, default=False),
)

PROFILE = (
    Argument("model", "a checkpoint, a model YAML, a graft, or an exported file", MODEL, required=True),
    Argument("against", "a further model, timed in turns; as often as wanted", MODEL, repeatable=True),
    IMGSZ,
    Argument("batch", "images at once; several with commas (1)", numbers(1, 16)),
    Argument("device", "cpu, mps, or 0 for the first GPU", TEXT, default="cpu"),
    Argument("train", "true: also the memory of a forward and a backward pass", SWITCH, default=False),
    Argument("depth", "2: also the modules inside a layer", one_of("1", "2"), default="1"),
    Argument("save", "file to write: .csv, .json, .md, .tex, .png", FILE),
)

CHECKED = (
    Argument("model", "what was exported: a checkpoint or a model YAML", MODEL, required=True),
    Argument("file", "the exported file or folder", FILE, required=True),
    Argument("data", "a dataset YAML, or sample: also compare mAP on its validation images", DATASET),
    Argument("imgsz", "height and width that the file has to have, as 480,640, or one number", numbers(1, 2)),
)

MATRIX = (
    Argument(
        "model",
        "a checkpoint, a model YAML or a graft, as often as wanted; without one every packaged model",
        MODEL,
        repeatable=True,
    ),
    Argument("formats", "onnx,openvino,ncnn, ...; without it all that were ever tried", EXPORT_FORMATS),
    Argument("precision", "32, 16 and 8 bits, with commas (32,16,8)", PRECISIONS),
    Argument("imgsz", "side of the images, in pixels", whole(32), default=64),
    Argument("limit", "seconds that one file may take", whole(1), default=300),
    Argument("data", "a dataset YAML, or sample: calibrates INT8; also compares mAP of checkpoints on it", DATASET),
    Argument("out", "folder for the table, or its CSV file, which is gone on with", FILE, default="runs/export-matrix"),
)

STUDY = (
    Argument(
        "what",
        "a plan (study.yaml), or the folder of a study: it is reported again",
        FILE,
        required=True,
        hint="a plan or the folder of a study",
        bare=True,
    ),
    Argument("plan", "true: only show runs, hours and the difference that they can find", SWITCH, default=False),
    Argument("retry", "true: repeat runs that failed or diverged", SWITCH, default=False),
    Argument("engine", "local, the queue of this machine, or ray, a cluster", one_of("local", "ray"), default="local"),
    Argument("address", "of the Ray cluster; without it one on this machine", TEXT),
)

FIGURES = (
    Argument("kind", f"what to draw: {', '.join(KINDS)}", one_of(*KINDS), required=True, hint="a kind", bare=True),
    Argument("models", "what to look into; several with commas, on the same images", MODELS, required=True),
    Argument("source", "an image or a folder; without it, four images of the packaged sample", FILE),
    Argument("at", "layers, named as by `at` of graft", POINTS),
    Argument("classes", "of cam: only these classes, by name or number, with commas", POINTS),
    Argument("box", "of cam: the detection there, left,top,right,bottom in fractions of the image", fractions(4)),
    Argument("method", "of cam: layercam, or one of pytorch-grad-cam", TEXT),
    Argument("query", "of attention: the position, x,y in fractions of the image (the middle)", fractions(2)),
    Argument("conf", "of compare: the least score of a detection", fractions(1)),
    Argument("imgsz", "height and width in pixels, or one number for both (that of the training)", numbers(1, 2)),
    Argument("out", "folder for the files", FOLDER, default="runs/figures"),
    Argument("gallery", "true: one page with the figure of every image instead", SWITCH, default=False),
)
TO_RUN = Argument(
    "model",
    "a checkpoint, a model YAML, or one that `yolomix models` lists, with its scale letter",
    MODEL,
    required=True,
    hint="a model: model=yolo11n-mlla.yaml (see `yolomix models`) or model=FILE.pt",
)
DATA = Argument(
    "data",
    "a dataset YAML, or sample, which needs no download",
    DATASET,
    hint="data: data=FILE.yaml, or data=sample, which needs no download",
)
SOURCE = Argument(
    "source",
    "an image, a video, a folder, an address or a camera",
    FILE,
    hint="what to look at: source=FILE, a folder, an address, or 0 for the first camera",
)
VERIFY = Argument("verify", "false: do not compare the file with PyTorch in its own runtime", SWITCH, default=True)
KIT = Argument(
    "kit", "true: also write a folder that runs the file without PyTorch, by a script and a page", SWITCH, default=False
)
FORMAT = Argument("format", "onnx, openvino, torchscript, ...", EXPORT_FORMAT)
# Of Ultralytics' arguments those that people use most.
TRAIN = (
    Argument("epochs", "passes over the dataset", whole(1), default=100),
    Argument("batch", "images of a step; -1: as many as the GPU's memory takes", TEXT, default=16),
    Argument("imgsz", "side of the images, in pixels", TEXT, default=640),
    Argument("device", "cpu, mps, 0 for the first GPU, 0,1 for two; by default a GPU if there is one", TEXT),
    Argument("workers", "processes that load images", whole(0), default=8),
    Argument("pretrained", "FILE.pt: the weights with which a model YAML starts", CHECKPOINT, default=True),
    Argument("optimizer", "SGD, AdamW, ...; auto chooses it, and the learning rate", TEXT, default="auto"),
    Argument("lr0", "initial learning rate", TEXT, default=0.01),
    Argument("patience", "epochs without progress after which it stops", whole(0), default=100),
    Argument("resume", "true: go on with the training of a last.pt", SWITCH, default=False),
)

ONE_MODEL = Argument("name", "one of them: a page about it", MODEL, bare=True)
ONE_BLOCK = Argument("name", "one of them, or module.Class: a page about it", BLOCK, bare=True)
SHELL = Argument(
    "shell",
    "bash, zsh or fish",
    one_of("bash", "zsh", "fish"),
    required=True,
    hint="a shell, bash, zsh or fish",
    bare=True,
)
