"""The judge: a second model asks the same question, of all clips and of those that stay.

A set that was filtered by one model looks clean to that model. Only another one, fitted on other patients, can tell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from echofm.errors import EchofmError
from echofm.intervals import Estimate
from synth.audit.canaries.transforms import sees_copies
from synth.audit.result import JudgeResult
from synth.audit.sets import Sets, safe_table, shown_digest, text
from synth.audit.settings import AuditSettings
from synth.audit.statistics.attacks import clips_of, membership
from synth.audit.statistics.scores import Decision, decide_on, scores


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """sets: the audit's clips in the judge's features, in the same order. separate: False where it is known that judge
    and filter were fitted on the same patients."""

    sets: Sets
    separate: bool = True


def judged(judge: Judge, samples: pd.DataFrame, settings: AuditSettings) -> JudgeResult:
    """The judge's flagged part and membership inference before and after the clips to remove are taken out.

    samples: the audit's (`audited.sample_rows`), whose clip_id and removed count.
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
    before, membership_before = _answer(sets, settings)
    after = membership_after = None
    if not removed_S.all():
        kept = replace(sets, synthetic=sets.synthetic.select(~removed_S), canaries=None)
        after, membership_after = _answer(kept, settings)
    return JudgeResult(
        digest=shown_digest(sets.train.encoder_digest),
        separate=judge.separate,
        sees_copies=sees_copies(before.recalls),
        before=before.flagged,
        after=None if after is None else after.flagged,
        membership_auc_before=membership_before,
        membership_auc_after=membership_after,
    )


def _answer(sets: Sets, settings: AuditSettings) -> tuple[Decision, Estimate]:
    decision = decide_on([scores(sets, "clip", settings=settings)], sets, settings)
    train, holdout = clips_of(sets.train), clips_of(sets.holdout)
    member = membership(train, holdout, sets.synthetic.video_ND, metric=settings.metric, seed=settings.seed)
    return decision, member.auc
