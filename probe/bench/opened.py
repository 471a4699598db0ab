"""A set's clips under one encoder, as CardioBench takes them: features, baselines, names of clips; from the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from echofm import __version__
from echofm.embed.options import EmbedOptions
from echofm.embed.table import EmbeddingTable
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from echofm.saved import file_sha256
from probe.bench.prepare import Prepared, find_table, prepared
from probe.bench.tasks import BenchSet
from probe.checks.embedding import check_embedding, problems_of
from probe.inputs import open_inputs
from probe.report.clips import FileFrames

# What a still cannot have.
_OF_CINES = ("time", "frame rate", "length")
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class How:
    """The options of a benchmark."""

    options: EmbedOptions
    clone: Path | None
    with_baselines: bool
    draws: int
    seed: int

    def of(self, own: BenchSet) -> EmbedOptions:
        """The set is named, so that its images count as cut by their publisher."""
        return replace(self.options, dataset=own.dataset)

    def request(self, encoder: AnyEncoder, own: BenchSet, root: Path) -> tuple[str, int]:
        """A digest that changes where another encoder, file, split or option would change a figure; how many files."""
        source = self.of(own).videos(root, show_progress=False).input(encoder.contract)
        splits = find_table(self.clone, own.table)
        options = (self.options.windows, self.options.precision, self.with_baselines, self.draws, self.seed)
        parts = [__version__, encoder.digest, source.fingerprint(), splits and file_sha256(splits), *options]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest(), len(source)


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """set: with its splits and keys. baselines, pixels: of the same rows. problems: of encoder and features."""

    set: Prepared
    baselines: Mapping[str, EmbeddingTable]
    pixels: EmbeddingTable | None
    problems: tuple[str, ...]


def open_one(spec: str, own: BenchSet, root: Path, how: How, *, files: int, say: Say) -> Opened:
    """Embed a set of so many files with an encoder and with what stands beside it. Raises EchofmError where it cannot
    be had."""
    splits = find_table(how.clone, own.table)
    inputs = open_inputs(
        [spec], data=root, options=how.of(own), with_baselines=how.with_baselines, seed=how.seed, say=say
    )
    if not isinstance(inputs.frames_of, FileFrames):
        raise EchofmError("the files behind its embeddings are not known; remove them from the cache and run again")
    table = inputs.table
    patients = dict(zip(table.clip_id.tolist(), table.patient_id.tolist()))
    paths = {name.clip_id: name.path for name in inputs.frames_of.names(patients)}
    found = prepared(own, table, paths, splits=splits, seed=how.seed)
    if unread := files - len(table):
        found = replace(found, notes=(*found.notes, f"{unread} of {files} files gave no clip of their own"))
    checks = (*inputs.checks, *check_embedding(table).checks)
    stills = set(table.rows["kind"].dropna()) == {"still"}
    return Opened(
        set=found,
        baselines={name: found.alike(each) for name, each in inputs.baselines.items()},
        pixels=None if inputs.pixels is None else found.alike(inputs.pixels),
        problems=tuple(problems_of([check for check in checks if not (stills and check.name in _OF_CINES)])),
    )
