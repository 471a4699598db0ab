"""Agreement of a predicted number with the true one (Bland and Altman 1986)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from echofm.intervals import Estimate, patient_bootstrap
from echofm.schema import FrozenModel

_SD_95 = 1.96


class Agreement(FrozenModel):
    """Differences predicted minus true over test clips; intervals over redrawn patients, in the label's unit."""

    bias: Estimate
    """Mean difference."""
    lower: Estimate
    """Lower 95 % limit of agreement, bias - 1.96 sd."""
    upper: Estimate
    """Upper one."""
    slope: Estimate
    """Of predicted on true, by least squares: 1 where extremes are told, 0 where the mean is always said."""


def agreement(predictions: pd.DataFrame, *, draws: int = 1000, seed: int = 0) -> Agreement:
    """Of a frame with the columns patient_id, true, predicted; at least two clips of different true values."""
    pairs_N2 = predictions[["true", "predicted"]].to_numpy(float)
    patients = predictions["patient_id"].to_numpy(str)

    def estimate(statistic: Callable[[np.ndarray], float]) -> Estimate:
        return patient_bootstrap(lambda test: statistic(test), {"test": (pairs_N2, patients)}, draws=draws, seed=seed)

    return Agreement(
        bias=estimate(lambda pairs: _limit(pairs, 0)),
        lower=estimate(lambda pairs: _limit(pairs, -_SD_95)),
        upper=estimate(lambda pairs: _limit(pairs, _SD_95)),
        slope=estimate(_slope),
    )


def _limit(pairs_N2: np.ndarray, deviations: float) -> float:
    difference = pairs_N2[:, 1] - pairs_N2[:, 0]
    return float(difference.mean() + deviations * difference.std(ddof=1))


def _slope(pairs_N2: np.ndarray) -> float:
    centred = pairs_N2 - pairs_N2.mean(0)
    spread = float((centred[:, 0] ** 2).sum())
    return float(centred[:, 0] @ centred[:, 1]) / spread if spread > 0 else float("nan")
