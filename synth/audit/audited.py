"""Audited: what an audit found, in Python, as files and as a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.report.pdf import print_pdf
from synth.audit.duplicates import Duplicates
from synth.audit.report.page import page
from synth.audit.report.strips import Strip
from synth.audit.result import AuditResult, Exposure
from synth.audit.sets import Sets, text
from synth.audit.settings import Level
from synth.audit.statistics.scores import Decision, LevelScores

if TYPE_CHECKING:
    from echofm.report.page import Page

REPORT, PDF = "report.html", "report.pdf"
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Audited:
    """result: the figures. samples: a row per synthetic clip, docs/audit.md names the columns.

    nulls: by level, the scores of the held-out clips. simulated: whether the training patients are the phantom's.
    strips: reads the clips to be removed and the closest others, beside their sources, for the page.
    """

    result: AuditResult
    samples: pd.DataFrame
    nulls: dict[Level, npt.NDArray[np.float64]]
    simulated: bool = False
    strips: Callable[[], Sequence[Strip]] = tuple

    @property
    def verdict(self) -> str:
        """A finding per line, the first about what this audit would miss. Never a clean bill."""
        return self.result.verdict

    @property
    def flagged_ids(self) -> list[str]:
        """Clips flagged by the rule."""
        return [str(each) for each in self.samples["clip_id"][self.samples["flagged"]]]

    @property
    def removed_ids(self) -> list[str]:
        """Clips to remove: flagged, or a copy of a training or held-out recording."""
        return [str(each) for each in self.samples["clip_id"][self.samples["removed"]]]

    def page(self, *, fail_above: float = 0.0, audit: str = "") -> Page:
        """The report; reads the clips that it shows. fail_above: above which the exit code is 1. audit: its folder's
        name."""
        return page(
            self.result,
            self.samples,
            self.nulls,
            self.strips(),
            simulated=self.simulated,
            fail_above=fail_above,
            audit=audit,
        )

    def save(self, folder: str | Path, *, fail_above: float = 0.0, pdf: bool = False) -> None:
        """Write audit.json, samples.parquet, report.html and, if asked, report.pdf. Raises EchofmError where that
        cannot be done."""
        folder = Path(folder)
        # First what took long; a clip that cannot be shown costs no figure.
        self.result.save(folder, self.samples)
        # While pairs are read, an earlier audit's page must not stand beside these figures.
        for name in (REPORT, PDF):
            (folder / name).unlink(missing_ok=True)
        self.page(fail_above=fail_above, audit=folder.name).save(folder / REPORT)
        if pdf:
            print_pdf(folder / REPORT, folder / PDF)
