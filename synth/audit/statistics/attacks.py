"""Attacks: membership inference, naming patients, and what all attacks on one audit's sets come to.

M training clips (members), O held-out clips (others), S synthetic clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.intervals import Estimate, estimate, patient_weights
from echofm.nearest import Metric, nearest
from synth.audit.result import Attacks
from synth.audit.sets import Sets, text
from synth.audit.settings import AuditSettings
from synth.audit.statistics.calibrate import flagged
from synth.audit.statistics.distances import (
    Clips,
    Doubles,
    Names,
    closer_to_train,
    distance_ratio,
    inauthentic,
)
from synth.audit.statistics.scores import LevelScores

# A patient with more clips than this can fill the neighbours kept; the ratio then seeks another patient's.
_MOST_KEPT = 200
_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class Membership:
    """Can one tell training patients from new ones by how close the synthetic set comes to them?

    auc: 0.5 tells nothing, 1 everything. tpr_at_1_percent_fpr: part of the training clips named by an attacker who
    wrongly names one new clip in a hundred (Carlini 2022, arXiv 2112.03570).
    """

    auc: Estimate
    tpr_at_1_percent_fpr: Estimate


def membership(train: Clips, holdout: Clips, synthetic_SD: npt.NDArray, *, metric: Metric, seed: int = 0) -> Membership:
    """Membership inference by each real clip's nearest synthetic clip; both sides search the same synthetic set."""
    member, other = (
        nearest(side.features_ND, synthetic_SD, metric=metric).similarity_QK[:, 0] for side in (train, holdout)
    )
    ranks = _Ranks.of(member, other)
    draws = [
        (row for rows in patient_weights(side.patient_N, draws=_DRAWS, seed=own) for row in rows)
        for side, own in ((train, seed), (holdout, seed + 1))
    ]
    redrawn = np.array([ranks.figures(*weights) for weights in zip(*draws)])
    patients = min(len(np.unique(side.patient_N)) for side in (train, holdout))
    found = ranks.figures(np.ones(len(member)), np.ones(len(other)))
    auc, tpr = (estimate(value, own, patients=patients) for value, own in zip(found, redrawn.T))
    return Membership(auc=auc, tpr_at_1_percent_fpr=tpr)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ranks:
    """How members (M) and others (O) rank, sorted once: a redrawn sample is then a weight for each."""

    member_M: Doubles
    other_O: Doubles
    order_O: npt.NDArray[np.int64]
    left_M: npt.NDArray[np.int64]
    right_M: npt.NDArray[np.int64]

    @classmethod
    def of(cls, member_M: Doubles, other_O: Doubles) -> _Ranks:
        order_O = np.argsort(other_O)
        ordered = other_O[order_O]
        left, right = (np.searchsorted(ordered, member_M, side=side) for side in ("left", "right"))
        return cls(member_M=member_M, other_O=ordered, order_O=order_O, left_M=left, right_M=right)

    def figures(self, weight_M: Doubles, weight_O: Doubles) -> tuple[float, float]:
        """(AUC by Mann and Whitney, ties counting half; part of the members above all but 1 % of the others)."""
        below = np.append(0.0, np.cumsum(weight_O[self.order_O]))
        members, others = weight_M.sum(), below[-1]
        auc = weight_M @ (below[self.left_M] + below[self.right_M]) / (2 * members * others)
        threshold = self.other_O[np.searchsorted(below, others - int(0.01 * others)) - 1]
        return float(auc), float(weight_M[self.member_M > threshold].sum() / members)


@dataclass(frozen=True, kw_only=True)
class NamingRisk:
    """An attacker names, among equally many training and new patients, those whom the synthetic set comes closest to.

    attack: part of the names that are right. control: the same with real new patients' clips for the synthetic ones,
    which can tell nothing. naive: names drawn at random, 0.5. risk: (attack - control) / (1 - control), not below 0
    (Anonymeter, Giomi 2023, arXiv 2211.10459, eq. 3).
    """

    attack: Estimate
    control: Estimate
    naive: float
    risk: float

    @property
    def informative(self) -> bool:
        """False where the attack is weaker than naive guessing: then it says nothing about the risk."""
        return self.attack.value >= self.naive


def naming_risk(
    train: Clips, holdout: Clips, synthetic_SD: npt.NDArray, *, metric: Metric, share: float = 0.1, seed: int = 0
) -> NamingRisk:
    """The naming attack of `NamingRisk`; each side names the closest `share` of the pool (at least ten patients).

    Half of the held-out patients are the pool's new patients, the other half play the synthetic set in the control.
    Raises EchofmError with fewer than 40 held-out patients, or fewer training patients than half of these.
    """
    rng = np.random.default_rng(seed)
    outside = rng.permutation(np.unique(holdout.patient_N))
    half = len(outside) // 2
    trained_on = np.unique(train.patient_N)
    inside = rng.permutation(trained_on)[:half]
    if half < 20 or len(inside) < half:
        raise EchofmError(
            "a naming attack needs 40 held-out patients and half as many training patients as held-out ones; there "
            f"are {len(outside)} and {len(trained_on)}"
        )
    pool, others = np.isin(holdout.patient_N, outside[:half]), np.isin(holdout.patient_N, outside[half:])
    members = np.isin(train.patient_N, inside)
    features = np.concatenate([train.features_ND[members], holdout.features_ND[pool]])
    patients = np.concatenate([train.patient_N[members], holdout.patient_N[pool]])
    named = max(10, round(share * 2 * half))
    attack, control = (
        _named_rightly(features, patients, inside, against, metric=metric, named=named)
        for against in (synthetic_SD, holdout.features_ND[others])
    )
    risk = max(0.0, (attack.value - control.value) / (1 - control.value)) if control.value < 1 else 0.0
    return NamingRisk(attack=attack, control=control, naive=0.5, risk=risk)


def _named_rightly(
    features: npt.NDArray, patients: Names, inside: Names, against: npt.NDArray, *, metric: Metric, named: int
) -> Estimate:
    similarity = nearest(features, against, metric=metric).similarity_QK[:, 0]
    names, number = np.unique(patients, return_inverse=True)
    # The mean over a patient's clips: the maximum would favour patients with many clips.
    score = np.bincount(number, similarity) / np.bincount(number)
    chosen = names[np.argsort(-score, kind="stable")[:named]]
    right = int(np.isin(chosen, inside).sum())
    interval = scipy.stats.binomtest(right, named).proportion_ci(method="wilson")
    return Estimate(value=right / named, low=float(interval.low), high=float(interval.high))


def clips_of(table: EmbeddingTable) -> Clips:
    """A real set at clip level."""
    return Clips(features_ND=table.video_ND, patient_N=text(table.patient_id), clip_N=text(table.clip_id))


def kept_neighbours(train: EmbeddingTable) -> int:
    """Neighbours to keep of every clip at clip level, so that the attacks need no search of their own."""
    return min(int(train.rows["patient_id"].value_counts().max()) + 1, _MOST_KEPT, len(train))


def attack(sets: Sets, found: LevelScores, settings: AuditSettings) -> tuple[Attacks, list[str]]:
    """The figures, and a note for each attack that the sets are too small for. found: the clip level's scores."""
    notes: list[str] = []
    metric, seed = settings.metric, settings.seed
    train, holdout, synthetic_SD = clips_of(sets.train), clips_of(sets.holdout), sets.synthetic.video_ND
    if len(np.unique(train.patient_N)) < 2:
        raise EchofmError("the training set has a single patient; an audit needs two or more")
    own, null = found.synthetic.found, found.holdout.found
    member = membership(train, holdout, synthetic_SD, metric=metric, seed=seed)
    ratio_S = distance_ratio(synthetic_SD, train, metric=metric, found=own)
    ratio_H = distance_ratio(holdout.features_ND, train, metric=metric, found=null)
    ratio = flagged(-ratio_S, -ratio_H, holdout.patient_N, alpha=settings.alpha, seed=seed)
    try:
        naming = naming_risk(train, holdout, synthetic_SD, metric=metric, seed=seed)
    except EchofmError as error:
        naming = None
        notes.append(f"the naming attack was left out: {error}")
    if naming is not None and not naming.informative:
        notes.append("the naming attack is weaker than naive guessing: it is uninformative, not reassuring")
    return Attacks(
        membership_auc=member.auc,
        membership_tpr_at_1_percent_fpr=member.tpr_at_1_percent_fpr,
        closer_to_train=closer_to_train(train, holdout, synthetic_SD, metric=metric, seed=seed),
        distance_ratio_flagged=ratio.fraction,
        inauthentic=float(inauthentic(synthetic_SD, train, metric=metric, found=own).mean()),
        inauthentic_holdout=float(inauthentic(holdout.features_ND, train, metric=metric, found=null).mean()),
        naming_attack=naming.attack if naming else None,
        naming_control=naming.control if naming else None,
        naming_risk=naming.risk if naming else None,
        naming_informative=naming.informative if naming else None,
    ), notes
