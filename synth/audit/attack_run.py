"""All attacks of `attacks.py` on one audit's sets, sharing their searches, and what they come to."""

from __future__ import annotations

import numpy as np

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.nearest import Metric
from synth.audit import attacks, calibrate
from synth.audit.estimates import estimate
from synth.audit.levels import Head, projected
from synth.audit.names import text
from synth.audit.result import Attacks, Estimate
from synth.audit.scoring import LevelScores, Sets

# A patient with more clips than this can fill the neighbours kept; the ratio then seeks another patient's.
_MOST_KEPT = 200


def clips_of(table: EmbeddingTable, head: Head | None) -> attacks.Clips:
    """A real set at clip level."""
    return attacks.Clips(
        features_ND=projected(table, "clip", head).video_ND,
        patient_N=text(table.patient_id),
        clip_N=text(table.clip_id),
    )


def kept_neighbours(train: EmbeddingTable) -> int:
    """Neighbours to keep of every clip at clip level, so that the attacks need no search of their own."""
    return min(int(train.rows["patient_id"].value_counts().max()) + 1, _MOST_KEPT, len(train))


def attack(
    sets: Sets, found: LevelScores, *, head: Head | None, alpha: float, metric: Metric, seed: int
) -> tuple[Attacks, list[str]]:
    """The figures, and a note for each attack that the sets are too small for. found: the clip level's scores."""
    notes: list[str] = []
    train, holdout = clips_of(sets.train, head), clips_of(sets.holdout, head)
    synthetic_SD = projected(sets.synthetic, "clip", head).video_ND
    if len(np.unique(train.patient_N)) < 2:
        raise EchofmError("the training set has a single patient; an audit needs two or more")
    own, null = found.synthetic.found, found.holdout.found
    member = attacks.membership(train, holdout, synthetic_SD, metric=metric, seed=seed)
    ratio_S = attacks.distance_ratio(synthetic_SD, train, metric=metric, found=own)
    ratio_H = attacks.distance_ratio(holdout.features_ND, train, metric=metric, found=null)
    ratio = calibrate.flagged(-ratio_S, -ratio_H, holdout.patient_N, alpha=alpha, seed=seed)
    try:
        naming = attacks.naming_risk(train, holdout, synthetic_SD, metric=metric, seed=seed)
    except EchofmError as error:
        naming = None
        notes.append(f"the naming attack was left out: {error}")
    if naming is not None and not naming.informative:
        notes.append("the naming attack is weaker than naive guessing: it is uninformative, not reassuring")
    return Attacks(
        membership_auc=estimate(member.auc),
        membership_tpr_at_1_percent_fpr=estimate(member.tpr_at_1_percent_fpr),
        closer_to_train=estimate(attacks.closer_to_train(train, holdout, synthetic_SD, metric=metric, seed=seed)),
        distance_ratio_flagged=Estimate(value=ratio.fraction, low=ratio.bootstrap_low, high=ratio.bootstrap_high),
        inauthentic=float(attacks.inauthentic(synthetic_SD, train, metric=metric, found=own).mean()),
        inauthentic_holdout=float(attacks.inauthentic(holdout.features_ND, train, metric=metric, found=null).mean()),
        naming_attack=estimate(naming.attack) if naming else None,
        naming_control=estimate(naming.control) if naming else None,
        naming_risk=naming.risk if naming else None,
        naming_informative=naming.informative if naming else None,
    ), notes
