"""The judge: a second model asks the same question, of all clips and of those that stay.

A set that was filtered by one model looks clean to that model. Only another one, fitted on other patients, can tell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from echofm.errors import EchofmError
from echofm.intervals import Estimate
from synth.audit.canaries.power import power, sees_copies
from synth.audit.names import safe_table, shown_digest, text
from synth.audit.result import FlaggedPart, JudgeResult
from synth.audit.sets import Sets
from synth.audit.settings import AuditSettings
from synth.audit.statistics.attacks import clips_of
from synth.audit.statistics.decision import decide_on
from synth.audit.statistics.levels import Head, projected
from synth.audit.statistics.membership import membership
from synth.audit.statistics.scores import scores


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """sets: the audit's clips in the judge's encoder, in the same order. separate: False where it is known that judge
    and filter were fitted on the same patients."""

    sets: Sets
    head: Head | None = None
    separate: bool = True


def judged(judge: Judge, samples: pd.DataFrame, settings: AuditSettings) -> JudgeResult:
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
    # The judge's own question is always this one.
    settings = replace(settings, decide="clip", rule="conformal")
    before, membership_before, sees = _answer(judge, sets, settings)
    after = membership_after = None
    if not removed_S.all():
        kept = Sets(train=sets.train, holdout=sets.holdout, synthetic=sets.synthetic.select(~removed_S))
        after, membership_after, _ = _answer(judge, kept, settings)
    return JudgeResult(
        digest=shown_digest(sets.train.encoder_digest if judge.head is None else judge.head.digest("clip")),
        separate=judge.separate,
        sees_copies=sees,
        before=before,
        after=after,
        membership_auc_before=membership_before,
        membership_auc_after=membership_after,
    )


def _answer(judge: Judge, sets: Sets, settings: AuditSettings) -> tuple[FlaggedPart, Estimate, bool | None]:
    found = scores(sets, "clip", head=judge.head, settings=settings)
    decision = decide_on([found], text(sets.holdout.patient_id), settings)
    train, holdout = clips_of(sets.train, judge.head), clips_of(sets.holdout, judge.head)
    synthetic_SD = projected(sets.synthetic, "clip", judge.head).video_ND
    member = membership(train, holdout, synthetic_SD, metric=settings.metric, seed=settings.seed)
    recalls = []
    if sets.canaries is not None and decision.canary_neighbour is not None:
        recalls = power(sets.canaries, decision.p_C, decision.canary_neighbour, sets.train, alpha=settings.alpha)
    return decision.flagged, member.auc, sees_copies(recalls)
