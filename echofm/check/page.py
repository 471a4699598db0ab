"""The page of `echofm check`: findings first, then counts, labels and pictures."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from echofm.check.facts import THUMBNAIL_PIXELS, Facts
from echofm.check.run import contact_sheet, worst_sectors
from echofm.check.summary import Summary
from echofm.report.blocks import Block, FilmStrip, Notice, Panels, Picture, Prose, Table
from echofm.report.page import Page

_PER_STRIP = 6
_LISTED = 50
_LONGEST_TABLE = 12


def page_of(summary: Summary) -> Page:
    """The whole report. Clips and patients appear under their hashed ids alone."""
    patients = len({one.patient_id for one in summary.facts})
    lead = (
        f"{summary.data_set}: {len(summary.facts)} clips of {patients} patients; "
        f"{len(summary.set_aside)} set aside. Patients are told apart by {summary.patient_rule}."
    )
    page = Page("Echo folder check", lead)
    problems = [finding for finding in summary.findings if finding.is_problem]
    if problems:
        page.warn(f"Findings that need a person: {len(problems)}; see the first section.")
    page.add("Findings", *_findings(summary))
    page.add("What is here", *_counts(summary))
    if labels := _label_pictures(summary):
        page.add("Labels", Panels(labels, caption="Clips by label; units are in the labels' names."))
    if shown := contact_sheet(summary):
        page.add("Random clips", *_strips(shown, alt="Middle frames of random clips"))
    if worst := worst_sectors(summary):
        page.add("Sectors that leave out most", *_strips(worst, alt="Middle frames of the clips that lose most"))
    if summary.set_aside:
        rows = [[reason, count] for reason, count in summary.reasons().items()]
        page.add("Set aside", Table(["reason", "files"], rows, caption="Their ids are in the JSON report."))
    return page


def _findings(summary: Summary) -> list[Block]:
    if not summary.findings:
        return [Prose("Nothing was found that needs a person.")]
    blocks: list[Block] = []
    for finding in summary.findings:
        blocks.append(Notice(finding.text, "warning" if finding.is_problem else "note"))
        if finding.groups and len(finding.groups[0]) <= _LISTED and finding.code.startswith(("duplicates", "patients")):
            listed = [[", ".join(group)] for group in finding.groups[:_LISTED]]
            more = len(finding.groups) - len(listed)
            caption = f"{more} more are in the JSON report." if more else ""
            blocks.append(Table(["files (or patients) that belong together"], listed, caption=caption))
    return blocks


def _counts(summary: Summary) -> list[Block]:
    blocks: list[Block] = [
        Prose(
            f"Shards of the greyscale cines at 112 x 112 and 50 Hz would take about "
            f"{summary.shard_bytes() / 1e6:,.0f} MB and about {summary.elapsed_s:,.0f} s with "
            f"{summary.processes} processes at work, as long as this check took to read."
        )
    ]
    for title, counts in summary.counts().items():
        rows: list[list[Any]] = [[name, count] for name, count in counts.items()]
        if len(rows) > _LONGEST_TABLE:
            rest = sum(count for _, count in rows[_LONGEST_TABLE - 1 :])
            rows = [*rows[: _LONGEST_TABLE - 1], [f"{len(counts) - _LONGEST_TABLE + 1} others", rest]]
        blocks.append(Table([title, "clips"], rows))
    return blocks


def _label_pictures(summary: Summary) -> list[Picture]:
    return [
        Picture(functools.partial(_histogram, name, values), alt=f"Histogram of {name} over {len(values)} clips")
        for name, values in summary.labels().items()
    ]


def _histogram(name: str, values: Sequence[Any]) -> Figure:
    figure = Figure(figsize=(3.4, 2.2), layout="constrained")
    axes = figure.subplots()
    if all(isinstance(value, int | float) for value in values):
        numbers = np.asarray(values, float)
        low, high = float(numbers.min()), float(numbers.max())
        # Numbers that differ by rounding alone leave no room for bins.
        span = (low, high) if high - low > 1e-9 * max(abs(low), abs(high)) else (low - 0.5, high + 0.5)
        axes.hist(numbers, bins=min(20, max(5, len(set(values)))), range=span)
    else:
        words, counts = np.unique([str(value) for value in values], return_counts=True)
        most = np.argsort(-counts, kind="stable")[:_LONGEST_TABLE]
        axes.bar(words[most], counts[most])
        axes.tick_params(axis="x", rotation=30 if len(most) > 3 else 0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.set(title=name, ylabel="clips")
    return figure


def _strips(shown: Sequence[Facts], *, alt: str) -> list[Block]:
    blocks: list[Block] = []
    for start in range(0, len(shown), _PER_STRIP):
        part = shown[start : start + _PER_STRIP]
        tiles = [_tile(one.thumbnail) for one in part if one.thumbnail is not None]
        labels = [", ".join(filter(None, (one.view, one.kind, f"{one.lost:.0%} outside"))) for one in part]
        # A strip is as wide as the page: a short one is filled up, so that all pictures are of one size.
        empty = _PER_STRIP - len(tiles)
        frames = np.stack([*tiles, *[np.zeros_like(tiles[0])] * empty])
        name = f"{start + 1} to {start + len(part)}"
        blocks.append(FilmStrip({name: frames}, alt=alt, columns=labels + [""] * empty))
    caption = "The sector as it was found is outlined; all outside it is zero in every frame of a shard."
    return [Prose(caption), *blocks]


def _tile(png: bytes) -> npt.NDArray[np.uint8]:
    """A thumbnail centred on a black square, so that a row of them lines up."""
    tile = Image.new("RGB", (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    picture = Image.open(io.BytesIO(png))
    tile.paste(picture, ((THUMBNAIL_PIXELS - picture.width) // 2, (THUMBNAIL_PIXELS - picture.height) // 2))
    return np.asarray(tile)
