"""Features as points of a plane: principal components, and t-SNE (van der Maaten and Hinton 2008)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from echofm.embed.table import EmbeddingTable

MOST_POINTS = 2000
_FEWEST_POINTS = 5
_COMPONENTS, _PERPLEXITY = 50, 30


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
        places = tsne.fit_transform(found)
    shares = np.append(pca.explained_variance_ratio_, 0.0)
    if found.shape[1] < 2:
        return None
    return Plane(
        rows_P=rows,
        pca_P2=found[:, :2],
        tsne_P2=places.astype(np.float64),
        shares=(float(shares[0]), float(shares[1])),
    )
