"""The probe's protocol with CardioBench's own probe beside it, on the same clips and the same redrawn patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from echofm.embed.table import EmbeddingTable
from probe.baselines import reduced
from probe.bench.linear import NAME, linear_probe
from probe.labels.answers import LabelAnswers, prediction_frame, truth_of
from probe.labels.features import Features
from probe.labels.fitting import LabelProtocol
from probe.labels.target import read_goal
from probe.names import PIXEL_PCA
from probe.protocol import Entry
from probe.result import Probed

_SEED = 42


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchProtocol(LabelProtocol):
    """theirs: what their probe predicts, a row a test clip, once it was asked."""

    theirs: list[pd.DataFrame] = field(default_factory=list)

    def beside(self, own: LabelAnswers) -> Iterator[Entry]:
        """The constant, and their probe."""
        yield from super().beside(own)
        predicted = linear_probe(self.table.video_ND, self.goal, self.part, seed=_SEED)[:, np.newaxis]
        self.theirs.append(prediction_frame(self.table, self.goal, self.part, predicted))
        yield Entry(method=NAME, answers=self.truth.answers(predicted))


def bench(
    table: EmbeddingTable,
    target: str,
    *,
    baselines: Mapping[str, EmbeddingTable],
    pixels: EmbeddingTable | None,
    features: Features = "auto",
    draws: int,
    seed: int,
    advance: Callable[[str], None] = lambda note: None,
) -> tuple[Probed, pd.DataFrame]:
    """The probe's result on a table whose every clip has a split, and what their probe predicts.

    Raises EchofmError as `probe.labels.evaluate.evaluate`.
    """
    goal, part = read_goal(table, target, seed=seed)
    others = dict(baselines)
    if pixels is not None:
        others[PIXEL_PCA] = reduced(pixels, goal, part, seed=seed)
    protocol = BenchProtocol(
        table=table,
        goal=goal,
        part=part,
        truth=truth_of(table, goal, part),
        kind="linear",
        features=features,
        fractions=(),
        seeds=1,
        draws=draws,
        seed=seed,
        advance=advance,
    )
    return protocol.probe(table, others), protocol.theirs[0]
