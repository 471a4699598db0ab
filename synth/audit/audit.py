"""audit: three embedding tables in, a calibrated answer with its own power out.

Shapes: N training clips, H held-out clips, S synthetic clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable, require_one_encoder
from echofm.errors import EchofmError
from echofm.intervals import Interval
from echofm.nearest import Metric, Neighbours, nearest
from synth.audit import attacks, calibrate
from synth.audit.power import Planted, Recall, power, sees_copies
from synth.audit.result import (
    Attacks,
    AuditResult,
    CanaryRecall,
    Estimate,
    Exposure,
    FlaggedPart,
    SetSummary,
)
from synth.audit.verdict import verdict

Rule = Literal["conformal", "published"]
_MOST_EXPOSED = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Audited:
    """result: the figures. samples: a row per synthetic clip: clip_id, score (similarity to the nearest training clip),
    neighbour (hashed clip), neighbour_patient (hashed), p, q, distance_ratio, flagged. null_H: the held-out scores."""

    result: AuditResult
    samples: pd.DataFrame
    null_H: npt.NDArray[np.float64]


def audit(
    train: EmbeddingTable,
    holdout: EmbeddingTable,
    synthetic: EmbeddingTable,
    *,
    planted: Sequence[Planted] = (),
    alpha: float = 0.05,
    rule: Rule = "conformal",
    metric: Metric = "cosine",
    seed: int = 0,
    judge_digest: str | None = None,
) -> Audited:
    """How much closer a synthetic set comes to its training patients than new patients do.

    planted: embedded canaries; without them the result says that its power is unknown.
    rule: "conformal" flags q <= alpha against held-out -> train; "published" flags above the 95th percentile of
        train -> held-out, which is biased (calibrate.py) and offered to reproduce published figures.
    Raises EchofmError where the tables do not fit: other encoders, shared patients, a held-out set too small.
    """
    _require_comparable(train, holdout, synthetic)
    known = attacks.Clips(features_ND=train.video_ND, patient_N=_text(train.patient_id))
    new = attacks.Clips(features_ND=holdout.video_ND, patient_N=_text(holdout.patient_id))
    calibrate.require_holdout(len(set(new.patient_N)), alpha=alpha)
    found = nearest(synthetic.video_ND, train.video_ND, metric=metric)
    null = nearest(holdout.video_ND, train.video_ND, metric=metric).similarity_QK[:, 0]
    score = found.similarity_QK[:, 0]
    p = calibrate.conformal_p(score, null, new.patient_N)
    q = calibrate.q_values(p)
    threshold = calibrate.published_threshold(
        nearest(train.video_ND, holdout.video_ND, metric=metric).similarity_QK[:, 0]
    )
    decided = q <= alpha if rule == "conformal" else score > threshold
    ratio = attacks.distance_ratio(synthetic.video_ND, known, metric=metric)
    flagged = _flagged(score, null, new.patient_N, decided=decided, alpha=alpha, seed=seed)
    recalls = power(
        planted,
        train.video_ND,
        clip_id_N=_text(train.clip_id),
        patient_N=known.patient_N,
        null_H=null,
        null_patient_H=new.patient_N,
        alpha=alpha,
        metric=metric,
    )
    found_attacks, notes = _attacks(known, new, synthetic.video_ND, ratio, alpha=alpha, metric=metric, seed=seed)
    samples = _samples(synthetic, train, found, p=p, q=q, ratio=ratio, decided=decided)
    result = AuditResult(
        verdict=verdict(flagged, found_attacks, recalls, alpha=alpha),
        sees_copies=sees_copies(recalls),
        alpha=alpha,
        rule=rule,
        metric=metric,
        seed=seed,
        encoder_digest=train.encoder_digest,
        judge_digest=judge_digest,
        train=SetSummary(clips=len(train), patients=len(set(known.patient_N))),
        holdout=SetSummary(clips=len(holdout), patients=len(set(new.patient_N))),
        synthetic=SetSummary(clips=len(synthetic), patients=None),
        flagged=flagged,
        published_rule_flags=float((score > threshold).mean()),
        attacks=found_attacks,
        power=[_recall(each) for each in recalls],
        exposure=_exposure(samples),
        notes=notes,
    )
    return Audited(result=result, samples=samples, null_H=null)


def _require_comparable(train: EmbeddingTable, holdout: EmbeddingTable, synthetic: EmbeddingTable) -> None:
    require_one_encoder([train, holdout, synthetic])
    for name, table in {"training": train, "held-out": holdout, "synthetic": synthetic}.items():
        if len(table) == 0:
            raise EchofmError(f"the {name} table is empty")
        table.check_finite()
    shared = sorted(set(train.patient_id) & set(holdout.patient_id))
    if shared:
        raise EchofmError(
            f"{len(shared)} patient(s) are both in the training and the held-out table (first {shared[0]}); "
            "the null needs patients whom the generator never saw: take them out of one"
        )


def _flagged(
    score_S: npt.NDArray,
    null_H: npt.NDArray,
    patient_H: npt.NDArray[np.str_],
    *,
    decided: npt.NDArray[np.bool_],
    alpha: float,
    seed: int,
) -> FlaggedPart:
    found = calibrate.flagged(score_S, null_H, patient_H, alpha=alpha, seed=seed)
    return FlaggedPart(
        clips=round(found.fraction * len(score_S)),
        fraction=Estimate(value=found.fraction, low=found.bootstrap_low, high=found.bootstrap_high),
        clopper_pearson=Estimate(value=found.fraction, low=found.low, high=found.high),
        excess=found.excess,
        excess_p=min(1.0, found.excess_p),
        decided=int(decided.sum()),
        smallest_detectable_share=calibrate.smallest_detectable_share(len(set(patient_H)), alpha=alpha),
    )


def _attacks(
    train: attacks.Clips,
    holdout: attacks.Clips,
    synthetic_SD: npt.NDArray,
    ratio_S: npt.NDArray,
    *,
    alpha: float,
    metric: Metric,
    seed: int,
) -> tuple[Attacks, list[str]]:
    """The figures, and a note for each attack that the sets are too small for."""
    notes: list[str] = []
    member = attacks.membership(train, holdout, synthetic_SD, metric=metric, seed=seed)
    null_ratio = attacks.distance_ratio(holdout.features_ND, train, metric=metric)
    ratio = calibrate.flagged(-ratio_S, -null_ratio, holdout.patient_N, alpha=alpha, seed=seed)
    try:
        naming = attacks.naming_risk(train, holdout, synthetic_SD, metric=metric, seed=seed)
    except EchofmError as error:
        naming = None
        notes.append(f"the naming attack was left out: {error}")
    if naming is not None and not naming.informative:
        notes.append("the naming attack is weaker than naive guessing: it is uninformative, not reassuring")
    found = Attacks(
        membership_auc=_estimate(member.auc),
        membership_tpr_at_1_percent_fpr=_estimate(member.tpr_at_1_percent_fpr),
        closer_to_train=_estimate(attacks.closer_to_train(train, holdout, synthetic_SD, metric=metric, seed=seed)),
        distance_ratio_flagged=Estimate(value=ratio.fraction, low=ratio.bootstrap_low, high=ratio.bootstrap_high),
        inauthentic=float(attacks.inauthentic(synthetic_SD, train, metric=metric).mean()),
        inauthentic_holdout=float(attacks.inauthentic(holdout.features_ND, train, metric=metric).mean()),
        naming_attack=_estimate(naming.attack) if naming else None,
        naming_control=_estimate(naming.control) if naming else None,
        naming_risk=naming.risk if naming else None,
        naming_informative=naming.informative if naming else None,
    )
    return found, notes


def _samples(
    synthetic: EmbeddingTable,
    train: EmbeddingTable,
    found: Neighbours,
    *,
    p: npt.NDArray,
    q: npt.NDArray,
    ratio: npt.NDArray,
    decided: npt.NDArray[np.bool_],
) -> pd.DataFrame:
    first = found.index_QK[:, 0]
    return pd.DataFrame(
        {
            "clip_id": synthetic.clip_id,
            "score": found.similarity_QK[:, 0],
            "neighbour": train.clip_id[first],
            "neighbour_patient": train.patient_id[first],
            "p": p,
            "q": q,
            "distance_ratio": ratio,
            "flagged": decided,
        }
    )


def _exposure(samples: pd.DataFrame) -> Exposure:
    flagged = samples[samples["flagged"]]
    by_patient = flagged.groupby("neighbour_patient")["score"].agg(["size", "max"]).reset_index()
    most = by_patient.sort_values(["size", "max", "neighbour_patient"], ascending=[False, False, True])
    rows = most.head(_MOST_EXPOSED).itertuples(index=False, name=None)
    return Exposure(
        patients_nearest=samples["neighbour_patient"].nunique(),
        patients_flagged=len(by_patient),
        most=[(str(patient), int(clips), float(score)) for patient, clips, score in rows],
    )


def _recall(each: Recall) -> CanaryRecall:
    return CanaryRecall(
        kind=each.kind,
        strength=each.strength,
        planted=each.planted,
        recall=_estimate(each.recall),
        right_patient=each.right_patient,
    )


def _estimate(interval: Interval) -> Estimate:
    return Estimate(value=interval.value, low=interval.low, high=interval.high)


def _text(values: npt.NDArray[np.object_]) -> npt.NDArray[np.str_]:
    return values.astype(str)
