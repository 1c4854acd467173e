"""No network: decided once, quickly, and told to Ultralytics; what the user says stays."""

from __future__ import annotations

import os
import time

import pytest

from yolomix.host import offline


@pytest.fixture
def no_choice(monkeypatch):
    """Neither CI nor the user says anything about the network."""
    for name in ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "CI"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_ci_is_offline(no_choice, monkeypatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(offline, "reachable", lambda: pytest.fail("CI needs no lookup"))
    assert offline.prepare()
    assert (os.environ["YOLO_OFFLINE"], os.environ["YOLO_AUTOINSTALL"]) == ("true", "false")


def test_what_the_user_says_stays(no_choice, monkeypatch):
    monkeypatch.setenv("YOLO_OFFLINE", "false")
    monkeypatch.setenv("CI", "true")
    assert not offline.prepare()
    assert os.environ["YOLO_OFFLINE"] == "false"
    assert "YOLO_AUTOINSTALL" not in os.environ


def test_a_network_changes_nothing(no_choice, monkeypatch):
    monkeypatch.setattr(offline, "_addresses", lambda name: [name])
    assert not offline.prepare()
    assert not {"YOLO_OFFLINE", "YOLO_AUTOINSTALL"} & {*os.environ}


def test_a_lookup_that_hangs_is_no_network(no_choice, monkeypatch):
    monkeypatch.setattr(offline, "PATIENCE", 0.05)
    monkeypatch.setattr(offline, "_addresses", lambda name: time.sleep(3) or [])
    assert offline.prepare()


def test_offline_asks_no_server_for_a_font(no_choice, monkeypatch):
    import requests
    from ultralytics.utils import downloads

    monkeypatch.setattr(offline, "reachable", lambda: False)
    monkeypatch.setattr(requests, "head", lambda *a, **k: pytest.fail("asked a server"))
    monkeypatch.setattr(downloads, "is_url", getattr(downloads.is_url, "native", downloads.is_url))
    offline.prepare()
    assert not downloads.is_url("https://example.com/Arial.ttf", check=True)
    assert downloads.is_url("https://example.com/Arial.ttf")
