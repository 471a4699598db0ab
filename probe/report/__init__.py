"""The report of a probe: one HTML page, and the same findings as report.json."""

from probe.report.page import page, write_report

__all__ = ["page", "write_report"]
