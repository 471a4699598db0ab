"""report.html of the search for duplicates: how many are to be removed, and each beside its source."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import pandas as pd

from echofm.embed.videos import Videos
from echofm.report.blocks import Block, Decision, Facts, FilmStrip, Notice, Prose, Strips, Table
from echofm.report.page import Page, today
from synth.audit.copies.search import FoundDuplicates
from synth.audit.report.strips import MOST_REMOVED, Pair, Strip, strips

ON_PAPER = 14
_MOST_ROWS = 400
LIMITS = (
    "This looked for the recordings themselves. It does not see a heart that is like a patient's without being the "
    "recording; mirrored, turned or much shortened copies may be missed. `echofm audit` looks for those, and says what "
    "it would miss."
)


def page(found: FoundDuplicates, *, out: str, shown: bool = True) -> Page:
    """The report. out: name of its folder. shown: whether copies are shown as film strips."""
    result, samples = found.result, found.samples
    copies = samples[samples["removed"]]
    report = Page("Training recordings in a synthetic set" + (" (phantom patients)" if found.simulated else ""))
    synthetic, train = result.synthetic, result.train
    report.decision = Decision(
        f"{result.verdict}.",
        level="act" if result.removed else "none",
        facts=[
            ("Synthetic", f"{synthetic.name}: n = {synthetic.clips} clips" + _aside(synthetic.set_aside)),
            (
                "Made from",
                f"{train.name}: n = {train.clips} clips of {train.patients} patients" + _aside(train.set_aside),
            ),
            ("Date", f"{today()}, echofm {result.echofm_version}"),
            ("Tested", "copies by their bytes and their speckle"),
            ("Not tested", "likeness without a copy, membership, naming of patients, power on this set"),
            ("Exit code", "1 (clips are to be removed)" if result.removed else "0 (no copy was found)"),
        ],
        command=f"echofm audit filter --audit {shlex.quote(out)} --synthetic {shlex.quote(synthetic.name)} --out KEPT"
        if result.removed
        else f"echofm audit --train {shlex.quote(train.name)} --holdout HELD_OUT --synthetic "
        f"{shlex.quote(synthetic.name)} --encoder ENCODER --out AUDIT",
    )
    report.add("What this tells", Notice(LIMITS))
    if len(copies):
        if shown:
            report.add("Copies beside their sources", *_beside(_strips(copies, found.videos), len(copies)))
        report.add("All copies", _table(copies), on_paper=len(copies) <= 40)
    report.add("For the record", Facts([(each, "") for each in ("Decision", "Name and function", "Date, signature")]))
    return report


def _aside(files: int) -> str:
    return f" ({files} more not compared: unreadable, or a file twice)" if files else ""


def _strips(copies: pd.DataFrame, videos: Mapping[str, Videos]) -> list[Strip]:
    wanted = [
        Pair(
            clip_id=row.clip_id,
            source_id=row.duplicate_of,
            of="training",
            why="the same bytes" if row.same_bytes else "the same speckle",
            removed=True,
            patient=row.patient,
        )
        for row in copies.head(MOST_REMOVED).itertuples()
    ]
    return strips(wanted, videos)


def _beside(found: Sequence[Strip], copies: int) -> list[Block]:
    warning = Notice(
        "These are pixels of training clips, with all outside the sector set to zero. Handle this file as you "
        "handle the training set.",
        "warning",
    )
    pictures = [
        FilmStrip(
            {"synthetic": each.synthetic_KHW, "training": each.real_KHW},
            alt="frames of a synthetic clip above the same frames of the training clip that it shows",
            caption=each.caption,
        )
        for each in found
    ]
    return [warning, Prose(f"{len(found)} of {copies} copies."), Strips(pictures, ON_PAPER)]


def _table(copies: pd.DataFrame) -> Table:
    rows = [
        (f"`{row.clip_id}`", f"`{row.duplicate_of}`", f"`{row.patient}`", "bytes" if row.same_bytes else "speckle")
        for row in copies.head(_MOST_ROWS).itertuples()
    ]
    left = "" if len(copies) <= _MOST_ROWS else f" The first {_MOST_ROWS}; samples.parquet has all."
    caption = "Ids are keyed hashes; `echofm check FOLDER --names FILE` tells the path behind each." + left
    return Table(columns=("synthetic clip", "training clip", "of patient", "told by"), rows=rows, caption=caption)
