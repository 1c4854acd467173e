"""A block inside a CSP row, ``C3k2(MLLABlock)``: widths, repeats, arguments, tasks, weights, life, errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import ultralytics
import yaml
from torch import Tensor, nn
from ultralytics import YOLO
from ultralytics.nn import tasks

import yolomix
from tests.brought import GATE, write  # noqa: F401
from tests.nn.test_blocks import EVERY
from tests.tiny import TINY, description
from yolomix.hooks.rows import RowError
from yolomix.host import weights

OLDEST = ultralytics.__version__.startswith("8.3.")
ARGS: dict[str, list[Any]] = {
    "C2fAttn": [128, 1],
    "RepNCSPELAN4": [64, 32, 1],
}  # what follows the width, where something has to
NEEDS: dict[str, dict[str, Any]] = {
    "HaloAttention": {"block_size": 2, "halo_size": 1, "dim_head": 8, "num_heads": 2},
    "SameWidth": {"block": "MLLAttention"},
    "ZeroGate": {"block": "MLLAttention"},
    "ASSG": {"num_heads": 2},
    "ASSGroup": {"num_heads": 2},
}
KEEP_SIZE = {name for name in EVERY if name not in ("SimpleStem", "VisionClueMerge")}


CSP = ["C1", "C2", "C2f", "C2fAttn", "C2fCIB", "C2fPSA", "C2PSA", "C3", "C3Ghost", "C3k2", "C3x", "BottleneckCSP"]
CSP += ["RepC3", "RepNCSPELAN4", *(["A2C2f"] if hasattr(tasks, "A2C2f") else [])]  # 8.3.0 has no A2C2f


def layers(*rows: list[Any], **changes: Any) -> nn.Sequential:
    """The tiny model's first two convs, then the rows; width 0.5, depth 0.5."""
    start = [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [256, 3, 2]]]
    model = description(backbone=[*start, *rows], head=[[[2], 1, "Detect", ["nc"]]], **changes)
    model["scales"] = {"n": [0.5, 0.5, 1024]}
    return tasks.parse_model(model, ch=3, verbose=False)[0]


def row(name: str, named: dict[str, Any] | None = None) -> list[Any]:
    args = [256, *ARGS.get(name.partition("(")[0], [])]
    return [-1, 4, name, [*args, named] if named else args]


def inside(layer: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in layer.modules() if type(module) is kind]


def test_a_row_that_the_yaml_repeats_by_an_alias_has_its_block_every_time():
    same = row("C3k2(MLLABlock)")
    first, second = layers(same, same)[2:4]
    assert [len(inside(layer, EVERY["MLLABlock"].cls)) for layer in (first, second)] == [2, 2]


@pytest.mark.parametrize("host", CSP)
def test_a_block_goes_into_every_csp_module(host):
    """As many blocks as there were bottlenecks, as wide as they were; output and gradients are there."""
    native, mixed = (layers(row(name))[2] for name in (host, f"{host}(MLLABlock)"))
    bottlenecks = {found[1] for key in native.state_dict() if (found := re.match(r"((?:.*?\.)?m\.\d+)\.", key))}
    assert len(inside(mixed, EVERY["MLLABlock"].cls)) == len(bottlenecks) > 0
    assert type(mixed) is type(native)
    kept = {key: value.shape for key, value in native.state_dict().items() if not _of_bottleneck(key)}
    assert {key: value.shape for key, value in mixed.state_dict().items() if not _of_bottleneck(key)} == kept
    x = torch.randn(2, 128, 8, 8, requires_grad=True)
    y = mixed(x, torch.randn(2, 3, 512)) if host == "C2fAttn" else mixed(x)
    y.square().sum().backward()
    assert y.shape == (2, 128, 8, 8)
    assert all(p.grad is not None for p in mixed.parameters())


def _of_bottleneck(key: str) -> bool:
    return key.startswith("m.") or ".m." in key


@pytest.mark.parametrize("name", sorted(KEEP_SIZE))
def test_every_block_goes_into_a_csp_module(name):
    layer = layers(row(f"C2f({name})", NEEDS.get(name)))[2]
    assert [type(m) for m in layer.m] == [EVERY[name].cls] * 2
    assert layer(torch.randn(1, 128, 8, 8)).shape == (1, 128, 8, 8)


def test_widths_repeats_and_arguments_of_both():
    layer = layers([-1, 6, "C3k2(MLLABlock)", [256, True, 0.25, {"num_heads": 2, "mlp_ratio": 2}]])[2]
    assert (layer.c, len(layer.m), layer.cv2.conv.in_channels) == (32, 3, 5 * 32)
    assert [(m.norm1.normalized_shape, m.attn.num_heads, m.mlp.fc1.out_features) for m in layer.m] == [
        ((32,), 2, 64)
    ] * 3
    assert (layer.i, layer.f) == (2, -1)
    assert layer.type == "ultralytics.nn.modules.block.C3k2(MLLABlock)"
    assert layer.np == sum(p.numel() for p in layer.parameters())


def test_the_head_is_that_of_the_csp_module():
    """C3k2 says what the class branch of newer heads is made of, whatever is inside."""
    mixed, native = (layers(row(name))[-1] for name in ("C3k2(MLLABlock)", "C3k2"))
    assert {k: v.shape for k, v in mixed.state_dict().items()} == {k: v.shape for k, v in native.state_dict().items()}


@pytest.mark.parametrize("task", ["", "-seg", "-pose", "-obb", "-cls"])
def test_all_five_tasks(task, tmp_path):
    model = YOLO(f"yolo11n{task}.yaml").model.yaml
    text = yaml.safe_dump(
        {key: model[key] for key in model if key in ("nc", "kpt_shape", "scales", "backbone", "head")}
    )
    file = tmp_path / f"yolo11{task}.yaml"
    file.write_text(text.replace("C3k2", "C3k2(MLLAttention)").replace("C2PSA", "C2PSA(MLLABlock)"))
    made = YOLO(file.with_name(f"yolo11n{task}.yaml"))
    assert made.task == YOLO(f"yolo11n{task}.yaml").task
    net = made.model.train()
    loss = _sum(net(torch.rand(2, 3, 64, 64)))
    loss.backward()
    mixers = [module for module in net.modules() if type(module).__name__ in ("MLLAttention", "MLLABlock")]
    assert len(mixers) >= 5
    assert all(p.grad is not None for module in mixers for p in module.parameters())


def _sum(out: Any) -> Tensor:
    if isinstance(out, Tensor):
        return out.float().square().mean()
    values = out.values() if isinstance(out, dict) else out
    found = [_sum(value) for value in values if isinstance(value, Tensor | dict | list | tuple)]
    return torch.stack(found).sum()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """The tiny model with a mixer inside a C2f row."""
    file = tmp_path_factory.mktemp("mixed") / "yolo0-mixed.yaml"
    file.write_text(TINY.replace("[-1, 2, C2PSAMLLA, [32]]", "[-1, 2, C2f(MLLABlock), [32, {num_heads: 2}]]"))
    return file.with_name("yolo0n-mixed.yaml")


def test_it_trains_saves_opens_and_fuses(mixed, settings, tmp_path, python):
    model = YOLO(mixed)
    model.train(**settings, epochs=1, project=str(tmp_path), name="run")
    best = model.trainer.best
    found = YOLO(best)
    assert found.model.yaml["backbone"][4][2] == "C2f(MLLABlock)"
    assert len(inside(found.model, EVERY["MLLABlock"].cls)) == 2
    x = torch.rand(1, 3, 64, 64)
    want = found.model.eval()(x)[0]
    torch.testing.assert_close(found.model.fuse(verbose=False)(x)[0], want, rtol=1e-3, atol=1e-3)
    said = python(
        "import sys; from ultralytics import YOLO; import torch\n"
        "YOLO(sys.argv[1]).predict(torch.rand(1, 3, 64, 64), conf=0.0, verbose=False); print('opened')",
        str(best),
    )
    assert said.splitlines()[-1] == "opened"


@pytest.mark.skipif(OLDEST, reason="8.3.0 with torch >= 2.9 also needs onnxscript")
def test_it_exports(mixed, tmp_path):
    import onnxruntime

    model, x = YOLO(mixed), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        want = model.model.eval()(x)[0]
    model.model.yaml["yaml_file"] = model.model.pt_path = str(tmp_path / "mixed.pt")
    file = model.export(format="onnx", imgsz=64, verbose=False, device="cpu", simplify=False)
    (got,) = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"images": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), want, rtol=1e-3, atol=1e-3)


def test_the_optimiser_knows_the_parameters_inside(settings, tmp_path):
    file = tmp_path / "any.yaml"
    file.write_text(TINY.replace("[-1, 2, C2PSAMLLA, [32]]", "[-1, 2, C2f(MambaLayer), [32]]"))
    model = YOLO(file)
    model.train(**settings, epochs=1, project=str(tmp_path), name="run", val=False)
    rates = [p for name, p in model.trainer.model.named_parameters() if ".m." in name and name.endswith("A_log")]
    assert len(rates) == 2
    (group,) = (g for g in model.trainer.optimizer.param_groups if any(p is rates[0] for p in g["params"]))
    assert {id(p) for p in rates} <= {id(p) for p in group["params"]}
    assert group["weight_decay"] == 0
    assert not any(p is model.trainer.model.model[0].bn.weight for p in group["params"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("C3k2(Unknown)", "'Unknown' is not registered as a block|no block 'Unknown'; did you mean"),
        ("C3k2(MLLABlok)", "no block 'MLLABlok'; did you mean MLLABlock"),
        ("C3k9(MLLABlock)", "Ultralytics has no CSP module 'C3k9'; did you mean .*C3k2"),
        ("Conv(MLLABlock)", "Conv has no bottlenecks of one width, in whose place MLLABlock could go"),
        ("C3TR(MLLABlock)", "C3TR has no bottlenecks of one width"),
        ("C2f(HaloAttention)", r"HaloAttention in a C2f 64 channels wide takes \[block_size, .*\] by name, got \{\}"),
    ],
)
def test_errors_name_the_row(name, said):
    with pytest.raises(RowError, match=rf"tiny.yaml, row 2 \[-1, 4, {name[:3]}.*: .*({said})"):
        layers(row(name))


def test_an_unknown_argument_of_the_block_names_the_row():
    with pytest.raises(RowError, match=r"row 2 .*MLLABlock in a C2f 64 channels wide takes .* got \{'heads': 2\}"):
        layers(row("C2f(MLLABlock)", {"heads": 2}))


def test_in_a_chain():
    layer = layers([-1, 1, "Chain", [[2, "C2f(MLLABlock)", [256]], [1, "MLLAttention", []]]])[2]
    assert [type(m).__name__ for m in layer] == ["C2f", "MLLAttention"]
    assert len(inside(layer, EVERY["MLLABlock"].cls)) == 1


def test_weights_of_the_csp_module_arrive(tmp_path):
    source = YOLO("yolo11n.yaml")
    change = yolomix.edit("yolo11n.yaml").swap("C3k2", "C3k2(MLLABlock)")
    target = YOLO(change.apply(tmp_path / "yolo11n-mixed.yaml"))
    report = yolomix.transfer(source, target)
    assert [name for name in report.left_at_init if not _of_bottleneck(name.split(".", 2)[2])] == []
    want = [name for name in source.model.state_dict() if not _of_bottleneck(name.split(".", 2)[2])]
    copied = set(report.copied)
    assert [name for name in want if name not in copied] == []


# Grafts


def test_a_graft_keeps_the_arguments_and_repeats_of_the_rows():
    change = yolomix.graft("yolo11n.yaml", "C3k2(MLLABlock)", at="C3k2", mode="replace", args={"num_heads": 2})
    before, after = YOLO("yolo11n.yaml").model.yaml, change.graph.model
    count = 0
    for old, new in zip(before["backbone"] + before["head"], after["backbone"] + after["head"], strict=True):
        if old[2] == "C3k2":
            assert new == [*old[:2], "C3k2(MLLABlock)", [*old[3], {"num_heads": 2}]]
            count += 1
        else:
            assert new == old
    assert count == 8


def test_a_name_says_the_same_graft():
    name = "yolo11n+C3k2(MLLABlock)(num_heads=2)@C3k2:replace.yaml"
    change = yolomix.graft("yolo11n.yaml", "C3k2(MLLABlock)", at="C3k2", mode="replace", args={"num_heads": 2})
    swapped = yolomix.edit("yolo11n.yaml").swap("C3k2", "C3k2(MLLABlock)", {"num_heads": 2})
    assert yolomix.edit(name).graph.rows == change.graph.rows == swapped.graph.rows
    assert len(inside(YOLO(name).model, EVERY["MLLABlock"].cls)) == 8


def test_another_csp_module_takes_the_place_of_a_layer():
    """It gets the width before scaling from the row that goes, its own arguments, and repeats that are given."""
    change = yolomix.graft("yolo11n.yaml", "C2f(MLLABlock)", at=10, mode="replace", args=[True, {"num_heads": 2}], n=4)
    assert change.graph.rows[10] == [-1, 4, "C2f(MLLABlock)", [1024, True, {"num_heads": 2}]]
    assert change.plan().layers[10].channels == 256
    again = yolomix.edit(change.graph.model).replace("C2f(VSSBlock)", at=10)
    assert again.graph.rows[10] == [-1, 4, "C2f(VSSBlock)", [1024, True]]


def test_a_checkpoint_keeps_its_weights_in_the_graft(tmp_path):
    source = weights.write(weights.from_yaml("yolo11n.yaml"), tmp_path / "yolo11n.pt")
    done = yolomix.graft(source, "C3k2(MLLABlock)", at="C3k2", mode="replace").apply(tmp_path / "more.pt")
    mixed = weights.read(done.file).model
    copied = set(done.report.copied)
    for name in weights.read(source).state_dict():
        _, index, key = name.split(".", 2)
        assert name in copied or (_of_bottleneck(key) and type(mixed[int(index)]).__name__ == "C3k2")
    assert len(inside(YOLO(done).model, EVERY["MLLABlock"].cls)) == 8


@pytest.mark.parametrize("mode", ["after", "wrap"])
def test_a_graft_behind_a_layer_is_refused_in_words(mode):
    said = r"goes in the place of a C3k2, so it needs mode='replace', in a name ':replace'. .* alone: MLLABlock"
    with pytest.raises(ValueError, match=said):
        yolomix.graft("yolo11n.yaml", "C3k2(MLLABlock)", at="p5", mode=mode)


@pytest.mark.parametrize(
    ("block", "at", "said"),
    [
        ("C3k2(MLLABlok)", "C3k2", "no block 'MLLABlok'; did you mean MLLABlock"),
        ("C2f(MLLABlock)", 12, r"reads one layer, layer 12 \(Concat\) reads \[-1, 6\]"),
        ("C2f(MLLABlock)", 11, "needs to be given its 256 channels .* no value in the row of layer 11"),
    ],
)
def test_grafts_that_do_not_fit_say_why(block, at, said):
    with pytest.raises((ValueError, KeyError), match=said):
        yolomix.graft("yolo11n.yaml", block, at=at, mode="replace").plan()


def test_a_block_is_no_csp_module():
    """A word in the brackets of a block lacks its quotes, and the error points at it."""
    with pytest.raises(ValueError, match=r"needed a number, .* a quoted text or a list, got 'v'"):
        yolomix.edit("yolo11n+VMambaBlock(v0)@p5.yaml")


# Blocks of one's own


def test_a_block_named_with_its_module_in_a_yaml_and_in_a_graft(write):  # noqa: F811
    write("mymixers.py", GATE)
    file = write(
        "any.yaml", TINY.replace("[-1, 2, C2PSAMLLA, [32]]", "[-1, 2, C2f(mymixers.Gate), [32, {ratio: 0.25}]]")
    )
    layer = YOLO(file).model.model[4]
    assert [(type(m).__name__, m.layers[0].out_channels) for m in layer.m] == [("Gate", 2)] * 2
    name = "yolo11n+C3k2(mymixers.Gate)(ratio=0.25)@C3k2:replace.yaml"
    assert [type(m).__name__ for m in YOLO(name).model.model[2].m] == ["Gate"]


def test_what_a_module_lacks_names_the_row(write):  # noqa: F811
    write("mymixers.py", GATE)
    file = write("any.yaml", TINY.replace("[-1, 2, C2PSAMLLA, [32]]", "[-1, 2, C2f(mymixers.Gat), [32]]"))
    with pytest.raises(ValueError, match=r"row 4 .*module mymixers has no class 'Gat'; it has Gate"):
        YOLO(file)


def test_a_dictionary_out_of_nowhere_imports_nothing():
    with pytest.raises(RowError, match=r"row 2 .*nomixers.Gate is not known, .* import=nomixers"):
        layers(row("C2f(nomixers.Gate)"))
