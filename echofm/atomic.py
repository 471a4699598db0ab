"""Whole files and folders or nothing, with the rights that the umask gives.

What is being written lies beside its final name as `.NAME.part` and takes that name at the end, in one step: a kill or
a full disk leaves what was there before. A part that a kill left behind is written over by the next attempt.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PART = ".part"


def write_whole(path: str | Path, content: str | bytes, *, durable: bool = True, mode: int = 0o666) -> None:
    """Write a file, text as UTF-8. durable: wait until the disk has it. mode: its rights from the first byte on, less
    the umask's. Raises OSError; the file is then as before."""
    with whole_file(path, durable=durable, mode=mode) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: str | Path, *, durable: bool = True, mode: int = 0o666) -> Iterator[Path]:
    """Gives the path to write to; the file takes its name when the block has ended well."""
    with whole_files([path], durable=durable, mode=mode) as (part,):
        yield part


@contextmanager
def whole_files(paths: Sequence[str | Path], *, durable: bool = True, mode: int = 0o666) -> Iterator[list[Path]]:
    """Several files that belong together: the first takes its name when the disk has all of them.

    Their folders are made where need be. durable: wait until the disk has them. mode: their rights, less the umask's.
    """
    finals = [Path(path) for path in paths]
    parts = [final.with_name(f".{final.name}{PART}") for final in finals]
    try:
        for part in parts:
            part.parent.mkdir(parents=True, exist_ok=True)
            part.unlink(missing_ok=True)
            part.touch(mode)
        modes = [part.stat().st_mode for part in parts]
        yield parts
        for part, mode in zip(parts, modes, strict=True):
            # Some libraries (safetensors) put a file of their own there, for its owner alone.
            part.chmod(mode)
            if durable:
                sync(part)
        for part, final in zip(parts, finals, strict=True):
            os.replace(part, final)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


@contextmanager
def whole_folder(final: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Gives an empty folder to write into, which takes its name when the block has ended well.

    replace: an older folder of that name goes, once the new one is whole.
    """
    final = Path(final)
    part = final.with_name(f".{final.name}{PART}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        old = final.with_name(f".{final.name}.old{PART}")
        shutil.rmtree(old, ignore_errors=True)
        if replace and final.exists():
            final.rename(old)
        try:
            part.rename(final)
        except OSError:
            if old.exists():
                old.rename(final)
            raise
        sync(final.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def clear_parts(folder: Path) -> None:
    """Remove what a kill left half written in a folder."""
    for part in folder.glob(f".*{PART}"):
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()


def sync(path: Path) -> None:
    """Wait until the disk has a file or, for a folder, its list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
