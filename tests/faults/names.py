"""Names of models and grafts, with slips of the finger, odd characters and arguments that make no sense."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.faults import mutate
from tests.faults.kind import Bad, Case, Kind
from tests.tiny import TINY

BLOCKS = (
    "MLLABlock",
    "HaloAttention(2,1)",
    "XSSBlock",
    "ASSG",
    "SimpleStem",
    "VSSBlock",
    "Conv",
    "Mlla",
    "C3k2",
    "ZeroGate",
)
POINTS = ("p5", "p3,p4", "1", "-1", "99", "neck", "head-inputs", "backbone", "Conv", "C*", "*", "C2*MLLA", "", "Detect")
WORDS = ("", ":wrap", ":plain", ":replace", ":after:plain", ":behind", "*2", "*0", "(num_heads=2)", "([1,2)", "(1e999)")
BASES = (
    "yolo0n-tiny",
    "yolo0-tiny.yaml",
    "tiny.pt",
    "yolo11n-mlla",
    "yolo11n",
    "mamba-yolo-t",
    "yolov8n-vim",
    "none",
    "folder",
    "",
)
SENSIBLE = ("+MLLABlock@1", "+HaloAttention(2,1)@0:wrap", "+XSSBlock@Conv:plain", "+MLLABlock(num_heads=2)*2@backbone")
ENDS = (".yaml", ".pt", ".yaml", ".yml", ".pt", ".YAML", "", ".onnx", ".yaml.pt", "/", " ")


def draw(random: Random) -> Case:
    """A name, in most cases after an accident."""
    name = random.choice(BASES)
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        if random.random() < 0.5:
            name += random.choice(SENSIBLE)
        else:
            name += f"+{random.choice(BLOCKS)}@{random.choice(POINTS)}{random.choice(WORDS)}"
    name += random.choice(ENDS)
    if random.random() < 0.5:
        name = mutate.word(random, name)
    return {"name": name.replace("://", ":")}  # an address is to be asked for


def check(case: Case) -> str:
    """Build what the name says, in a folder with a model YAML and a checkpoint."""
    from ultralytics.utils import downloads

    import yolomix
    from yolomix.host import weights

    downloads.safe_download = _closed
    Path("yolo0-tiny.yaml").write_text(TINY)
    Path("folder").mkdir()
    weights.write(yolomix.YOLO("yolo0n-tiny.yaml", verbose=False).model, Path("tiny.pt"))
    before = Path("tiny.pt").read_bytes(), Path("yolo0-tiny.yaml").read_bytes()
    try:
        model = yolomix.YOLO(case["name"], verbose=False)
        model.model  # noqa: B018  exported files have a string here
    finally:
        if before != (Path("tiny.pt").read_bytes(), Path("yolo0-tiny.yaml").read_bytes()):
            raise Bad("a file that was there has changed")
        if stray := [str(path) for path in Path().rglob("*") if ".yolomix-" in path.name]:
            raise Bad(f"left over: {stray}")
    return "built"


def _closed(url: str, **_: object) -> None:
    """What Ultralytics offers may be asked for; nobody answers."""
    raise ConnectionError(f"Download failure for {url}")


def evaluate_arguments() -> None:
    """Plant: read the arguments of a graft as Python does."""
    from yolomix.surgery import grammar

    native = grammar._Reader.argument

    def argument(reader: grammar._Reader, found: list) -> None:
        eval(reader.text[reader.at : reader.end].split(")")[0])
        native(reader, found)

    grammar._Reader.argument = argument


def pass_unknown_on() -> None:
    """Plant: take whatever is no graft for a name that Ultralytics knows."""
    from yolomix.host import names

    names._natively = lambda native, name: native(name)


KIND = Kind(
    name="names",
    tries="names of models and grafts, mistyped, with odd characters, arguments and insertion points",
    figure="only our errors, at most 20 s and 4 GiB each, nothing run",
    check=check,
    target=2000,
    draw=draw,
    plants={"evaluate-arguments": evaluate_arguments, "pass-unknown-on": pass_unknown_on},
)
