"""The page of a set's clips: cards with film strips that play, to be filtered and sorted."""

from __future__ import annotations

from collections import Counter

import numpy as np

from echofm.report.blocks import Table
from echofm.report.gallery import Card, Gallery
from echofm.report.page import Page
from echofm.view.gather import RATE_HZ, Gathered, Seen


def page_of(found: Gathered, *, name: str) -> Page:
    """The whole page. name: of the set. Clips and patients appear under their hashed ids alone."""
    patients = len({each.patient_id for each in found.seen})
    shown = f"{len(found.seen)} clips of {patients} patients"
    of = "" if len(found.seen) >= found.clips else f", spread evenly over {found.clips}; --most shows more"
    page = Page(name, f"{shown}{of}. Click a card to play it.")
    page.add("Clips", Gallery([_card(each) for each in found.seen], frame_rate_hz=RATE_HZ))
    page.add("What is here", _counts(found))
    if found.set_aside:
        rows = [(reason, count) for reason, count in sorted(found.set_aside.items(), key=lambda each: -each[1])]
        page.add("Not shown", Table(("files without a clip", "files"), rows))
    return page


def _card(each: Seen) -> Card:
    fields: dict[str, str | float] = {
        "view": each.view or "unknown",
        "kind": each.kind,
        "finding": "; ".join(each.findings) or "none",
        "patient": each.patient_id,
    }
    if each.split is not None:
        fields["split"] = each.split
    for name, value in (("seconds", each.seconds), ("frame_rate_hz", each.frame_rate_hz)):
        if value is not None:
            fields[name] = round(value, 2)
    for name, label in sorted(each.labels.items()):
        fields[name] = label if isinstance(label, str) else float(label)
    return Card(title=each.clip_id, frames_KHW=np.ascontiguousarray(each.frames_KHW), fields=fields)


def _counts(found: Gathered) -> Table:
    rows: list[tuple[str, str, int]] = []
    for title, values in (
        ("view", [each.view or "unknown" for each in found.seen]),
        ("kind", [each.kind for each in found.seen]),
        ("split", [each.split for each in found.seen if each.split]),
        ("finding", [finding for each in found.seen for finding in each.findings]),
    ):
        rows += [(title, str(value), count) for value, count in Counter(values).most_common()]
    return Table(("", "value", "clips"), rows)
