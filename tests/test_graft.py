"""Grafts and edits as users write them: plans, files, composition, names in place of files, and every error's text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import ultralytics
import yaml
from torch import nn
from ultralytics.nn import tasks

import yolomix
from yolomix.editing import edit
from yolomix.host import weights

HALO = {"block": "HaloAttention", "args": (2, 1)}


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A yolo11n checkpoint with class names and lively norms."""
    torch.manual_seed(0)
    model = weights.from_yaml("yolo11n.yaml")
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.uniform_(-0.1, 0.1)
    model.names = {i: f"thing {i}" for i in range(80)}
    return weights.write(model, tmp_path_factory.mktemp("stock") / "yolo11n-things.pt")


def raw(model: Any, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    with torch.inference_mode():
        out = model.model.eval()(torch.rand(1, 3, 64, 96))
    while not isinstance(out, torch.Tensor):
        out = out[0]
    return out


def test_plan_says_what_moves_and_what_it_costs() -> None:
    plan = yolomix.graft("yolo11n.yaml", at=["p4", "p5"], **HALO).plan()
    lines = str(plan).splitlines()
    assert lines[0].split() == ["old", "new", "module", "channels", "stride", "parameters"]
    assert lines[8].split() == ["-", "7", "new", "ZeroGate", "HaloAttention", "128", "16", "+263,296"]
    assert lines[9].split() == ["7", "8", "Conv", "256", "32"]
    assert lines[-2] == (
        "yolo11n.yaml: 2 of 26 layers change, +788,992 parameters on 2,624,080; 499 of 499 tensors keep their weights"
    )
    assert plan.to_dict()["steps"][7] == {
        "old": None,
        "new": 7,
        "change": "new",
        "module": "ZeroGate HaloAttention",
        "channels": 128,
        "stride": 16,
        "parameters_added": 263296,
    }
    assert plan.parameters_added == 788992


def test_counts_of_a_plan_are_those_of_the_model() -> None:
    plan = yolomix.graft("yolo11n.yaml", "C2PSAMLLA", "p5", mode="wrap").plan()
    made = yolomix.YOLO("yolo11n+C2PSAMLLA@p5:wrap.yaml").model
    assert plan.parameters + plan.parameters_added == sum(p.numel() for p in made.parameters())
    (changed,) = [step for step in plan.steps if step.change]
    assert (changed.old, changed.new, changed.change) == (10, 10, "wrapped")
    assert changed.module == "C2PSA + ZeroGate C2PSAMLLA"


def test_a_checkpoint_keeps_everything_and_stock_opens_it(stock: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    done = yolomix.graft(stock, at="p5", **HALO).wrap("MLLABlock", "head-inputs").apply(tmp_path / "a.pt")
    assert torch.equal(torch.get_rng_state(), before)
    old, new = ultralytics.YOLO(stock), ultralytics.YOLO(str(done))
    assert torch.equal(raw(old), raw(new))
    assert new.names == old.names
    assert new.task == "detect"
    assert done.report is not None
    assert (len(done.report.copied), done.report.complete) == (499, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-transfer.txt", "a.pt", "a.yaml"]
    text = (tmp_path / "a-transfer.txt").read_text()
    assert "499 of 499 source tensors copied" in text
    assert "left at init: model.11.gate" in text
    again = yolomix.graft(stock, at="p5", **HALO).wrap("MLLABlock", "head-inputs").apply(tmp_path / "b.pt")
    same = zip(new.model.state_dict().values(), ultralytics.YOLO(again.file).model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_without_a_gate_the_block_starts_as_its_paper_does(stock: Path, tmp_path: Path) -> None:
    done = yolomix.graft(stock, at="p5", gate=False, **HALO).apply(tmp_path / "a.pt")
    model = ultralytics.YOLO(done.file)
    assert type(model.model.model[11]).__name__ == "HaloAttention"
    assert not torch.equal(raw(model), raw(ultralytics.YOLO(stock)))
    assert done.report is not None
    assert len(done.report.copied) == 499


def test_the_written_yaml_is_the_model(tmp_path: Path) -> None:
    graft = yolomix.graft("yolo11s.yaml", at="p4", **HALO)
    done = graft.apply(tmp_path / "mine.yaml")
    text = done.yaml.read_text()
    assert "  - [-1, 1, ZeroGate, [HaloAttention, [2, 1]]] # 7-P4/16, 256 channels\n" in text
    assert text.splitlines()[1] == "# yolo11s.yaml, changed by yolomix: haloattention"
    read = yaml.safe_load(text)
    assert next(iter(read["scales"])) == "s"  # the name has no letter, and Ultralytics takes the first
    want = {k: v for k, v in graft.graph.model.items() if k not in ("scale", "yaml_file")}
    assert read == want
    assert tasks.yaml_model_load(done.yaml)["backbone"] == want["backbone"]


def test_insertion_points_are_those_of_the_base_however_many_grafts_came_before() -> None:
    base = "yolo11n.yaml"
    forward = yolomix.graft(base, at=4, **HALO).insert("MLLABlock", 10)
    backward = yolomix.graft(base, "MLLABlock", 10).insert("HaloAttention", 4, args=(2, 1))
    assert forward.graph == backward.graph
    twice = yolomix.graft(base, at="p5", **HALO).insert("MLLABlock", "C2PSA")
    assert [row[3][:1] for row in twice.graph.rows[11:13]] == [["HaloAttention"], ["MLLABlock"]]
    assert yolomix.graft(forward, "MLLABlock", 6).graph == forward.insert("MLLABlock", 6).graph


def test_repeats_scale_with_depth_as_every_row_does() -> None:
    made = yolomix.graft("yolo11n.yaml", "MLLABlock", "p5", n=4)
    assert made.graph.rows[11][:3] == [-1, 4, "ZeroGate"]
    added = made.plan().parameters_added
    assert added == 2 * yolomix.graft("yolo11n.yaml", "MLLABlock", "p5").plan().parameters_added  # depth 0.5


def test_a_grafted_checkpoint_is_a_base_like_any_other(stock: Path, tmp_path: Path) -> None:
    first = yolomix.graft(stock, "MLLABlock", ["p5", 4], mode="wrap").insert("MLLABlock", 6).apply(tmp_path / "a.pt")
    second = yolomix.graft(first.file, at=["p5", "Chain"], mode="wrap", **HALO).apply(tmp_path / "b.pt")
    assert second.report is not None
    assert second.report.complete
    assert torch.equal(raw(ultralytics.YOLO(stock)), raw(ultralytics.YOLO(second.file)))
    back = yolomix.edit(tmp_path / "a.yaml").remove(7)
    rows = back.graph.rows
    assert [len(rows[k][3]) for k in (4, 10)] == [2, 2]
    assert rows[6] == [-1, 2, "C3k2", [512, True]]


def test_removing_what_was_grafted_gives_the_yaml_back(tmp_path: Path) -> None:
    done = yolomix.graft("yolo11n.yaml", at="*", **HALO).apply(tmp_path / "yolo11n-a.yaml")
    rows = yolomix.edit(done.yaml)
    new = [i for i, row in enumerate(rows.graph.rows) if row[2] == "ZeroGate"]
    assert len(new) == 23
    original = tasks.yaml_model_load("yolo11n.yaml")
    back = rows.remove(new)
    assert back.graph.model["backbone"] + back.graph.model["head"] == original["backbone"] + original["head"]
    back.plan()


def test_edits_keep_what_can_be_kept(stock: Path, tmp_path: Path) -> None:
    edit = yolomix.edit(stock).remove(9).swap("C3k2", "XSSBlock", within="neck").repeats(6, 4)
    plan = edit.plan()
    assert [(s.old, s.new, s.change) for s in plan.steps if s.change] == [
        (6, 6, "changed"),
        (9, None, "gone"),
        *((k, k - 1, "changed") for k in (13, 16, 19, 22)),
    ]
    done = edit.apply(tmp_path / "a.pt")
    assert done.report is not None
    assert plan.kept <= len(done.report.copied) < plan.tensors
    assert {t.layer for t in done.report.of("unused")} == {9, 13, 16, 19, 22}
    assert raw(ultralytics.YOLO(done.file)).isfinite().all()
    model = ultralytics.YOLO(done.file).model.model
    assert len(model[6].m) == 2  # 4 repeats at depth 0.5, one before
    assert {type(model[i]).__name__ for i in (12, 15, 18, 21)} == {"XSSBlock"}


def test_a_swap_matches_parts_by_name_and_shape(stock: Path, tmp_path: Path) -> None:
    done = yolomix.edit(stock).swap("C2PSA", "C2PSAMLLA").apply(tmp_path / "a.pt")
    assert done.report is not None
    kept = [t.name for t in done.report.of("copied") if t.layer == 10]
    assert "model.10.cv1.conv.weight" in kept
    native = yolomix.edit("yolo11n.yaml").swap("C3k2", "C2f", args=[512], within="backbone").graph.rows
    assert [row[2:] for row in native[:7] if row[2] == "C2f"] == [["C2f", [512]]] * 3


def test_replace_gives_the_channels_before_scaling() -> None:
    made = yolomix.graft("yolo11n.yaml", "VSSBlock", "C3k2", mode="replace", n=2)
    assert [row for row in made.graph.rows if row[2] == "VSSBlock"] == [
        [-1, 2, "VSSBlock", [c]] for c in (256, 512, 512, 1024, 512, 256, 512, 1024)
    ]
    made.plan()
    same = yolomix.graft("yolo11n.yaml", "MLLABlock", "SPPF", mode="replace", args=[8])
    assert same.graph.rows[9] == [-1, 1, "MLLABlock", [8]]
    same.plan()


@pytest.mark.parametrize(
    "name", ["yolo11n+HaloAttention(2,1)@p5+MLLABlock@p4,p3:wrap.yaml", "yolov8n-seg+MLLABlock*2@neck.yaml"]
)
def test_a_name_means_what_graft_means(name: str) -> None:
    made, model = edit(name), yolomix.YOLO(name)
    rows = tasks.yaml_model_load(name)
    assert rows["backbone"] + rows["head"] == made.graph.rows
    assert model.model.yaml["scale"] == "n"
    assert model.task == ("segment" if "seg" in name else "detect")
    assert raw(model).isfinite().all()


def test_a_name_of_a_checkpoint_is_written_beside_it_once(stock: Path, tmp_path: Path) -> None:
    name = f"{stock}+HaloAttention(2,1)@p5"
    model = ultralytics.YOLO(name)
    file = stock.with_name("yolo11n-things+HaloAttention(2,1)@p5.pt")
    assert Path(model.ckpt_path) == file
    assert torch.equal(raw(model), raw(ultralytics.YOLO(stock)))
    written = file.stat().st_mtime_ns
    assert torch.equal(raw(ultralytics.YOLO(name)), raw(model))
    assert torch.equal(raw(ultralytics.YOLO(str(file))), raw(model))
    assert file.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"block": "HaloAttention", "at": "p5"}, r"HaloAttention cannot be put behind layer 10 \(C2PSA\) with its 256 "
         r"channels: it takes \[block_size, halo_size, .*\], got \[\]"),
        ({"block": "MLLABlock", "at": "p5", "args": (7,)}, r"it takes \[num_heads=4, .*\], got \[7\]: "),
        ({"block": "VSSBlock", "at": "p5", "args": ("x", 1, 2, 3)}, r"it takes \[drop_path=0.0, "),
        ({"block": "MLLABlock", "at": 23}, r"layer 23 \(Detect\) is the head, which stays last"),
        ({"block": "MLLABlock", "at": "p9"}, r"no insertion point 'p9'; did you mean p5"),
        ({"block": "MLLABlock", "at": "p5", "mode": "before"}, "mode is one of after, wrap, replace, got 'before'"),
        ({"block": "MLLABlock", "at": "p5", "n": 0}, "at least 1, got 0"),
        ({"block": "MLLABlock", "at": "p5", "mode": "replace", "gate": True}, "leaves no way around the block"),
        ({"block": "MLLABlock", "at": 3, "mode": "replace"},
         r"layer 3 \(Conv\) gives 64 channels at stride 8 and would give 64 at stride 4 as layer 3 \(MLLABlock\)"),
        ({"block": "MLLABlock", "at": 13, "mode": "replace"}, r"layer 13 \(C3k2\) makes 128 of 384 channels"),
        ({"block": "MLLABlock", "at": 0, "mode": "replace"}, r"layer 0 \(Conv\) makes 16 of the image"),
        ({"block": "MLLABlock", "at": 12, "mode": "replace"}, r"reads one layer, layer 12 \(Concat\) reads \[-1, 6\]"),
        ({"block": "VSSBlock", "at": 11, "mode": "replace"}, r"no value in the row of layer 11 \(nn.Upsample\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_grafted(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        yolomix.graft("yolo11n.yaml", **arguments).plan()


def test_a_text_guided_layer_cannot_be_wrapped() -> None:
    with pytest.raises(ValueError, match=r"layer 12 \(C2fAttn\) reads a text beside its .* and cannot be wrapped"):
        yolomix.graft("yolov8n-world.yaml", "MLLABlock", 12, mode="wrap")


def test_an_unknown_block_or_model_lists_near_ones() -> None:
    with pytest.raises(KeyError, match="no block 'MLABlock'; did you mean MLLABlock"):
        yolomix.graft("yolo11n.yaml", "MLABlock", "p5")
    with pytest.raises(ValueError, match="no block 'C3k9' in yolomix or Ultralytics; did you mean C3k2"):
        yolomix.edit("yolo11n.yaml").swap("C3k2", "C3k9").plan()
    with pytest.raises(FileNotFoundError, match=r"no model file 'yolo11n-mla.yaml' .*yolo11n-mlla"):
        yolomix.edit("yolo11n-mla.yaml")
    with pytest.raises(ValueError, match="repeats are at least 1, got 0; to take a layer out use remove"):
        yolomix.edit("yolo11n.yaml").repeats(6, 0)


def test_a_removal_that_breaks_the_rest_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layer 6 \(C3k2\) gives 128 channels at stride 16 and would give 128"):
        yolomix.edit("yolo11n.yaml").remove(5).plan()


def test_an_error_in_a_name_points_at_its_graft() -> None:
    with pytest.raises(ValueError, match="no insertion point 'p9'") as caught:
        yolomix.YOLO("yolo11n+MLLABlock@p4+MLLABlock@p9.yaml")
    shown, pointer = str(caught.value).splitlines()[-2:]
    assert shown[pointer.index("^") :].startswith("MLLABlock@p9")


def test_a_block_that_is_the_identity_needs_no_gate() -> None:
    from yolomix.nn.registry import BLOCKS, register

    class Still(nn.Identity):
        def __init__(self, c: int) -> None:
            super().__init__()

    register(Still)
    try:
        with pytest.raises(ValueError, match="Still starts as the identity, so a gate before it would never open"):
            yolomix.graft("yolo11n.yaml", "Still", "p5")
        yolomix.graft("yolo11n.yaml", "Still", "p5", gate=False).plan()
    finally:
        del BLOCKS["Still"]


def test_files_are_not_overwritten_unasked(stock: Path, tmp_path: Path, monkeypatch) -> None:
    graft = yolomix.graft(stock, at="p5", **HALO)
    with pytest.raises(FileExistsError, match=r"yolo11n-things.pt, which stays as it is; give another file"):
        graft.apply(stock)
    with pytest.raises(ValueError, match=r"an edit of .*yolo11n-things.pt is saved as .pt, got 'a.onnx'"):
        graft.apply("a.onnx")
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("# somebody's own file\n")
    with pytest.raises(FileExistsError, match=r"mine.yaml exists and is not as yolomix wrote it, so it stays"):
        graft.apply("mine.pt")
    assert Path("mine.yaml").read_text() == "# somebody's own file\n"
    assert not Path("mine.pt").exists()
    assert graft.apply("again.pt").file == graft.apply("again.pt").file  # what was written here may be written anew
    named = yolomix.graft("yolo11n.yaml", at="p5", **HALO)
    assert named.apply().file == Path("yolo11n-haloattention.yaml")
    with pytest.raises(FileExistsError, match=r"yolo11n-haloattention.yaml exists"):
        named.apply()
    with pytest.raises(FileExistsError, match=r"yolo11n-haloattention.yaml, which stays as it is; give another file"):
        yolomix.graft("yolo11n-haloattention.yaml", at="p4", **HALO).apply("yolo11n-haloattention.yaml")
    with pytest.raises(ValueError, match=r"saved as .yaml, got 'b.pt'; weights come from a base that is a .pt file"):
        named.apply("b.pt")


def test_arguments_by_name_in_python() -> None:
    base = yolomix.edit("yolo11n.yaml")
    alone, last = (base.insert("VSSBlock", "p5", args=args) for args in ({"mlp": "plain"}, [{"mlp": "plain"}]))
    assert alone.graph == last.graph
    swapped = base.swap("C2PSA", "C2PSAMLLA", {"e": 0.25})
    assert swapped.graph.rows[10][3][-1] == {"e": 0.25}
    assert "C2PSAMLLA" in str(swapped.plan())
