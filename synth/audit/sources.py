"""What the audit is given for each of its sets: a table, an .npz of arrays, or videos and shards to be embedded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from echofm.embed.extract import Extractor
from echofm.embed.run import SET_ASIDE, Run, carry_out
from echofm.embed.store import META, is_table
from echofm.embed.table import EmbeddingTable
from echofm.embed.tokens import parse_grid
from echofm.errors import EchofmError
from echofm.ids import IdKey
from echofm.progress import console
from echofm.readers.limits import Limits
from echofm.split import SPLITS
from synth.audit.arrays import load_arrays
from synth.audit.names import safe_table
from synth.audit.videos import Videos, open_videos

if TYPE_CHECKING:
    from accelerate import PartialState

    from echofm.embed.inputs import Input
    from echofm.encoder import AnyEncoder


# What holds features or weights, and no clip.
_NO_CLIPS = (".npy", ".parquet", ".feather", ".h5", ".hdf5", ".pkl", ".pt", ".pth", ".safetensors", ".json")


def parsed(asked: str) -> tuple[Path, list[str]]:
    """`SRC` or `SRC:split,split`: the path and the splits, none where all are meant."""
    path, colon, names = asked.rpartition(":")
    splits = names.split(",")
    return (Path(path), splits) if colon and set(splits) <= set(SPLITS) else (Path(asked), [])


@dataclass(kw_only=True)
class Side:
    """One of the three sets as given. Exactly one of table and videos is there."""

    name: str
    splits: Sequence[str]
    table: EmbeddingTable | None = None
    videos: Videos | None = None
    set_aside: int = 0


def open_side(
    asked: str,
    *,
    name: str,
    key: IdKey,
    processes: int = 1,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    dataset: str | None = None,
    patient_from: str | None = None,
    show_progress: bool = True,
) -> Side:
    """Find out what a set is. Raises EchofmError where it is nothing that can be read."""
    path, splits = parsed(asked)
    if path.is_dir() and (is_table(path) or (path / META).is_file()):
        return Side(name=name, splits=splits, table=safe_table(_named(path, name), key=key))
    if path.suffix.lower() == ".npz" and path.is_file():
        table = load_arrays(path, name=name, needs_patients=name in ("training", "held-out"))
        return Side(name=name, splits=splits, table=safe_table(table, key=key))
    if not path.exists():
        raise EchofmError(f"the {name} set is not there; check the path given")
    if path.is_file() and path.suffix.lower() in _NO_CLIPS:
        raise EchofmError(
            f"the {name} set is a {path.suffix.lower()} file; features of another model are read from an .npz or an "
            "embedding table (docs/audit.md), clips from a folder or shards"
        )
    videos = open_videos(
        path,
        name=name,
        key=key,
        processes=processes,
        limits=limits,
        dataset=dataset,
        patient_from=patient_from,
        show_progress=show_progress,
    )
    return Side(name=name, splits=splits, videos=videos)


def _named(path: Path, name: str) -> EmbeddingTable:
    try:
        return EmbeddingTable.load(path)
    except EchofmError as error:
        raise EchofmError(f"the {name} table: {error}") from None


def chosen(table: EmbeddingTable, side: Side) -> EmbeddingTable:
    """The clips of the splits asked for. Raises EchofmError where there are none."""
    if not side.splits:
        return table
    kept = table.select(np.isin(table.split.astype(str), side.splits))
    if len(kept) == 0:
        held = sorted({str(each) for each in table.split if each is not None}) or ["none"]
        raise EchofmError(f"the {side.name} set has no clip of split {','.join(side.splits)}; it has {', '.join(held)}")
    return kept


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """Embeds inputs into a cache: one folder per encoder, settings and data, used again when all three are alike."""

    encoder: AnyEncoder
    cache: Path
    ranks: PartialState
    windows: int | None = None
    batch: int = 16
    precision: str = "fp32"
    tokens: str | None = None

    def embed(self, source: Input, *, title: str, phase: bool = True) -> tuple[EmbeddingTable, Path, int]:
        """The table, its folder and the number of files set aside. Every process of the run must call it."""
        extractor = Extractor(
            encoder=self.encoder,
            windows=self.windows,
            batch=self.batch,
            device=self.ranks.device,
            precision=self.precision,  # type: ignore[arg-type]
            phase=phase,
            tokens=None if self.tokens is None else parse_grid(self.tokens),
        )
        told = (self.encoder.digest, sorted(extractor.settings.items()), phase, source.fingerprint(), len(source))
        folder = self.cache / hashlib.sha256(repr(told).encode()).hexdigest()[:20]
        if self.ranks.is_main_process:
            state = "found in the cache" if is_table(folder) else "to embed"
            console.print(f"{title}: {len(source)} clips {state}", highlight=False)
        run = Run(folder, source, extractor, rank=self.ranks.process_index, world=self.ranks.num_processes)
        outcome = carry_out(run, self.ranks)
        self.ranks.wait_for_everyone()
        aside = [] if outcome is None else outcome.set_aside
        if aside:
            reason = f"{title}: {len(aside)} files set aside (the first: {aside[0].reason})"
            console.print(f"{reason}; {folder / SET_ASIDE} says why", highlight=False, markup=False)
        return EmbeddingTable.load(folder), folder, len(aside)

    def side(self, side: Side) -> EmbeddingTable:
        """The chosen splits of one set; learns which file is which clip on the way."""
        if side.table is not None:
            return chosen(side.table, side)
        assert side.videos is not None
        source = side.videos.input(self.encoder.contract)
        table, folder, side.set_aside = self.embed(source, title=f"{side.name} set")
        # Under the names of samples.parquet, by which clips are read again.
        table = safe_table(table, key=side.videos.key)
        side.videos.of(table, folder)
        return chosen(table, side)
