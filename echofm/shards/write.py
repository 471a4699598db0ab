"""write_shards: a data set on disk becomes webdataset tars and a manifest."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from filelock import FileLock, Timeout

import echofm
from echofm.clip import Clip
from echofm.errors import EchofmError
from echofm.ids import IdKey, load_key
from echofm.progress import progress_bar
from echofm.readers.source import Row, Source
from echofm.shards.encode import Encode, NotSelected, Outcome, SetAside, Written
from echofm.shards.manifest import (
    MANIFEST,
    SET_ASIDE,
    Manifest,
    Settings,
    Split,
    SplitCounts,
    TarEntry,
    as_json,
    sorted_counts,
)
from echofm.shards.pool import in_order
from echofm.shards.splits import given_splits, put
from echofm.shards.staging import Staging
from echofm.shards.stamps import lock_path
from echofm.split import split_of

Task = tuple[Row, Split | None]
_MEGABYTE = 1_000_000


def write_shards(
    source: Source,
    out: str | Path,
    *,
    size: int = 112,
    frame_rate_hz: float | None = 50.0,
    channels: Literal[1, 3] = 1,
    split_by: Literal["patient", "none"] = "patient",
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    kinds: Sequence[str] = ("bmode", "unknown"),
    keep_outside: bool = False,
    max_bad: float = 0.1,
    shard_mb: float = 512,
    seed: int = 0,
    processes: int = 1,
    key: IdKey | None = None,
    read: Callable[[Row], Clip] | None = None,
    show_progress: bool = True,
) -> Manifest:
    """Write the clips of a source as shards into the folder `out`, which must not exist; returns its manifest.

    Files are read in `processes` processes and written in one order that `seed` alone decides, so the bytes are the
    same whatever their number. A killed run goes on when called again alike; `out` appears only when complete.

    Parameters
    ----------
    size: pixels per side. frame_rate_hz: None keeps each clip's own frames.
    split_by: "patient": the set's own split, for patients without one by hash of (seed, patient id) in these
        `fractions` of train, val and test, so that adding data never moves a patient. "none": everything is "train".
    kinds: kinds of clip to write, or ("all",); others are counted in the manifest under `not_selected`.
    max_bad: fraction of the files that may be unreadable; past it EchofmError, and what was done is kept.
    shard_mb: most 10^6 bytes per tar. read: a reader of your own (picklable); default `echofm.readers.read_row`.
    """
    out, key = Path(out), key or load_key()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EchofmError(f"{out.name} is there already; remove it or name another folder")
    settings = Settings(
        size=size,
        frame_rate_hz=frame_rate_hz,
        channels=channels,
        split_by=split_by,
        fractions=fractions,
        kinds=tuple(sorted(kinds)),
        keep_outside=keep_outside,
        shard_mb=shard_mb,
        seed=seed,
    )
    tasks = _planned(list(source.rows()), settings, key)
    if read is None:
        from echofm.readers import read_row

        read = functools.partial(read_row, channels=channels, key=key, keep_outside=keep_outside)
    encode = Encode(read=read, settings=settings, dataset=source.name, key=key)
    try:
        with (
            FileLock(lock_path(out), timeout=0),
            Staging(
                out, fingerprint=_fingerprint(tasks, settings, source.name, key), shard_bytes=shard_mb * _MEGABYTE
            ) as staging,
        ):
            _run(staging, encode, tasks, processes=processes, max_bad=max_bad, show_progress=show_progress)
            manifest = _manifest(staging.outcomes, staging.close_tars(), settings, source.name)
            staging.publish({SET_ASIDE: _set_aside(staging.outcomes), MANIFEST: as_json(manifest, indent=2)})
    except Timeout:
        raise EchofmError(f"another process is writing {out.name} now; wait for it or end it") from None
    except OSError as error:
        raise EchofmError(
            f"writing the shards failed ({error.strerror}); once that is mended the same command goes on from here"
        ) from None
    return manifest


def _planned(rows: list[Row], settings: Settings, key: IdKey) -> list[Task]:
    """Every row with its split, shuffled, so that readers who stream the tars meet patients mixed."""
    if not rows:
        raise EchofmError("no echo files were found; check the folder and `--dataset`")
    splits: list[Split | None] = ["train"] * len(rows)
    if settings.split_by == "patient":
        split_of("", fractions=settings.fractions)  # Wrong fractions are said now, not by every reader.
        splits = given_splits(rows, key=key)
    order = np.random.default_rng(settings.seed).permutation(len(rows))
    return [(rows[index], splits[index]) for index in order]


def _fingerprint(tasks: list[Task], settings: Settings, dataset: str, key: IdKey) -> str:
    """Changes with the settings, the set's tables, and any file's name, size or time of change."""
    digest = hashlib.sha256(f"{echofm.__version__}\n{dataset}\n".encode() + as_json(settings))
    for row, split in tasks:
        try:
            stat = row.path.stat()
            state = (stat.st_size, stat.st_mtime_ns)
        except OSError:
            state = (0, 0)
        line = (key.file(row.path), key.patient(row.patient), split, row.view, row.kind, sorted(row.labels.items()))
        digest.update(repr((*line, *state)).encode())
    return digest.hexdigest()


def _run(
    staging: Staging, encode: Encode, tasks: list[Task], *, processes: int, max_bad: float, show_progress: bool
) -> None:
    """Read what is not yet read; exact copies are set aside, and past `max_bad` unreadable files it stops."""
    written = [outcome for outcome in staging.outcomes if isinstance(outcome, Written)]
    seen = {outcome.clip_id for outcome in written}
    splits = {outcome.patient_id: outcome.split for outcome in written}
    n_bad = sum(isinstance(outcome, SetAside) and outcome.bad for outcome in staging.outcomes)
    todo = tasks[len(staging.outcomes) :]
    with (
        progress_bar("shards", len(tasks), show=show_progress) as bar,
        closing(in_order(encode, todo, processes=processes)) as results,
    ):
        bar.advance(len(tasks) - len(todo))
        for (row, _), (outcome, blocks) in zip(todo, results):
            if isinstance(outcome, Written) and outcome.clip_id in seen:
                copy_of = "an exact copy of another file"
                outcome, blocks = SetAside(file_id=encode.key.file(row.path), reason=copy_of, bad=False), b""
            if isinstance(outcome, Written):
                seen.add(outcome.clip_id)
                put(splits, outcome.patient_id, outcome.split, patient_id=outcome.patient_id)
            staging.add(outcome, blocks)
            n_bad += isinstance(outcome, SetAside) and outcome.bad
            bar.advance(note=f"{n_bad} unreadable" if n_bad else None)
            if n_bad > max_bad * len(tasks):
                raise _too_many_bad(staging.outcomes, n_bad, len(tasks), max_bad)


def _too_many_bad(outcomes: Sequence[Outcome], n_bad: int, n_files: int, max_bad: float) -> EchofmError:
    reasons = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, SetAside) and outcome.bad)
    (reason, count), *_ = reasons.most_common(1)
    return EchofmError(
        f"{n_bad} of {n_files} files cannot be read, more than --max-bad {max_bad:g} allows; the commonest reason "
        f"({count} times): {reason}. `echofm check SRC` lists them; raise --max-bad to go on without them"
    )


def _manifest(outcomes: Sequence[Outcome], tars: tuple[TarEntry, ...], settings: Settings, dataset: str) -> Manifest:
    written = [outcome for outcome in outcomes if isinstance(outcome, Written)]
    not_selected = Counter(outcome.not_selected for outcome in outcomes if isinstance(outcome, NotSelected))
    if not written:
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(not_selected.items())) or "nothing readable"
        raise EchofmError(f"no clip of kind {' or '.join(settings.kinds)} to write: {found}; choose another --kind")
    patients = {split: {clip.patient_id for clip in written if clip.split == split} for split in get_args(Split)}
    assert sum(map(len, patients.values())) == len(set().union(*patients.values())), "splits are patient-disjoint"
    return Manifest(
        tool=f"echofm {echofm.__version__}",
        dataset=dataset,
        settings=settings,
        splits={
            split: SplitCounts(
                clips=sum(clip.split == split for clip in written),
                patients=len(patients[split]),
                frames=sum(clip.frames for clip in written if clip.split == split),
                bytes=sum(entry.bytes for entry in tars if entry.split == split),
            )
            for split in get_args(Split)
        },
        patient_disjoint=True,
        views=sorted_counts(Counter(clip.view or "unknown" for clip in written)),
        kinds=sorted_counts(Counter(clip.kind for clip in written)),
        labels=sorted_counts(Counter(label for clip in written for label in clip.labels)),
        frame_rate_hz_histogram=sorted_counts(Counter(clip.native_rate_hz for clip in written)),
        size_histogram=sorted_counts(Counter(clip.native_size for clip in written)),
        not_selected=sorted_counts(not_selected),
        set_aside=sum(isinstance(outcome, SetAside) for outcome in outcomes),
        tars=tars,
    )


def _set_aside(outcomes: Sequence[Outcome]) -> bytes:
    """One line per file set aside, by file id: its order must not tell the order of the names."""
    rows = sorted((o.file_id, o.reason) for o in outcomes if isinstance(o, SetAside))
    return b"".join(json.dumps({"file_id": file, "reason": reason}).encode() + b"\n" for file, reason in rows)
