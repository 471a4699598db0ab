"""bench.html: what was run and what it shows, task by task, and where the missing sets are to be had."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from echofm.errors import EchofmError
from echofm.report.blocks import Block, Decision, Notice, Picture, Prose, Table
from echofm.report.page import Page, today
from probe.bench.records import Bench, TaskRecord
from probe.bench.tasks import SETS, TASKS, set_of
from probe.ranking import rank
from probe.report import canvas
from probe.report.canvas import in_words
from probe.report.results import by_line, lower_is_better, method_name, shown, verdict
from probe.result import Score

HTML, JSON = "bench.html", "bench.json"
# What a task is ranked by.
_FIRST = ("mae", "auroc", "balanced_accuracy")


def bench_page(done: Bench, out: Path) -> Page:
    """Ids on it are hashes; sets and encoders are named. out: where the results lie."""
    page = Page("CardioBench: what frozen encoders know of the public sets")
    page.decision = _decision(done)
    for problem in dict.fromkeys(problem for record in done.tasks for problem in record.problems):
        page.warn(problem)
    page.add("Results", _overview(done), Prose(_PROTOCOL))
    for task in dict.fromkeys(record.task for record in done.tasks):
        own = [record for record in done.tasks if record.task == task]
        page.add(_title(own[0]), *_task(own, out))
    page.add("Sets", _sets(done), *(Notice(f"{name}: {why}") for name, why in done.failed.items()))
    page.add("For CardioBench's own evaluators", Prose(_FILES), _files(done))
    return page


_PROTOCOL = (
    "Linear probes on frozen features; everything is chosen on validation patients. Intervals: 95 %, by redrawing test "
    "patients with all their clips. CardioBench's probe: one linear layer on the clip's mean features, as its code "
    "trains it (figures of CardioBench itself take frames one by one, and redraw clips). No features: the mean, or the "
    "commonest class."
)
_FILES = (
    "Under `cardiobench/`, laid out as its `evaluation/example_predictions`: name these folders in its "
    "`evaluation/config.py`. Only where the splits are its own."
)


def lines(done: Bench) -> list[str]:
    """The same for a terminal, a line a task and encoder."""
    rows = _overview(done).rows
    wide = [max(len(str(row[column])) for row in rows) for column in range(4)] if rows else []
    text = ("  ".join(str(cell).ljust(width) for cell, width in zip(row, [*wide, 0])) for row in rows)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in text]


def _decision(done: Bench) -> Decision:
    missing, failed = ([each.title for each in done.sets if each.state == state] for state in ("missing", "failed"))
    ran = {record.task for record in done.tasks}
    several = f" of {len(done.encoders)} encoders" if len(done.encoders) > 1 else ""
    there = len(SETS) - len(missing + failed)
    facts = [
        ("Encoders", ", ".join(done.encoders)),
        ("Not there", ", ".join(missing)),
        ("Not run", ", ".join([*failed, *done.failed])),
        ("Date", today()),
    ]
    return Decision(
        f"{len(ran)} of {len(TASKS) + 1} tasks were run{several}, on {there} of {len(SETS)} sets.",
        level="act" if failed or done.failed or any(record.problems for record in done.tasks) else "none",
        facts=[each for each in facts if each[1]],
    )


def _title(record: TaskRecord) -> str:
    return f"{set_of(record.set).title}: {record.title}" if record.set else "All sets: view"


def _main(record: TaskRecord) -> list[Score]:
    """Of all classes, at the level at which CardioBench measures: where each patient has one study, the patient's."""
    levels = {"study": ("study", "patient"), "patient": ("patient",), "clip": ()}[record.level]
    of_all = [each for each in record.scores if not each.of]
    there = {each.level for each in of_all}
    level = next((each for each in levels if each in there), "clip")
    return [each for each in of_all if each.level == level]


def _metric(record: TaskRecord) -> str:
    there = {each.metric for each in record.scores}
    return next(name for name in _FIRST if name in there)


def _overview(done: Bench) -> Table:
    rows = []
    for record in done.tasks:
        metric, scores = _metric(record), _main(record)
        own = next((each.estimate for each in scores if each.method == "probe" and each.metric == metric), None)
        rows.append((_title(record), record.encoder, in_words(metric), shown(own), _beside(record, metric)))
    return Table(
        columns=("task", "encoder", "metric", "its probe", "it is"),
        rows=rows,
        caption="It is better or worse by paired differences on the same redrawn patients.",
    )


def _beside(record: TaskRecord, metric: str) -> str:
    words: dict[str, list[str]] = {}
    level = _main(record)[0].level
    for each in record.comparisons:
        if each.metric == metric and each.level == level:
            words.setdefault(verdict(metric, each.difference), []).append(each.baseline)
    start = {"better": "better than", "worse": "worse than", "not told apart": "not told apart from"}
    return "; ".join(f"{start[kind]} {', '.join(words[kind])}" for kind in start if kind in words)


def _task(records: Sequence[TaskRecord], out: Path) -> list[Block]:
    metric = _metric(records[0])
    rows, lines = [], []
    for record in records:
        scores = _main(record)
        if len(records) > 1:
            rows.append(canvas.Row(record.encoder))
        for each in scores:
            if each.metric == metric:
                name = "its probe" if each.method == "probe" else method_name(each.method)
                rows.append(canvas.Row(name, each.estimate, shown(each.estimate), each.method == "probe"))
        metrics, found = by_line(scores, lambda each: each.method)
        for method, line in found.items():
            name = "its probe" if method == "probe" else method_name(method)
            lines.append((record.encoder, name, *(shown(line.get(each)) for each in metrics)))
    better = "lower" if lower_is_better(metric) else "higher"
    blocks: list[Block] = [
        Prose(_tested(records[0])),
        Picture(
            draw=partial(canvas.forest, rows, metric=metric),
            alt=f"{in_words(metric)} of {_title(records[0])} by method, with intervals",
            caption=f"{in_words(metric)}: {better} is better.",
        ),
        Table(columns=("encoder", "method", *map(in_words, metrics)), rows=lines),
    ]
    return [*blocks, *_ranked(records, out)]


def _tested(record: TaskRecord) -> str:
    counts = ", ".join(
        f"{set_of(name).title} {count:,}"
        + (f" of CardioBench's {record.published[name]:,}" if record.published else "")
        for name, count in record.tests.items()
    )
    notes = "".join(f" {note[:1].upper()}{note[1:].rstrip('.')}." for note in record.notes)
    return f"Figures per {_main(record)[0].level}. Tested on: {counts}.{notes}"


def _ranked(records: Sequence[TaskRecord], out: Path) -> list[Block]:
    """Of several encoders: paired differences to the best, by clip."""
    if len(records) < 2:
        return []
    try:
        found = rank([out / record.folder for record in records])
    except EchofmError as error:
        return [Notice(f"not ranked: {error}")]
    return [
        Table(
            columns=("rank", "encoder", f"{in_words(found.metric)} by clip", "to the best", "it is"),
            rows=[
                (
                    str(each.rank),
                    each.name,
                    shown(each.scores[found.metric]),
                    shown(each.to_best),
                    "best" if each.to_best is None else verdict(found.metric, each.to_best),
                )
                for each in found.ranked
            ],
            caption="Paired on the same redrawn patients; of several encoders the best is in part the luckiest.",
        )
    ]


def _sets(done: Bench) -> Table:
    state = {"run": "run", "missing": "not there, or without its tables", "failed": "not run"}
    return Table(
        columns=("set", "state", "why, or where to get it"),
        rows=[(each.title, state[each.state], each.says if each.says else each.where) for each in done.sets],
    )


def _files(done: Bench) -> Table:
    return Table(
        columns=("task", "encoder", "files"),
        rows=[
            (_title(record), record.encoder, ", ".join(f"`{each}`" for each in record.files) or "none")
            for record in done.tasks
        ],
    )
