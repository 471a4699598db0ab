"""Staging: the folder in which shards grow, with a journal, so that a killed run goes on where it was.

Beside OUT stands OUT.partial with a folder of tars and journal.jsonl: first the fingerprint of the job, then one line
per file, with what became of each of its clips, in the order of the job. Tars are on the disk before the lines that
speak of them, so the journal promises no more than there is; what the tars hold beyond it is cut off on resuming. At
the end the tars' folder becomes OUT.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import pydantic
from filelock import Timeout

from echofm.atomic import write_whole
from echofm.errors import EchofmError
from echofm.progress import progress_bar
from echofm.shards.encode import Outcome, Written
from echofm.shards.manifest import Split, TarEntry
from echofm.shards.sample import BLOCK
from echofm.shards.stamps import locked
from echofm.split import SPLITS

JOURNAL = "journal.jsonl"
# Work lost to a power cut or a kill is at most this, or one file.
_CHECKPOINT_S = 2.0
_CHECKPOINT_BYTES = 64 * 2**20
_READ_BYTES = 4 * 2**20
_MEGABYTE = 1_000_000
_line: pydantic.TypeAdapter[list[Outcome]] = pydantic.TypeAdapter(list[Outcome])


def new_folder(out: str | Path) -> Path:
    """Where a folder of shards shall stand, links followed. Raises EchofmError where something else stands there."""
    # What grows beside it must lie on the disk that a link leads to; and `.` has no name to put a suffix to.
    out = Path(os.path.realpath(out))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EchofmError(f"{out.name} is there already; remove it or name another folder")
    if os.path.ismount(out):
        raise EchofmError(f"{out.name or 'OUT'} is where a disk is mounted; name a new folder on that disk")
    return out


@contextmanager
def staged(out: Path, *, fingerprint: str, shard_mb: float, show_progress: bool) -> Iterator[Staging]:
    """The staging of `out`, for this process alone. Raises EchofmError where another has it, or the disk fails."""
    try:
        with (
            locked(out, wait=False),
            Staging(
                out, fingerprint=fingerprint, shard_bytes=shard_mb * _MEGABYTE, show_progress=show_progress
            ) as staging,
        ):
            yield staging
    except Timeout:
        raise EchofmError(f"another process is writing {out.name} now; wait for it or end it") from None
    except OSError as error:
        raise EchofmError(
            f"writing the shards failed ({error.strerror}); once that is mended the same command goes on from here"
        ) from None


class _Tar:
    """One growing tar: its bytes so far, their sha256, its clips."""

    def __init__(self, path: Path, split: Split, *, keep_bytes: int = 0, clips: int = 0) -> None:
        self.path, self.split, self.size, self.clips = path, split, keep_bytes, clips
        self._sha256 = hashlib.sha256()
        self._file = open(path, "r+b" if keep_bytes else "w+b")  # noqa: SIM115  (closed by `finish` or `close`)
        self._file.truncate(keep_bytes)
        while part := self._file.read(_READ_BYTES):
            self._sha256.update(part)

    def append(self, blocks: bytes) -> None:
        self._file.write(blocks)
        self._sha256.update(blocks)
        self.size += len(blocks)

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> TarEntry:
        """Two empty blocks, then up to a whole record, as tar ends a file."""
        self.append(bytes(2 * BLOCK))
        self.append(bytes(-self.size % tarfile.RECORDSIZE))
        self.sync()
        self.close()
        return TarEntry(
            name=self.path.name, split=self.split, clips=self.clips, bytes=self.size, sha256=self._sha256.hexdigest()
        )

    def close(self) -> None:
        self._file.close()


class Staging:
    """The growing shards of one job: what became of the clips of each file so far, `add` for the next file, `finish` at
    the end."""

    def __init__(self, out: Path, *, fingerprint: str, shard_bytes: float, show_progress: bool = True) -> None:
        self._out = out
        self._partial = out.with_name(out.name + ".partial")
        self._tars = self._partial / "shards"
        self._shard_bytes = shard_bytes
        self._growing: dict[Split, _Tar] = {}
        self._entries: list[TarEntry] = []
        self._pending: list[str] = []
        self._pending_bytes, self._last_sync = 0, time.monotonic()
        self._tars.mkdir(parents=True, exist_ok=True)
        self._journal = open(self._partial / JOURNAL, "a+b")  # noqa: SIM115  (closed by `__exit__`)
        self.files = self._read_journal(json.dumps({"fingerprint": fingerprint}).encode())
        self._reopen_tars(show_progress=show_progress)

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of each clip."""
        return [outcome for file in self.files for outcome in file]

    def _read_journal(self, head: bytes) -> list[list[Outcome]]:
        self._journal.seek(0)
        # What follows the last line break was cut off by the kill.
        text, end, _ = self._journal.read().rpartition(b"\n")
        lines = text.split(b"\n") if end else [head]
        if lines[0] != head:
            raise EchofmError(
                f"{self._partial.name} holds the unfinished shards of other data or other settings; "
                "give the same command to go on, or remove that folder to start anew"
            )
        try:
            files = [_line.validate_json(line) for line in lines[1:]]
            clips = [outcome.clip_id for file in files for outcome in file if isinstance(outcome, Written)]
            if len(set(clips)) != len(clips):
                raise ValueError("a clip comes twice, so as many files would be skipped as lines are too many")
        except ValueError:
            raise EchofmError(f"{self._partial.name}/{JOURNAL} is damaged; remove that folder to start anew") from None
        self._journal.truncate(len(text + end))
        if not end:
            self._journal.write(head + b"\n")
        return files

    def _reopen_tars(self, *, show_progress: bool) -> None:
        last: dict[str, Written] = {}
        clips: dict[str, int] = {}
        for outcome in self.outcomes:
            if isinstance(outcome, Written):
                last[outcome.tar] = outcome
                clips[outcome.tar] = clips.get(outcome.tar, 0) + 1
        for stray in self._tars.glob("*.tar"):
            if stray.name not in last:
                stray.unlink()
        show = show_progress and bool(last)
        with progress_bar("reading back what is written, tars", len(last), show=show) as bar:
            for name, outcome in sorted(last.items()):
                if outcome.split in self._growing:
                    self._entries.append(self._growing.pop(outcome.split).finish())
                path = self._tars / name
                self._growing[outcome.split] = _Tar(path, outcome.split, keep_bytes=outcome.end, clips=clips[name])
                bar.advance()

    def cut(self, count: int) -> None:
        """Forget all but the first `count` files, as if the run had been stopped there. Not after `add`."""
        self._journal.seek(0)
        self._journal.truncate(sum(len(line) for line in itertools.islice(self._journal, 1 + count)))
        # Before a tar is written over: the journal must not speak of what it no longer holds.
        os.fsync(self._journal.fileno())
        self._close_growing()
        self._growing, self._entries = {}, []
        del self.files[count:]
        self._reopen_tars(show_progress=False)

    def add(self, *clips: tuple[Outcome, bytes]) -> None:
        """What became of each clip of the next file; its blocks go to the tar of its split."""
        self.files.append([self._placed(outcome, blocks) for outcome, blocks in clips])
        self._pending.append(_line.dump_json(self.files[-1]).decode())
        self._pending_bytes += sum(len(blocks) for _, blocks in clips)
        if self._pending_bytes > _CHECKPOINT_BYTES or time.monotonic() - self._last_sync > _CHECKPOINT_S:
            self.checkpoint()

    def _placed(self, outcome: Outcome, blocks: bytes) -> Outcome:
        if not isinstance(outcome, Written):
            return outcome
        tar = self._tar_with_room(outcome.split, len(blocks))
        tar.append(blocks)
        tar.clips += 1
        return outcome.model_copy(update={"tar": tar.path.name, "end": tar.size})

    def _tar_with_room(self, split: Split, length: int) -> _Tar:
        tar = self._growing.get(split)
        if tar is not None and tar.size + length <= self._shard_bytes:
            return tar
        number = 0
        if tar is not None:
            number = int(tar.path.stem.rpartition("-")[2]) + 1
            self._entries.append(tar.finish())
        self._growing[split] = _Tar(self._tars / f"{split}-{number:06d}.tar", split)
        return self._growing[split]

    def checkpoint(self) -> None:
        """Bring everything added so far to the disk: the tars first, then the journal."""
        for tar in self._growing.values():
            tar.sync()
        # Taken before they are written: after a Ctrl-C in the midst of it `__exit__` must not write them once more.
        lines, self._pending, self._pending_bytes = self._pending, [], 0
        self._journal.write("".join(line + "\n" for line in lines).encode())
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._last_sync = time.monotonic()

    def close_tars(self) -> tuple[TarEntry, ...]:
        """End every tar; nothing can be added after it. In the order train, val, test, then by number."""
        self.checkpoint()
        self._entries += [tar.finish() for tar in self._growing.values()]
        self._growing = {}
        return tuple(sorted(self._entries, key=lambda entry: (SPLITS.index(entry.split), entry.name)))

    def publish(self, files: dict[str, bytes]) -> None:
        """Add the last files and give the tars' folder its final name, in one step."""
        for name, content in files.items():
            write_whole(self._tars / name, content)
        self._journal.close()
        os.rename(self._tars, self._out)
        shutil.rmtree(self._partial)

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._journal.closed:
            if not isinstance(error, OSError):
                self.checkpoint()
            self._journal.close()
        self._close_growing()

    def _close_growing(self) -> None:
        for tar in self._growing.values():
            tar.close()
