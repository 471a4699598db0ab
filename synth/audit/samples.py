"""samples.parquet: a row per synthetic clip, and what the rows say about the exposed patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from synth.audit.duplicates import Duplicates
from synth.audit.names import text
from synth.audit.result import Exposure
from synth.audit.sets import Sets
from synth.audit.settings import Level
from synth.audit.statistics.decision import Decision
from synth.audit.statistics.scores import LevelScores

_MOST_EXPOSED = 20


def sample_rows(sets: Sets, found: Sequence[LevelScores], decision: Decision, duplicates: Duplicates) -> pd.DataFrame:
    """row, clip_id; per level score, neighbour, neighbour_patient, p, q; then the decision and its reason."""
    columns: dict[str, object] = {"row": np.arange(len(sets.synthetic)), "clip_id": text(sets.synthetic.clip_id)}
    clips, patients = text(sets.train.clip_id), text(sets.train.patient_id)
    for each in found:
        first, score = each.synthetic.neighbour, each.synthetic.score
        columns |= {
            f"{each.level}_score": np.where(np.isfinite(score), score, np.nan),
            f"{each.level}_neighbour": np.where(first >= 0, clips[first], ""),
            f"{each.level}_neighbour_patient": np.where(first >= 0, patients[first], ""),
            f"{each.level}_p": each.p_S,
            f"{each.level}_q": each.q_S,
        }
    copied = duplicates.of(text(sets.synthetic.clip_id))
    columns |= {
        "p": decision.p_S,
        "q": decision.q_S,
        "flagged": decision.flagged_S,
        "duplicate_of": copied,
        "removed": decision.flagged_S | (copied != ""),
    }
    return pd.DataFrame(columns)


def exposure(samples: pd.DataFrame, level: Level) -> Exposure:
    """Which training patients the synthetic clips come closest to, at the deciding level."""
    patient, score = f"{level}_neighbour_patient", f"{level}_score"
    samples = samples[samples[patient] != ""]
    hits = samples[patient].value_counts()
    by_patient = samples[samples["removed"]].groupby(patient)[score].agg(["size", "max"]).reset_index()
    most = by_patient.sort_values(["size", "max", patient], ascending=[False, False, True])
    rows = most.head(_MOST_EXPOSED).itertuples(index=False, name=None)
    return Exposure(
        patients_nearest=len(hits),
        patients_flagged=len(by_patient),
        clips_per_patient=sorted((int(each) for each in hits), reverse=True),
        most=[(str(name), int(clips), float(highest)) for name, clips, highest in rows],
    )
