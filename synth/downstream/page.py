"""The page of a downstream task: learning curves, the table behind them, what was asked against what is seen."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from matplotlib import pyplot
from matplotlib.figure import Figure as Drawing

from echofm.intervals import Estimate
from echofm.report.blocks import Block, Panels, Picture, Prose, Table
from echofm.report.page import Page
from synth.downstream.run import SYNTHETIC, Downstream, Result


def page(found: Downstream, *, simulated: bool) -> Page:
    """simulated: says that the real patients are the phantom's."""
    lead = (
        f"{found.test_patients} test patients, whom no training and no choice has seen; up to {found.real_patients} "
        f"real training patients, {found.synthetic_frames} synthetic frames. Mean over seeds; intervals are 95 %, over "
        "test patients."
    )
    report = Page(f"Downstream: {found.task}" + (" (phantom patients)" if simulated else ""), lead)
    figures = list(dict.fromkeys(each.figure for each in found.results))
    pictures = [
        Picture(functools.partial(_curves, found, figure), alt=f"{figure} by share of real patients", caption=figure)
        for figure in figures
    ]
    report.add("By share of real patients", Panels(pictures), _table(found.results, gain=True))
    blocks: list[Block] = [_table(found.control, gain=False)]
    text = (
        "The network of most real patients, on synthetic frames: against what was asked for, and against what another "
        "was asked for. Its own figure on real test frames, above, is the ceiling."
    )
    return report.add("Do synthetic frames show what was asked?", Prose(text), *blocks)


def _table(results: Sequence[Result], *, gain: bool) -> Table:
    columns = ["trained on", "figure", "found", "by seed", *(["gain by synthetic"] if gain else [])]
    rows = [
        [
            each.arm,
            each.figure,
            shown(each.found),
            ", ".join(f"{value:.3f}" for value in each.seeds),
            *([] if not gain else ["" if each.gain is None else shown(each.gain, sign="+")]),
        ]
        for each in results
    ]
    return Table(columns=columns, rows=rows)


def shown(found: Estimate, *, sign: str = "") -> str:
    """A figure with its interval."""
    return f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


def _curves(found: Downstream, figure: str) -> Drawing:
    drawing, axes = pyplot.subplots(figsize=(4.2, 3.2))
    own = [each for each in found.results if each.figure == figure]
    real = [each for each in own if each.arm.startswith(tuple("0123456789"))]
    for end, label in (("patients", "real alone"), ("synthetic", "and synthetic")):
        points = [(float(each.arm.split(" %")[0]), each.found) for each in real if each.arm.endswith(end)]
        shares, values = [share for share, _ in points], [value for _, value in points]
        low = [value.value - value.low for value in values]
        high = [value.high - value.value for value in values]
        axes.errorbar(shares, [value.value for value in values], [low, high], marker="o", capsize=3, label=label)
    alone = next(each.found.value for each in own if each.arm == SYNTHETIC)
    axes.axhline(alone, linestyle=":", color="grey", label=SYNTHETIC)
    axes.set(xscale="log", xlabel="% of real patients", ylabel=figure)
    axes.legend()
    return drawing
