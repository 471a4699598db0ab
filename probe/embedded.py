"""Embeddings on demand: an encoder and data become a table, kept in a cache and used again while both are the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import filelock

from echofm.embed.extract import Extractor
from echofm.embed.inputs import Input
from echofm.embed.run import Run
from echofm.embed.store import is_table
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError


def default_cache() -> Path:
    """$XDG_CACHE_HOME/echofm/embeddings, else ~/.cache/echofm/embeddings."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "echofm" / "embeddings"


def embedded(
    extractor: Extractor,
    source: Input,
    *,
    name: str,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    show_progress: bool = True,
) -> EmbeddingTable:
    """The table of an encoder over data, out of the cache where it is there; a stopped run goes on.

    The key is the encoder's digest, the data's fingerprint and the settings: whatever changes, another table.
    name: of the encoder, for the line that `say` gets. Raises EchofmError where nothing can be read or written.
    """
    folder = folder_of(extractor, source, cache=cache)
    if is_table(folder):
        say(f"{name}: embedded before, taken from the cache")
        return EmbeddingTable.load(folder)
    say(f"{name}: embedding {len(source)} clips")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock"):
            run = Run(folder, source, extractor, show_progress=show_progress)
            run.prepare()
            if not is_table(folder):
                run.embed()
                set_aside = run.merge().set_aside
                if set_aside:
                    say(f"{name}: {len(set_aside)} files could not be read and were set aside")
    except OSError as error:
        raise EchofmError(
            f"the cache of embeddings cannot be written ({error.strerror}); name another folder with --cache"
        ) from None
    return EmbeddingTable.load(folder)


def folder_of(extractor: Extractor, source: Input, *, cache: Path | None = None) -> Path:
    """Where the table of an encoder over data lies, or will."""
    return (cache or default_cache()) / _key(extractor, source)


def _key(extractor: Extractor, source: Input) -> str:
    # What a table keeps changes with releases; one that lacks something new must not be taken for one that has it.
    layout = [field.name for field in fields(EmbeddingTable)]
    said = [extractor.encoder.digest, source.fingerprint(), extractor.settings, extractor.phase, layout]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]
