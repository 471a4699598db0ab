"""A linear reader of the cardiac phase from an encoder's phase tokens.

P tokens, D features. Phases are parts of a cycle in [0, 1), 0 at end-diastole.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from echofm.embed.phase import PhaseTokens
from echofm.errors import EchofmError
from echofm.estimators.ridge import GramRidge, ridge_path
from echofm.estimators.rows import Rows
from echofm.metric.circular import circular_distance

Floats = npt.NDArray[np.floating]
# Neighbouring tokens on each side; a Gram matrix of more than so many columns is not worth its time.
_CONTEXTS, _WIDEST = (0, 1, 3, 6), 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class PhaseReader:
    """A ridge regression of (cos, sin) of the phase on phase tokens.

    context: neighbouring tokens on each side that are read along. centred: without the clip's mean token.
    error: mean absolute phase error on validation patients, cycles.
    """

    model: GramRidge
    context: int
    centred: bool
    error: float

    def predict(self, phase: PhaseTokens) -> npt.NDArray[np.complex128]:
        """(P,) complex: its angle is 2 pi times the phase, its length how sure the reader is."""
        X_PD = _inputs(phase, context=self.context, centred=self.centred)
        return _as_complex(self.model.predict(X_PD))


def fit_phase_reader(train: PhaseTokens, val: PhaseTokens) -> PhaseReader:
    """Fit on training patients; penalty, context and centring by the phase error on validation patients."""
    known, measured = np.isfinite(train.cycle_P), np.isfinite(val.cycle_P)
    if known.sum() < 10 or not measured.any():
        raise EchofmError(
            "too few tokens of known phase in training or validation clips; the truth must be in the table"
        )
    angle, truth = 2 * np.pi * train.cycle_P[known].astype(np.float64), val.cycle_P[measured]
    best: PhaseReader | None = None
    width = train.feature_PD.shape[1]
    contexts = [context for context in _CONTEXTS if context <= 1 or (2 * context + 1) * width <= _WIDEST]
    for context, centred in product(contexts, (False, True)):
        X_PD = _inputs(train, context=context, centred=centred)[known]
        V_PD = _inputs(val, context=context, centred=centred)[measured]
        path = ridge_path(Rows(features_ND=X_PD), np.stack([np.cos(angle), np.sin(angle)], 1))
        for model in path:
            predicted = np.angle(_as_complex(model.predict(V_PD))) / (2 * np.pi)
            error = float(circular_distance(predicted, truth).mean())
            if best is None or error < best.error:
                best = PhaseReader(model=model, context=context, centred=centred, error=error)
    assert best is not None
    return best


def _as_complex(plane_P2: Floats) -> npt.NDArray[np.complex128]:
    return plane_P2[:, 0] + 1j * plane_P2[:, 1]


def _inputs(phase: PhaseTokens, *, context: int, centred: bool) -> npt.NDArray[np.float32]:
    parts = []
    for clip in range(len(phase)):
        x_TD = np.asarray(phase.of(clip).feature_PD, np.float32)
        if centred and len(x_TD):
            x_TD = x_TD - x_TD.mean(0)
        index = np.arange(len(x_TD))[:, None] + np.arange(-context, context + 1)
        parts.append(x_TD[index.clip(0, max(0, len(x_TD) - 1))].reshape(len(x_TD), (2 * context + 1) * x_TD.shape[1]))
    return np.concatenate(parts)
