"""audit: three embedding tables in, a calibrated answer with its own power out.

N training clips, H held-out clips, S synthetic clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

import echofm
from echofm.embed.table import EmbeddingTable, require_one_encoder
from echofm.errors import EchofmError
from echofm.nearest import Metric
from synth.audit import calibrate
from synth.audit.attack_run import attack, kept_neighbours
from synth.audit.decision import Decision, Rule, decide_on
from synth.audit.duplicates import Duplicates, by_ids
from synth.audit.estimates import recall_figure
from synth.audit.judging import Judge, judged
from synth.audit.levels import Head, Level, available, moments_of
from synth.audit.names import safe_table, shown_digest, text
from synth.audit.power import power, sees_copies
from synth.audit.result import (
    AuditResult,
    LevelResult,
)
from synth.audit.samples import exposure, sample_rows
from synth.audit.scoring import LevelScores, Sets, scores
from synth.audit.search import IndexKind
from synth.audit.summary import set_summary
from synth.audit.verdict import verdict

Source = EmbeddingTable | str | Path


@dataclass(frozen=True, kw_only=True, eq=False)
class Audited:
    """result: the figures. samples: a row per synthetic clip, docs/audit.md names the columns. nulls: by level, the
    scores of the held-out clips."""

    result: AuditResult
    samples: pd.DataFrame
    nulls: dict[Level, npt.NDArray[np.float64]]


def audit(
    train: Source,
    holdout: Source,
    synthetic: Source,
    *,
    canaries: Source | None = None,
    head: Head | None = None,
    judge: Judge | None = None,
    alpha: float = 0.05,
    rule: Rule = "conformal",
    levels: Sequence[Level] | None = None,
    decide: Level | Literal["any"] = "clip",
    metric: Metric = "cosine",
    moments: int = 4,
    index: IndexKind = "auto",
    duplicates: Duplicates | None = None,
    set_aside: tuple[int, int, int] = (0, 0, 0),
    seed: int = 0,
) -> Audited:
    """How much closer a synthetic set comes to its training patients than new patients do.

    train, holdout, synthetic: tables of one encoder, or folders of such. canaries: a table of planted copies
        (synth.audit.marks names its columns); without them the result says that its power is unknown.
    head: a re-identification head that the features go through. judge: a second model, asked the same.
    rule: "conformal" flags q <= alpha against held-out -> train; "published" flags above the 95th percentile of
        train -> held-out, which is biased (calibrate.py) and offered to reproduce published figures.
    levels: to compare; all that the tables offer by default. decide: the level whose q decides; "any" takes all with
        Bonferroni's correction. moments: of each clip at frame level.
    duplicates: copies found in the pixels. set_aside: files of each set that have no row.
    Raises EchofmError where the tables do not fit: other encoders, shared patients, a held-out set too small.
    """
    sets = Sets(train=_table(train), holdout=_table(holdout), synthetic=_table(synthetic), canaries=_optional(canaries))
    require_comparable(sets)
    names = _levels(sets, head, levels, decide)
    calibrate.require_holdout(sets.holdout.rows["patient_id"].nunique(), alpha=alpha / _tests(names, decide))
    moments = moments_of(sets.tables(), most=moments)
    kept = kept_neighbours(sets.train)
    found = [
        scores(sets, level, head=head, metric=metric, moments=moments, kept=kept if level == "clip" else 1, index=index)
        for level in names
    ]
    clip_level = (
        found[0] if found[0].level == "clip" else scores(sets, "clip", head=head, metric=metric, kept=kept, index=index)
    )
    without = _without_features(found, decide)
    decision = decide_on(found, decide, text(sets.holdout.patient_id), alpha=alpha, rule=rule, seed=seed)
    results = [_level(each, sets, moments=moments, alpha=alpha, rule=rule, seed=seed) for each in found]
    recalls = _recalls(sets, decision, alpha=alpha)
    duplicates = duplicates or by_ids(sets.train, sets.holdout, sets.synthetic)
    samples = sample_rows(sets, found, decision, duplicates)
    attacks, notes = attack(sets, clip_level, head=head, alpha=alpha, metric=metric, seed=seed)
    removed = samples["removed"].to_numpy(bool)
    second = None if judge is None else judged(judge, samples, alpha=alpha, metric=metric, index=index, seed=seed)
    flagged = decision.flagged
    result = AuditResult(
        echofm_version=echofm.__version__,
        verdict=verdict(
            flagged,
            attacks,
            recalls,
            duplicates=duplicates,
            judge=second,
            alpha=alpha,
            decide=decide,
            rule=rule,
            set_aside=set_aside,
            without_features=without,
        ),
        sees_copies=sees_copies(recalls),
        alpha=alpha,
        rule=rule,
        decide=decide,
        metric=metric,
        seed=seed,
        encoder_digest=shown_digest(sets.train.encoder_digest),
        reid_digest=None if head is None else shown_digest(head.digest("clip")),
        train=set_summary(sets.train, set_aside[0], real=True),
        holdout=set_summary(sets.holdout, set_aside[1], real=True),
        synthetic=set_summary(sets.synthetic, set_aside[2], real=False),
        flagged=flagged,
        power=[recall_figure(each) for each in recalls],
        removed=int(removed.sum()),
        levels=results,
        attacks=attacks,
        duplicates=duplicates.counted(),
        exposure=exposure(samples, decision.level),
        judge=second,
        notes=[*_unlike(sets), *notes, *duplicates.notes()],
    )
    return Audited(result=result, samples=samples, nulls={each.level: each.holdout.score for each in found})


def _table(source: Source) -> EmbeddingTable:
    return safe_table(source if isinstance(source, EmbeddingTable) else EmbeddingTable.load(source))


# Part of the clips that would have to be others for the two sets to be alike.
_MOST_UNLIKE = 0.2
_WHY_UNLIKE = {
    "view": (
        "show",
        "views differ in how alike patients look, so the null fits badly; hold out clips of the same views",
    ),
    "kind": ("are", "an encoder sees other things in them, so the null fits badly; compare stills with stills"),
}


def _unlike(sets: Sets) -> list[str]:
    """A note where the synthetic set has other views or kinds than the held-out set, which is then no null for it."""
    notes = []
    for column, (verb, why) in _WHY_UNLIKE.items():
        shares = [
            pd.Series(text(table.rows[column].to_numpy(object))).value_counts(normalize=True)
            for table in (sets.synthetic, sets.holdout)
            if column in table.rows and table.rows[column].notna().any()
        ]
        if len(shares) < 2:
            continue
        own, null = (each.reindex(shares[0].index.union(shares[1].index), fill_value=0.0) for each in shares)
        if (own - null).abs().sum() / 2 <= _MOST_UNLIKE:
            continue
        most = (own - null).idxmax()
        name = shown_digest(str(most)) if most else f"an unknown {column}"
        notes.append(
            f"{own[most]:.0%} of the synthetic clips {verb} {name}, but {null[most]:.0%} of the held-out ones: {why}"
        )
    return notes


def _optional(source: Source | None) -> EmbeddingTable | None:
    return None if source is None else _table(source)


def require_comparable(sets: Sets) -> None:
    """Raises EchofmError, with the fix, where the sets cannot be set beside one another."""
    require_one_encoder(sets.tables())
    for name, table in {"training": sets.train, "held-out": sets.holdout, "synthetic": sets.synthetic}.items():
        if len(table) == 0:
            raise EchofmError(f"the {name} table is empty")
        try:
            table.check_finite()
        except EchofmError as error:
            raise EchofmError(f"the {name} table: {error}") from None
        flat = table.video_ND.any(axis=1).argmin()
        if not table.video_ND[flat].any():
            raise EchofmError(
                f"the {name} table: the features of row {flat} are all 0, so nothing is like them; embed that clip "
                "again or drop the row"
            )
    fix = "the null needs patients whom the generator never saw: take them out of one"
    patients = sorted(set(sets.train.patient_id) & set(sets.holdout.patient_id))
    if patients:
        raise EchofmError(
            f"{len(patients)} patient(s) are both in the training and the held-out table (first {patients[0]}); {fix}"
        )
    clips = sorted(set(sets.train.clip_id) & set(sets.holdout.clip_id))
    if clips:
        raise EchofmError(
            f"{len(clips)} clip(s) are both in the training and the held-out table, under other patients' names "
            f"(first {clips[0]}); {fix}"
        )


def _levels(
    sets: Sets, head: Head | None, asked: Sequence[Level] | None, decide: Level | Literal["any"]
) -> list[Level]:
    offered = available(sets.tables(), head)
    for each in [*(asked or []), *([] if decide == "any" else [decide])]:
        if each not in offered:
            needs = "a re-identification head (--reid)" if each == "motion" else "token-time features (phase)"
            needs = needs if head is None else f"a head that was fitted at it (fit-reid --levels {each})"
            raise EchofmError(f"level {each} needs {needs}; these tables offer {', '.join(offered)}")
    names = list(dict.fromkeys(asked or offered))
    if decide != "any" and decide not in names:
        raise EchofmError(f"the deciding level {decide} is not among the levels compared ({', '.join(names)})")
    # The clip level first: attacks are made at it.
    return sorted(names, key=offered.index)


def _without_features(found: Sequence[LevelScores], decide: str) -> int:
    """Synthetic clips of which the deciding levels know nothing. Raises EchofmError where these are all."""
    deciding = [each for each in found if decide in ("any", each.level)]
    without_S = np.all([each.synthetic.neighbour < 0 for each in deciding], axis=0)
    if without_S.all():
        raise EchofmError(
            f"no synthetic clip has features at the {deciding[0].level} level, so it can decide nothing; let another "
            "level decide (--decide)"
        )
    return int(without_S.sum())


def _tests(names: Sequence[Level], decide: str) -> int:
    return len(names) if decide == "any" else 1


def _level(found: LevelScores, sets: Sets, *, moments: int, alpha: float, rule: Rule, seed: int) -> LevelResult:
    patient_H = text(sets.holdout.patient_id)
    alone = decide_on([found], found.level, patient_H, alpha=alpha, rule=rule, seed=seed)
    return LevelResult(
        level=found.level,
        features=found.features,
        vectors_per_clip=moments if found.level == "frame" else 1,
        flagged=alone.flagged,
        published_rule_flags=float((found.synthetic.score > found.threshold).mean()),
        power=[recall_figure(each) for each in _recalls(sets, alone, alpha=alpha)],
        search_recall=found.recall,
    )


def _recalls(sets: Sets, decision: Decision, *, alpha: float) -> list:
    if sets.canaries is None or decision.canary_neighbour is None:
        return []
    return power(sets.canaries, decision.p_C, decision.canary_neighbour, sets.train, alpha=alpha)
