"""Card: everything an evaluation found, as card.json holds it."""

from __future__ import annotations

from typing import Literal

import pydantic

from echofm.intervals import Estimate
from echofm.schema import FrozenModel

CARD = "card.json"
PANELS = ("fidelity", "diversity", "control", "utility", "privacy")
# A privacy audit gives no clean bill: no_finding stands for pass.
Verdict = Literal["pass", "fail", "not_tested", "no_finding"]


class Figure(FrozenModel):
    """One figure of a set beside what it is to be read against."""

    name: str
    found: Estimate
    beside: dict[str, Estimate] = pydantic.Field(default_factory=dict)
    """By name: the same figure of a baseline, a control or a ceiling."""


class Panel(FrozenModel):
    """One question about a set."""

    verdict: Verdict
    headline: str
    """The verdict in words, one sentence."""
    figures: list[Figure] = pydantic.Field(default_factory=list)
    notes: list[str] = pydantic.Field(default_factory=list)
    points: dict[str, list[tuple[float, float]]] = pydantic.Field(default_factory=dict)
    """By label, what was asked of some clips and what is read from them: the page draws it."""

    @classmethod
    def not_tested(cls, why: str) -> Panel:
        """A panel that lacks data. why: what is missing, one sentence."""
        return cls(verdict="not_tested", headline=why)


class SetCard(FrozenModel):
    """One synthetic set."""

    name: str
    clips: int
    panels: dict[str, Panel]
    """By name, those of PANELS."""

    @pydantic.field_validator("panels")
    @classmethod
    def _all_there(cls, panels: dict[str, Panel]) -> dict[str, Panel]:
        if list(panels) != list(PANELS):
            raise ValueError(f"a card has the panels {', '.join(PANELS)}")
        return panels


class RealSet(FrozenModel):
    """The real clips that all sets stand beside."""

    train_clips: int
    train_patients: int
    holdout_clips: int
    holdout_patients: int


class Card(FrozenModel):
    """An evaluation, whole; sets stand side by side."""

    schema_version: Literal[1] = 1
    echofm_version: str
    encoders: dict[str, str]
    """By what they are called here: sha256 of each encoder whose features were compared."""
    seed: int
    real: RealSet
    sets: list[SetCard]

    @property
    def fails(self) -> bool:
        """Whether a panel of a set fails."""
        return any(panel.verdict == "fail" for each in self.sets for panel in each.panels.values())
