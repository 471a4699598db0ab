"""Figures of the cardiac phase: predicted against true over time, over all moments, and how far events are off."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probe.figures.canvas import WIDE, canvas, ink


def phase_curve(time_s_T: npt.NDArray, true_T: npt.NDArray, said_T: npt.NDArray, *, title: str) -> Figure:
    """True phase as a line, predicted phase as dots, both in [0, 1) over time; a line breaks where a beat begins."""
    figure, axes = canvas((WIDE[0], 2.4))
    order = np.argsort(time_s_T)
    time, true, said = (np.asarray(each, float)[order] for each in (time_s_T, true_T, said_T))
    # A phase that falls is a new beat; joined, it would look like a fast movement back.
    begins = np.flatnonzero(np.diff(true) < 0) + 1
    axes.plot(
        np.insert(time, begins, np.nan), np.insert(true, begins, np.nan), color=ink(axes), linewidth=1.1, label="true"
    )
    axes.scatter(time, said, s=14, color="C1", linewidths=0, label="predicted", zorder=3)
    axes.set(title=title, xlabel="time (s)", ylabel="phase (part of beat)", ylim=(-0.05, 1.05))
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderpad=0, ncols=2)
    return figure


def phase_density(true_P: npt.NDArray, said_P: npt.NDArray, *, bins: int = 32) -> Figure:
    """How often which phase is said for which true one; a band along the diagonal is right, the corners touch."""
    figure, axes = canvas()
    counts, _, _ = np.histogram2d(true_P, said_P, bins=bins, range=[[0, 1], [0, 1]])
    share = counts.T / np.maximum(1, counts.sum(1))
    image = axes.imshow(share, origin="lower", extent=(0, 1, 0, 1), cmap="cividis", vmin=0, interpolation="nearest")
    axes.set(xlabel="true phase (fraction of beat)", ylabel="predicted phase")
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="part of the moments of a true phase", shrink=0.85)
    return figure


def event_errors(errors_ms: Mapping[str, npt.NDArray]) -> Figure:
    """Histogram of predicted minus true time per event, e.g. "end-diastole"; a dotted line at the median."""
    figure, axes = canvas()
    every = np.concatenate(list(errors_ms.values()))
    reach = float(max(20.0, np.quantile(np.abs(every), 0.99)))
    edges = np.linspace(-reach, reach, 31).tolist()
    for number, (name, values) in enumerate(errors_ms.items()):
        middle = float(np.median(values))
        label = f"{name}, median {middle:+.0f} ms"
        axes.hist(
            np.clip(values, -reach, reach), edges, histtype="step", linewidth=1.5, color=f"C{number}", label=label
        )
        axes.axvline(middle, color=f"C{number}", linewidth=0.9, linestyle=":")
    axes.set(xlabel="predicted - true (ms)", ylabel="events")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure
