"""Rows: some rows of a feature matrix, read a block at a time, and the moments that linear probes need of them.

Shapes: N rows of the matrix, M of them chosen, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import dsyrk

# 16 MB of 1024 single-precision features: what is read stays in the cache for the second product with it.
_BLOCK_NUMBERS = 4096 * 1024
Advance = Callable[[float], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Chosen rows of a matrix that may be mapped from disk; a million clips are never held a second time.

    features_ND: float. index_M: row numbers, None for all rows.
    """

    features_ND: npt.NDArray[np.floating]
    index_M: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.features_ND) if self.index_M is None else len(self.index_M)

    @property
    def dim(self) -> int:
        return self.features_ND.shape[1]

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[np.floating]]]:
        """Places among the M rows, and their features."""
        at_once = max(1, _BLOCK_NUMBERS // self.dim)
        for first in range(0, len(self), at_once):
            part = slice(first, min(first + at_once, len(self)))
            yield part, np.asarray(self.features_ND[part if self.index_M is None else self.index_M[part]])

    def at(self, places_B: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
        """The features of some of the M rows."""
        return np.asarray(self.features_ND[places_B if self.index_M is None else self.index_M[places_B]])

    def some(self, places_B: npt.NDArray[np.int64]) -> Rows:
        """Some of these rows."""
        return Rows(features_ND=self.features_ND, index_M=places_B if self.index_M is None else self.index_M[places_B])

    def map(self, function: Callable[[npt.NDArray], npt.NDArray]) -> npt.NDArray:
        """A function of the features of each row, block by block, put together."""
        return np.concatenate([function(block) for _, block in self.blocks()])

    def everything(self) -> npt.NDArray[np.floating]:
        """The chosen rows as one array: a copy unless all were chosen."""
        return np.asarray(self.features_ND if self.index_M is None else self.features_ND[self.index_M])


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Of the rows standardised: mean 0, variance 1.

    mean_D, scale_D: of the features as they are; a feature that does not vary has an infinite scale, so that its
        weight is zero. gram_DD: sum over rows of the products of standardised features. product_D: of features and
        centred target, (D, K) of K targets; zero without a target. eigenvalues_D, vectors_DD: of gram_DD, none
        below zero.
    """

    mean_D: npt.NDArray[np.float64]
    scale_D: npt.NDArray[np.float64]
    product_D: npt.NDArray[np.float64]
    eigenvalues_D: npt.NDArray[np.float64]
    vectors_DD: npt.NDArray[np.float64]


def moments(rows: Rows, target_M: npt.NDArray[np.float64] | None = None, *, advance: Advance | None = None) -> Moments:
    """Two passes over the rows; sums are kept in double precision. advance: told the part done, 0 to 1, by block."""
    total = np.zeros(rows.dim)
    for part, block in rows.blocks():
        total += block.sum(0, dtype=np.float64)
        _tell(advance, 0.2 * part.stop / len(rows))
    mean = total / len(rows)
    centred_M = None if target_M is None else target_M - target_M.mean(0)
    gram = np.zeros((rows.dim, rows.dim), order="F")
    product = np.zeros((rows.dim, *(() if target_M is None else target_M.shape[1:])))
    for part, block in rows.blocks():
        centred = block - mean
        gram = dsyrk(1.0, centred.T, beta=1.0, c=gram, overwrite_c=1)
        if centred_M is not None:
            product += centred.T @ centred_M[part]
        _tell(advance, 0.2 + 0.8 * part.stop / len(rows))
    scale = np.sqrt(np.diag(gram) / len(rows))
    scale = np.where(scale > 1e-12 * max(1.0, float(np.abs(mean).max())), scale, np.inf)
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale), UPLO="U")
    return Moments(
        mean_D=mean,
        scale_D=scale,
        product_D=(product.T / scale).T,
        eigenvalues_D=np.maximum(values, 0),
        vectors_DD=vectors,
    )


def _tell(advance: Advance | None, part: float) -> None:
    if advance is not None:
        advance(part)
