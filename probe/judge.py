"""Judge: every method's predictions against the truth of the same test clips.

Shapes: N test clips, S seeds, K classes or labels. Predictions are (N, S) values or (N, S, K) probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.estimators.ordinal import median_level
from probe.measure import Key, Redrawn, Sample
from probe.metrics import METRICS, Metric, auroc, average_precision, of_label
from probe.partition import Partition
from probe.result import Comparison, Level, Score, Subgroup
from probe.subgroups import COLUMNS, subgroups
from probe.target import Target


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """Every method's predictions against the truth of the same test clips, under the same redrawn patients."""

    table: EmbeddingTable
    goal: Target
    part: Partition
    draws: int
    seed: int
    scores: list[Score] = field(default_factory=list)
    heard: dict[tuple[str, Level], dict[Key, Redrawn]] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[Key, Metric]:
        found: dict[Key, Metric] = {(name, ""): metric for name, metric in METRICS[self.goal.task].items()}
        if self.goal.task == "multilabel":
            for number, label in enumerate(self.goal.classes):
                found["auroc", label] = of_label(auroc, number)
                found["average_precision", label] = of_label(average_precision, number)
        return found

    @property
    def sample(self) -> Sample:
        return Sample(
            truth_N=self.goal.of(self.part.test),
            patients_N=self.table.patient_id[self.part.test].astype(str),
            draws=self.draws,
            seed=self.seed,
        )

    def hear(self, method: str, said: npt.NDArray, *, fraction: float) -> None:
        """Take down every metric by clip and, where the label is the study's or the patient's own, by those.

        A label that changes from study to study of one patient has no figure by patient. Studies are left out where
        some test clip's is unknown or each patient has one: the figure would be the patients'.
        """
        sample = self.sample
        measured: dict[Level, dict[Key, Redrawn]] = {"clip": sample.measure(self.metrics, said)}
        groups: dict[Level, npt.NDArray[np.str_]] = {}
        studies = self.table.rows["study_id"].iloc[self.part.test]
        if studies.notna().all() and studies.nunique() > len(np.unique(sample.patients_N)):
            groups["study"] = studies.to_numpy(str)
        groups["patient"] = sample.patients_N
        for level, groups_N in groups.items():
            grouped = sample.averaged(groups_N, said)
            if grouped is not None:
                whole, mean = grouped
                measured[level] = whole.measure(self.metrics, mean)
        for level, found in measured.items():
            if fraction == 1.0:
                self.heard[method, level] = found
            self.scores.extend(
                Score(method=method, label_fraction=fraction, level=level, metric=name, of=of, estimate=each.estimate)
                for (name, of), each in found.items()
            )

    def comparisons(self) -> list[Comparison]:
        """The probe minus every other method, with all labels."""
        own = {level: found for (method, level), found in self.heard.items() if method == "probe"}
        return [
            Comparison(rival=method, metric=name, level=level, difference=own[level][name, of].minus(each))
            for (method, level), found in self.heard.items()
            if method != "probe"
            for (name, of), each in found.items()
            if not (of or np.isnan(each.value))
        ]

    def subgroups(self, said: npt.NDArray) -> list[Subgroup]:
        """The probe's own, with all labels; the target itself is no group of a class."""
        columns = [name for name in COLUMNS if self.goal.task == "regression" or name != self.goal.name]
        return subgroups(self.table.rows.iloc[self.part.test], self.sample, said, self.metrics, columns=columns)


def prediction_frame(table: EmbeddingTable, goal: Target, part: Partition, said: npt.NDArray) -> pd.DataFrame:
    """Test predictions, a row per clip."""
    truth, mean = goal.of(part.test), said.mean(1)
    columns: dict[str, npt.NDArray] = {"clip_id": table.clip_id[part.test], "patient_id": table.patient_id[part.test]}
    if goal.task == "regression":
        columns |= {"true": truth, "predicted": mean}
    elif goal.task == "multilabel":
        columns |= {f"true_{name}": truth[:, number] for number, name in enumerate(goal.classes)}
    else:
        names = np.array(goal.classes)
        answer = median_level(mean) if goal.task == "ordinal" else mean.argmax(1)
        columns |= {"true": names[truth], "predicted": names[answer]}
    columns |= {f"probability_{name}": mean[:, number] for number, name in enumerate(goal.classes)}
    return pd.DataFrame(columns)
