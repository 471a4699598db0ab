"""Penalised fits of linear scores whose loss has no closed form, block by block.

Minimises  mean of loss(Zw, e) + penalty / 2 |w|^2  over weights w and a few free numbers e, for standardised features
Z, by L-BFGS. Weights are sought in the coordinates in which the loss is round to second order (the eigenvectors of the
Gram matrix, each scaled by its curvature): correlated features then cost ten steps rather than hundreds.

Shapes: M rows, B of a block, D features, K scores of a row, E free numbers, R directions (`RowStatistics`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.optimize

from echofm.estimators.rows import Rows, RowStatistics

Array = npt.NDArray[np.float64]
# (scores_BK, free_E, places of the block) -> (sum of losses, its gradient by score, its gradient by free number)
Loss = Callable[[Array, Array, slice], tuple[float, Array, Array]]


def minimise(
    rows: Rows,
    stats: RowStatistics,
    loss: Loss,
    *,
    start: tuple[Array, Array],
    penalty: float,
    curvature: float,
    tolerance: float,
    most_steps: int,
) -> tuple[Array, Array, int]:
    """(weights_DK of standardised features, free_E, steps taken).

    start: where to begin, in the same coordinates. penalty: on |w|^2 / 2, as a part of the mean loss. curvature: a
    typical second derivative of one row's loss by its score. tolerance: of the gradient in the round coordinates, and
    (squared) of the loss's relative fall.
    """
    basis = stats.vectors_DR * (curvature * stats.eigenvalues_R / len(rows) + penalty) ** -0.5
    inverse = stats.vectors_DR * (curvature * stats.eigenvalues_R / len(rows) + penalty) ** 0.5
    weights_DK, free_E = start
    # Weights outside the span of the rows cost penalty and change no score, so none are sought there.
    shape, narrow = (basis.shape[1], weights_DK.shape[1]), rows.features_ND.dtype == np.float32
    size = shape[0] * shape[1]
    kind: type[np.floating] = np.float32 if narrow else np.float64
    mean, factor = stats.mean_D.astype(kind), (1 / stats.scale_D).astype(kind)

    def value_and_gradient(place: Array) -> tuple[float, Array]:
        w = basis @ place[:size].reshape(shape)
        e = place[size:]
        total, slope_w, slope_e = 0.0, np.zeros(w.shape), np.zeros(len(e))
        narrowed = w.astype(kind)
        for part, block in rows.blocks():
            z = (block - mean) * factor
            found, by_score, by_free = loss((z @ narrowed).astype(np.float64), e, part)
            total += found
            slope_w += z.T @ by_score.astype(kind)
            slope_e += by_free
        slope_w = slope_w / len(rows) + penalty * w
        value = total / len(rows) + 0.5 * penalty * float((w * w).sum())
        return value, np.concatenate([(basis.T @ slope_w).ravel(), slope_e / len(rows)])

    first = np.concatenate([(inverse.T @ weights_DK).ravel(), free_E])
    found = scipy.optimize.minimize(
        value_and_gradient,
        first,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": most_steps, "maxcor": 20, "gtol": tolerance, "ftol": tolerance**2},
    )
    return basis @ found.x[:size].reshape(shape), found.x[size:], int(found.nit)
