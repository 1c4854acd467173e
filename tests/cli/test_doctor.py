"""The verb doctor: its tables, its sentences, and failure where something is wrong."""

from __future__ import annotations

import json

from yolomix.cli import DONE, FAILED, main
from yolomix.records import Processor


def test_doctor_finds_nothing_wrong_here(capsys):
    assert main(["doctor", "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert found["faults"] == []
    assert found["versions"]["torch"]
    assert all(found["ultralytics"]["hooks"].values())
    halo = {row["backend"]: row for row in found["backends"]["halo_attention"]}
    assert halo["eager"]["refusals"] == []
    assert not halo["reference"]["automatic"]
    assert found["network"]["offline"] is True
    assert main(["doctor"]) == DONE
    text, progress = capsys.readouterr()
    assert progress.startswith("   0 s  loading PyTorch and Ultralytics\n")
    assert "Ultralytics sets" in text
    assert "offline, nothing is looked up" in text


def test_doctor_says_what_is_wrong(monkeypatch, capsys):
    from yolomix import doctor

    monkeypatch.setattr(doctor, "NEEDED", (*doctor.NEEDED, "no-such-package"))
    monkeypatch.setattr("yolomix.ops.status.refusals_here", lambda row: ["broken here"])
    assert main(["doctor", "--json"]) == FAILED
    out, err = capsys.readouterr()
    assert "not installed: no-such-package: pip install no-such-package" in json.loads(out)["faults"]
    assert "nothing computes ss2d" in err


def test_doctor_knows_a_backend_that_is_none(monkeypatch, capsys):
    monkeypatch.setenv("YOLOMIX_BACKEND", "foo")
    assert main(["doctor"]) == FAILED
    assert "YOLOMIX_BACKEND=foo is no backend, and every model fails: choose from auto" in capsys.readouterr().err
    monkeypatch.setenv("YOLOMIX_BACKEND", "eager")
    assert main(["doctor"]) == DONE
    assert "eager wherever an operator has it, by YOLOMIX_BACKEND" in capsys.readouterr().out


def test_doctor_says_which_processor_a_number_is_from(monkeypatch, capsys):
    processor = Processor("AMD EPYC", "znver4", "x86_64", 2, ("avx2", "avx512f"), "AVX-512", "AVX2")
    monkeypatch.setattr(Processor, "here", lambda: processor)
    assert main(["doctor"]) == DONE
    said = "processor AMD EPYC (znver4, x86_64); CPU kernels run AVX-512 (512 bits), PyTorch AVX2; flags avx2 avx512f"
    assert said in " ".join(capsys.readouterr().out.split())
