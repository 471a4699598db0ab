"""Predictions for new clips and studies, each with its interval, or why there is none."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.estimators.logistic import median_level
from probe.predict.conformal import studies_of
from probe.predict.model import LabelModel, ModelFacts

# Of the least and greatest frame rate of the training clips.
_RATE_SLACK = 0.1
COLUMNS = ("level", "study_id", "clip_id", "patient_id", "view", "clips", "predicted", "low", "high", "set", "refused")


def predictions(model: LabelModel, table: EmbeddingTable) -> pd.DataFrame:
    """A row a clip, then a row a study (a patient's clips where no study is known): the mean over its clips.

    predicted, low, high: of a number, with the interval that holds the truth of nine of ten new patients; empty bounds
    where the validation patients were too few. Of classes: `predicted`, the `set` that holds the true one for nine of
    ten, and a probability of each. refused: why a clip is not like those of training; it has no prediction.
    """
    facts, rows = model.facts, table.rows.reset_index(drop=True)
    refused = [refusal(facts, row) for row in rows.to_dict("records")]
    kept = np.flatnonzero([not reason for reason in refused])
    columns = ["study_id", "clip_id", "patient_id", "view"]
    clips = rows[columns].assign(level="clip", clips=1, refused=refused)
    if not len(kept):
        return clips.reindex(columns=list(COLUMNS))
    predicted = model.predict(table.select(kept) if len(kept) < len(table) else table)
    clips = clips.join(pd.DataFrame(_columns(model, predicted, "clip"), index=kept))
    studies = studies_of(rows)[kept]
    names, firsts = np.unique(studies, return_index=True)
    mean = np.stack([predicted[studies == name].mean(0) for name in names])
    of_study = rows.loc[kept[firsts], ["study_id", "patient_id"]].reset_index(drop=True)
    counts = [int((studies == name).sum()) for name in names]
    of_study = of_study.assign(level="study", clips=counts, refused="")
    of_study = of_study.join(pd.DataFrame(_columns(model, mean, "study")))
    found = pd.concat([clips, of_study], ignore_index=True)
    further = [name for name in found.columns if name not in COLUMNS]
    return found.reindex(columns=[*COLUMNS, *further]).dropna(axis=1, how="all")


def refusal(facts: ModelFacts, row: dict[str, object]) -> str:
    """Why a clip is outside what the model was fitted on; "" where it is not."""
    view, kind, rate = row.get("view"), row.get("kind"), row.get("frame_rate_hz")
    if facts.views and isinstance(view, str) and view not in facts.views:
        return f"view {view}: fitted on {', '.join(facts.views)}"
    if facts.kinds and isinstance(kind, str) and kind not in facts.kinds:
        return f"kind {kind}: fitted on {', '.join(facts.kinds)}"
    if facts.frame_rate_hz is None:
        return ""
    if not isinstance(rate, float) or not math.isfinite(rate):
        return "the frame rate is not known"
    low, high = facts.frame_rate_hz
    if not low * (1 - _RATE_SLACK) <= rate <= high * (1 + _RATE_SLACK):
        fix = "; fit it on the shards (--data), not on a table of them: they know their files' rates"
        return f"{rate:.4g} frames per second: fitted on {low:.4g} to {high:.4g}{fix if facts.encoder is None else ''}"
    return ""


def _columns(model: LabelModel, predicted: npt.NDArray, level: str) -> dict[str, npt.NDArray | list[str]]:
    facts, margin = model.facts, model.margins.get(level, math.inf)
    if facts.task == "regression":
        bounds = {"low": predicted - margin, "high": predicted + margin} if math.isfinite(margin) else {}
        return {"predicted": predicted, **bounds}
    found: dict[str, npt.NDArray | list[str]] = {}
    names = np.array(facts.classes)
    if facts.task != "multilabel":
        answer = median_level(predicted) if facts.task == "ordinal" else predicted.argmax(1)
        found["predicted"] = names[answer]
        likely = predicted >= 1 - margin - 1e-12
        # Where none is likely enough the set would be empty, which stands for too few validation patients.
        likely[np.arange(len(answer)), answer] = True
        found["set"] = ["|".join(names[row]) for row in likely] if math.isfinite(margin) else [""] * len(predicted)
    return found | {f"probability_{name}": predicted[:, number] for number, name in enumerate(names)}
