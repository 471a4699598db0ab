"""The report of a probe: one HTML page, and the same findings as report.json."""

from probe.report.assemble import page, write

__all__ = ["page", "write"]
