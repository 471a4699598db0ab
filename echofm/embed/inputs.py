"""What is embedded: the clips of files or of shards in one order, under an encoder's contract.

A file and its shard become the same pixels, because both pass through `echofm.conform` with the encoder's contract.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from echofm.clip import Clip
from echofm.conform import conform
from echofm.contract import InputContract
from echofm.embed.set_aside import Position
from echofm.errors import UnreadableFile
from echofm.ids import IdKey
from echofm.names import Name
from echofm.readers.guarded import ReaderPool
from echofm.readers.labels import labelled
from echofm.readers.options import ReadOptions
from echofm.readers.patients import Doubts
from echofm.readers.source import Row
from echofm.shards.read import ShardSet
from echofm.shards.splits import given_splits
from echofm.split import split_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One clip under the encoder's contract, and what its source says about it.

    frame_rate_hz: the source's own, before `conform`; None where it does not tell.
    file_id: hashed name of the file; of a shard, the clip's id.
    further: the other clips of a file that declares several images.
    """

    clip: Clip
    file_id: str
    split: str | None = None
    dataset: str | None = None
    frame_rate_hz: float | None = None
    further: tuple[Item, ...] = ()

    @property
    def all(self) -> tuple[Item, ...]:
        """Every clip of the file, in its order."""
        return (self, *self.further)


class Input(Protocol):
    """Clips by index, in an order that does not tell the order of names."""

    def __len__(self) -> int: ...

    def fingerprint(self) -> str:
        """Changes when a clip is added, removed or altered, or other limits may set other files aside."""
        ...

    def read(self, indices: Sequence[int]) -> Iterator[Item | UnreadableFile]:
        """The clips, or why there is none, in the order asked for."""
        ...


class ShardInput:
    """The clips of a shard folder."""

    def __init__(self, shards: ShardSet, *, contract: InputContract, options: ReadOptions | None = None) -> None:
        self._shards, self._contract = shards, contract
        own = None if options is None else options.labels
        self._labels_digest = () if own is None else (own.digest,)
        self._labels = {} if options is None or own is None else own.by_id(options.key)

    def __len__(self) -> int:
        return len(self._shards)

    def fingerprint(self) -> str:
        """Of the tars' sha256, and of labels of one's own."""
        return _digest(itertools.chain((entry.sha256 for entry in self._shards.manifest.tars), self._labels_digest))

    def read(self, indices: Sequence[int]) -> Iterator[Item | UnreadableFile]:
        """Read in this process: a shard's clip costs little beside its embedding. Raises EchofmError on damage."""
        for index in indices:
            meta = self._shards.records[index].meta
            clip = self._shards.clip(index)
            for each in (clip.patient_id, clip.study_id, clip.clip_id):
                clip = labelled(clip, self._labels.get(each or "", {}))
            yield Item(
                clip=conformed(clip, self._contract),
                file_id=clip.clip_id,
                split=meta.split,
                dataset=meta.dataset,
                frame_rate_hz=clip.frame_rate_hz,
            )


class FileInput:
    """The files of a folder or data set; read in processes of their own, under a watchdog.

    Raises EchofmError where the set puts one patient into two splits, or it is not known who the patients are.
    """

    def __init__(
        self, rows: Sequence[Row], *, dataset: str, contract: InputContract, processes: int, options: ReadOptions
    ) -> None:
        key = options.key
        # One file's split is its patient's, as `echofm shards` has it.
        given = (replace(row, split=split) for row, split in zip(rows, given_splits(rows, key=key)))
        self._rows = sorted(given, key=lambda row: key.file(row.path))
        self._key, self._doubts = key, Doubts()
        # How the encoder takes them.
        self._options = replace(options, channels=3 if contract.colour == "rgb" else 1)
        self._open_pool = functools.partial(
            ReaderPool,
            functools.partial(_item, contract=contract, dataset=dataset, key=key),
            processes=processes,
            options=self._options,
        )

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def file_ids(self) -> list[str]:
        """Each file's hashed name, in the order of the indices."""
        return [self._key.file(row.path) for row in self._rows]

    def names(self, positions: Mapping[str, Position], patients: Mapping[str, str]) -> list[Name]:
        """The file behind each clip. positions: clip id to where it lies; patients: clip id to its patient's."""
        lines = [(clip, self._rows[positions[clip][0]].path) for clip in positions]
        return [
            Name(file_id=self._key.file(path), clip_id=clip, patient_id=patients[clip], path=path)
            for clip, path in lines
        ]

    def fingerprint(self) -> str:
        """Of every file's hashed name, state and masks (`Row.state`), what its set says about it, and the options."""
        files = (repr((self._key.file(row.path), *row.state(), self._annotations(row))) for row in self._rows)
        return _digest(itertools.chain(self._options.choices(), files))

    def _annotations(self, row: Row) -> tuple[object, ...]:
        study = row.study and self._key.study(row.patient, row.study)
        annotations = (self._key.patient(row.patient), study, row.split, row.view, row.kind, sorted(row.labels.items()))
        # Only where they are given, so that tables of before hold for all other sets.
        study_rule, cut = row.patient_from == "study" and "study", row.cut_by_publisher and "cut by its publisher"
        further = (row.frame_rate_hz, study_rule or None, cut or None)
        return (*annotations, *(each for each in further if each is not None))

    def read(self, indices: Sequence[int]) -> Iterator[Item | UnreadableFile]:
        """Read ahead in the pool; a file that cannot be read gives its reason."""
        if not indices:
            return
        with self._open_pool() as pool:
            for row, result in pool.map(self._rows[index] for index in indices):
                if not isinstance(result, UnreadableFile):
                    self._doubts.read_clip(row, result.clip)
                    self._doubts.refuse()
                yield result


class SomeInput:
    """Some of an input's files, by their index there."""

    def __init__(self, whole: Input, indices: Sequence[int]) -> None:
        self._whole, self._indices = whole, indices

    def __len__(self) -> int:
        return len(self._indices)

    def fingerprint(self) -> str:
        """Of the whole, and of which they are."""
        return _digest(iter([self._whole.fingerprint(), *map(str, self._indices)]))

    def read(self, indices: Sequence[int]) -> Iterator[Item | UnreadableFile]:
        """By their number among these."""
        return self._whole.read([self._indices[index] for index in indices])


def conformed(clip: Clip, contract: InputContract) -> Clip:
    """A clip at the contract's size, frame rate and channels; grey stays grey where the encoder repeats it."""
    channels = 1 if contract.colour == "grey_bt601" else 3
    return conform(clip, size=contract.size, frame_rate_hz=contract.frame_rate_hz, channels=channels)


def _item(row: Row, clips: list[Clip], *, contract: InputContract, dataset: str, key: IdKey) -> Item:
    first, *further = (_one(row, clip, contract=contract, dataset=dataset, key=key) for clip in clips)
    return replace(first, further=tuple(further))


def _one(row: Row, clip: Clip, *, contract: InputContract, dataset: str, key: IdKey) -> Item:
    return Item(
        clip=conformed(clip, contract),
        file_id=key.file(row.path),
        # As `echofm shards` splits by default, so that a folder and its shards agree.
        split=row.split or split_of(clip.patient_id),
        dataset=dataset,
        frame_rate_hz=clip.frame_rate_hz,
    )


def _digest(parts: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()
