"""Ratios against named baselines: `python -m benchmarks.run`; figures with machine and date in RESULTS.md."""
