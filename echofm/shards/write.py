"""write_shards: a data set on disk becomes webdataset tars and a manifest."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

import echofm
from echofm.clip import Clip
from echofm.errors import EchofmError, UnreadableFile
from echofm.ids import IdKey, load_key
from echofm.progress import progress_bar
from echofm.readers.guarded import ReaderPool
from echofm.readers.options import ReadOptions
from echofm.readers.patients import Doubts
from echofm.readers.source import Row, Source
from echofm.shards.encode import (
    Encode,
    Encoded,
    NotSelected,
    Outcome,
    SetAside,
    Written,
    set_aside_lines,
    tally,
    unusable,
)
from echofm.shards.manifest import MANIFEST, SET_ASIDE, Manifest, Settings, Split, SplitBy, as_json, checked
from echofm.shards.sample import tar_blocks
from echofm.shards.splits import given_splits, put, stratified
from echofm.shards.staging import Staging, new_folder, staged
from echofm.split import split_of

# What a reader process answers.
Result = list[Encoded] | UnreadableFile
Results = Callable[[Iterable[Row]], Iterator[tuple[Row, Result]]]


def write_shards(
    source: Source,
    out: str | Path,
    *,
    size: int = 112,
    frame_rate_hz: float | None = 50.0,
    channels: Literal[1, 3] = 1,
    split_by: SplitBy = "patient",
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    stratify: str | None = None,
    kinds: Sequence[str] = ("bmode", "unknown"),
    keep_outside: bool = False,
    max_bad: float = 0.1,
    shard_mb: float = 512,
    seed: int = 0,
    processes: int = 1,
    key: IdKey | None = None,
    options: ReadOptions | None = None,
    read: Callable[[Row], Clip] | None = None,
    show_progress: bool = True,
) -> Manifest:
    """Write the clips of a source as shards into the folder `out`, which must not exist; returns its manifest.

    The `processes` are spawned, so call it below `if __name__ == "__main__":`; the bytes do not depend on their number.
    A killed run goes on when called again alike; `out` appears only when complete.
    size: pixels per side. frame_rate_hz: None keeps each clip's own frames. shard_mb: most 10^6 bytes per tar.
    split_by: "patient": the set's own split, else by hash of (seed, patient id) in these `fractions` of train, val and
        test, so that adding data never moves a patient; "hash": by that hash for all; "none": everything is "train".
    stratify: a label by whose classes patients without a split are dealt, so that a rare one is in every split.
    kinds: kinds of clip to write, or ("all",); others are counted in the manifest under `not_selected`.
    options: limits, decoder and mask of reading; channels, keep_outside and key are given here.
    max_bad: fraction of the files that may be unreadable; past it EchofmError, and what was done is kept.
    read: a reader of your own for files that echofm does not know; it runs in this process. seed: of splits and order.
    """
    out, key = new_folder(out), key or load_key()
    settings = checked(
        Settings,
        "the settings of the shards",
        size=size,
        frame_rate_hz=frame_rate_hz,
        channels=channels,
        split_by=split_by,
        fractions=tuple(fractions),
        stratify=stratify,
        kinds=tuple(sorted(set(kinds))),
        keep_outside=keep_outside,
        shard_mb=shard_mb,
        seed=seed,
    )
    options = replace(options or ReadOptions(key=key), key=key, channels=channels, keep_outside=keep_outside)
    rows, skipped = _planned(source, settings, options)
    fingerprint = _fingerprint(rows, key, repr((settings, options.choices(), source.name)))
    encode = Encode(settings=settings, dataset=source.name)
    with (
        staged(out, fingerprint=fingerprint, shard_mb=shard_mb, show_progress=show_progress) as staging,
        _reading(encode, read, processes=processes, options=options) as results,
    ):
        _try_again(staging, rows, results, key=key, show_progress=show_progress)
        _add_all(staging, rows, results, max_bad=max_bad, key=key, show_progress=show_progress)
        return _published(staging, source, settings, skipped)


def _published(staging: Staging, source: Source, settings: Settings, skipped: Counter[str]) -> Manifest:
    tars = staging.close_tars()
    manifest = tally(
        staging.outcomes,
        tars,
        settings=settings,
        dataset=source.name,
        patient_rule=getattr(source, "patient_rule", "the source's own"),
        skipped=skipped,
    )
    staging.publish({SET_ASIDE: set_aside_lines(staging.outcomes), MANIFEST: as_json(manifest, indent=2)})
    return manifest


def _planned(source: Source, settings: Settings, options: ReadOptions) -> tuple[list[Row], Counter[str]]:
    """The rows to read, each with the split that the set gives its patient, and the kinds left out, counted.

    Shuffled, so that readers who stream the tars meet patients mixed.
    """
    rows, key = list(source.rows()), options.key
    if not rows:
        raise EchofmError("no echo files were found; check the folder and `--dataset`")
    if options.labels is not None:
        rows = options.labels.on_rows(rows)
    if settings.split_by != "none":
        split_of("", fractions=settings.fractions)  # Wrong fractions are said now, not by every reader.
        if settings.split_by == "hash":
            rows = [replace(row, split=None) for row in rows]
        splits = given_splits(rows, key=key)
        if settings.stratify is not None:
            splits = stratified(
                rows, splits, label=settings.stratify, seed=settings.seed, fractions=settings.fractions, key=key
            )
    else:
        splits = ["train"] * len(rows)
    skipped = Counter(row.kind for row in rows if row.kind is not None and not settings.selects(row.kind))
    skipped += getattr(source, "unread", Counter())
    order = np.random.default_rng(settings.seed).permutation(len(rows))
    planned = [replace(rows[index], split=splits[index]) for index in order]
    return [row for row in planned if row.kind is None or settings.selects(row.kind)], skipped


def _fingerprint(rows: list[Row], key: IdKey, choices: str) -> str:
    """Changes with the choices, the set's tables, and the name, size or time of change of any file and its masks."""
    digest = hashlib.sha256(f"{echofm.__version__} {choices}".encode())
    for row in rows:
        ids = (key.file(row.path), key.patient(row.patient), row.study and key.study(row.patient, row.study))
        stated = (row.split, row.patient_from, row.view, row.kind, row.frame_rate_hz, row.cut_by_publisher)
        digest.update(repr((*ids, *stated, sorted(row.labels.items()), *row.state())).encode())
    return digest.hexdigest()


@contextmanager
def _reading(
    encode: Encode, read: Callable[[Row], Clip] | None, *, processes: int, options: ReadOptions
) -> Iterator[Results]:
    if read is not None:
        yield functools.partial(_read_here, read=read, encode=encode)
        return
    with ReaderPool(encode, processes=processes, options=options) as pool:
        yield pool.map


def _read_here(rows: Iterable[Row], *, read: Callable[[Row], Clip], encode: Encode) -> Iterator[tuple[Row, Result]]:
    for row in rows:
        try:
            yield row, encode(row, [read(row)])
        except UnreadableFile as error:
            yield row, error


def _try_again(
    staging: Staging,
    rows: Sequence[Row],
    results: Results,
    *,
    key: IdKey,
    show_progress: bool,
) -> None:
    """Read again what an interrupted run could not, as a codec or a file beside it may have been put in place.

    The run goes on from the first such file that can be read now, so that the bytes are those of a run without a stop.
    """
    bad = [number for number, file in enumerate(staging.files) if any(map(_is_bad, file))]
    mended: list[int] = []
    with progress_bar("reading again what could not be read", len(bad), show=show_progress and bool(bad)) as bar:
        for number, (row, result) in zip(bad, results([rows[number] for number in bad])):
            if isinstance(result, UnreadableFile) and result.kind is None:
                staging.files[number] = [unusable(key.file(row.path), result)]
            else:
                mended.append(number)
            bar.advance()
    if mended:
        staging.cut(mended[0])


def _add_all(
    staging: Staging, rows: Sequence[Row], results: Results, *, max_bad: float, key: IdKey, show_progress: bool
) -> None:
    """Add the result of every row that is still to be read; stops past `max_bad`, or at unknown patients."""
    doubts = Doubts()
    for row, known in zip(rows, (file[0] for file in staging.files)):
        if isinstance(known, Written):
            doubts.read_row(row, patient_id=known.patient_id, study_id=known.study_id, by=known.patient_by)
    doubts.refuse()
    written = [outcome for outcome in staging.outcomes if isinstance(outcome, Written)]
    seen = {outcome.clip_id for outcome in written}
    splits = {outcome.patient_id: outcome.split for outcome in written}
    bad = Counter(outcome.reason for outcome in staging.outcomes if isinstance(outcome, SetAside) and outcome.bad)
    _check_bad(bad, len(rows), max_bad)
    with progress_bar("shards", len(rows), show=show_progress) as bar:
        bar.advance(len(staging.files))
        for row, result in results(rows[len(staging.files) :]):
            if isinstance(result, UnreadableFile):
                without = unusable(key.file(row.path), result)
                staging.add((without, b""))
                if _is_bad(without):
                    bad[result.reason] += 1
                    _check_bad(bad, len(rows), max_bad)
            else:
                clips = [_clip(row, *each, seen=seen, splits=splits, doubts=doubts, key=key) for each in result]
                staging.add(*clips)
            bar.advance(note=f"{bad.total()} unreadable" if bad else None)


def _clip(
    row: Row,
    outcome: Written | NotSelected,
    files: dict[str, bytes],
    *,
    seen: set[str],
    splits: dict[str, Split],
    doubts: Doubts,
    key: IdKey,
) -> tuple[Outcome, bytes]:
    """A sound clip and its blocks; exact copies are set aside. Raises EchofmError where its patient is not known."""
    if isinstance(outcome, NotSelected):
        return outcome, b""
    if outcome.clip_id in seen:
        return SetAside(file_id=key.file(row.path), reason="an exact copy of another file", bad=False), b""
    doubts.read_row(row, patient_id=outcome.patient_id, study_id=outcome.study_id, by=outcome.patient_by)
    doubts.refuse()
    put(splits, outcome.patient_id, outcome.split, patient_id=outcome.patient_id)
    seen.add(outcome.clip_id)
    return outcome, tar_blocks(outcome.clip_id, files)


def _is_bad(outcome: Outcome) -> bool:
    return isinstance(outcome, SetAside) and outcome.bad


def _check_bad(bad: Counter[str], n_files: int, max_bad: float) -> None:
    if bad.total() > max_bad * n_files:
        [(reason, count)] = bad.most_common(1)
        raise EchofmError(
            f"{bad.total()} of {n_files} files cannot be read, more than --max-bad {max_bad:g} allows; the commonest "
            f"reason ({count} times): {reason}. `echofm check SRC` lists them; once that is mended the same command "
            "reads them again; a higher --max-bad goes on without them"
        )
