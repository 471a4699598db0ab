"""Alternating timing in one process, and the table that is printed.

A shared machine is slow in spells. Every round times the baseline and then each variant, a ratio is taken within its
round, and the median of the ratios is reported with the smallest and the largest.
"""

from __future__ import annotations

import datetime
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from echofm.progress import progress_bar

Clock = Callable[[], float]
TABLE_HEAD = "| what | baseline | EchoFM | ratio: median (low-high) | target | note |\n|---|---|---|---|---|---|"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the results: medians in `unit`; ratios > 1 where the variant is better; met None: no promise."""

    name: str
    unit: str
    baseline: float
    variant: float
    ratios: Sequence[float]
    target: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    def markdown(self) -> str:
        spread = f"{self.ratio:.2f} ({min(self.ratios):.2f}-{max(self.ratios):.2f})"
        verdict = "" if self.met is None else f"{self.target}: {'met' if self.met else 'missed'}"
        figures = f"{self.baseline:.4g} {self.unit} | {self.variant:.4g} {self.unit}"
        return f"| {self.name} | {figures} | {spread} | {verdict} | {self.note} |"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A callable to be set against the baseline; `clips` per call, so that ratios are per clip."""

    name: str
    run: Callable[[], object]
    clips: int
    target_ratio: float | None = None
    note: str = ""


def alternate(
    baseline: Variant,
    variants: Sequence[Variant],
    *,
    rounds: int,
    clock: Clock = time.perf_counter,
    synchronize: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Seconds per clip of each variant against the baseline: one untimed round, then `rounds` timed ones."""
    everyone = [baseline, *variants]
    seconds: Mapping[str, list[float]] = {variant.name: [] for variant in everyone}
    with progress_bar(baseline.name, total=(rounds + 1) * len(everyone)) as bar:
        for round_index in range(rounds + 1):
            for variant in everyone:
                synchronize()
                start = clock()
                variant.run()
                synchronize()
                per_clip = (clock() - start) / variant.clips
                if round_index > 0:
                    seconds[variant.name].append(per_clip)
                bar.advance(note=f"{variant.name} {per_clip:.3g} s/clip")
    base_s = seconds[baseline.name]
    return [_row(variant, base_s, seconds[variant.name]) for variant in variants]


def _row(variant: Variant, base_s: Sequence[float], own_s: Sequence[float]) -> Row:
    ratios = [base / own for base, own in zip(base_s, own_s, strict=True)]
    target = variant.target_ratio
    return Row(
        name=variant.name,
        unit="s/clip",
        baseline=statistics.median(base_s),
        variant=statistics.median(own_s),
        ratios=ratios,
        target="" if target is None else f"ratio >= {target:g}",
        met=None if target is None else statistics.median(ratios) >= target,
        note=variant.note,
    )


def header() -> str:
    """Date, machine, versions and threads: without them a ratio means nothing."""
    lines = [
        f"date {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        f"CPU {cpu_name()}",
        f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads",
    ]
    if torch.cuda.is_available():
        lines.append(f"GPU {torch.cuda.get_device_name()}")
    return "\n".join(lines)


def cpu_name() -> str:
    """Model name and the matrix extensions that decide what bf16 is worth."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    fields = dict(line.partition(":")[::2] for line in info.read_text(encoding="utf-8").splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    matrix = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in named.get("flags", "").split()]
    cores = torch.multiprocessing.cpu_count()
    return f"{named.get('model name', platform.machine())}, {cores} cores, {' '.join(matrix) or 'no AVX-512'}"
