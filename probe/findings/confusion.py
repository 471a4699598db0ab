"""Confusion: which class is taken for which."""

from __future__ import annotations

import pandas as pd
from sklearn.metrics import confusion_matrix

from echofm.schema import FrozenModel


class Confusion(FrozenModel):
    """counts: test clips by true class (row) and predicted class (column), both in the order of `classes`."""

    classes: list[str]
    counts: list[list[int]]


def confusion(predictions: pd.DataFrame, *, classes: list[str]) -> Confusion:
    """Of a frame with the columns true and predicted."""
    counts = confusion_matrix(predictions["true"].astype(str), predictions["predicted"].astype(str), labels=classes)
    return Confusion(classes=list(classes), counts=counts.tolist())
