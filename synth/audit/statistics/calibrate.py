"""Is a similarity to the training set more than a new patient would show? Conformal p-values and what follows.

The null: held-out real clips searched in the *same* training set as the synthetic clips, so that both take their
maximum over equally many candidates. (The published rule takes training clips searched in the test set; its maxima
run over another number of candidates, and with nothing memorised it flags 25 % where 5 % are meant.)

Shapes: S synthetic clips, H held-out clips, P held-out patients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.stats

from echofm.errors import EchofmError
from echofm.intervals import Estimate
from synth.audit.result import FlaggedPart

Doubles = npt.NDArray[np.float64]

# Of p- and q-values: beyond these they are rounding, which q = p S / k makes larger.
_DIGITS, _Q_DIGITS = 12, 9


def conformal_p(score_S: npt.ArrayLike, null_H: npt.ArrayLike, patient_H: npt.ArrayLike | None = None) -> Doubles:
    """(S,) p-values of "no closer to the training set than a new patient's clip", in [1 / (P + 1), 1].

    p = (1 + sum over held-out patients of the part of their clips that score >= s) / (P + 1)

    Every held-out patient weighs the same, however many clips it has, which keeps p valid where clips of one patient
    resemble one another (Lee, Barber, Willett 2023, arXiv 2306.06342). Without `patient_H` each clip is a
    patient of its own: the ordinary conformal p-value (Vovk 2005).
    """
    null = np.asarray(null_H, np.float64)
    patients = (
        np.arange(len(null)) if patient_H is None else np.unique(np.asarray(patient_H, str), return_inverse=True)[1]
    )
    weight = 1 / np.bincount(patients)[patients]
    order = np.argsort(null)
    # above[i]: weight of the null scores from the i-th smallest on.
    above = np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
    first = np.searchsorted(null[order], np.asarray(score_S, np.float64), side="left")
    # Sums of weights such as 1/6 come out a rounding above a p that is alpha itself.
    return np.round((1 + above[first]) / (patients.max() + 2), _DIGITS)


def q_values(p_S: npt.ArrayLike) -> Doubles:
    """Benjamini-Hochberg adjusted p-values: flagging q <= a keeps the expected part of false flags at most a."""
    return np.round(scipy.stats.false_discovery_control(np.asarray(p_S, np.float64)), _Q_DIGITS)


def at_most(p: Doubles, alpha: float) -> npt.NDArray[np.bool_]:
    """p <= alpha, where a p that is alpha itself may come out a rounding above it: 1/60 and 0.05/3, say."""
    return p <= alpha * (1 + 1e-9)


def smallest_detectable_share(patients: int, *, alpha: float) -> float:
    """The smallest part of a synthetic set that Benjamini-Hochberg can flag at all with so many held-out patients.

    The least p is 1 / (P + 1), and k flags need p <= alpha k / S: shares under 1 / (alpha (P + 1)) go unseen however
    exact the copies.
    """
    return min(1.0, 1 / (alpha * (patients + 1)))


def require_holdout(patients: int, *, alpha: float) -> None:
    """Raises EchofmError where so few held-out patients cannot give any p-value as small as alpha."""
    needed = math.ceil(1 / alpha - 1e-9) - 1
    if patients < needed:
        raise EchofmError(
            f"{patients} held-out patients cannot show anything at alpha {alpha:g}; "
            f"hold out at least {needed}, or raise --alpha to {1 / (patients + 1):.3g}"
        )


def flagged(
    score_S: npt.ArrayLike,
    null_H: npt.ArrayLike,
    patient_H: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> FlaggedPart:
    """Part of the synthetic scores beyond the null at `alpha`, with intervals at `level`.

    excess_p: with one clip per held-out patient and exchangeable scores the number of flags is beta-binomial,
    (S, k, P + 1 - k) for k = floor(alpha (P + 1)); with several clips a patient the same law is used with P patients.
    Raises EchofmError where the held-out set is too small for alpha.
    """
    null = np.asarray(null_H, np.float64)
    names = np.arange(len(null)).astype(str) if patient_H is None else np.asarray(patient_H, str)
    return flagged_at_any([(np.asarray(score_S), null)], names, alpha=alpha, level=level, draws=draws, seed=seed)


def flagged_at_any(
    levels: Sequence[tuple[npt.NDArray, npt.NDArray]],
    patient_H: npt.NDArray[np.str_],
    *,
    alpha: float = 0.05,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> FlaggedPart:
    """Part of the clips that score beyond the null at one level or more, each level tested at alpha / L (Bonferroni).

    levels: (scores of the synthetic clips, scores of the held-out clips) at each of L levels. The part is at most
    alpha in expectation with nothing memorised, however the levels depend on one another; excess_p is L times the
    least of the levels' own. decided: those of p <= alpha, until a rule decides.
    """
    patient = np.unique(np.asarray(patient_H, str), return_inverse=True)[1]
    patients = int(patient.max()) + 1
    each_alpha = alpha / len(levels)
    require_holdout(patients, alpha=each_alpha)
    score_LS = np.stack([np.asarray(score, np.float64) for score, _ in levels])
    null_LH = np.stack([np.asarray(null, np.float64) for _, null in levels])
    hits_LS = np.stack([at_most(conformal_p(*pair, patient), each_alpha) for pair in zip(score_LS, null_LH)])
    clips = score_LS.shape[1]
    count = int(hits_LS.any(0).sum())
    exact = scipy.stats.binomtest(count, clips).proportion_ci(level, method="exact")
    redrawn = _bootstrap(score_LS, null_LH, patient, alpha=each_alpha, draws=draws, rng=np.random.default_rng(seed))
    edge = math.floor(each_alpha * (patients + 1) + 1e-9)
    law = scipy.stats.betabinom(clips, edge, patients + 1 - edge)
    low, high = np.quantile(redrawn, [(1 - level) / 2, (1 + level) / 2])
    fraction = count / clips
    return FlaggedPart(
        clips=count,
        fraction=Estimate(value=fraction, low=float(low), high=float(high)),
        clopper_pearson=Estimate(value=fraction, low=float(exact.low), high=float(exact.high)),
        excess=fraction - alpha,
        excess_p=min(1.0, len(levels) * float(law.sf(int(hits_LS.sum(1).max()) - 1))),
        decided=count,
        smallest_detectable_share=smallest_detectable_share(patients, alpha=each_alpha),
    )


def _bootstrap(
    score_LS: Doubles,
    null_LH: Doubles,
    patient_H: npt.NDArray[np.int64],
    *,
    alpha: float,
    draws: int,
    rng: np.random.Generator,
) -> Doubles:
    """Flagged fractions over redrawn held-out patients (with all their clips) and redrawn synthetic clips."""
    patients, clips = int(patient_H.max()) + 1, score_LS.shape[1]
    # In an order of their own, so that the same clips give the same draws wherever their rows stand.
    score_LS = score_LS[:, np.lexsort(score_LS)]
    orders = np.argsort(null_LH, axis=1)
    share_H = 1 / np.bincount(patient_H)[patient_H]
    positions = [np.searchsorted(null[order], score) for null, order, score in zip(null_LH, orders, score_LS)]
    fractions = np.empty(draws)
    for draw in range(draws):
        times = np.bincount(rng.integers(patients, size=patients), minlength=patients)
        chosen = rng.integers(clips, size=clips)
        hit = np.zeros(clips, bool)
        for order, position in zip(orders, positions):
            weight = (times[patient_H] * share_H)[order]
            above = np.append(np.cumsum(weight[::-1])[::-1], 0.0)
            hit = hit | at_most((1 + above[position[chosen]]) / (patients + 1), alpha)
        fractions[draw] = hit.mean()
    return fractions


def published_threshold(train_to_test: npt.ArrayLike, *, percentile: float = 95.0) -> float:
    """The threshold of the published filter: a percentile of the training clips' maxima over the *test* set.

    Offered for comparison alone. The synthetic clips' maxima run over the training set, which is larger: they are
    higher with nothing memorised, so more than 100 - percentile per cent are flagged (EchoNet-Synthetic, 2406.00808).
    """
    return float(np.percentile(np.asarray(train_to_test, np.float64), percentile))
