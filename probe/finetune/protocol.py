"""The fine-tuned model under the probe's protocol: same test patients, same draws, beside the frozen probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from echofm.embed.table import EmbeddingTable
from probe.labels.answers import LabelAnswers
from probe.labels.fitting import LabelProtocol
from probe.predict.conformal import margins_of
from probe.predict.model import LabelModel

FROZEN = "frozen probe"


@dataclass(frozen=True, kw_only=True, eq=False)
class FinetuneProtocol(LabelProtocol):
    """tuned: the encoder's head, without intervals yet; what is called `probe` in the result is this model."""

    tuned: LabelModel

    def answer(self, method: str, source: EmbeddingTable) -> LabelAnswers:
        """The head's predictions; of all others the probe fitted on frozen features."""
        if method != "probe":
            return super().answer(method, source)
        val = self.part.val
        predicted_N = self.tuned.predict(source.select(val))
        margins = margins_of(self.goal.task, self.goal.of(val), predicted_N, self.table.rows.iloc[val])
        facts = self.tuned.facts
        self.models.append(LabelModel(fitted=self.tuned.fitted, scales=self.tuned.scales, facts=facts, margins=margins))
        self.advance("fine-tuned")
        predicted_NS = self.tuned.predict(source.select(self.part.test))[:, np.newaxis]
        return self.truth.answers(predicted_NS, features=self.tuned.scales.name)
