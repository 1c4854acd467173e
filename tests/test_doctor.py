"""The doctor: facts in plain values, and faults with the next step."""

from __future__ import annotations

import json
import os
import tomllib
from types import SimpleNamespace

import pytest

from tests.tiny import ROOT
from yolomix import doctor, hooks

WELL = {
    "versions": dict.fromkeys(doctor.NEEDED, "1.0"),
    "backends": {"ss2d": [{"automatic": True, "refusals": []}]},
    "ultralytics": {"imports": True, "hooks": {"a.b": True}},
    "forced_backend": {"variable": "YOLOMIX_BACKEND", "backend": None},
    "folders": {"sample_dataset": os.path.abspath("not-yet/there")},
}


def test_facts_are_plain_values():
    found = doctor.facts()
    assert json.loads(json.dumps(found)) == found
    assert found["faults"] == []
    assert found["processor"]["vector_bits"] in (128, 256, 512)
    assert found["devices"][0]["name"].startswith(found["processor"]["name"])


def test_every_package_that_yolomix_asks_for_is_looked_at():
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    assert [*doctor.NEEDED] == ["yolomix", *(requirement.partition(">=")[0] for requirement in asked)]


def test_nothing_is_wrong_where_all_is_well():
    assert [*doctor.faults(WELL)] == []


@pytest.mark.parametrize(
    ("part", "facts", "fault"),
    [
        ("versions", {**WELL["versions"], "numba": None}, "not installed: numba: pip install numba"),
        ("ultralytics", {"imports": "no module", "hooks": {}}, "ultralytics does not import: no module"),
        ("ultralytics", {"imports": True, "hooks": {"a.b": False}}, "a.b is not in place"),
        ("forced_backend", {"backend": "foo"}, "YOLOMIX_BACKEND=foo is no backend"),
        (
            "backends",
            {"ss2d": [{"automatic": True, "refusals": ["broken"]}, {"automatic": False, "refusals": []}]},
            "nothing computes ss2d: [['broken'], []]",
        ),
    ],
)
def test_a_fault_is_named(part, facts, fault):
    (found,) = doctor.faults({**WELL, part: facts})
    assert found.startswith(fault)


def test_a_folder_that_cannot_be_written(monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    (found,) = doctor.faults(WELL)
    assert found.startswith("cannot write ")
    assert found.endswith("set YOLOMIX_CACHE to a folder that can be written")


def test_a_hook_that_is_not_in_place():
    assert doctor._in_place(hooks.HOOKS[0])
    assert not doctor._in_place(hooks.Hook("yolomix.doctor", "facts", "", ""))
    assert not doctor._in_place(hooks.Hook("no_such_module", "facts", "", ""))


def test_devices_of_every_kind(monkeypatch):
    monkeypatch.setattr(doctor.torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(doctor.torch.cuda, "get_device_name", lambda i: f"GPU {i}")
    monkeypatch.setattr(doctor.torch.backends, "mps", SimpleNamespace(is_available=lambda: True))
    assert [row["device"] for row in doctor.devices()] == ["cpu", "cuda:0", "mps"]
