"""Videos: echo files or shards whose clips can be embedded, and read again by the ids of their embeddings.

A table names clips by their ids alone; film strips, fingerprints and planted copies need the pixels behind them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.inputs import FileInput, Input, ShardInput, SomeInput
from echofm.embed.set_aside import Position, file_positions
from echofm.errors import EchofmError, UnreadableFile
from echofm.readers.datasets import open_source
from echofm.readers.guarded import ReaderPool
from echofm.readers.options import ReadOptions
from echofm.readers.source import Row
from echofm.shards.manifest import MANIFEST
from echofm.shards.read import ShardSet
from echofm.shards.splits import given_splits
from echofm.split import split_of

R = TypeVar("R")
Wanted = tuple[str, Any]


@dataclass(kw_only=True)
class Videos:
    """One set's videos. rows: files in the order of their embeddings; shards: instead of files.

    Before clips are read by id, `locate` has to learn the ids from the set's table.
    """

    options: ReadOptions
    processes: int
    dataset: str = ""
    rows: Sequence[Row] = ()
    shards: ShardSet | None = None
    _positions: dict[str, Position] = field(default_factory=dict, init=False, repr=False)

    def input(self, contract: InputContract) -> Input:
        """The clips as an encoder of that contract takes them."""
        if self.shards is not None:
            return ShardInput(self.shards, contract=contract, options=self.options)
        return FileInput(
            self.rows,
            dataset=self.dataset,
            contract=contract,
            processes=self.processes,
            options=self.options,
        )

    def some(self, contract: InputContract, clips: Collection[str]) -> Input:
        """The files of these clips alone, by the ids that `locate` learnt."""
        return SomeInput(self.input(contract), sorted({self._positions[clip][0] for clip in clips}))

    def fingerprint(self) -> str:
        """Changes when a clip is added, removed or altered."""
        return self.input(InputContract(size=1, frames=1)).fingerprint()

    def most_patients(self, splits: Sequence[str]) -> int | None:
        """Patients of these splits, of all where none is named, before a file is read; None where only files know."""
        if self.shards is not None:
            named = {(record.meta.patient_id, str(record.meta.split)) for record in self.shards.records}
        elif not all(row.patient for row in self.rows):
            return None
        else:
            key = self.options.key
            given = zip((key.patient(row.patient) for row in self.rows), given_splits(self.rows, key=key))
            named = {(patient, split or split_of(patient)) for patient, split in given}
        return len({patient for patient, split in named if not splits or split in splits})

    def locate(self, clip_ids: Sequence[str], folder: Path) -> None:
        """Learn which clip lies where. clip_ids: of the set's whole table, under whatever names they are to be asked
        for; folder: of that table, with the list of files set aside."""
        if self.shards is not None:
            file_ids = [record.clip_id for record in self.shards.records]
        else:
            file_ids = [self.options.key.file(row.path) for row in self.rows]
        self._positions = file_positions(clip_ids, folder, file_ids)

    def read(
        self, wanted: Sequence[Wanted], task: Callable[[Clip, Any], R], *, channels: int = 1
    ) -> Iterator[R | UnreadableFile]:
        """task(clip, argument) for each (clip id, argument), in order, where the clip is read; pixels stay there.

        channels: in which files are read; a shard's clip has its own.
        """
        if self.shards is not None:
            yield from (task(self.shards.clip(self._positions[clip][0]), argument) for clip, argument in wanted)
            return
        places = [(*self._positions[clip], argument) for clip, argument in wanted]
        work = [_Wanted.of(self.rows[position], number, argument) for position, number, argument in places]
        pool = ReaderPool(
            functools.partial(_with_argument, task=task),
            processes=min(self.processes, max(1, len(work))),
            options=replace(self.options, channels=channels),
        )
        with pool:
            for _, result in pool.map(work):
                yield result

    def every(
        self,
        task: Callable[[Clip, Any], R],
        *,
        splits: Sequence[str] = (),
        named: Callable[[str], str] = str,
        channels: int = 1,
    ) -> Iterator[tuple[str, str, R] | UnreadableFile]:
        """(clip id, patient id, task(clip, None)) of every clip of these splits, of all where none is named.

        Needs no table: the clips can be read by id afterwards. named: what an id is called by. channels: in which files
        are read.
        """
        if self.shards is not None:
            for position, record in enumerate(self.shards.records):
                if not splits or record.meta.split in splits:
                    self._positions[named(record.clip_id)] = position, 0
                    yield named(record.clip_id), record.meta.patient_id, task(self.shards.clip(position), None)
            return
        pool = ReaderPool(
            functools.partial(_of_each, task=task),
            processes=min(self.processes, max(1, len(self.rows))),
            options=replace(self.options, channels=channels),
        )
        given = given_splits(self.rows, key=self.options.key)
        with pool:
            for position, ((_, result), split) in enumerate(zip(pool.map(self.rows), given)):
                if isinstance(result, UnreadableFile):
                    if not splits or split is None or split in splits:
                        yield result
                    continue
                for number, (clip, patient, value) in enumerate(result):
                    if not splits or (split or split_of(patient)) in splits:
                        self._positions[named(clip)] = position, number
                        yield named(clip), patient, value

    def __len__(self) -> int:
        """Clips of shards; of files, which may hold several clips each, the files."""
        return len(self.rows) if self.shards is None else len(self.shards)


@dataclass(frozen=True, kw_only=True)
class _Wanted(Row):
    """A row, which of its clips is wanted, and what goes to the task with it."""

    number: int = 0
    argument: Any = None

    @classmethod
    def of(cls, row: Row, number: int, argument: Any) -> _Wanted:
        held = {name: getattr(row, name) for name in Row.__dataclass_fields__}
        return cls(**held, number=number, argument=argument)


def _with_argument(row: Row, clips: list[Clip], *, task: Callable[[Clip, Any], R]) -> R:
    assert isinstance(row, _Wanted)
    return task(clips[row.number], row.argument)


def _of_each(row: Row, clips: list[Clip], *, task: Callable[[Clip, Any], R]) -> list[tuple[str, str, R]]:
    return [(clip.clip_id, clip.patient_id, task(clip, None)) for clip in clips]


def open_videos(
    src: str | Path,
    *,
    options: ReadOptions | None = None,
    processes: int = 1,
    dataset: str | None = None,
    patient_from: str | None = None,
    has_patients: bool = True,
    show_progress: bool = True,
) -> Videos:
    """Shards where there is a manifest of shards, else a data set, a plain folder or a single file.

    has_patients: False for synthetic clips, whose patients nobody asks for.
    Raises EchofmError where there is nothing to read, or it is not known who the patients are.
    """
    options = options or ReadOptions()
    if (Path(src) / MANIFEST).is_file():
        shards = ShardSet.open(src, show_progress=show_progress)
        return Videos(options=options, processes=processes, shards=shards)
    source = open_source(src, dataset=dataset, patient_from=patient_from)
    rows = sorted(source.rows(doubtful=not has_patients), key=lambda row: options.key.file(row.path))
    if not has_patients:
        rows = [replace(row, patient_from=row.patient_from or "dicom") for row in rows]
    if not rows:
        raise EchofmError("no echo files were found; check the folder and `--dataset`")
    if options.labels is not None:
        rows = options.labels.on_rows(rows)
    return Videos(options=options, processes=processes, dataset=source.name, rows=rows)
