"""The embedding itself: what was checked, and its clips as points of a plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from echofm.embed.table import EmbeddingTable
from echofm.report.blocks import Block, Panels, Picture, Table
from probe.labels.target import class_name
from probe.report.canvas import in_words
from probe.report.maps import feature_map
from probe.result import ProbeResult, SanityFigures

MOST_POINTS = 2000
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
    shares = np.append(pca.explained_variance_ratio_, 0.0)
    if found.shape[1] < 2:
        return None
    return Plane(
        rows_P=rows,
        pca_P2=found[:, :2],
        tsne_P2=positions.astype(np.float64),
        shares=(float(shares[0]), float(shares[1])),
    )


def _coloured(table: EmbeddingTable, found: Plane, result: ProbeResult) -> Panels:
    name, values = result.target, table.rows[result.target].iloc[found.rows_P].reset_index(drop=True)
    if result.task != "regression" and pd.api.types.is_numeric_dtype(values.dtype):
        values = values.map(lambda value: None if pd.isna(value) else class_name(value))
    draw = partial(feature_map, values_P=values, name=name, classes=result.classes)
    first, second = found.shares
    drawn = [
        Picture(
            draw=partial(draw, found.pca_P2, title="principal components", axis="component"),
            alt=f"principal components of the clip features, coloured by {in_words(name)}",
        ),
        Picture(
            draw=partial(draw, found.tsne_P2, title="t-SNE", axis="dimension"),
            alt=f"t-SNE of the clip features, coloured by {in_words(name)}",
        ),
    ]
    known = int(pd.Series(values).notna().sum())
    some = f"{len(values)} of {len(table)} clips" if len(values) < len(table) else f"All {len(table)} clips"
    return Panels(
        drawn,
        caption=f"{some}, {known} with {in_words(name)}. The two components hold {first:.0%} and {second:.0%} of the "
        "variance. In t-SNE only nearness tells; distances between groups do not.",
    )


def _or_unknown(value: float | None) -> str:
    return "no patient has two clips" if value is None else f"{value:.3f}"
