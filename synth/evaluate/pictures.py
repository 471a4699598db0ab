"""The card's figures: distances above the real ones, asked against read, what synthetic clips add to few real ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import PercentFormatter

from echofm.intervals import Estimate
from synth.evaluate.card import Figure, SetCard
from synth.evaluate.fidelity import ABOVE
from synth.evaluate.utility import BESIDE, WITHOUT

_WIDTH, _LEAST_WIDTH = 2.7, 5.4


def above(each: SetCard) -> list[Figure]:
    """By how much each kernel distance of a set passes the real one."""
    return [figure for figure in each.panels["fidelity"].figures if figure.name.startswith(ABOVE)]


def excess(sets: Sequence[SetCard]) -> Drawing:
    """Kernel distance above the real training set's: a row a space, a colour a set."""
    spaces = list(dict.fromkeys(one.name.removeprefix(f"{ABOVE}, ") for each in sets for one in above(each)))
    rows = len(spaces) * (1 + len(sets))
    figure = Drawing(figsize=(_LEAST_WIDTH, 1.0 + 0.14 * rows), layout="constrained")
    axes = figure.subplots()
    for number, each in enumerate(sets):
        found = {one.name.removeprefix(f"{ABOVE}, "): one.found for one in above(each)}
        place = [spaces.index(space) + (number + 1) / (len(sets) + 1) - 0.5 for space in found]
        # Signed cube root: distances of different spaces span orders of magnitude.
        low, value, high = (np.cbrt([getattr(one, end) for one in found.values()]) for end in ("low", "value", "high"))
        axes.hlines(place, low, high, lw=2, color=f"C{number}")
        axes.plot(value, place, "o", ms=4, color=f"C{number}", label=each.name)
    axes.axvline(0, lw=0.8, color="grey")
    axes.set_yticks(range(len(spaces)), spaces)
    axes.invert_yaxis()
    axes.set_xlabel("above the real one (cube root)")
    if len(sets) > 1:
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def scatters(sets: Sequence[SetCard], label: str) -> Drawing:
    """What was asked for against what is read, a frame a set; the line is agreement."""
    points = [each.panels["control"].points.get(label, []) for each in sets]
    figure, frames = _frames(len(sets), sharey=True)
    for axes, each, pairs in zip(frames, sets, points):
        axes.set_title(each.name)
        axes.set_xlabel(f"{label}, asked")
        if pairs:
            asked, read = zip(*pairs)
            both = (min(asked), max(asked))
            axes.plot(both, both, lw=0.8, color="grey")
            axes.plot(asked, read, "o", ms=3, alpha=0.6)
    frames[0].set_ylabel("read")
    return figure


def learning(sets: Sequence[SetCard]) -> Drawing:
    """R2 on real held-out patients against the part of the real training patients, with synthetic clips and without."""
    figure, frames = _frames(len(sets), sharey=True)
    for axes, each in zip(frames, sets):
        axes.set_title(each.name)
        axes.set_xlabel("part of the real patients")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        curve = learned(each)
        for name in (WITHOUT, BESIDE):
            ends = [found if name == BESIDE else beside for _, found, beside in curve]
            share = [part for part, _, _ in curve]
            spread = [[e.value - e.low for e in ends], [e.high - e.value for e in ends]]
            axes.errorbar(
                share, [e.value for e in ends], yerr=np.maximum(spread, 0), fmt="o-", ms=4, capsize=3, label=name
            )
    frames[0].set_ylabel("R2")
    frames[0].legend()
    return figure


def learned(each: SetCard) -> list[tuple[float, Estimate, Estimate]]:
    """(part of the real patients, R2 with the synthetic set, R2 without), rising; [] where nothing was tested."""
    found = [figure for figure in each.panels["utility"].figures if WITHOUT in figure.beside]
    return [(float(figure.name.partition("%")[0]) / 100, figure.found, figure.beside[WITHOUT]) for figure in found]


def _frames(count: int, *, sharey: bool) -> tuple[Drawing, Sequence[Axes]]:
    figure = Drawing(figsize=(max(_LEAST_WIDTH, _WIDTH * count), 2.7), layout="constrained")
    return figure, list(figure.subplots(1, count, sharey=sharey, squeeze=False)[0])
