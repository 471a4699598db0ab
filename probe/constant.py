"""What a predictor says that looks at no features: the least that a probe must beat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from probe.partition import Partition
from probe.target import Target

# Its name in the results, by task.
CONSTANT = {
    "regression": "mean",
    "classification": "majority",
    "ordinal": "majority",
    "multilabel": "prevalence",
}


def constant(goal: Target, part: Partition) -> npt.NDArray:
    """(N, 1) the training mean, (N, 1, K) the commonest class, or (N, 1, L) each label's part of the training clips."""
    values, clips = goal.of(part.train), len(part.test)
    if goal.task == "regression":
        return np.full((clips, 1), values.mean())
    if goal.task == "multilabel":
        known = ~np.isnan(values)
        share_L = np.where(known, values, 0).sum(0) / np.maximum(1, known.sum(0))
        return np.broadcast_to(share_L, (clips, 1, len(share_L))).copy()
    said = np.zeros((clips, 1, len(goal.classes)))
    said[..., np.bincount(values, minlength=len(goal.classes)).argmax()] = 1
    return said
