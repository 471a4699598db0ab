"""Features of clips as points of a plane, coloured by a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.report.canvas import SQUARE, canvas, cut, in_words, ink

_MARKERS = "osD^vP"
_MOST_CLASSES = 12


def feature_map(
    points_P2: npt.NDArray, values_P: pd.Series, *, name: str, title: str, axis: str, classes: Sequence[str] = ()
) -> Figure:
    """Points coloured by a number or, for text, by class; a clip without the label is a faint ring.

    axis: what the two axes are ("component"); they are numbered. classes: the order of the legend; by name where it is
    not given. Of more than 12 classes the commonest are told apart.
    """
    figure, axes = canvas((SQUARE[0] + 0.9, SQUARE[1]))
    known = values_P.notna().to_numpy(bool)
    size = float(np.clip(600 / max(1, len(points_P2)) ** 0.5, 6, 26))
    axes.scatter(
        points_P2[~known, 0],
        points_P2[~known, 1],
        s=size,
        facecolors="none",
        edgecolors=ink(axes),
        linewidths=0.5,
        alpha=0.25,
    )
    if pd.api.types.is_numeric_dtype(values_P.dtype):
        values = values_P[known].to_numpy(float)
        # A few extreme values must not take all the colours.
        low, high = np.quantile(values, [0.01, 0.99]) if len(values) else (0.0, 1.0)
        dots = axes.scatter(
            points_P2[known, 0],
            points_P2[known, 1],
            c=values,
            s=size,
            cmap="viridis",
            vmin=low,
            vmax=high,
            alpha=0.85,
            linewidths=0,
        )
        figure.colorbar(dots, ax=axes, label=in_words(name), shrink=0.85)
    else:
        _by_class(axes, points_P2[known], values_P[known].astype(str), size=size, classes=classes)
        figure.legend(loc="outside right center", title=cut(in_words(name)), title_fontsize=8, markerscale=1.3)
    axes.set(title=title, xlabel=f"{axis} 1", ylabel=f"{axis} 2")
    axes.set_xticks([])
    axes.set_yticks([])
    return figure


def _by_class(axes: Axes, points_P2: npt.NDArray, names_P: pd.Series, *, size: float, classes: Sequence[str]) -> None:
    x_P, y_P = points_P2.T
    common = list(names_P.value_counts(sort=True).index[:_MOST_CLASSES])
    order = [name for name in classes if name in common] + sorted(set(common) - set(classes))
    for number, name in enumerate(order):
        chosen = (names_P == name).to_numpy(bool)
        axes.scatter(
            x_P[chosen], y_P[chosen], s=size, marker=_MARKERS[(number + number // 6) % 6],
            color=f"C{number % 6}", alpha=0.8, linewidths=0, label=cut(name, 14),
        )  # fmt: skip
    rest = ~names_P.isin(common).to_numpy(bool)
    if rest.any():
        axes.scatter(x_P[rest], y_P[rest], s=size, color=ink(axes), alpha=0.2, linewidths=0, label="others")
