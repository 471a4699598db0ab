"""Audited: what an audit found, in Python, as files and as a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from synth.audit.report.page import page
from synth.audit.report.strips import Strip
from synth.audit.result import AuditResult
from synth.audit.settings import Level

if TYPE_CHECKING:
    from echofm.report.page import Page

REPORT = "report.html"


def _no_strips() -> Sequence[Strip]:
    return ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Audited:
    """result: the figures. samples: a row per synthetic clip, docs/audit.md names the columns.

    nulls: by level, the scores of the held-out clips. simulated: whether the training patients are the phantom's.
    strips: reads the closest pairs for the page.
    """

    result: AuditResult
    samples: pd.DataFrame
    nulls: dict[Level, npt.NDArray[np.float64]]
    simulated: bool = False
    strips: Callable[[], Sequence[Strip]] = _no_strips

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

    def page(self) -> Page:
        """The report; reads the closest pairs."""
        return page(self.result, self.samples, self.nulls, self.strips(), simulated=self.simulated)

    def save(self, folder: str | Path) -> None:
        """Write audit.json, samples.parquet and report.html. Raises EchofmError where that cannot be done."""
        folder = Path(folder)
        # First what took long; a clip that cannot be shown costs no figure.
        self.result.save(folder, self.samples)
        # While pairs are read, an earlier audit's page must not stand beside these figures.
        (folder / REPORT).unlink(missing_ok=True)
        self.page().save(folder / REPORT)
