"""ShardSet: a folder of shards opened for random access, everything checked before the first clip leaves it.

T frames of a clip, L frames of a window, C channels, H rows, W columns.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from echofm.clip import FACTS, FRAME_FIELDS, NOT_ANNOTATED, Clip
from echofm.errors import EchofmError
from echofm.progress import progress_bar
from echofm.shards.index import ClipRecord, index_tar
from echofm.shards.manifest import Manifest, Split, TarEntry, read_manifest
from echofm.shards.sample import ARRAYS, MEMBERS
from echofm.shards.stamps import Stamp, load_stamp, locked, save_stamp, tar_state

_READ_BYTES = 4 * 2**20

# Well below the usual limit of 1024 open files, for data sets of thousands of tars.
_MOST_OPEN = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardSet:
    """The clips of a shard folder, or of one of its splits, in the order of the tars. Picklable; opens files lazily."""

    folder: Path
    manifest: Manifest
    records: Sequence[ClipRecord]
    _files: TarFiles = field(repr=False)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        latents: bool | None = False,
        verify: Literal["once", "always", "never"] = "once",
        show_progress: bool = True,
    ) -> ShardSet:
        """Open pixels that `echofm shards` wrote, or `latents` (echofm.shards.latents; None: either).

        The manifest, every tar's header chain, every array's header and every description are checked, and the sha256
        of each tar: the first time that this user opens it in this state ("once"; remembered under ECHOFM_HOME),
        every time, or never. Raises EchofmError naming the shard and the flaw.
        """
        path = _local(folder)
        manifest = read_manifest(path)
        _check_content(manifest, latents=latents)
        _check_files(path, manifest)
        # Of several ranks on a machine one verifies and the others find its stamp.
        with locked(path):
            records = _verified_index(path, manifest, verify=verify, show_progress=show_progress)
        return cls(folder=path, manifest=manifest, records=records, _files=TarFiles(path))

    def split(self, name: str) -> ShardSet:
        """The clips of one split."""
        if name not in self.manifest.splits:
            raise EchofmError(f"no split {name!r}; the splits are {', '.join(self.manifest.splits)}")
        return replace(self, records=[record for record in self.records if record.meta.split == name])

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Clip]:
        return (self.clip(index) for index in range(len(self)))

    def clip(self, index: int) -> Clip:
        """One whole clip, of shards of pixels."""
        assert self.manifest.latents is None, "latents are read by windows"
        meta = self.records[index].meta
        held: dict[str, Any] = {name: self.array(index, name) for name in FRAME_FIELDS}
        held |= {name: getattr(meta, name) for name in FACTS} | {"labels": dict(meta.labels)}
        return Clip(**held, sector_HW=self.sector_HW(index), frame_time_s=self.frame_time_s(index))

    def frame_time_s(self, index: int) -> npt.NDArray[np.float64] | None:
        """(T,) seconds of a clip's frames; None where unknown. Raises EchofmError where they do not increase."""
        time_s = self.array(index, "frame_time_s")
        # Not <= 0 instead: NaN compares false.
        if time_s is not None and not ((np.diff(time_s) > 0).all() and np.isfinite(time_s).all()):
            record = self.records[index]
            raise EchofmError(f"shard {record.shard}: the frame times of clip {record.clip_id} do not increase")
        return time_s

    def sector_HW(self, index: int) -> npt.NDArray[np.bool_]:
        sector_HW = self.array(index, "sector_HW")
        assert sector_HW is not None
        return sector_HW

    def array(self, index: int, field: str, first: int = 0, stop: int | None = None) -> npt.NDArray[Any] | None:
        """What a clip holds in a field of `Clip`, of frames first .. stop - 1; None where it holds none.

        Masks of frames that nobody annotated are NOT_ANNOTATED.
        """
        record = self.records[index]
        suffix = self.manifest.content if field == "frames_TCHW" else MEMBERS[field]
        if suffix not in record.arrays:
            return None
        if suffix == "mask.npy":
            return self._mask_THW(record)[first:stop]
        return self._read(record, suffix, first, stop)

    def read_frames(self, index: int, indices_L: npt.NDArray[np.int64], into_LCHW: npt.NDArray[Any]) -> None:
        """Read only the named frames, pixels or latents, into an array, one read per run of consecutive frames."""
        record = self.records[index]
        first = record.arrays[self.manifest.content].offset
        runs = np.flatnonzero(np.diff(indices_L) != 1) + 1
        for start, end in zip([0, *runs], [*runs, len(indices_L)]):
            offset = first + int(indices_L[start]) * into_LCHW[0].nbytes
            self._files.read_into(record.shard, offset, into_LCHW[start:end])

    def _mask_THW(self, record: ClipRecord) -> npt.NDArray[np.uint8]:
        numbers_K, mask_KHW = self._read(record, "mask_frame.npy"), self._read(record, "mask.npy")
        if numbers_K[0] < 0 or numbers_K[-1] >= record.n_frames or (np.diff(numbers_K) <= 0).any():
            raise EchofmError(f"shard {record.shard}: the masks of clip {record.clip_id} name frames that it has not")
        mask_THW = np.full((record.n_frames, *mask_KHW.shape[1:]), NOT_ANNOTATED, np.uint8)
        mask_THW[numbers_K] = mask_KHW
        return mask_THW

    def _read(self, record: ClipRecord, suffix: str, first: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        stored = record.arrays[suffix]
        array = np.empty((len(range(stored.shape[0])[first:stop]), *stored.shape[1:]), ARRAYS[suffix][0])
        self._files.read_into(record.shard, stored.offset + first * array[0].nbytes, array)
        return array


def _local(folder: str | Path) -> Path:
    text = os.fspath(folder)
    if "://" in text or text.startswith("pipe:"):
        raise EchofmError(
            "shards are read by position from local files, so URLs and pipes are refused; "
            "copy the folder here first (e.g. `aws s3 sync`, `gcloud storage rsync`)"
        )
    return Path(text)


def _check_content(manifest: Manifest, *, latents: bool | None) -> None:
    if manifest.latents is not None and latents is False:
        codec = manifest.latents.codec_digest[:12]
        raise EchofmError(f"the shards hold latents of codec {codec}, not pixels; give those that they were made from")
    if manifest.latents is None and latents:
        raise EchofmError("these shards hold pixels, not latents; write the latents of a codec from them first")


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Presence and length of every tar, so that a cut copy is found before anything is read."""
    for entry in manifest.tars:
        try:
            size = (folder / entry.name).stat().st_size
        except OSError:
            raise EchofmError(f"shard {entry.name}: in the manifest but not in the folder; copy it again") from None
        if size != entry.bytes:
            raise EchofmError(
                f"shard {entry.name}: {size} bytes where the manifest says {entry.bytes}: cut or changed; copy it again"
            )
    stray = {path.name for path in folder.glob("*.tar")} - {entry.name for entry in manifest.tars}
    if stray:
        raise EchofmError(f"{len(stray)} tar(s) in the folder are not in the manifest; remove them")


def _verified_index(folder: Path, manifest: Manifest, *, verify: str, show_progress: bool) -> Sequence[ClipRecord]:
    stamp = load_stamp(folder)
    states = tuple(tar_state(folder / entry.name, entry.sha256) for entry in manifest.tars)
    if verify == "once" and stamp is not None and stamp.tars == states:
        return stamp.records
    if verify != "never":
        known = set() if verify == "always" or stamp is None else set(stamp.tars)
        fresh = [entry for entry, state in zip(manifest.tars, states) if state not in known]
        _check_sha256(folder, fresh, show_progress=show_progress)
    records = tuple(record for entry in manifest.tars for record in index_tar(folder, entry, manifest))
    _check_disjoint(records)
    if verify != "never":
        save_stamp(folder, Stamp(tars=states, records=records))
    return records


def _check_disjoint(records: Sequence[ClipRecord]) -> None:
    """No clip twice, no patient in two splits, whoever put the tars together."""
    splits: dict[str, Split] = {}
    for record in records:
        if splits.setdefault(record.meta.patient_id, record.meta.split) != record.meta.split:
            raise EchofmError(
                f"shard {record.shard}: patient {record.meta.patient_id} is in two splits, so what is learnt would "
                "leak; write all data in one go with `echofm shards`"
            )
    if len({record.clip_id for record in records}) != len(records):
        raise EchofmError("a clip is in two shards; write all data in one go with `echofm shards`")


def _check_sha256(folder: Path, entries: Sequence[TarEntry], *, show_progress: bool) -> None:
    with progress_bar("verifying shards, MB", sum(e.bytes for e in entries) // 10**6, show=show_progress) as bar:
        for entry in entries:
            digest = hashlib.sha256()
            try:
                with open(folder / entry.name, "rb") as file:
                    while part := file.read(_READ_BYTES):
                        digest.update(part)
                        bar.advance(len(part) / 10**6)
            except OSError as error:
                raise EchofmError(f"shard {entry.name}: cannot be read ({error.strerror})") from None
            if digest.hexdigest() != entry.sha256:
                raise EchofmError(
                    f"shard {entry.name}: its bytes are not those written (sha256 differs); copy it again"
                )


class _Handles(threading.local):
    """The open files of this thread, the least recently used first."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.files: OrderedDict[str, FileIO] = OrderedDict()


class TarFiles:
    """Reads bytes at a place of a tar straight into an array, without a copy in between.

    Plain reads, not a memory map: a map of a file that is cut meanwhile kills the process instead of raising.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handles = _Handles()

    def read_into(self, tar: str, offset: int, array: npt.NDArray[Any]) -> None:
        """Fill a C-contiguous array. Raises EchofmError where the tar ends too early or cannot be read."""
        try:
            file = self._open(tar)
            file.seek(offset)
            n_read = file.readinto(array.data.cast("B"))
        except OSError as error:
            raise EchofmError(f"shard {tar}: cannot be read any more ({error.strerror})") from None
        if n_read != array.nbytes:
            raise EchofmError(f"shard {tar}: ends too early: changed since it was opened; copy it again")

    def _open(self, tar: str) -> FileIO:
        handles = self._handles
        if handles.process != os.getpid():
            # Inherited through a fork: the position in the file is shared with the parent.
            handles.__init__()  # type: ignore[misc]
        if tar in handles.files:
            handles.files.move_to_end(tar)
        else:
            if len(handles.files) >= _MOST_OPEN:
                handles.files.popitem(last=False)[1].close()
            handles.files[tar] = FileIO(self._folder / tar)
        return handles.files[tar]

    def __reduce__(self) -> tuple[type[TarFiles], tuple[Path]]:
        return TarFiles, (self._folder,)
