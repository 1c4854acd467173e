"""The listings: models and blocks, for people and for programs."""

from __future__ import annotations

import json

from yolomix.cli import DONE, listings, main


def test_a_model_file_describes_itself():
    text = (
        "# What it is\n#\n# Source: A paper, arXiv:1.\nscales:\n  n: [1] # 1,234 parameters\n  x: [3] # 5 parameters\n"
    )
    assert listings.described("a", text) == {
        "model": "a.yaml",
        "scales": {"n": 1234, "x": 5},
        "about": "What it is",
        "source": "A paper, arXiv:1",
    }
    assert listings.described("b", "nc: 1\n") == {"model": "b.yaml", "scales": {}, "about": "", "source": ""}


def test_models_lists_every_scale(capsys):
    from yolomix import models

    assert main(["models", "--json"]) == DONE
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert [*rows] == [f"{name}.yaml" for name in models.names()]
    assert rows["yolo11-c2psa-mlla.yaml"]["scales"]["n"] == 2_607_056
    assert all(row["scales"] and row["about"] and "arXiv:" in row["source"] for row in rows.values())
    assert main(["models"]) == DONE
    assert "n 2.61 M" in capsys.readouterr().out


def test_blocks_lists_arguments_rule_and_source(capsys):
    assert main(["blocks", "--json"]) == DONE
    rows = {row["block"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["C2PSAMLLA"]["arguments"] == "[c2, e=0.5, num_heads=4]"
    assert rows["C2PSAMLLA"]["channels"] == "(c1, c2, n, ...)"
    assert "arXiv:2405.16605" in rows["MLLAttention"]["source"]
    assert main(["blocks"]) == DONE
    assert "HaloAttention" in capsys.readouterr().out
