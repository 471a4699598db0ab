"""audit: three embedding tables in, a calibrated answer with its own power out.

N training clips, H held-out clips, S synthetic clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import echofm
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.audited import Audited, exposure, sample_rows
from synth.audit.canaries.transforms import sees_copies
from synth.audit.duplicates import Duplicates, by_ids
from synth.audit.judging import Judge, judged
from synth.audit.result import AuditResult, LevelResult
from synth.audit.sets import Head, Sets, require_comparable, safe_table, shown_digest, summary, unlike
from synth.audit.settings import AuditSettings, Level
from synth.audit.statistics.attacks import attack, kept_neighbours
from synth.audit.statistics.calibrate import require_holdout
from synth.audit.statistics.scores import LevelScores, available, decide_on, frames_of, scores
from synth.audit.verdict import verdict

if TYPE_CHECKING:
    from synth.audit.motion import MotionLevel

Source = EmbeddingTable | str | Path


def audit(
    train: Source,
    holdout: Source,
    synthetic: Source,
    *,
    canaries: Source | None = None,
    head: Head | None = None,
    motion: MotionLevel | None = None,
    judge: Judge | None = None,
    duplicates: Duplicates | None = None,
    set_aside: tuple[int, int, int] = (0, 0, 0),
    names: tuple[str, str, str] = ("", "", ""),
    settings: AuditSettings | None = None,
) -> Audited:
    """How much closer a synthetic set comes to its training patients than new patients do, from tables alone.

    train, holdout, synthetic: tables of one encoder, or folders of such. canaries: a table of planted copies (columns
        `synth.audit.sets.MARKS`), without which the result says that its power is unknown.
    head: a re-identification head that the features go through; motion: a motion level over it; judge: a second model.
    duplicates: copies found in the pixels. set_aside: files of each set that have no row. names: of the sets, shown.
    Raises EchofmError where the tables do not fit: other encoders, shared patients, a held-out set too small.
    """
    settings = settings or AuditSettings()
    settings.check()
    sets = _sets(train=train, holdout=holdout, synthetic=synthetic, canaries=canaries)
    looks = motion or head
    levels = _levels(sets, looks, settings)
    settings = replace(settings, frames=frames_of(sets.tables(), most=settings.frames))
    seen = sets.seen_by(head)  # attacks are made at the clip level, compared or not
    by_clip = scores(seen, "clip", settings=settings, kept=kept_neighbours(sets.train))
    found = [by_clip if each == "clip" else scores(sets, each, head=looks, settings=settings) for each in levels]
    decision = decide_on(found, sets, settings)
    duplicates = duplicates or by_ids(sets.train, sets.holdout, sets.synthetic)
    samples = sample_rows(sets, found, decision, duplicates)
    attacks, notes = attack(seen, by_clip, settings)
    second = None if judge is None else judged(judge, samples, settings)
    words = verdict(
        decision,
        attacks,
        duplicates=duplicates,
        judge=second,
        settings=settings,
        set_aside=set_aside,
        without_features=_without_features(found, settings),
    )
    result = AuditResult(
        verdict=words,
        sees_copies=sees_copies(decision.recalls),
        flagged=decision.flagged,
        power=decision.recalls,
        removed=int(samples["removed"].sum()),
        levels=[_level(each, sets, settings) for each in found],
        attacks=attacks,
        duplicates=duplicates.counted(),
        exposure=exposure(samples, decision.level),
        judge=second,
        notes=[*unlike(sets), *notes, *duplicates.notes()],
        **_given(sets, head, motion, set_aside, names, settings),
    )
    return Audited(result=result, samples=samples, nulls={each.level: each.holdout.score for each in found})


def _given(
    sets: Sets,
    head: Head | None,
    motion: MotionLevel | None,
    set_aside: tuple[int, int, int],
    names: tuple[str, str, str],
    settings: AuditSettings,
) -> dict[str, Any]:
    """What of a result says what was audited, and how."""
    return {
        "echofm_version": echofm.__version__,
        **{name: getattr(settings, name) for name in ("alpha", "rule", "decide", "metric", "seed")},
        "encoder_digest": shown_digest(sets.train.encoder_digest),
        "reid_digest": None if head is None else shown_digest(head.digest("clip")),
        "motion_digest": None if motion is None else motion.motion_digest,
        "train": summary(sets.train, set_aside[0], real=True, name=names[0]),
        "holdout": summary(sets.holdout, set_aside[1], real=True, name=names[1]),
        "synthetic": summary(sets.synthetic, set_aside[2], real=False, name=names[2]),
    }


def _sets(**given: Source | None) -> Sets:
    sets = Sets(**{name: _table(source) for name, source in given.items() if source is not None})
    require_comparable(sets)
    return sets


def _table(source: Source) -> EmbeddingTable:
    return safe_table(source if isinstance(source, EmbeddingTable) else EmbeddingTable.load(source))


def _levels(sets: Sets, head: Head | None, settings: AuditSettings) -> list[Level]:
    """The levels to compare. Raises EchofmError where one is not offered, or too few patients are held out for them."""
    offered, decide = available(sets.tables(), head), settings.decide
    for each in [*settings.levels, *([] if decide == "any" else [decide])]:
        if each not in offered:
            needs = "motion features (--motion, or --reid)" if each == "motion" else "token-time features (phase)"
            needs = needs if head is None else f"a head that was fitted at it (fit-reid --levels {each})"
            raise EchofmError(f"level {each} needs {needs}; these tables offer {', '.join(offered)}")
    names = list(dict.fromkeys(settings.levels or offered))
    if decide != "any" and decide not in names:
        raise EchofmError(f"the deciding level {decide} is not among the levels compared ({', '.join(names)})")
    tests = len(names) if decide == "any" else 1
    require_holdout(sets.holdout.rows["patient_id"].nunique(), alpha=settings.alpha / tests)
    return sorted(names, key=offered.index)


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
    alone = decide_on([found], sets, replace(settings, decide=found.level))
    return LevelResult(
        level=found.level,
        features=found.features,
        vectors_per_clip=settings.frames if found.level == "frame" else 1,
        flagged=alone.flagged,
        published_rule_flags=float((found.synthetic.score > found.threshold).mean()),
        power=alone.recalls,
        search_recall=found.recall,
    )
