"""The pictures of one target, by its task."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from echofm.report.blocks import Block, Panels, Picture, Table
from probe.figures import agreement, classes, forest
from probe.figures.canvas import in_words
from probe.findings.gathered import TargetFindings, class_words
from probe.report.results import method_name, shown
from probe.result import Probed, ProbeResult

_MOST_CURVES = 12


def pictures(probed: Probed, found: TargetFindings) -> list[Block]:
    """Agreement of a number; ROC, reliability and confusion of classes."""
    if found.agreement is not None:
        return _of_a_number(probed, found)
    return _of_classes(probed, found)


def _of_a_number(probed: Probed, found: TargetFindings) -> list[Block]:
    true, said = (probed.predictions[name].to_numpy(float) for name in ("true", "predicted"))
    name, limits = probed.result.target, found.agreement
    assert limits is not None
    table = Table(
        columns=("bias", "lower limit", "upper limit", "slope on true"),
        rows=[tuple(map(shown, (limits.bias, limits.lower, limits.upper, limits.slope)))],
        caption="Limits of agreement: bias ± 1.96 standard deviations of the differences, each with its 95 % interval. "
        "Slope: 1 where high and low values are told apart in full, 0 where the mean is always said.",
    )
    panels = Panels(
        [
            Picture(
                draw=partial(agreement.scatter, true, said, name=name),
                alt=f"predicted against true {in_words(name)}",
            ),
            Picture(
                draw=partial(agreement.bland_altman, true, said, name=name, agreement=limits),
                alt="predicted minus true against their mean, with bias and limits of agreement",
            ),
        ],
        caption=f"{len(true)} test clips. Right: Bland-Altman, with bias (line), limits of agreement (dashed) and "
        "their intervals (bands).",
    )
    return [panels, table]


def _of_classes(probed: Probed, found: TargetFindings) -> list[Block]:
    panels: list[Picture] = []
    curves = _curves(probed)
    if curves:
        panels.append(
            Picture(
                draw=partial(classes.roc, curves),
                alt="receiver operating characteristic of each class",
                caption=_roc_caption(probed, len(curves)),
            )
        )
    for name, calibration in list(found.calibration.items())[:_MOST_CURVES]:
        of = f" of {name}" if name else ""
        panels.append(
            Picture(
                draw=partial(classes.reliability, calibration),
                alt=f"reliability diagram{of}",
                caption=f"Reliability{of}: above the dashed line things happen more often than said. Hollow: bins of "
                f"fewer than 5 clips. Few clips alone make an error above 0.{_weighed(probed.result)}",
            )
        )
    # Two side by side: three would be too small to read.
    blocks: list[Block] = [Panels(panels[first : first + 2]) for first in range(0, len(panels), 2)]
    if found.confusion is not None:
        blocks.append(
            Picture(
                draw=partial(classes.confusion, found.confusion),
                alt="confusion matrix",
                caption="Confusion: test clips; colour is the part of the true class.",
            )
        )
    return blocks


def _weighed(result: ProbeResult) -> str:
    if result.kind == "knn":
        return ""
    return (
        " The probe was fitted as though all classes were equally common; where they are not, its probabilities are "
        "off by that, whatever the encoder."
    )


def _curves(probed: Probed) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of two classes the second, else the commonest ones, each against the rest; of several labels each."""
    rows, names = probed.predictions, list(probed.result.classes)
    if not names or not {f"probability_{name}" for name in names} <= set(rows.columns):
        return {}
    if probed.result.task == "multilabel":
        is_it = {name: rows[f"true_{name}"] for name in names}
    else:
        wanted = names[1:] if len(names) == 2 else names
        is_it = {name: (rows["true"].astype(str) == name).astype(float) for name in wanted}
    curves = {}
    for name, so in is_it.items():
        known = so.notna().to_numpy(bool)
        so_N = so.to_numpy(float)[known] > 0.5
        if 0 < so_N.mean() < 1:
            curves[name] = so_N, rows[f"probability_{name}"].to_numpy(float)[known]
    if probed.result.task != "multilabel" and len(names) == 2 and curves:
        return {class_words(probed.result)[1]: curves[names[1]]}
    most = sorted(curves, key=lambda name: -int(curves[name][0].sum()))[:_MOST_CURVES]
    return {name: curves[name] for name in curves if name in most}


def _roc_caption(probed: Probed, drawn: int) -> str:
    if probed.result.task != "multilabel" and len(probed.result.classes) == 2:
        other, name = class_words(probed.result)
        return f"ROC of {name} against {other}."
    some = f", the {_MOST_CURVES} commonest" if len(probed.result.classes) > drawn == _MOST_CURVES else ""
    return (
        f"ROC: each class against the rest{some}." if probed.result.task != "multilabel" else f"ROC: each label{some}."
    )


def label_efficiency(result: ProbeResult) -> list[Block]:
    """The first metric against the number of labelled patients, where more than one number was tried."""
    scores = [each for each in result.scores if each.level == "clip" and not each.of]
    if len({each.label_fraction for each in scores}) < 2:
        return []
    metric = scores[0].metric
    frame = pd.DataFrame(
        [(each.method, each.label_fraction, each.estimate) for each in scores if each.metric == metric],
        columns=["method", "fraction", "estimate"],
    ).sort_values("fraction", kind="stable")
    curves = {}
    for method in frame["method"].drop_duplicates().sort_values(key=lambda names: names != "probe", kind="stable"):
        own = frame[frame["method"] == method]
        patients = [max(2, round(fraction * result.patients["train"])) for fraction in own["fraction"]]
        curves[method_name(method)] = forest.Curve(patients, own["estimate"].tolist())
    return [
        Picture(
            draw=partial(forest.label_efficiency, curves, metric=metric),
            alt=f"{in_words(metric)} against the number of labelled training patients",
            caption=f"Labels of fewer training patients, drawn anew for each of {result.seeds} seeds; intervals are "
            "over redrawn test patients.",
        )
    ]
