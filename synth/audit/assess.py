"""audit: three embedding tables in, a calibrated answer with its own power out.

N training clips, H held-out clips, S synthetic clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import echofm
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.audited import Audited
from synth.audit.canaries.power import power, sees_copies
from synth.audit.duplicates import Duplicates, by_ids
from synth.audit.judging import Judge, judged
from synth.audit.names import safe_table, shown_digest, text
from synth.audit.result import AuditResult, CanaryRecall, LevelResult
from synth.audit.samples import exposure, sample_rows
from synth.audit.sets import Sets, require_comparable, summary, unlike
from synth.audit.settings import AuditSettings, Level
from synth.audit.statistics.attacks import attack, kept_neighbours
from synth.audit.statistics.calibrate import require_holdout
from synth.audit.statistics.decision import Decision, decide_on
from synth.audit.statistics.levels import Head, available, frames_of
from synth.audit.statistics.scores import LevelScores, scores
from synth.audit.verdict import verdict

Source = EmbeddingTable | str | Path


def audit(
    train: Source,
    holdout: Source,
    synthetic: Source,
    *,
    canaries: Source | None = None,
    head: Head | None = None,
    judge: Judge | None = None,
    duplicates: Duplicates | None = None,
    set_aside: tuple[int, int, int] = (0, 0, 0),
    settings: AuditSettings | None = None,
) -> Audited:
    """How much closer a synthetic set comes to its training patients than new patients do, from tables alone.

    train, holdout, synthetic: tables of one encoder, or folders of such. canaries: a table of planted copies
        (synth.audit.canaries.marks names its columns); without them the result says that its power is unknown.
    head: a re-identification head that the features go through. judge: a second model for the same question.
    duplicates: copies found in the pixels. set_aside: files of each set that have no row.
    Raises EchofmError where the tables do not fit: other encoders, shared patients, a held-out set too small.
    """
    settings = settings or AuditSettings()
    settings.check()
    sets = _sets(train, holdout, synthetic, canaries)
    require_comparable(sets)
    names = _levels(sets, head, settings)
    settings = replace(settings, frames=frames_of(sets.tables(), most=settings.frames))
    kept = kept_neighbours(sets.train)
    found = [scores(sets, each, head=head, settings=settings, kept=kept if each == "clip" else 1) for each in names]
    without = _without_features(found, settings)
    decision = decide_on(found, text(sets.holdout.patient_id), settings)
    duplicates = duplicates or by_ids(sets.train, sets.holdout, sets.synthetic)
    samples = sample_rows(sets, found, decision, duplicates)
    attacks, notes = attack(sets, _at_clip_level(found, sets, head, settings, kept), head=head, settings=settings)
    second = None if judge is None else judged(judge, samples, settings)
    recalls = _recalls(sets, decision, settings)
    words = verdict(
        decision.flagged,
        attacks,
        recalls,
        duplicates=duplicates,
        judge=second,
        settings=settings,
        set_aside=set_aside,
        without_features=without,
    )
    result = AuditResult(
        verdict=words,
        sees_copies=sees_copies(recalls),
        flagged=decision.flagged,
        power=recalls,
        removed=int(samples["removed"].sum()),
        levels=[_level(each, sets, settings) for each in found],
        attacks=attacks,
        duplicates=duplicates.counted(),
        exposure=exposure(samples, decision.level),
        judge=second,
        notes=[*unlike(sets), *notes, *duplicates.notes()],
        **_given(sets, head, set_aside, settings),
    )
    return Audited(result=result, samples=samples, nulls={each.level: each.holdout.score for each in found})


def _sets(train: Source, holdout: Source, synthetic: Source, canaries: Source | None) -> Sets:
    planted = None if canaries is None else _table(canaries)
    return Sets(train=_table(train), holdout=_table(holdout), synthetic=_table(synthetic), canaries=planted)


def _given(sets: Sets, head: Head | None, set_aside: tuple[int, int, int], settings: AuditSettings) -> dict[str, Any]:
    """What of a result says what was audited, and how."""
    return {
        "echofm_version": echofm.__version__,
        "alpha": settings.alpha,
        "rule": settings.rule,
        "decide": settings.decide,
        "metric": settings.metric,
        "seed": settings.seed,
        "encoder_digest": shown_digest(sets.train.encoder_digest),
        "reid_digest": None if head is None else shown_digest(head.digest("clip")),
        "train": summary(sets.train, set_aside[0], real=True),
        "holdout": summary(sets.holdout, set_aside[1], real=True),
        "synthetic": summary(sets.synthetic, set_aside[2], real=False),
    }


def _table(source: Source) -> EmbeddingTable:
    return safe_table(source if isinstance(source, EmbeddingTable) else EmbeddingTable.load(source))


def _levels(sets: Sets, head: Head | None, settings: AuditSettings) -> list[Level]:
    """The levels to compare. Raises EchofmError where one is not offered, or too few patients are held out for them."""
    offered, decide = available(sets.tables(), head), settings.decide
    for each in [*settings.levels, *([] if decide == "any" else [decide])]:
        if each not in offered:
            needs = "a re-identification head (--reid)" if each == "motion" else "token-time features (phase)"
            needs = needs if head is None else f"a head that was fitted at it (fit-reid --levels {each})"
            raise EchofmError(f"level {each} needs {needs}; these tables offer {', '.join(offered)}")
    names = list(dict.fromkeys(settings.levels or offered))
    if decide != "any" and decide not in names:
        raise EchofmError(f"the deciding level {decide} is not among the levels compared ({', '.join(names)})")
    tests = len(names) if decide == "any" else 1
    require_holdout(sets.holdout.rows["patient_id"].nunique(), alpha=settings.alpha / tests)
    # The clip level first: attacks are made at it.
    return sorted(names, key=offered.index)


def _at_clip_level(
    found: Sequence[LevelScores], sets: Sets, head: Head | None, settings: AuditSettings, kept: int
) -> LevelScores:
    return found[0] if found[0].level == "clip" else scores(sets, "clip", head=head, settings=settings, kept=kept)


def _without_features(found: Sequence[LevelScores], settings: AuditSettings) -> int:
    """Synthetic clips of which the deciding levels know nothing. Raises EchofmError where these are all."""
    deciding = [each for each in found if settings.decide in ("any", each.level)]
    without_S = np.all([each.synthetic.neighbour < 0 for each in deciding], axis=0)
    if without_S.all():
        raise EchofmError(
            f"no synthetic clip has features at the {deciding[0].level} level, so it can decide nothing; let another "
            "level decide (--decide)"
        )
    return int(without_S.sum())


def _level(found: LevelScores, sets: Sets, settings: AuditSettings) -> LevelResult:
    alone = decide_on([found], text(sets.holdout.patient_id), replace(settings, decide=found.level))
    return LevelResult(
        level=found.level,
        features=found.features,
        vectors_per_clip=settings.frames if found.level == "frame" else 1,
        flagged=alone.flagged,
        published_rule_flags=float((found.synthetic.score > found.threshold).mean()),
        power=_recalls(sets, alone, settings),
        search_recall=found.recall,
    )


def _recalls(sets: Sets, decision: Decision, settings: AuditSettings) -> list[CanaryRecall]:
    if sets.canaries is None or decision.canary_neighbour is None:
        return []
    return power(sets.canaries, decision.p_C, decision.canary_neighbour, sets.train, alpha=settings.alpha)
