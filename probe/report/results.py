"""The figures of every method with their intervals, and what they were measured on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from echofm.intervals import Estimate
from echofm.report.blocks import Block, Picture, Prose, Table
from probe.labels.metrics import LOWER_IS_BETTER
from probe.report import forest as forest_figure
from probe.report.canvas import in_words
from probe.result import Comparison, ProbeResult, Score

_OURS, _BLIND = "this encoder", "no features"
_WITHOUT_FEATURES = ("mean", "majority", "prevalence", "median", "chance", "mean mask")
# Metrics of other tasks say so in their names: phase_error_percent, ed_error_ms, hausdorff95_mm.
_ERRORS = ("error", "hausdorff", "hd95", "brier", "loss")
# Figures are kept on one line of a cell.
_SPACE = "\N{NO-BREAK SPACE}"


def overview(results: Sequence[ProbeResult]) -> Table:
    """A line per target and metric, a column per method: with all labels, by clip."""
    cells: dict[tuple[str, str], dict[str, Estimate]] = {}
    for result in results:
        for each in _main(result):
            cells.setdefault((result.target, each.metric), {})[_column(each.method)] = each.estimate
    found = list(dict.fromkeys(name for line in cells.values() for name in line))
    methods = sorted(found, key=lambda name: (name != _OURS, name == _BLIND))
    rows, target = [], None
    for (name, metric), line in cells.items():
        rows.append(("" if name == target else in_words(name), in_words(metric), *_cells(line, methods)))
        target = name
    tested = "Clips of another set" if any(result.splits_from == "test clips" for result in results) else "Test clips"
    return Table(
        columns=("target", "metric", *methods),
        rows=rows,
        caption=f"{tested}, all labels used, 95 % intervals over redrawn patients. No features: the mean or the "
        "commonest class of the training patients, or chance.",
    )


def methods(result: ProbeResult) -> list[Block]:
    """All methods beneath one another in the first metric, with all labels, by clip."""
    scores = _main(result)
    drawn = [each for each in scores if each.metric == scores[0].metric]
    if len(drawn) < 2:
        return []
    metric = drawn[0].metric
    rows = [
        forest_figure.Row(method_name(each.method), each.estimate, shown(each.estimate), each.method == "probe")
        for each in drawn
    ]
    return [
        Picture(
            draw=lambda: forest_figure.forest(rows, metric=metric),
            alt=f"{in_words(metric)} of {in_words(result.target)} by method, with intervals",
            caption=f"{in_words(metric)}: {'lower' if lower_is_better(metric) else 'higher'} is better.",
        )
    ]


def _main(result: ProbeResult) -> list[Score]:
    return [each for each in result.scores if each.label_fraction == 1.0 and each.level == "clip" and not each.of]


def _column(method: str) -> str:
    return _OURS if method == "probe" else _BLIND if method in _WITHOUT_FEATURES else method


def details(result: ProbeResult) -> list[Block]:
    """What the summary leaves out: by patient, with fewer labels, of single classes."""
    more = [each for each in result.scores if not each.of and (each.label_fraction != 1.0 or each.level != "clip")]
    single = [each for each in result.scores if each.of]
    blocks: list[Block] = []
    if more:
        caption = "Per study or patient: predictions averaged over the clips of one, where all of them have one label."
        blocks.append(scores_table(more, caption=caption, conditions=True))
    if single:
        blocks.append(_of_classes(single))
    return blocks


def scores_table(scores: Sequence[Score], *, caption: str, conditions: bool = False) -> Table:
    """A line per method, a column per metric. conditions: also the part of the labels and the level."""
    metrics = list(dict.fromkeys(each.metric for each in scores))
    lines: dict[tuple[str, float, str], dict[str, Estimate]] = {}
    for each in scores:
        lines.setdefault((each.method, each.label_fraction, each.level), {})[each.metric] = each.estimate
    rows = [
        (method_name(method), *((f"{fraction:.3g}", level) if conditions else ()), *_cells(found, metrics))
        for (method, fraction, level), found in lines.items()
    ]
    heads = ("method", *(("part of labels", "per") if conditions else ()))
    return Table(columns=(*heads, *map(in_words, metrics)), rows=rows, caption=caption)


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
        return "not defined"
    # Of one patient there is no interval, and nothing is told apart.
    if math.isnan(difference.low) or difference.low <= 0 <= difference.high:
        return "not told apart"
    return "better" if (difference.value < 0) == lower_is_better(metric) else "worse"


def lower_is_better(metric: str) -> bool:
    """Whether the smaller of two values of this metric is the better one."""
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
    return predicted.get(result.splits_from, "the test clips are another set's")


def method_name(method: str) -> str:
    """As the report names it."""
    if method in _WITHOUT_FEATURES:
        return f"{method}, {_BLIND}"
    return _OURS if method == "probe" else method


def shown(estimate: Estimate | None) -> str:
    """Value and interval on one line; a dash where there is no value, as of the correlation of a constant."""
    if estimate is None or math.isnan(estimate.value):
        return "–"
    value, low, high = map(digits, (estimate.value, estimate.low, estimate.high))
    if math.isnan(estimate.low):
        return f"{value} (no interval)".replace(" ", _SPACE)
    return f"{value} ({low} to {high})".replace(" ", _SPACE)


def digits(value: float) -> str:
    """Three digits, but none beyond the third decimal."""
    # Adding zero turns a rounded -0 into 0.
    return f"{round(value, 3) + 0.0:.3g}"


def _of_classes(scores: Sequence[Score]) -> Table:
    metrics = list(dict.fromkeys(each.metric for each in scores))
    lines: dict[tuple[str, str], dict[str, Estimate]] = {}
    for each in scores:
        lines.setdefault((each.of, each.method), {})[each.metric] = each.estimate
    rows = [(of, method_name(method), *_cells(found, metrics)) for (of, method), found in lines.items()]
    return Table(columns=("of", "method", *map(in_words, metrics)), rows=rows, caption="Each class or structure alone.")


def _cells(found: dict[str, Estimate], metrics: Sequence[str]) -> list[str]:
    return [shown(found.get(metric)) for metric in metrics]


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
