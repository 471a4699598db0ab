"""EchoSet: a set as somebody gave it, whatever it is: a table, an .npz of features, shards, a folder, a file.

`SET:train` and `SET:val,test` take some of a set's splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from echofm.embed.arrays import load_arrays
from echofm.embed.options import EmbedOptions
from echofm.embed.store import META, is_table
from echofm.embed.table import EmbeddingTable
from echofm.embed.videos import Videos, open_videos
from echofm.errors import EchofmError
from echofm.split import SPLITS

# What holds features or weights, and no clip.
_NO_CLIPS = (".npy", ".parquet", ".feather", ".h5", ".hdf5", ".pkl", ".pt", ".pth", ".safetensors", ".json")


@dataclass(frozen=True, kw_only=True)
class EchoSet:
    """Exactly one of table and videos is there. name: of the set in messages. splits: to take; none: all."""

    name: str = ""
    splits: Sequence[str] = ()
    table: EmbeddingTable | None = None
    videos: Videos | None = None

    def chosen(self, table: EmbeddingTable) -> EmbeddingTable:
        """The clips of `splits` in a table of the whole set. Raises EchofmError where there are none."""
        if not self.splits:
            return table
        kept = table.select(np.isin(table.split.astype(str), self.splits))
        if len(kept) == 0:
            held = sorted({str(each) for each in table.split if each is not None}) or ["none"]
            raise EchofmError(
                f"the {self.name} set has no clip of split {','.join(self.splits)}; it has {', '.join(held)}"
            )
        return kept


def parsed(given: str) -> tuple[Path, list[str]]:
    """`SET` or `SET:split,split`: the path and the splits, none where all are meant."""
    path, colon, names = given.rpartition(":")
    splits = names.split(",")
    return (Path(path), splits) if colon and set(splits) <= set(SPLITS) else (Path(given), [])


def open_set(
    given: str | Path | EmbeddingTable,
    *,
    name: str,
    options: EmbedOptions | None = None,
    has_patients: bool = True,
    show_progress: bool = True,
) -> EchoSet:
    """Find out what a set is. Nothing is embedded yet (`echofm.embed.cache`).

    name: of the set in messages, e.g. "training". has_patients: False for synthetic clips, whose .npz may lack
    patients. Raises EchofmError where it is nothing that can be read.
    """
    options = options or EmbedOptions()
    if isinstance(given, EmbeddingTable):
        return EchoSet(name=name, table=given)
    path, splits = parsed(str(given))
    if is_features(path):
        return EchoSet(name=name, splits=splits, table=load_features(path, name=name, has_patients=has_patients))
    if not path.exists():
        raise EchofmError(f"the {name} set is not there; check the path given")
    if path.is_file() and path.suffix.lower() in _NO_CLIPS:
        raise EchofmError(
            f"the {name} set is a {path.suffix.lower()} file; features of another model are read from an .npz or an "
            "embedding table (docs/audit.md), clips from a folder or shards"
        )
    try:
        videos = open_videos(
            path,
            options=options.reading,
            processes=options.processes,
            dataset=options.dataset,
            patient_from=options.patient_from,
            has_patients=has_patients,
            show_progress=show_progress,
        )
    except EchofmError as error:
        hint = "; features of another model are read from an .npz (docs/audit.md)" if path.suffix == ".csv" else ""
        raise EchofmError(f"the {name} set: {error}{hint}") from None
    return EchoSet(name=name, splits=splits, videos=videos)


def is_features(path: str | Path) -> bool:
    """Whether features lie there already: the folder of a table, or an .npz."""
    path = Path(path)
    if path.suffix.lower() == ".npz":
        return path.is_file()
    return path.is_dir() and (is_table(path) or (path / META).is_file())


def load_features(path: str | Path, *, name: str = "", has_patients: bool = True) -> EmbeddingTable:
    """The table of a folder or an .npz. name: of the set in errors. Raises EchofmError where it is damaged."""
    path = Path(path)
    if path.suffix.lower() == ".npz":
        return load_arrays(path, name=name or "feature", needs_patients=has_patients)
    try:
        return EmbeddingTable.load(path)
    except EchofmError as error:
        raise EchofmError(f"the {name} table: {error}" if name else str(error)) from None
