"""The figures of every method with their intervals, by number of labels and subgroup, and what they are of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from echofm.intervals import Estimate
from echofm.report.blocks import Block, Picture, Prose, Table
from probe.labels.metrics import LOWER_IS_BETTER, OVER_LABELS, RECALIBRATED
from probe.report import canvas
from probe.report.canvas import in_words
from probe.result import Comparison, ProbeResult, Score

Key = TypeVar("Key")
NOT_DEFINED = "not defined"
_MOST_COLUMNS = 5
_OURS, _BLIND = "this encoder", "no features"
_WITHOUT_FEATURES = ("mean", "majority", "prevalence", "median", "chance", "mean mask")
# Metrics of other tasks say so in their names: phase_error_percent, ed_error_ms, hausdorff95_mm.
_ERRORS = ("error", "hausdorff", "hd95", "brier", "loss")
# An interval is kept on one line of a cell, the value may stand above it.
_SPACE = "\N{NO-BREAK SPACE}"


def overview(results: Sequence[ProbeResult]) -> Table:
    """A line per target and metric, a column per method: with all labels, by clip."""
    cells: dict[tuple[str, str], dict[str, Estimate]] = {}
    for result in results:
        for each in result.main_scores:
            cells.setdefault((result.target, each.metric), {})[_column(each.method)] = each.estimate
    found = list(dict.fromkeys(name for line in cells.values() for name in line))
    methods = sorted(found, key=lambda name: (name != _OURS, name == _BLIND))
    rows: list[tuple[str, ...]] = []
    target = None
    if len(methods) > _MOST_COLUMNS:
        # Side by side they would be wider than the page.
        for (name, metric), line in cells.items():
            rows += [(in_words(name), in_words(metric), each, shown(line[each])) for each in methods if each in line]
        return Table(columns=("target", "metric", "method", "figure"), rows=rows, caption=_overview_caption(results))
    for (name, metric), line in cells.items():
        rows.append(("" if name == target else in_words(name), in_words(metric), *_cells(line, methods)))
        target = name
    return Table(columns=("target", "metric", *methods), rows=rows, caption=_overview_caption(results))


def _overview_caption(results: Sequence[ProbeResult]) -> str:
    tested = "Clips of another set" if any(result.splits_from == "test clips" for result in results) else "Test clips"
    return (
        f"{tested}, all labels used, 95 % intervals over redrawn patients. No features: the mean or the commonest "
        "class of the training patients, or chance."
    )


def methods(result: ProbeResult) -> list[Block]:
    """All methods beneath one another in the first metric, with all labels, by clip."""
    scores = result.main_scores
    drawn = [each for each in scores if each.metric == scores[0].metric]
    if len(drawn) < 2:
        return []
    metric = drawn[0].metric
    rows = [
        canvas.Row(method_name(each.method), each.estimate, shown(each.estimate), each.method == "probe")
        for each in drawn
    ]
    return [
        Picture(
            draw=partial(canvas.forest, rows, metric=metric),
            alt=f"{in_words(metric)} of {in_words(result.target)} by method, with intervals",
            caption=f"{in_words(metric)}: {'lower' if lower_is_better(metric) else 'higher'} is better.",
        )
    ]


def by_line(scores: Sequence[Score], key: Callable[[Score], Key]) -> tuple[list[str], dict[Key, dict[str, Estimate]]]:
    """The metrics, and by line of a table (`key`) each metric's estimate."""
    lines: dict[Key, dict[str, Estimate]] = {}
    for each in scores:
        lines.setdefault(key(each), {})[each.metric] = each.estimate
    return list(dict.fromkeys(each.metric for each in scores)), lines


def _column(method: str) -> str:
    return _OURS if method == "probe" else _BLIND if method in _WITHOUT_FEATURES else method


def details(result: ProbeResult) -> list[Block]:
    """What the summary leaves out: by patient, with fewer labels, of single classes."""
    more = [each for each in result.scores if not each.of and (each.label_fraction != 1.0 or each.level != "clip")]
    single = [each for each in result.scores if each.of]
    blocks: list[Block] = []
    if more:
        metrics, lines = by_line(more, lambda each: (each.method, each.label_fraction, each.level))
        rows = [
            (method_name(method), f"{fraction:.3g}", level, *_cells(found, metrics))
            for (method, fraction, level), found in lines.items()
        ]
        heads = ("method", "part of labels", "per", *map(in_words, metrics))
        caption = "Per study or patient: predictions averaged over the clips of one, where all of them have one label."
        blocks.append(Table(columns=heads, rows=rows, caption=caption))
    if single:
        metrics, alone = by_line(single, lambda each: (each.of, each.method))
        rows = [(of, method_name(method), *_cells(found, metrics)) for (of, method), found in alone.items()]
        heads = ("of", "method", *map(in_words, metrics))
        blocks.append(Table(columns=heads, rows=rows, caption="Each class or structure alone."))
    return blocks


def comparison_table(found: Sequence[Comparison]) -> Table:
    """Paired differences, and what they tell."""
    return Table(
        columns=("against", "per", "metric", "difference", "this encoder is"),
        rows=[
            (
                method_name(each.baseline),
                each.level,
                in_words(each.metric),
                shown(each.difference),
                verdict(each.metric, each.difference),
            )
            for each in found
        ],
        caption="This encoder minus the other on the same clips, patients redrawn together: 95 % intervals of the "
        "difference. Not told apart: the interval contains zero.",
    )  # fmt: skip


def verdict(metric: str, difference: Estimate) -> str:
    """Whether the first of two is better, by the interval of first minus second."""
    if math.isnan(difference.value):
        return NOT_DEFINED
    # Of one patient there is no interval, and nothing is told apart.
    if math.isnan(difference.low) or difference.low <= 0 <= difference.high:
        return "not told apart"
    return "better" if (difference.value < 0) == lower_is_better(metric) else "worse"


def lower_is_better(metric: str) -> bool:
    """Whether the smaller of two values of this metric is the better one."""
    metric = metric.removesuffix(OVER_LABELS).removesuffix(RECALIBRATED)
    return metric in LOWER_IS_BETTER or any(word in metric for word in _ERRORS)


def protocol(result: ProbeResult) -> Prose:
    """What the figures were measured on."""
    counts = ", ".join(
        f"{result.clips[name]} clips of {result.patients[name]} patients for {use}"
        for name, use in (("train", "fitting"), ("val", "choosing hyper-parameters"), ("test", "the figures"))
        if name in result.clips
    )
    own = result.chosen.get("probe", {})
    choice = f" Chosen: {', '.join(f'{name} {_number(value)}' for name, value in own.items())}." if own else ""
    notes = "".join(f" {note[:1].upper()}{note[1:].rstrip('.')}." for note in result.notes)
    return Prose(
        f"{result.task.capitalize()}, {result.kind} probe: {counts}; {origin(result)}.{choice} Intervals: 95 %, "
        f"test patients redrawn with all their clips.{notes}"
    )


def origin(result: ProbeResult) -> str:
    """Where its splits come from, in words."""
    predicted = {"table": "the set's own splits", "patients": "splits by a hash of the patient id"}
    if result.folds > 1:
        return f"{result.folds} folds by patient, {result.seeds} times"
    return predicted.get(result.splits_from, "the test clips are another set's")


def method_name(method: str) -> str:
    """As the report names it."""
    if method in _WITHOUT_FEATURES:
        return f"{method}, {_BLIND}"
    return _OURS if method == "probe" else method


def shown(estimate: Estimate | None) -> str:
    """Value and interval; "not defined" as of a constant's correlation or a class without a test clip; a dash where
    nothing was measured."""
    if estimate is None:
        return "–"
    if math.isnan(estimate.value):
        return NOT_DEFINED
    value, low, high = map(digits, (estimate.value, estimate.low, estimate.high))
    interval = "no interval" if math.isnan(estimate.low) else f"{low} to {high}"
    return f"{value} ({interval.replace(' ', _SPACE)})"


def digits(value: float) -> str:
    """Three digits, but none beyond the third decimal."""
    # Adding zero turns a rounded -0 into 0.
    return f"{round(value, 3) + 0.0:.3g}"


def subgroups(result: ProbeResult) -> list[Block]:
    """A forest plot of the first metric and a table of all; nothing where no subgroup was measured."""
    groups = result.subgroups
    if not groups:
        return []
    metrics = list(dict.fromkeys(metric for each in groups for metric in each.scores))
    metric = metrics[0]
    overall = next(
        (each.estimate for each in result.main_scores if (each.method, each.metric) == ("probe", metric)), None
    )
    rows, column = [], None
    if overall is not None:
        rows.append(canvas.Row("all test clips", overall, shown(overall), True))
    for each in groups:
        if each.column != column:
            column = each.column
            rows.append(canvas.Row(in_words(column)))
        found = each.scores.get(metric)
        if found is not None:
            rows.append(canvas.Row(f"{each.value} (n = {each.clips})", found, shown(found)))
    picture = Picture(
        draw=partial(canvas.forest, rows, metric=metric, reference=None if overall is None else overall.value),
        alt=f"{in_words(metric)} by subgroup, with intervals",
        caption="n: test clips. Dashed: all of them. An interval that leaves the dashed line out is one of several "
        "looked at; expect one in twenty by chance.",
    )
    table = Table(
        columns=("subgroup", "", "clips", "patients", *map(in_words, metrics)),
        rows=[
            (in_words(each.column), each.value, each.clips, each.patients, *_cells(each.scores, metrics))
            for each in groups
        ],
        caption="Within a band of the label itself R² is low for any probe: there is little to tell apart.",
    )
    return [picture, table]


def label_efficiency(result: ProbeResult) -> list[Block]:
    """The first metric against the number of labelled patients, where more than one number was tried."""
    scores = [each for each in result.scores if each.level == "clip" and not each.of]
    if len({each.label_fraction for each in scores}) < 2:
        return []
    metric = scores[0].metric
    scores = sorted((each for each in scores if each.metric == metric), key=lambda each: each.label_fraction)
    curves = {}
    for method in sorted({each.method: None for each in scores}, key=lambda name: name != "probe"):
        own = [each for each in scores if each.method == method]
        patients = [max(2, round(each.label_fraction * result.patients["train"])) for each in own]
        curves[method_name(method)] = canvas.Curve(patients, [each.estimate for each in own])
    return [
        Picture(
            draw=partial(canvas.label_efficiency, curves, metric=metric),
            alt=f"{in_words(metric)} against the number of labelled training patients",
            caption=f"Labels of fewer training patients, drawn anew for each of {result.seeds} seeds; intervals are "
            "over redrawn test patients.",
        )
    ]


def _cells(found: Mapping[str, Estimate], metrics: Sequence[str]) -> list[str]:
    return [shown(found.get(metric)) for metric in metrics]


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
