"""What a study says of its finished runs: from records alone to verdicts, tables and one HTML page."""

from yolomix.studying.reporting.analysis import analyse
from yolomix.studying.reporting.result import Analysis
from yolomix.studying.reporting.writing import Report, report

__all__ = ["Analysis", "Report", "analyse", "report"]
