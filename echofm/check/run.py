"""Examine a source: read every file once, in parallel, then look for what several of them share."""

from __future__ import annotations

import functools
import random
import time

import numpy as np

from echofm.check.duplicates import find_copies
from echofm.check.facts import Facts, examine
from echofm.check.findings import find, splits_in_force
from echofm.check.summary import Summary
from echofm.errors import UnreadableFile
from echofm.progress import progress_bar
from echofm.readers.datasets import FolderSource
from echofm.readers.guarded import ReaderPool
from echofm.readers.options import ReadOptions
from echofm.readers.patients import Doubts
from echofm.readers.sector import LOST

SHEET = 24
_FIRST_SAMPLE = 2 * SHEET


def check(
    source: FolderSource,
    *,
    processes: int = 1,
    options: ReadOptions | None = None,
    seed: int = 0,
) -> Summary:
    """Read every file of a source once and sum up; no pixel but the contact sheet's leaves the reading process.

    options: how files are read. seed: of the contact sheet, and of splits that the set lacks.
    Raises EchofmError on a wrong table; files that cannot be read are part of the summary.
    """
    started = time.monotonic()
    rows = list(source.rows(doubtful=True))
    sheet = frozenset(row.path for row in random.Random(seed).sample(rows, min(_FIRST_SAMPLE, len(rows))))
    facts: list[Facts] = []
    set_aside: list[UnreadableFile] = []
    doubts = Doubts()
    options = options or ReadOptions()
    task = functools.partial(examine, key=options.key, sheet=sheet)
    pool = ReaderPool(task, processes=min(processes, max(1, len(rows))), options=options)
    with pool, progress_bar("reading", len(rows)) as bar:
        for row, result in pool.map(rows):
            if isinstance(result, UnreadableFile):
                set_aside.append(result)
            else:
                facts += result
                first = result[0]
                doubts.read_row(row, patient_id=first.patient_id, study_id=first.study_id, by=first.patient_by)
            bar.advance(note=f"{len(set_aside)} set aside" if set_aside else None)
    elapsed_s = time.monotonic() - started
    pairs = find_copies([one.sector_print for one in facts], [one.picture_print for one in facts], processes=processes)
    return Summary(
        data_set=source.name,
        patient_rule=source.patient_rule,
        facts=facts,
        set_aside=set_aside,
        findings=find(facts, pairs, set_aside, source.notes, seed=seed, doubt=source.notes.doubt or doubts.reason),
        unread=dict(source.unread),
        splits=splits_in_force(facts, seed=seed),
        elapsed_s=elapsed_s,
        processes=processes,
    )


def contact_sheet(summary: Summary) -> list[Facts]:
    """The clips with a thumbnail, as many as are shown: they are in the folder's order, and its end belongs to it."""
    drawn = [one for one in summary.facts if one.in_sheet]
    places = np.linspace(0, len(drawn) - 1, min(SHEET, len(drawn))).round().astype(int)
    return [drawn[place] for place in places]


def worst_sectors(summary: Summary) -> list[Facts]:
    """The clips whose sectors lose most, worst first."""
    return sorted((one for one in summary.facts if one.lost > LOST), key=lambda one: -one.lost)[:SHEET]
