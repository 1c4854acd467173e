"""The classes of the collection in stock Ultralytics, registered as they are, each under the rule of its own parser.

Its modules lie in the package ``ultralytics.nn.modules``, and import each other from there. So its folder becomes a
further place of that package, and what it adds to files that stock Ultralytics has too is executed in their modules.
Classes and functions that stock Ultralytics has stay stock Ultralytics'. One thing is changed: a head also derives from
the head of Ultralytics that it is a copy of, so that Ultralytics knows what to do with it.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

SHARED = ("activation", "utils", "conv", "block", "transformer", "head")  # files that both have, in order of imports
FULL_HEADS = ("MAFDetect", "IDetect", "DDetect")  # copies of Detect that derive from nn.Module
STOCK_HEADS = ("Detect", "Segment", "Pose", "OBB")

# Where the collection's parser has a branch for a class. Rules of the two large sets are read from its source.
RULES = {
    "c": (
        "DAttention DAttentionBaseline TripletAttention deformable_LKA_Attention ContextGuidedBlock_Down "
        "SEAM MultiSEAM MultiDilatelocalAttention BiLevelRoutingAttention SegNext_Attention FFA HAT "
        "OREPA IAT SELayerV1 SELayerV2 LSKA RIDNET ADNet FocalModulation EMA LAE DiTBlock LSKblock MSCAM "
        "MSCAMv2 MSCAMv3 MSCAMv4 MSCAMv5 EMCAD_block MultiOrderGatedAggregation"
    ),
    "c c": ("iRMB"),
    "c (c2)": ("CrissCrossAttention ShuffleAttention SEAttention SKAttention ECAAttention MHSA CBAM"),
    "c1": ("Transpose IFM SCConv DownsampleConv ShapeAlignConv"),
    "c1 c2": ("SNI IEMA"),
    "c1 c2 n": ("MobileOne MobileOne_origin"),
    "ch c2": ("SimFusion_3in ScalSeq HRIF"),
    "ch[0]": ("InjectionMultiSum_Auto_pool MergeConv"),
    "ch[1]": ("SDFM"),
    "ch[-1]": ("attention_model"),
    "ch[1] ch[1]": ("F2SoftHG"),
    "ch[1] c2 n": ("HyperACE"),
    "ch[0] ch[1] c2 n": ("PST"),
    "sum(ch)": ("PyramidPoolAgg"),
    "": (
        "MP SP ReOrg SimFusion_4in AdvPoolFusion Concat_BiFPN LCA_Concat LCA_DynamicTanh_Concat "
        "MyConcat4 MyConcat6 ADD AVG Add Shortcut Zoom_cat TopBasicLayer CSPResNet_CBS CSPResNet "
        "ConvBNLayer ResSPP DySample C2f_SCConv FullPAD_Tunnel CPA_arch MB_TaylorFormer AirNet"
    ),
}
HEADS = [f"{prefix}{head}" for prefix in ("I", "D", "MAF") for head in STOCK_HEADS]


def enter(package: Path) -> set[str]:
    """Register the collection's classes; returns their names."""
    modules = importlib.import_module("ultralytics.nn.modules")
    modules.__path__.append(str(package / "nn" / "modules"))
    for name in SHARED:
        _extend(importlib.import_module(f"ultralytics.nn.modules.{name}"), package / "nn" / "modules" / f"{name}.py")
    source = (package / "nn" / "tasks.py").read_text("utf-8")
    classes = _exported(package / "nn" / "modules" / "__init__.py")
    from ultralytics.nn import tasks

    import yolomix
    from yolomix.nn import registry

    entered = set()
    for name, rule in rules(source).items():
        cls = classes.get(name)
        if not callable(cls) or hasattr(tasks, name):
            continue
        try:
            yolomix.register(cls, rule=rule, name=name)
        except (TypeError, ValueError) as error:  # a class of Ultralytics, one of ours, or a rule that does not fit
            print(f"{name}: {error}"[:200], file=sys.stderr)
        else:
            entered.add(name)
    assert entered <= set(registry.BLOCKS)
    return entered


def rules(source: str) -> dict[str, str | None]:
    """Per class the rule that the collection's parser applies; None for heads, whose parent says it."""
    parser = source[source.index("def parse_model") :]
    found: dict[str, str | None] = {}
    for name in _names(parser, "base_modules"):
        found[name] = "c1 c2"
    for name in _names(parser, "repeat_modules"):
        found[name] = "c1 c2 n"
    for rule, names in RULES.items():
        found.update(dict.fromkeys(names.split(), rule))
    found.update(dict.fromkeys(HEADS))
    found.update(dict.fromkeys(_backbones(parser), ""))
    return found


def _names(parser: str, variable: str) -> list[str]:
    inside = re.search(rf"{variable} = frozenset\(.*?\{{(.*?)\}}", parser, re.DOTALL)
    assert inside is not None, f"the collection's parser has no {variable}"
    return re.findall(r"(?<![\w.])[A-Za-z_]\w*(?![\w.])", inside[1])


def _backbones(parser: str) -> list[str]:
    """Functions that make a whole backbone: those after whose call the parser reads ``width_list``."""
    branches = re.findall(r"m in \{([^}]*)\}:\s+m = m\(\*args\)\s+c2 = m\.width_list", parser)
    return re.findall(r"\w+", branches[0]) if branches else []


def _extend(module: ModuleType, file: Path) -> None:
    """Execute what a file of the collection adds to a module of stock Ultralytics, in that module."""
    space = vars(module)
    native = {key: value for key, value in space.items() if not key.startswith("__")}
    for node in ast.parse(file.read_text("utf-8")).body:
        is_definition = isinstance(node, ast.ClassDef | ast.FunctionDef)
        if is_definition and node.name in native:
            continue
        if isinstance(node, ast.ClassDef) and node.name in HEADS:
            _derive(node)
        _run(node, space, file.name)
        space.update(native)  # an import may bring the collection's own form of what stock Ultralytics has
        if isinstance(node, ast.ClassDef) and node.name in space:
            space[node.name].__module__ = f"collection.{file.stem}"


def _derive(head: ast.ClassDef) -> None:
    """Give a head the head of Ultralytics as a base whose copy it is, without calling its constructor."""
    stock = next(name for name in STOCK_HEADS if head.name.endswith(name))
    head.bases = [base for base in head.bases if not isinstance(base, ast.Attribute)] + [ast.Name(stock, ast.Load())]
    if head.name in FULL_HEADS:
        text = ast.unparse(head).replace("super().__init__()", "nn.Module.__init__(self)", 1)
        changed = ast.parse(text).body[0]
        assert isinstance(changed, ast.ClassDef)
        head.body = changed.body


def _exported(init: Path) -> dict[str, object]:
    """What the collection's ``nn/modules/__init__.py`` imports, by name."""
    space: dict[str, object] = {"__package__": "ultralytics.nn.modules", "__name__": "ultralytics.nn.modules"}
    for node in ast.parse(init.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                _run(ast.ImportFrom(node.module, [alias], node.level), space, init.name)
    return space


def _run(node: ast.stmt, space: dict[str, object], file: str) -> None:
    """Execute one statement; what cannot be imported here is said, and missing."""
    code = compile(ast.fix_missing_locations(ast.Module([node], [])), file, "exec", dont_inherit=True)
    try:
        exec(code, space)
    except Exception as error:  # noqa: BLE001, it is other people's code
        print(f"{file}: {ast.unparse(node).splitlines()[0]}: {error}"[:200], file=sys.stderr)
