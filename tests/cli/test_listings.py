"""The listings: models and blocks, for people, for pipes and for programs; and the page about a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from yolomix import models
from yolomix.cli import DONE, FAILED, main
from yolomix.host import names
from yolomix.host.names import Kind
from yolomix.nn.registry import BLOCKS


@pytest.fixture
def terminal(monkeypatch, capsys):
    """The lines that a command shows in a terminal of some columns."""

    def lines(columns: int, *words: str) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout.isatty", lambda: True)
            assert main([*words]) == DONE
        return capsys.readouterr().out.splitlines()

    return lines


def test_models_are_a_line_each_in_80_columns(terminal):
    lines = terminal(80, "models")
    head, listed, hint = lines[0], lines[1 : lines.index("")], lines[lines.index("") + 1 :]
    assert [line.split()[0] for line in listed] == [
        model.typed(next(iter(model.parameters))) for model in models.zoo().values()
    ]
    assert "yolo11n-mlla.yaml          detect    n 2.8  s 10  m 21  l 27  x 60" in listed
    assert head.split()[:2] == ["model", "task"]
    assert "`yolomix models NAME`" in " ".join(hint)
    assert max(map(len, lines)) <= 80


def test_blocks_are_a_line_each_in_80_columns(terminal, monkeypatch):
    for name in [name for name, block in BLOCKS.items() if not block.is_ours]:  # what other tests registered
        monkeypatch.delitem(BLOCKS, name)
    lines = terminal(80, "blocks")
    listed = lines[1 : lines.index("")]
    assert "HaloAttention    Blocked local self-attention on a feature map of any size" in listed
    assert [line.split()[0] for line in listed] == sorted(BLOCKS)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("verb", ["models", "blocks"])
def test_a_narrow_terminal_loses_nothing(verb, terminal):
    wide, narrow = terminal(200, verb), terminal(40, verb)
    assert " ".join(" ".join(narrow).split()) == " ".join(" ".join(wide).split())
    assert max(map(len, narrow)) <= 40


def test_piped_models_are_a_line_for_everything_that_can_be_typed(capsys):
    assert main(["models"]) == DONE
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert ["yolov8d-vim.yaml", "detect", "12757344"] in rows
    assert len(rows) == sum(len(model.parameters) for model in models.zoo().values())
    for name, task, parameters in rows:
        found = names.resolve(name)
        model = models.zoo()[found.file.stem]
        assert (found.kind, model.task, model.parameters[found.scale]) == (Kind.PACKAGED, task, int(parameters))


def test_piped_blocks_have_their_arguments_channels_source_and_sentence(capsys):
    assert main(["blocks"]) == DONE
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()}
    assert [*rows] == sorted(BLOCKS)
    assert rows["C2PSAMLLA"] == [
        "[c2, e=0.5, num_heads=4]",
        "(c1, c2, n, ...)",
        "Demystify Mamba in Vision: A Linear Attention Perspective, arXiv:2405.16605",
        "Ultralytics' `C2PSA` with MLLA's attention.",
    ]


def test_models_for_programs(capsys):
    assert main(["models", "--json"]) == DONE
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert [*rows] == [f"{name}.yaml" for name in models.names()]
    assert rows["yolo11-c2psa-mlla.yaml"]["scales"]["n"] == 2_607_056
    assert all(row["scales"] and row["about"] and "arXiv:" in row["source"] for row in rows.values())
    assert main(["models", "yolo11x-mlla", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out) == rows["yolo11-mlla.yaml"]


def test_blocks_for_programs(capsys):
    assert main(["blocks", "--json"]) == DONE
    rows = {row["block"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["C2PSAMLLA"]["arguments"] == "[c2, e=0.5, num_heads=4]"
    assert rows["C2PSAMLLA"]["channels"] == "(c1, c2, n, ...)"
    assert "arXiv:2405.16605" in rows["MLLAttention"]["source"]
    assert main(["blocks", "C2PSAMLLA", "--json"]) == DONE
    assert rows["C2PSAMLLA"].items() <= json.loads(capsys.readouterr().out).items()


@pytest.mark.parametrize("name", ["yolov8-vim", "yolov8-vim.yaml", "yolov8d-vim", "yolov8x-vim.yaml"])
def test_the_page_about_a_model(name, terminal):
    lines = terminal(80, "models", name)
    told = " ".join(" ".join(lines).split())
    model = models.zoo()["yolov8-vim"]
    for text in (model.about, model.how, model.source, model.differs):
        assert " ".join(text.split()) in told
    assert "yolov8d-vim.yaml                  12,757,344" in lines
    assert lines[-1] == "  yolomix train model=yolov8n-vim.yaml data=sample epochs=20 imgsz=320"
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("yolo11n-mla.yaml", "no packaged model 'yolo11n-mla.yaml'; did you mean yolo11n-mlla, "),
        ("mamba-yolo-x", "did you mean mamba-yolo-t"),
        ("zzz.yaml", "no packaged model 'zzz.yaml'; `yolomix models` lists them"),
    ],
)
def test_a_model_that_is_none(name, text, capsys):
    assert main(["models", name]) == FAILED
    out, err = capsys.readouterr()
    assert (out, text in err) == ("", True)


def test_models_import_nothing_heavy():
    code = (
        "import sys; from yolomix.cli import main; main(['models']); main(['models', 'yolo11-mlla']); "
        "sys.exit(bool({'torch', 'ultralytics', 'rich', 'numba', 'cv2', 'yaml', 'docstring_parser'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_an_encoding_without_our_letters_gets_escapes():
    words = [sys.executable, "-m", "yolomix", "blocks", "VSSBlock"]
    done = subprocess.run(words, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=True)
    assert rb"rank R of the low-rank \u0394 projection" in done.stdout
