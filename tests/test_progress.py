"""What a long job says: a bar on a terminal, elsewhere lines, and nothing that could stop the job."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from yolomix import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Closed(io.StringIO):
    """A pipe whose reader went away; says when it was written to for the second time."""

    def __init__(self) -> None:
        super().__init__()
        self.times, self.twice = 0, threading.Event()

    def write(self, text: str) -> int:
        self.times += 1
        if self.times == 2:
            self.twice.set()
        raise BrokenPipeError


def test_a_line_at_once_and_then_more_while_a_step_takes_long(monkeypatch, capsys):
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    before = threading.active_count()
    with progress.shown("loading") as said:
        assert capsys.readouterr().err.splitlines() == ["   0 s  loading"]
        said(30, 60, "training")
        heard, wait = "", threading.Event()
        while heard.count("training, step 30 of 60\n") < 3:
            wait.wait(0.01)
            heard += capsys.readouterr().err
    assert threading.active_count() == before, "nothing is said after the end"


@pytest.mark.parametrize("columns", ["80", "40"])
def test_a_bar_on_a_terminal_which_is_gone_when_all_is_done(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress.shown("loading") as said:
        said(300, 600, "rendering")
    text = terminal.getvalue()
    assert "rendering" in text
    assert "━" in text
    assert text.endswith("\x1b[2K"), "the line is erased"


def test_a_job_goes_on_where_nobody_reads_what_it_says(monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    monkeypatch.setattr(sys, "stderr", closed := Closed())
    with progress.shown("loading") as said:
        said(1, 2, "rendering")
        assert closed.twice.wait(60)


def test_a_process_without_stderr_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    with progress.shown("loading") as said:
        said(1, 2, "rendering")
    assert capsys.readouterr().out == ""
