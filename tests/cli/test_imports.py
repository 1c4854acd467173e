"""Blocks of one's own from the command line: ``module.Class`` and ``import=``, and what workers are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.brought import GATE, Write, write  # noqa: F401
from tests.tiny import TINY
from yolomix.cli import DONE, FAILED, USAGE, main, request, verbs
from yolomix.hooks import ddp
from yolomix.nn.registry import BLOCKS


def test_import_is_good_with_every_verb_as_often_as_wanted():
    asked = request.read(["graft", "import=a", "model=m.pt", "import=b.c", "--json"], verbs.VERBS)
    assert (asked.imports, asked.words, asked.json) == (["a", "b.c"], ["model=m.pt"], True)
    assert request.read(["import=a", "segment", "train", "model=a.yaml"], verbs.VERBS).words == [
        "segment",
        "model=a.yaml",
    ]
    with pytest.raises(request.UsageError, match="import needs a module, import=myblocks"):
        request.read(["train", "import="], verbs.VERBS)


@pytest.mark.parametrize(
    "words", [["block=yx_cli.Gate"], ["import=yx_cli", "block=Gate"], ["import=yx_cli", "block=Other"]]
)
def test_a_graft_from_the_command_line(words, write: Write, capsys):  # noqa: F811
    write("yx_cli.py", f"import yolomix\n{GATE}\nyolomix.register(Gate, name='Other', rule='c')\n")
    assert main(["graft", "model=yolov8n.yaml", *words, "at=p5", "save=a.yaml", "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert [step["module"] for step in found["steps"] if step["change"]] == [f"ZeroGate {words[-1].partition('=')[2]}"]
    text = Path("a.yaml").read_text()
    assert ("imports: [yx_cli]" in text) == (len(words) == 2)


def test_a_graft_named_in_the_model(write: Write, capsys):  # noqa: F811
    write("yx_cli.py", GATE)
    assert main(["graft", "model=yolov8n+yx_cli.Gate(0.25)@p5.yaml", "plan=true"]) == DONE
    assert "ZeroGate yx_cli.Gate" in capsys.readouterr().out


def test_training_from_a_row_with_a_module(write: Write, settings, tmp_path, capsys):  # noqa: F811
    write("yx_cli.py", GATE)
    write("yolo0-own.yaml", TINY.replace("HaloAttention, [2, 1, 8, 2]", "yx_cli.Gate, [0.25]"))
    words = [f"{key}={value}" for key, value in settings.items()]
    assert main(["train", "model=yolo0n-own.yaml", *words, "epochs=1", f"project={tmp_path}", "--json"]) == DONE
    weights = json.loads(capsys.readouterr().out)["weights"]
    assert main(["val", f"model={weights}", *words, f"project={tmp_path}"]) == DONE


def test_blocks_lists_those_that_were_imported(write: Write, capsys):  # noqa: F811
    write("yx_cli.py", f"import yolomix\n{GATE}\nyolomix.register(Gate, name='Listed', rule='c')\n")
    assert main(["blocks", "import=yx_cli", "--json"]) == DONE
    row = next(row for row in json.loads(capsys.readouterr().out) if row["block"] == "Listed")
    assert (row["channels"], row["arguments"], row["class"]) == ("(c, ...)", "[ratio=0.5]", "yx_cli.Gate")


FAULTS = {
    "module": (["import=no_such_module"], FAILED, "no module 'no_such_module' in the working folder ("),
    "fails": (["import=yx_fails"], FAILED, "yx_fails fails while it is imported: ZeroDivisionError: division by zero"),
    "class": (["block=yx_cli.Gat"], FAILED, "module yx_cli has no class 'Gat'; it has Gate"),
    "rule": (["block=yx_odd.Odd"], FAILED, 'Say it where the block is registered: register(Odd, rule="c")'),
    "nothing": (["import="], USAGE, "import needs a module, import=myblocks"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_cannot_be_imported_is_one_message(case, write: Write, capsys):  # noqa: F811
    write("yx_cli.py", GATE)
    write("yx_fails.py", "1 / 0")
    write("yx_odd.py", GATE.replace("Gate", "Odd").replace("c, ratio", "planes, ratio"))
    words, code, text = FAULTS[case]
    assert main(["graft", "model=yolov8n.yaml", *words, "at=p5", "plan=true"]) == code
    out, err = capsys.readouterr()
    assert (out, text in err) == ("", True)


def test_an_unknown_block_in_a_row_is_told_what_to_type(write: Write, capsys):  # noqa: F811
    write("yolo0-own.yaml", TINY.replace("HaloAttention, [2, 1, 8, 2]", "Gatter, [0.25]"))
    assert main(["edit", "model=yolo0n-own.yaml", "remove=2", "plan=true"]) == FAILED
    assert "is said with its module, myblocks.Gatter, or its module is imported before" in capsys.readouterr().err


def test_workers_import_what_the_command_line_named(write: Write, tmp_path):  # noqa: F811
    write("yx_cli.py", f"import yolomix\n{GATE}\nyolomix.register(Gate, name='Other', rule='c')\n")
    script = tmp_path / "script.py"
    script.write_text('if __name__ == "__main__":\n    train()\n')
    assert main(["blocks", "import=yx_cli"]) == DONE
    BLOCKS["Told"] = BLOCKS["Other"].__class__(
        "Told", *[getattr(BLOCKS["Other"], x) for x in ("cls", "rule")], "", "__main__"
    )
    ddp.generate_ddp_file(lambda trainer: str(script), None)
    text = script.read_text()
    compile(text, "script", "exec")
    assert "    import yx_cli\n" in text
    assert "    from yolomix.nn import origins; origins.recall(*('Told', 'yx_cli', 'Gate', 'c'))\n" in text
