"""A small sample dataset, and a model that ``yolomix train`` trained on it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import TINY
from yolomix import data
from yolomix.cli import DONE, main


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small sample dataset in the cache, for every test here."""
    patch, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("cli")
    for split in data.SPLITS:
        patch.setitem(data.SPLITS, split, 4)
    patch.setenv("YOLOMIX_CACHE", str(folder / "cache"))
    yield folder
    patch.undo()


@pytest.fixture(scope="package")
def trained(folder: Path) -> tuple[dict[str, Any], str]:
    """What ``yolomix train ... --json`` wrote to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    where = (f"project={folder}", "name=train")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["train", "model=yolo11n-mlla.yaml", "data=sample", "epochs=1", "batch=4", *where, *TINY, "--json"])
    assert code == DONE, err.getvalue()
    return json.loads(out.getvalue()), err.getvalue()
