"""The figures of the demo's page: each returns one matplotlib figure of one panel, in the theme in force.

T token times or frames, P points. Axes carry their unit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

_WIDE, _SQUARE = (5.4, 2.9), (3.7, 3.3)


def loss_curves(curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], *, y_label: str = "loss") -> Figure:
    """Name -> (steps, values); each drawn faintly as logged and boldly as its running median."""
    figure, axes = _figure(_WIDE)
    for name, (steps, values) in curves.items():
        x, y = np.asarray(steps, float), np.asarray(values, float)
        (line,) = axes.plot(x, _running_median(y), label=name)
        axes.plot(x, y, color=line.get_color(), alpha=0.25, linewidth=0.8)
    axes.set(xlabel="optimizer step", ylabel=y_label, xlim=_span(curves))
    figure.legend(ncols=min(4, len(curves)), loc="outside upper left")
    return figure


def similarity_map(
    similarity_TT: npt.ArrayLike, *, title: str, token_s: float | None, limits: tuple[float, float] = (-1, 1)
) -> Figure:
    """Cosine similarity of each moment of a clip with each other; token_s seconds per step, None where unknown."""
    similarity = np.asarray(similarity_TT, float)
    figure, axes = _figure(_SQUARE)
    end = len(similarity) * (1 if token_s is None else token_s)
    image = axes.imshow(
        similarity, cmap="cividis", vmin=limits[0], vmax=limits[1], extent=(0, end, end, 0), interpolation="nearest"
    )
    unit = "token" if token_s is None else "s"
    axes.set(title=title, xlabel=f"time ({unit})", ylabel=f"time ({unit})")
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="cosine similarity", shrink=0.85)
    return figure


def phase_trajectory(feature_TD: npt.ArrayLike, phase_T: npt.ArrayLike, *, title: str) -> Figure:
    """The path of a clip's features through their first two principal components, coloured by phase in [0, 1).

    Moments without a phase (NaN) are drawn as open rings.
    """
    points_T2, shares = principal_components(feature_TD)
    phase = np.asarray(phase_T, float)
    figure, axes = _figure(_SQUARE)
    ink = axes.xaxis.label.get_color()
    axes.plot(*points_T2.T, color=ink, alpha=0.3, linewidth=1)
    known = np.isfinite(phase)
    axes.scatter(points_T2[~known, 0], points_T2[~known, 1], s=26, facecolors="none", edgecolors=ink, linewidths=0.8)
    dots = axes.scatter(
        points_T2[known, 0], points_T2[known, 1], c=phase[known], cmap=phase_colours(), vmin=0, vmax=1, s=30, zorder=3
    )
    axes.set(
        title=title,
        xlabel=f"component 1 ({100 * shares[0]:.0f} % of variance)",
        ylabel=f"component 2 ({100 * shares[1]:.0f} % of variance)",
    )
    axes.set_aspect("equal", adjustable="datalim")
    if known.any():
        label = "cardiac phase (fraction of beat)"
        figure.colorbar(dots, ax=axes, label=label, shrink=0.85, ticks=[0, 0.25, 0.5, 0.75, 1])
    return figure


def time_course(feature_TD: npt.ArrayLike, time_s_T: npt.ArrayLike, phase_T: npt.ArrayLike, *, title: str) -> Figure:
    """First principal component of a clip's features over time, coloured by phase where it is known.

    Times that are unknown (NaN) are replaced by the moment's number.
    """
    points_T2, shares = principal_components(feature_TD)
    time, phase = np.asarray(time_s_T, float), np.asarray(phase_T, float)
    unit = "s"
    if np.isnan(time).any():
        time, unit = np.arange(len(time), dtype=float), "token"
    figure, axes = _figure(_SQUARE)
    ink, known = axes.xaxis.label.get_color(), np.isfinite(phase)
    axes.plot(time, points_T2[:, 0], color=ink, alpha=0.3, linewidth=1)
    axes.scatter(time[~known], points_T2[~known, 0], s=16, facecolors="none", edgecolors=ink, linewidths=0.8)
    axes.scatter(time[known], points_T2[known, 0], c=phase[known], cmap=phase_colours(), vmin=0, vmax=1, s=18, zorder=3)
    axes.set(title=title, xlabel=f"time ({unit})", ylabel=f"component 1 ({100 * shares[0]:.0f} % of variance)")
    return figure


def scatter_by_group(
    points_P2: npt.ArrayLike, groups: npt.ArrayLike, *, title: str, x_label: str, y_label: str
) -> Figure:
    """Points of named groups, each with its colour and marker."""
    points, names = np.asarray(points_P2, float), np.asarray(groups)
    figure, axes = _figure(_SQUARE)
    for marker, name in zip("osD^vPX*", dict.fromkeys(names.tolist()), strict=False):
        axes.scatter(
            points[names == name, 0], points[names == name, 1], s=28, marker=marker, alpha=0.85, label=str(name)
        )
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.legend()
    return figure


def principal_components(feature_TD: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """First two principal components (T, 2), and their shares of the variance; the largest value is positive."""
    centred = np.asarray(feature_TD, float)
    centred = centred - centred.mean(axis=0)
    left, strength, _ = np.linalg.svd(centred, full_matrices=False)
    if len(strength) < 2:
        raise ValueError("principal components need at least two moments of at least two features")
    points = left[:, :2] * strength[:2]
    largest = np.abs(points).argmax(axis=0)
    points *= np.where(points[largest, [0, 1]] < 0, -1, 1)
    return points, strength[:2] ** 2 / max(float((strength**2).sum()), np.finfo(float).tiny)


def phase_colours() -> ListedColormap:
    """A closed ring of hues of one lightness (OKLCh L 0.68, C 0.12), for cardiac phase on either theme.

    https://bottosson.github.io/posts/oklab/
    """
    hue = 2 * np.pi * np.arange(256) / 256
    a, b = 0.12 * np.cos(hue), 0.12 * np.sin(hue)
    long = (0.68 + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (0.68 - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (0.68 - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
        ],
        axis=1,
    ).clip(0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return ListedColormap(rgb.tolist(), name="phase")


def _figure(size_inch: tuple[float, float]) -> tuple[Figure, Axes]:
    # Without pyplot: nothing global is left behind, and threads may draw.
    figure = Figure(figsize=size_inch, layout="constrained")
    axes = figure.subplots()
    axes.locator_params(nbins=5)
    return figure, axes


def _running_median(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    half = len(values) // 40
    return np.array([np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))])


def _span(curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]) -> tuple[float, float]:
    steps = np.concatenate([np.asarray(steps, float) for steps, _ in curves.values()])
    return float(steps.min()), float(max(steps.max(), steps.min() + 1))
