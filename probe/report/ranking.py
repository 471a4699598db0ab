"""The page of many probes of one target: ranked, with paired differences to the best."""

from __future__ import annotations

from functools import partial

from echofm.report.blocks import Decision, Notice, Picture, Prose, Table
from echofm.report.page import Page, today
from probe.ranking import Ranked, Ranking
from probe.report import canvas
from probe.report.canvas import in_words
from probe.report.results import lower_is_better, shown, verdict


def ranking_page(found: Ranking) -> Page:
    """The order, what it is worth, and a table and a picture of it."""
    report = Page(f"{len(found.ranked)} encoders on {in_words(found.target)}")
    report.decision = Decision(
        f"{_order(found)}.",
        facts=[
            (
                "Measured by",
                f"{in_words(found.metric)}, {'lower' if lower_is_better(found.metric) else 'higher'} is better",
            ),
            (
                "Tested on",
                f"n = {found.clips} clips of {found.patients} patients that all were tested on, all labels used",
            ),
            ("Date", today()),
        ],
    )
    report.add("Ranking", _table(found), _picture(found), Prose(_RULE), *(Notice(f"{note}.") for note in found.notes))
    return report


_RULE = (
    "Intervals: 95 %, by redrawing test patients with all their clips, the same for every encoder. Not told apart: "
    "the interval of the difference to the best contains zero; of several encoders the best is in part the luckiest."
)


def _order(found: Ranking) -> str:
    best = found.ranked[0]
    alike = [each.name for each in found.ranked[1:] if _words(found, each) != "worse"]
    first = f"Best: {best.name}, {in_words(found.metric)} {shown(best.scores[found.metric])}"
    beside = f"not told apart from {', '.join(alike)}" if alike else "better than all others"
    return f"{first}, {beside}".replace("\N{NO-BREAK SPACE}", " ")


def _words(found: Ranking, each: Ranked) -> str:
    return "best" if each.to_best is None else verdict(found.metric, each.to_best)


def _table(found: Ranking) -> Table:
    metrics = list(found.ranked[0].scores)
    return Table(
        columns=("rank", "encoder", *map(in_words, metrics), "to the best", "it is"),
        rows=[
            (
                str(each.rank),
                f"{each.name} `{each.encoder_digest[:8]}`",
                *(shown(each.scores[metric]) for metric in metrics),
                shown(each.to_best),
                _words(found, each),
            )
            for each in found.ranked
        ],
        caption=f"To the best: {in_words(found.metric)} minus the best one's, paired.",
    )


def _picture(found: Ranking) -> Picture:
    rows = [
        canvas.Row(each.name, each.scores[found.metric], shown(each.scores[found.metric]), each.rank == 1)
        for each in found.ranked
    ]
    return Picture(
        draw=partial(canvas.forest, rows, metric=found.metric),
        alt=f"{in_words(found.metric)} by encoder, with intervals",
    )
