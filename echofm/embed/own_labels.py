"""Labels of one's own on a table of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pandas as pd

from echofm.clip import Label
from echofm.embed.options import EmbedOptions
from echofm.embed.rows import tidy_rows
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.readers.labels import OwnLabels


def say_notes(own: OwnLabels | None, say: Callable[[str], None]) -> None:
    """What of the labels is not used, and why."""
    for what, count in sorted(own.notes.items()) if own is not None else ():
        say(f"note: {what}: {count}")


def say_counts(own: OwnLabels | None, table: EmbeddingTable, say: Callable[[str], None]) -> None:
    """How many clips have each of these labels: whose the lines are may be known only once the files are read."""
    if own is None:
        return
    rows = table.rows
    counts = [f"{name} {int(rows[name].notna().sum()) if name in rows.columns else 0}" for name in own.names]
    say(f"labels of {len(table)} clips: {', '.join(counts)}")


def with_labels_of(table: EmbeddingTable, options: EmbedOptions, *, say: Callable[[str], None]) -> EmbeddingTable:
    """The table with the labels that the options name, where they name any."""
    own = options.own_labels()
    say_notes(own, say)
    if own is not None:
        table = with_own_labels(table, own.by_id(options.key))
    say_counts(own, table, say)
    return table


def with_own_labels(table: EmbeddingTable, labels: Mapping[str, Mapping[str, Label]]) -> EmbeddingTable:
    """The table with further labels. labels: by the hashed id of a patient, study or clip (`OwnLabels.by_id`); they are
    taken where the table has others. Raises EchofmError where no id is the table's."""
    rows = table.rows.copy()
    ids = [rows[name].astype(object) for name in ("patient_id", "study_id", "clip_id")]
    found = [{name: value for each in three for name, value in labels.get(each, {}).items()} for three in zip(*ids)]
    if not any(found):
        raise EchofmError("no line of --labels names a patient, study or clip of the table; check --key and --id-key")
    for name in sorted({name for own in found for name in own}):
        before = rows[name].astype(object) if name in rows.columns else pd.Series([None] * len(rows), index=rows.index)
        values = [own.get(name, old) for own, old in zip(found, before)]
        rows[name] = pd.Series(values, index=rows.index, dtype=object).infer_objects()
    return replace(table, rows=tidy_rows(rows))
