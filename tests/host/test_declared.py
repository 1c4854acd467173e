"""What is read in Ultralytics' files is what it says when it is imported, and importing it is not needed."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from ultralytics.engine import exporter

from yolomix.host import declared, entry


def test_arguments_are_those_of_ultralytics() -> None:
    found = declared.arguments()
    assert [*found] == [*entry.ARGUMENTS]
    for name, value in entry.ARGUMENTS.items():
        assert yaml.safe_load(found[name].default) in ([None, "None"] if value is None else [value]), name
    assert "epochs" in found["epochs"].meaning


def test_export_formats_are_those_of_ultralytics() -> None:
    table = exporter.export_formats()
    known = table["Argument"]
    assert declared.export_formats() == [*known][1:]  # the first is PyTorch's own


def test_nothing_is_imported_for_it() -> None:
    code = (
        "import sys; from yolomix.host import declared; declared.arguments(), declared.export_formats(); "
        "sys.exit(bool({'ultralytics', 'torch', 'yaml'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ultralytics_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="Ultralytics is not installed: pip install ultralytics"):
        declared.arguments()
