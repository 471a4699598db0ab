"""filter: the kept part of a synthetic set, and a manifest in which every clip and file is accounted for."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from echofm import read_clips
from echofm.clip import Clip
from echofm.embed.source import parsed
from echofm.errors import EchofmError, UnreadableFile, os_errors_as
from echofm.ids import IdKey, load_key
from echofm.progress import progress_bar
from echofm.readers.datasets import FolderSource, open_source
from echofm.readers.images import image_sha256
from echofm.readers.options import ReadOptions
from echofm.readers.source import Row
from echofm.saved import file_sha256
from echofm.schema import FrozenModel
from echofm.shards.manifest import MANIFEST as SHARDS
from echofm.shards.read import ShardSet
from echofm.shards.write import write_shards
from synth.audit.copies.search import RESULT, DuplicatesResult
from synth.audit.filter.folder_copy import FolderCopy
from synth.audit.result import AuditResult
from synth.audit.sets import shown

FILTER = "filter.json"
_UNSEEN = "the audit has no row for it: it could not be read, or was not there"
# What of a reason is of one clip alone, so that clips left out for one reason are counted together.
_OF_ONE_CLIP = re.compile(r" \(q [^)]*\)|(?<=real clip) \S+")
# Their pixels lie in a second file, which is part of the id.
_IN_TWO_FILES = (".mhd", ".mha")
# More views than a screen shows.
_MOST_IMAGES = 9
_COLUMNS = ("clip_id", "removed", "flagged", "duplicate_of", "q")


class LeftOut(FrozenModel):
    """One clip or file that was not copied, by its hashed id, and why."""

    id: str
    reason: str


class Filtered(FrozenModel):
    """filter.json: what was kept and what was not. kept + left out = all that the source holds."""

    schema_version: Literal[1] = 1
    audit_sha256: str
    """Of the audit.json that decided."""
    clips_kept: int
    kept: list[str]
    """Hashed ids of the clips kept."""
    left_out: list[LeftOut]
    other_files: dict[str, int]
    """Files that are no clips, by what became of them."""

    def summary(self) -> str:
        """For the person at the terminal."""
        lines = [f"{self.clips_kept} clips kept, {len(self.left_out)} left out"]
        reasons = Counter(_OF_ONE_CLIP.sub("", each.reason) for each in self.left_out)
        lines += [f"  {count}: {reason}" for reason, count in reasons.items()]
        lines += [f"other files: {count} {what}" for what, count in self.other_files.items()]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """reasons: of each clip that is to be removed; clips: all that the audit saw; audit_sha256: of its audit.json."""

    clips: frozenset[str]
    reasons: dict[str, str]
    audit_sha256: str

    def why_not(self, clip_id: str, split: str | None, splits: list[str]) -> str | None:
        """Why a clip is left out; None where it is kept. splits: those audited, none where all were."""
        if clip_id in self.clips:
            return self.reasons.get(clip_id)
        return _UNSEEN if not splits or split is None or split in splits else "of a split that was not audited"


def write_kept(
    audit: Path,
    synthetic: str,
    out: Path,
    *,
    dataset: str | None = None,
    patient_from: str | None = None,
    id_key: Path | None = None,
) -> Filtered:
    """Write the kept set into `out` and return the manifest, which is there as filter.json.

    A folder's kept set is there once it is whole; until then it lies in OUT.partial, which the next call takes away.
    Raises EchofmError where `out` holds anything, or the synthetic set is not the one that was audited.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EchofmError("--out is there already and is not empty; name another folder")
    path, splits = parsed(synthetic)
    folder = path.parent if path.suffix.lower() == ".csv" else path
    if folder.is_dir() and (folder.resolve() == out.resolve() or folder.resolve() in out.resolve().parents):
        raise EchofmError("--out lies in the synthetic set itself; name a folder beside it")
    decisions = read_decisions(audit)
    written, alone = out, path.is_file() and path.suffix.lower() != ".csv"
    key = load_key(id_key)
    if (path / SHARDS).is_file():
        kept, left_out, others = _shards(path, splits, out, decisions, key)
    elif path.exists() and path.suffix.lower() != ".npz":
        source = open_source(path, dataset=dataset, patient_from=patient_from)
        written = _begun(out)
        kept, left_out, others = _files(source, splits, written, decisions, key, alone=alone)
    else:
        raise EchofmError("--synthetic is no folder of clips or shards; a table's kept rows are in samples.parquet")
    absent = decisions.clips - set(kept) - {each.id for each in left_out}
    if absent and not alone:
        others["audited clips that are not in this set"] = len(absent)
    done = Filtered(
        audit_sha256=decisions.audit_sha256,
        clips_kept=len(kept),
        kept=kept,
        left_out=left_out,
        other_files=dict(others),
    )
    with os_errors_as(f"{FILTER} cannot be written ({{reason}}); check --out"):
        (written / FILTER).write_text(done.to_json(), encoding="utf-8")
        if written != out:
            os.replace(written, out)
    return done


def _begun(out: Path) -> Path:
    """The empty folder OUT.partial, known by its filter.json. Raises EchofmError where it is somebody else's."""
    partial = out.with_name(out.name + ".partial")
    with os_errors_as("--out cannot be written ({reason}); choose another folder"):
        if partial.exists():
            if not (partial / FILTER).is_file():
                raise EchofmError("a folder stands where --out is to grow (OUT.partial); name another --out")
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        (partial / FILTER).touch()
    return partial


def read_decisions(audit: Path) -> Decisions:
    """What an audit decided. Raises EchofmError where the two files disagree."""
    figures = next((audit / name for name in ("audit.json", RESULT) if (audit / name).is_file()), None)
    if figures is None:
        raise EchofmError("--audit holds no finished audit (no audit.json); name the --out of `echofm audit`")
    kind = DuplicatesResult if figures.name == RESULT else AuditResult
    result = kind.from_json(figures)
    try:
        samples = pd.read_parquet(audit / "samples.parquet")
    except (OSError, ValueError) as error:
        raise EchofmError(
            f"samples.parquet of the audit cannot be read ({type(error).__name__}); audit again"
        ) from None
    missing = [name for name in _COLUMNS if name not in samples.columns]
    if missing or len(samples) != result.synthetic.clips or int(samples["removed"].sum()) != result.removed:
        raise EchofmError("samples.parquet does not fit the audit's figures; audit the set again")
    reasons = {}
    for row in samples[samples["removed"]].itertuples():
        why = f"flagged (q {row.q:.3g})" if row.flagged else ""
        copied = f"shows the recording of real clip {row.duplicate_of}" if row.duplicate_of else ""
        reasons[str(row.clip_id)] = " and ".join(each for each in (why, copied) if each)
    clips = frozenset(samples["clip_id"].astype(str))
    return Decisions(clips=clips, reasons=reasons, audit_sha256=file_sha256(figures))


Done = tuple[list[str], list[LeftOut], "Counter[str]"]


def _files(
    source: FolderSource, splits: list[str], out: Path, decisions: Decisions, key: IdKey, *, alone: bool
) -> Done:
    """alone: the set is a single file, and what lies beside it is none of it."""
    rows = list(source.rows())
    kept, left_out = [], []
    copy = FolderCopy(source.root, out)
    with progress_bar("copying", len(rows)) as bar:
        for row in rows:
            bar.advance()
            try:
                names = [shown(each, key) for each in clip_ids_of(row.path, key)]
                # A file that declares several images is kept where all of them are.
                seen = [name for name in names if name in decisions.clips] or names[:1]
                clip_id = seen[0]
                why = next((why for name in seen if (why := decisions.why_not(name, row.split, splits))), None)
            except UnreadableFile as error:
                clip_id, why = error.file_id, error.reason
            if why is None:
                copy.keep(row.path)
                kept.append(clip_id)
            else:
                copy.leave(row.path)
                left_out.append(LeftOut(id=clip_id, reason=why))
    if not kept:
        raise EchofmError(_NONE_KEPT)
    return kept, left_out, Counter() if alone else copy.finish()


_NONE_KEPT = (
    "no clip of this set is kept: all are to be removed, or it is not the set (or not the --id-key) that was audited"
)


def clip_ids_of(path: Path, key: IdKey) -> list[str]:
    """The ids that reading a file can give: of its clip, then of the images of one that declares several.

    Decodes only what lies in several files. Raises UnreadableFile.
    """
    if path.suffix.lower() in _IN_TWO_FILES or path.is_dir():
        return [clip.clip_id for clip in read_clips(path, ReadOptions(key=key))]
    try:
        digest = bytes.fromhex(file_sha256(path))
    except OSError as error:
        raise UnreadableFile(key.file(path), f"the file cannot be read ({error.strerror})") from None
    images = (image_sha256(digest, number) for number in range(1, _MOST_IMAGES + 1))
    return [key.clip(each) for each in (digest, *images)]


@dataclass(frozen=True)
class _KeptShards:
    """The kept clips of a shard folder as a source that write_shards reads."""

    name: str
    positions: dict[str, int]
    shards: ShardSet

    def rows(self) -> Iterator[Row]:
        for clip_id, position in self.positions.items():
            meta = self.shards.records[position].meta
            # A shard's patient is a hash already; as a name it only groups.
            yield Row(path=Path(clip_id), patient=meta.patient_id, split=meta.split, view=meta.view, kind=meta.kind)

    def read(self, row: Row) -> Clip:
        return self.shards.clip(self.positions[row.path.name])


def _shards(path: Path, splits: list[str], out: Path, decisions: Decisions, key: IdKey) -> Done:
    shards = ShardSet.open(path)
    positions: dict[str, int] = {}
    left_out = []
    for position, record in enumerate(shards.records):
        name = shown(record.clip_id, key)
        why = decisions.why_not(name, record.meta.split, splits)
        if why is None:
            positions[record.clip_id] = position
        else:
            left_out.append(LeftOut(id=name, reason=why))
    if not positions:
        raise EchofmError(_NONE_KEPT)
    settings = shards.manifest.settings
    kept = _KeptShards(shards.manifest.dataset, positions, shards)
    write_shards(
        kept,
        out,
        size=settings.size,
        frame_rate_hz=settings.frame_rate_hz,
        channels=settings.channels,
        kinds=("all",),
        max_bad=0,
        shard_mb=settings.shard_mb,
        seed=settings.seed,
        read=kept.read,
    )
    return [shown(clip_id, key) for clip_id in positions], left_out, Counter()
