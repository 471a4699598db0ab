"""Stamps: what this user has verified already, kept under ECHOFM_HOME with the index that came of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydantic
from filelock import FileLock, Timeout

from echofm.atomic import write_whole
from echofm.errors import EchofmError
from echofm.ids import default_key_path
from echofm.shards.index import ClipRecord

TarState = tuple[str, str, int, int, int]
"""A tar as it was when its sha256 was right: name, sha256, bytes, time of change (ns), inode. Another: verify again."""


def tar_state(path: Path, sha256: str) -> TarState:
    """The state of a tar on the disk now."""
    stat = path.stat()
    return path.name, sha256, stat.st_size, stat.st_mtime_ns, stat.st_ino


class Stamp(pydantic.BaseModel):
    """The verified tars of one folder and the index of their clips."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    tars: tuple[TarState, ...]
    records: tuple[ClipRecord, ...]


def load_stamp(folder: Path) -> Stamp | None:
    """The stamp of a folder; None where there is none or an older version of echofm wrote it."""
    try:
        return Stamp.model_validate_json(_path(folder, ".json").read_bytes())
    except (FileNotFoundError, pydantic.ValidationError):
        return None


def save_stamp(folder: Path, stamp: Stamp) -> None:
    with _own_folder():
        write_whole(_path(folder, ".json"), stamp.model_dump_json())


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Alone among this user's processes that write or verify a folder. Raises filelock.Timeout where not `wait`."""
    lock = FileLock(_path(folder, ".lock"), timeout=-1 if wait else 0)
    with _own_folder():
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _own_folder() -> Iterator[None]:
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise EchofmError(
            f"echofm cannot keep its notes on shards ({error.strerror}); set ECHOFM_HOME to a folder of your own"
        ) from None


def _path(folder: Path, suffix: str) -> Path:
    home = default_key_path().parent / "shards"
    with _own_folder():
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A folder's path may hold a name; its hash does not.
    return home / (hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32] + suffix)
