"""The embedding itself: what was checked, and its clips as points of a plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from echofm.embed.table import EmbeddingTable
from echofm.report.blocks import Block, Panels, Picture, Table
from probe.labels.target import class_name
from probe.report.canvas import SQUARE, canvas, cut, in_words, ink
from probe.result import ProbeResult, SanityFigures

MOST_POINTS = 2000
_MARKERS = "osD^vP"
_MOST_CLASSES = 12
_FEWEST_POINTS = 5
_COMPONENTS, _PERPLEXITY = 50, 30
_PASSED = {True: "passed", False: "FAILED", None: "not checked"}


def checks(found: SanityFigures) -> list[Block]:
    """What was looked at before any figure, failed ones first."""
    blocks: list[Block] = []
    if found.checks:
        order = sorted(found.checks, key=lambda each: {False: 0, None: 1, True: 2}[each.passed])
        rows = [(each.name, _PASSED[each.passed], each.says) for each in order]
        blocks.append(Table(columns=("check", "result", "what was found"), rows=rows))
    measures = [
        ("effective rank (RankMe)", f"{found.rankme:.1f}"),
        ("embedding std, 0 to 1", f"{found.embedding_std:.3f}"),
        ("cosine within a patient, centred features", _or_unknown(found.within_patient)),
        ("cosine between patients, centred features", _or_unknown(found.between_patients)),
    ]
    caption = "Dead: rank near 1 or std near 0. Sees identity: more cosine within a patient than between patients."
    return [*blocks, Table(columns=("measure", "value"), rows=measures, caption=caption)]


def maps(table: EmbeddingTable, results: Sequence[ProbeResult], *, seed: int = 0) -> list[Block]:
    """Principal components and t-SNE of the clip features, once per target that is a column; nothing for dead ones."""
    columns = {each.target: each for each in results if each.target in table.rows.columns}
    found = plane(table, seed=seed) if columns else None
    return [] if found is None else [_coloured(table, found, each) for each in columns.values()]


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """P of a table's clips. rows_P: their row numbers, rising. pca_P2, tsne_P2: their places.

    shares: part of the variance along the two principal components.
    """

    rows_P: npt.NDArray[np.int64]
    pca_P2: npt.NDArray[np.float64]
    tsne_P2: npt.NDArray[np.float64]
    shares: tuple[float, float]


def plane(table: EmbeddingTable, *, most: int = MOST_POINTS, seed: int = 0) -> Plane | None:
    """Up to `most` clips of a table, drawn by the seed; None where they are fewer than five or do not differ."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(table))[:most])
    features = np.asarray(table.video_ND[rows], np.float64)
    features -= features.mean(0)
    if len(rows) < _FEWEST_POINTS or table.dim < 2 or not (features**2).sum() > 0:
        return None
    # On several threads the sums, and with them the places, depend on who comes first.
    with threadpool_limits(1):
        # Not more components than there are directions: what is left is round-off, drawn out by t-SNE.
        pca = PCA(min(_COMPONENTS, table.dim, len(rows) - 1), svd_solver="full").fit(features)
        found = pca.transform(features)
        tsne = TSNE(perplexity=min(_PERPLEXITY, (len(rows) - 1) / 3), init="pca", random_state=seed, n_jobs=1)
        positions = tsne.fit_transform(found)
    if found.shape[1] < 2:
        return None
    first, second = map(float, pca.explained_variance_ratio_[:2])
    return Plane(rows_P=rows, pca_P2=found[:, :2], tsne_P2=positions.astype(np.float64), shares=(first, second))


def _coloured(table: EmbeddingTable, found: Plane, result: ProbeResult) -> Panels:
    name, values = result.target, table.rows[result.target].iloc[found.rows_P].reset_index(drop=True)
    if result.task != "regression" and pd.api.types.is_numeric_dtype(values.dtype):
        values = values.map(lambda value: None if pd.isna(value) else class_name(value))
    draw = partial(feature_map, values_P=values, name=name, classes=result.classes)
    first, second = found.shares
    drawn = [
        Picture(
            draw=partial(draw, points_P2, title=title, axis=axis),
            alt=f"{title} of the clip features, coloured by {in_words(name)}",
        )
        for points_P2, title, axis in (
            (found.pca_P2, "principal components", "component"),
            (found.tsne_P2, "t-SNE", "dimension"),
        )
    ]
    known = int(pd.Series(values).notna().sum())
    some = f"{len(values)} of {len(table)} clips" if len(values) < len(table) else f"All {len(table)} clips"
    return Panels(
        drawn,
        caption=f"{some}, {known} with {in_words(name)}. The two components hold {first:.0%} and {second:.0%} of the "
        "variance. In t-SNE only nearness tells; distances between groups do not.",
    )


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
    x_P, y_P = points_P2.T
    ring = ink(axes)
    axes.scatter(x_P[~known], y_P[~known], s=size, facecolors="none", edgecolors=ring, linewidths=0.5, alpha=0.25)
    if pd.api.types.is_numeric_dtype(values_P.dtype):
        values = values_P[known].to_numpy(float)
        # A few extreme values must not take all the colours.
        low, high = np.quantile(values, [0.01, 0.99]) if len(values) else (0.0, 1.0)
        dots = axes.scatter(
            x_P[known], y_P[known], c=values, s=size, cmap="viridis", vmin=low, vmax=high, alpha=0.85, linewidths=0
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


def _or_unknown(value: float | None) -> str:
    return "no patient has two clips" if value is None else f"{value:.3f}"
