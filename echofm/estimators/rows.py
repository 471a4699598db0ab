"""Rows: some rows of a feature matrix, read a block at a time, and the moments that linear probes need of them.

Shapes: N rows of the matrix, M of them chosen, D features, R directions among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import dsyrk

# 16 MB of 1024 single-precision features: what is read stays in the cache for the second product with it.
_BLOCK_NUMBERS = 4096 * 1024


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
class RowStatistics:
    """Of the rows standardised: mean 0, variance 1.

    mean_D, scale_D: of the features as they are; a feature that does not vary has an infinite scale, so that its
        weight is zero. product_D: sum over rows of standardised features times centred target, (D, K) of K targets;
        zero without a target. eigenvalues_R, vectors_DR: of the (D, D) sum over rows of the products of standardised
        features, none below zero. R is D, or the rows' rank where they are fewer than the features: the vectors then
        span the rows, and the weights of every penalised fit lie in that span.
    """

    mean_D: npt.NDArray[np.float64]
    scale_D: npt.NDArray[np.float64]
    product_D: npt.NDArray[np.float64]
    eigenvalues_R: npt.NDArray[np.float64]
    vectors_DR: npt.NDArray[np.float64]


def row_statistics(rows: Rows, target_M: npt.NDArray[np.float64] | None = None) -> RowStatistics:
    """Two passes over the rows; sums are kept in double precision.

    Fewer rows than features are held once, standardised: they are smaller than the Gram matrix of the features.
    """
    total = np.zeros(rows.dim)
    for _, block in rows.blocks():
        total += block.sum(0, dtype=np.float64)
    mean = total / len(rows)
    centred_M = None if target_M is None else target_M - target_M.mean(0)
    of = _of_few_rows if len(rows) < rows.dim else _of_many_rows
    return of(rows, mean, centred_M)


def _of_many_rows(rows: Rows, mean_D: npt.NDArray, centred_M: npt.NDArray | None) -> RowStatistics:
    """By the (D, D) Gram matrix of the features."""
    gram = np.zeros((rows.dim, rows.dim), order="F")
    product = _no_product(rows, centred_M)
    for part, block in rows.blocks():
        centred = block - mean_D
        gram = dsyrk(1.0, centred.T, beta=1.0, c=gram, overwrite_c=1)
        if centred_M is not None:
            product += centred.T @ centred_M[part]
    scale = _scale(np.diag(gram) / len(rows), mean_D)
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale), UPLO="U")
    return RowStatistics(
        mean_D=mean_D,
        scale_D=scale,
        product_D=(product.T / scale).T,
        eigenvalues_R=np.maximum(values, 0),
        vectors_DR=vectors,
    )


def _of_few_rows(rows: Rows, mean_D: npt.NDArray, centred_M: npt.NDArray | None) -> RowStatistics:
    """By the (M, M) Gram matrix of the rows, which has the same eigenvalues above zero."""
    z = np.empty((len(rows), rows.dim))
    for part, block in rows.blocks():
        np.subtract(block, mean_D, out=z[part])
    scale = _scale(np.einsum("md,md->d", z, z) / len(rows), mean_D)
    z /= scale
    values, vectors = np.linalg.eigh(dsyrk(1.0, z.T, trans=1), UPLO="U")
    # Below this an eigenvalue is rounding and its vector nothing; centred rows have one such at least.
    kept = values > max(float(values[-1]), 0.0) * len(rows) * np.finfo(np.float64).eps
    return RowStatistics(
        mean_D=mean_D,
        scale_D=scale,
        product_D=_no_product(rows, centred_M) if centred_M is None else z.T @ centred_M,
        eigenvalues_R=values[kept],
        vectors_DR=z.T @ (vectors[:, kept] / np.sqrt(values[kept])),
    )


def _no_product(rows: Rows, centred_M: npt.NDArray | None) -> npt.NDArray[np.float64]:
    return np.zeros((rows.dim, *(() if centred_M is None else centred_M.shape[1:])))


def _scale(variance_D: npt.NDArray[np.float64], mean_D: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    scale_D = np.sqrt(variance_D)
    return np.where(scale_D > 1e-12 * max(1.0, float(np.abs(mean_D).max())), scale_D, np.inf)
