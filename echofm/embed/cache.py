"""The cache of embeddings: an encoder and clips become a table once, whichever command asks for it, and how often.

A table serves every request for as much as it holds, or less: one with tokens also a request without. The key is the
encoder's digest, the data's fingerprint, the settings and the release, so whatever changes, another table is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import filelock
from accelerate import PartialState

from echofm import __version__
from echofm.atomic import write_whole
from echofm.embed.extract import Extractor
from echofm.embed.inputs import Input
from echofm.embed.rows import COLUMNS, SIMULATED
from echofm.embed.run import REQUEST, EmbedRun, Outcome, Request, carry_out, request_of, wait, writing
from echofm.embed.set_aside import SET_ASIDE, SetAside, copy_lists, read_set_aside
from echofm.embed.store import FEATURES, META, ROWS, is_table
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError, os_errors_as
from echofm.progress import console
from echofm.schema import FrozenModel


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """table: as asked for. folder: where it lies, with more in it perhaps. set_aside: files that have no row."""

    table: EmbeddingTable
    folder: Path
    set_aside: list[SetAside]


def default_cache() -> Path:
    """$XDG_CACHE_HOME/echofm/embeddings, else ~/.cache/echofm/embeddings."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "echofm" / "embeddings"


def _report(line: str) -> None:
    console.print(line, highlight=False, markup=False)


def embedded(
    extractor: Extractor,
    source: Input,
    *,
    name: str,
    cache: Path | None = None,
    ranks: PartialState | None = None,
    say: Callable[[str], None] = _report,
    show_progress: bool = True,
) -> Embedded:
    """The features of clips, out of the cache where they are there; a stopped run goes on.

    name: of encoder or set, in the lines that `say` gets. ranks: the processes that share the work; every one must
    call this. Raises EchofmError where nothing can be read or written.
    """
    cache, request = cache or default_cache(), request_of(extractor, source)
    main = ranks is None or ranks.is_main_process
    with _alone(cache, request, holds=main):
        folder = _serving(cache, request) if main else None
        if main:
            clips = f"{len(source)} clips"
            say(f"{name}: embedding {clips}" if folder is None else f"{name}: {clips}, taken from the cache")
        # The main process holds the lock, so that what it finds the others find as well.
        wait(ranks)
        folder = folder or _serving(cache, request)
        if folder is None:
            folder = cache / f"{_key(request)}-{_contents(request)}"
            carry_out(_run(folder, source, extractor, ranks, show_progress=show_progress), ranks)
        wait(ranks)
    aside = read_set_aside(folder)
    if aside and main:
        say(f"{name}: {len(aside)} files set aside (the first: {aside[0].reason}); {folder / SET_ASIDE} says why")
    return Embedded(table=_as_asked(EmbeddingTable.load(folder), extractor), folder=folder, set_aside=aside)


def embed_to(
    out: Path, extractor: Extractor, source: Input, *, cache: Path | None = None, ranks: PartialState | None = None
) -> Outcome | None:
    """A table in a folder of one's own, which the cache then knows of: nothing is kept twice. Rank 0 gets the outcome.

    Raises EchofmError where the folder holds anything else.
    """
    cache, request = cache or default_cache(), request_of(extractor, source)
    main = ranks is None or ranks.is_main_process
    run = _run(out, source, extractor, ranks)
    folder = _serving(cache, request) if main and not is_table(out) else None
    if folder is not None:
        with writing(out):
            run.prepare()
            copy_lists(folder, out)
            _as_asked(EmbeddingTable.load(folder), extractor).save(out)
    wait(ranks)
    outcome = carry_out(run, ranks)
    if main:
        # Where no cache can be written the table is there all the same.
        with contextlib.suppress(EchofmError), _alone(cache, request):
            note = cache / f"{_key(request)}-{_contents(request)}.json"
            write_whole(note, Elsewhere.of(out).to_json(), durable=False)
    return outcome


class Elsewhere(FrozenModel):
    """A table that lies outside the cache, and its files as they were: of a table changed since, nothing is known."""

    folder: str
    files: dict[str, tuple[int, int]]
    """Name -> bytes, and when it was changed, in nanoseconds."""

    @classmethod
    def of(cls, folder: Path) -> Elsewhere:
        """A table's folder as it is now."""
        states = {name: (folder / name).stat() for name in (FEATURES, ROWS, META, REQUEST)}
        return cls(
            folder=str(folder.absolute()),
            files={name: (state.st_size, state.st_mtime_ns) for name, state in states.items()},
        )

    def unchanged(self) -> bool:
        """Whether the table is there as it was."""
        folder = Path(self.folder)
        return is_table(folder) and Elsewhere.of(folder) == self


def _run(
    folder: Path, source: Input, extractor: Extractor, ranks: PartialState | None, *, show_progress: bool = True
) -> EmbedRun:
    rank, world = (0, 1) if ranks is None else (ranks.process_index, ranks.num_processes)
    return EmbedRun(folder, source, extractor, rank=rank, world=world, show_progress=show_progress)


@contextlib.contextmanager
def _alone(cache: Path, request: Request, *, holds: bool = True) -> Iterator[None]:
    """One command at a time makes a table. holds: False in the processes of a run whose first one holds the lock."""
    if not holds:
        yield
        return
    with os_errors_as("the cache of embeddings cannot be written ({reason}); name another folder with --cache"):
        cache.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(cache / f"{_key(request)}.lock"):
            yield


def _serving(cache: Path, request: Request) -> Path | None:
    """The folder of a finished table that holds what is asked for, the leanest one; None without."""
    for entry in sorted(cache.glob(f"{_key(request)}-*"), key=lambda each: (len(each.name), each.name)):
        try:
            folder = entry if entry.is_dir() else _noted(entry)
            if folder is not None and is_table(folder) and Request.from_json(folder / REQUEST).serves(request):
                return folder
        except (EchofmError, OSError):
            # A damaged note or request is none.
            continue
    return None


def _noted(path: Path) -> Path | None:
    note = Elsewhere.from_json(path)
    return Path(note.folder) if note.unchanged() else None


def _as_asked(table: EmbeddingTable, extractor: Extractor) -> EmbeddingTable:
    """What the extractor would have given, of a table with more."""
    return replace(
        table,
        phase=table.phase if extractor.phase else None,
        tokens=None if extractor.tokens is None else table.tokens,
        settings=extractor.settings,
    )


def _key(request: Request) -> str:
    # What a table keeps and how files are read change with releases: one of another must not be taken for ours.
    layout = [__version__, *(field.name for field in fields(EmbeddingTable)), *COLUMNS, SIMULATED]
    settings = {name: value for name, value in request.settings.items() if name != "tokens"}
    parts = [request.encoder_digest, request.phase_digest, request.input_fingerprint, request.clips, settings, layout]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _contents(request: Request) -> str:
    tokens = str(request.settings.get("tokens", "")).replace(",", "x")
    return "-".join(["clip", *(["phase"] if request.phase else []), *([tokens] if tokens else [])])
