"""The judge: a second model asks the same question, of all clips and of those that stay.

A set that was filtered by one model looks clean to that model. Only another one, fitted on other patients, can tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from echofm.errors import EchofmError
from echofm.nearest import Metric
from synth.audit import attacks
from synth.audit.attack_run import clips_of
from synth.audit.decision import decide_on
from synth.audit.estimates import estimate
from synth.audit.levels import Head, projected
from synth.audit.names import safe_table, shown_digest, text
from synth.audit.power import power, sees_copies
from synth.audit.result import Estimate, FlaggedPart, JudgeResult
from synth.audit.scoring import Sets, scores
from synth.audit.search import IndexKind


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """sets: the audit's clips in the judge's encoder, in the same order. separate: False where it is known that judge
    and filter were fitted on the same patients."""

    sets: Sets
    head: Head | None = None
    separate: bool = True


def judged(
    judge: Judge, samples: pd.DataFrame, *, alpha: float, metric: Metric, index: IndexKind, seed: int
) -> JudgeResult:
    """The judge's flagged part and membership inference before and after the clips to remove are taken out.

    samples: the audit's (samples.py), whose clip_id and removed count.
    Raises EchofmError where its synthetic set is not the audit's.
    """
    sets, removed_S = judge.sets, samples["removed"].to_numpy(bool)
    if text(safe_table(sets.synthetic).clip_id).tolist() != samples["clip_id"].tolist():
        raise EchofmError(
            f"the judge's synthetic set ({len(sets.synthetic)} clips) is not the audit's ({len(samples)}), clip by "
            "clip in one order; embed the same"
        )
    before, membership_before, sees = _asked(judge, sets, alpha=alpha, metric=metric, index=index, seed=seed)
    after = membership_after = None
    if not removed_S.all():
        kept = Sets(train=sets.train, holdout=sets.holdout, synthetic=sets.synthetic.select(~removed_S))
        after, membership_after, _ = _asked(judge, kept, alpha=alpha, metric=metric, index=index, seed=seed)
    return JudgeResult(
        digest=shown_digest(sets.train.encoder_digest if judge.head is None else judge.head.digest("clip")),
        separate=judge.separate,
        sees_copies=sees,
        before=before,
        after=after,
        membership_auc_before=membership_before,
        membership_auc_after=membership_after,
    )


def _asked(
    judge: Judge, sets: Sets, *, alpha: float, metric: Metric, index: IndexKind, seed: int
) -> tuple[FlaggedPart, Estimate, bool | None]:
    found = scores(sets, "clip", head=judge.head, metric=metric, index=index)
    decision = decide_on([found], "clip", text(sets.holdout.patient_id), alpha=alpha, rule="conformal", seed=seed)
    train, holdout = clips_of(sets.train, judge.head), clips_of(sets.holdout, judge.head)
    synthetic_SD = projected(sets.synthetic, "clip", judge.head).video_ND
    member = attacks.membership(train, holdout, synthetic_SD, metric=metric, seed=seed)
    recalls = []
    if sets.canaries is not None and decision.canary_neighbour is not None:
        recalls = power(sets.canaries, decision.p_C, decision.canary_neighbour, sets.train, alpha=alpha)
    return decision.flagged, estimate(member.auc), sees_copies(recalls)
