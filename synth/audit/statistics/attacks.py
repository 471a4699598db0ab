"""All attacks on one audit's sets, sharing their searches, and what they come to."""

from __future__ import annotations

import numpy as np

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.intervals import Estimate
from synth.audit.names import text
from synth.audit.result import Attacks
from synth.audit.sets import Sets
from synth.audit.settings import AuditSettings
from synth.audit.statistics.calibrate import flagged
from synth.audit.statistics.distances import Clips, closer_to_train, distance_ratio, inauthentic
from synth.audit.statistics.levels import Head, projected
from synth.audit.statistics.membership import membership, naming_risk
from synth.audit.statistics.scores import LevelScores

# A patient with more clips than this can fill the neighbours kept; the ratio then seeks another patient's.
_MOST_KEPT = 200


def clips_of(table: EmbeddingTable, head: Head | None) -> Clips:
    """A real set at clip level."""
    return Clips(
        features_ND=projected(table, "clip", head).video_ND,
        patient_N=text(table.patient_id),
        clip_N=text(table.clip_id),
    )


def kept_neighbours(train: EmbeddingTable) -> int:
    """Neighbours to keep of every clip at clip level, so that the attacks need no search of their own."""
    return min(int(train.rows["patient_id"].value_counts().max()) + 1, _MOST_KEPT, len(train))


def attack(sets: Sets, found: LevelScores, *, head: Head | None, settings: AuditSettings) -> tuple[Attacks, list[str]]:
    """The figures, and a note for each attack that the sets are too small for. found: the clip level's scores."""
    notes: list[str] = []
    metric, seed = settings.metric, settings.seed
    train, holdout = clips_of(sets.train, head), clips_of(sets.holdout, head)
    synthetic_SD = projected(sets.synthetic, "clip", head).video_ND
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
        distance_ratio_flagged=Estimate(value=ratio.fraction, low=ratio.bootstrap_low, high=ratio.bootstrap_high),
        inauthentic=float(inauthentic(synthetic_SD, train, metric=metric, found=own).mean()),
        inauthentic_holdout=float(inauthentic(holdout.features_ND, train, metric=metric, found=null).mean()),
        naming_attack=naming.attack if naming else None,
        naming_control=naming.control if naming else None,
        naming_risk=naming.risk if naming else None,
        naming_informative=naming.informative if naming else None,
    ), notes
