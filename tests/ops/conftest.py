"""The summary says how many checks need a GPU that is not here."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum("GPU check did not run" in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} GPU checks did not run")
