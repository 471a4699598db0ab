"""Vendi score: how many different clips a set is worth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def vendi_score(features_ND: npt.ArrayLike) -> float:
    """Exponential of the entropy of the eigenvalues of the cosine similarity matrix over N, in [1, min(N, D)].

    https://arxiv.org/abs/2210.02410, eq. 2; found from the (D, D) product, whose other eigenvalues are the same.
    Raises ValueError where a row has no direction.
    """
    features = np.asarray(features_ND, np.float64)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    if not (length > 0).all():
        raise ValueError(f"row {int((length <= 0).argmax())} is zero: it has no direction")
    share = np.linalg.svd(features / length, compute_uv=False) ** 2 / len(features)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))
