"""Videos: echo files or shards whose clips can be embedded, and read again by the ids of their embeddings.

A table names clips by their ids alone; canaries, film strips and fingerprints need the pixels behind them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.inputs import FileInput, Input, ShardInput
from echofm.embed.run import places_of
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError, UnreadableFile
from echofm.ids import IdKey
from echofm.readers.datasets import open_source
from echofm.readers.guarded import ReaderPool
from echofm.readers.limits import Limits
from echofm.readers.source import Row
from echofm.shards.manifest import MANIFEST
from echofm.shards.read import ShardSet
from synth.audit.names import shown

R = TypeVar("R")
Asked = tuple[str, Any]


@dataclass(kw_only=True)
class Videos:
    """One set's videos. rows: files in the order of their embeddings; shards: instead of files.

    `of` must be told the set's table before clips are read by id.
    """

    name: str
    key: IdKey
    processes: int
    limits: Limits
    dataset: str = ""
    rows: Sequence[Row] = ()
    shards: ShardSet | None = None
    _places: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def input(self, contract: InputContract) -> Input:
        """What `echofm embed` reads."""
        if self.shards is not None:
            return ShardInput(self.shards, contract=contract)
        return FileInput(
            self.rows,
            dataset=self.dataset,
            contract=contract,
            key=self.key,
            processes=self.processes,
            limits=self.limits,
        )

    def fingerprint(self) -> str:
        """Changes when a clip is added, removed or altered."""
        return self.input(InputContract(size=1, frames=1)).fingerprint()

    def of(self, table: EmbeddingTable, folder: Path) -> None:
        """Learn which clip lies where, from the set's whole table and the set-aside list beside it in `folder`."""
        if self.shards is not None:
            ids = (shown(record.clip_id, self.key) for record in self.shards.records)
            self._places = {clip: place for place, clip in enumerate(ids)}
            return
        try:
            self._places = places_of(table, folder, [self.key.file(row.path) for row in self.rows])
        except EchofmError as error:
            raise EchofmError(f"the {self.name} set: {error}") from None

    def read(
        self, asked: Sequence[Asked], task: Callable[[Clip, Any], R], *, channels: int = 1
    ) -> Iterator[R | UnreadableFile]:
        """task(clip, argument) for each (clip id, argument), in order, where the clip is read; pixels stay there.

        channels: in which files are read; a shard's clip has its own.
        """
        if self.shards is not None:
            yield from (task(self.shards.clip(self._places[clip]), argument) for clip, argument in asked)
            return
        work = [(self.rows[self._places[clip]], argument) for clip, argument in asked]
        pool = ReaderPool(
            functools.partial(_with_argument, task=task),
            processes=min(self.processes, max(1, len(work))),
            channels=channels,
            key=self.key,
            limits=self.limits,
        )
        with pool:
            for _, result in pool.map(_Asking.of(row, argument) for row, argument in work):
                yield result


@dataclass(frozen=True, kw_only=True)
class _Asking(Row):
    """A row with what is wanted of it."""

    argument: Any = None

    @classmethod
    def of(cls, row: Row, argument: Any) -> _Asking:
        return cls(**{name: getattr(row, name) for name in Row.__dataclass_fields__}, argument=argument)


def _with_argument(row: Row, clip: Clip, *, task: Callable[[Clip, Any], R]) -> R:
    assert isinstance(row, _Asking)
    return task(clip, row.argument)


def open_videos(
    path: Path,
    *,
    name: str,
    key: IdKey,
    processes: int,
    limits: Limits,
    dataset: str | None = None,
    patient_from: str | None = None,
    show_progress: bool = True,
) -> Videos:
    """Shards where there is a manifest of shards, else a data set, a plain folder or a single file."""
    if (path / MANIFEST).is_file():
        shards = ShardSet.open(path, show_progress=show_progress)
        return Videos(name=name, key=key, processes=processes, limits=limits, shards=shards)
    try:
        source = open_source(path, dataset=dataset, patient_from=patient_from)
        rows = sorted(source.rows(), key=lambda row: key.file(row.path))
    except EchofmError as error:
        hint = "; features of another model are read from an .npz (docs/audit.md)" if path.suffix == ".csv" else ""
        raise EchofmError(f"the {name} set: {error}{hint}") from None
    if not rows:
        raise EchofmError(f"no echo files were found in the {name} set; check the folder and `--dataset`")
    return Videos(name=name, key=key, processes=processes, limits=limits, dataset=source.name, rows=rows)
