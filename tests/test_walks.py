"""How far a request walks: the files of ours that one call enters, apart from those that build modules."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ultralytics.nn import tasks

import yolomix
from yolomix import graft
from yolomix.host.names import resolve

ROOT = Path(yolomix.__file__).parent
BUILD = ("_call",)  # our wrapper, through which Ultralytics builds layers


def entered(call: Callable[[], object], build: tuple[str, ...] = ()) -> list[str]:
    """Files of the package, in the order in which a call first enters them.

    Args:
        call: what is followed.
        build: functions that are not followed inside, because they build layers: that is the work, not the way to it.
    """
    files: dict[str, None] = {}
    building = 0

    def watch(frame, event, arg):
        nonlocal building
        name = frame.f_code.co_name
        if event == "call":
            building += name in build
            file = Path(frame.f_code.co_filename)
            if not building and file.is_relative_to(ROOT):
                files.setdefault(file.relative_to(ROOT).as_posix())
        elif event == "return":
            building -= name in build

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(files)


@pytest.mark.parametrize("name", ["yolo11n-mlla.yaml", "mamba-yolo-t.yaml", "yolo11n.yaml"])
def test_a_model_name_visits_at_most_three_files(name):
    tasks.yaml_model_load(name)  # files are imported on first use, which is no walk
    assert len(entered(lambda: tasks.yaml_model_load(name))) <= 3
    assert entered(lambda: resolve(name)) == ["host/names.py"]


def test_a_graft_request_visits_at_most_six_files():
    def request():
        return graft("yolo11n.yaml", "HaloAttention", at="p5", args=[2, 1]).plan()

    request()
    walk = [file for file in entered(request, BUILD) if not file.startswith(("nn/", "ops/"))]
    assert len(walk) <= 6, walk
