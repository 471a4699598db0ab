"""Turn echo files into shards: webdataset tars of equal clips, with a manifest.

SRC is one of the public sets (`echofm check SRC` tells which is seen), any folder of echo files, a manifest.csv, or one
file. OUT must not exist; a command that was killed goes on where it was when it is given again. Exit codes: 0 written,
2 bad input or more than --max-bad of the files unreadable.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import tyro

from echofm.ids import load_key
from echofm.machine import processors
from echofm.readers.datasets import open_source
from echofm.readers.decord_video import Decoder
from echofm.readers.kinds import KINDS
from echofm.readers.label_options import LabelOptions
from echofm.readers.limits import Limits
from echofm.readers.options import ReadOptions, load_mask
from echofm.readers.patients import PatientFrom
from echofm.schema import FrozenModel
from echofm.shards.manifest import SET_ASIDE, Manifest, SplitBy
from echofm.shards.write import write_shards

Kind = Literal["bmode", "colour_doppler", "spectral", "m_mode", "still", "colour_still", "unknown", "all"]


class Shards(FrozenModel):
    """The options of `echofm shards`."""

    src: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """Data set, folder, manifest.csv or file."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to write; must not exist."""
    size: int = 112
    """Pixels per side: the size at which you will train (resizing while training costs ten times the reading)."""
    fps: float | Literal["native"] = 50.0
    """Frames per second of the clips, by nearest frame; native keeps each clip's own frames."""
    channels: Literal[1, 3] = 1
    """1 grey, 3 RGB."""
    split_by: SplitBy = "patient"
    """patient: the set's own split, else by hash of the patient; hash: by that hash even where the set has splits, as
    where all its clips are TRAIN; none: everything is for training."""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Of the patients to train, val and test, where the set has no split."""
    stratify: Annotated[str | None, tyro.conf.arg(metavar="LABEL")] = None
    """Deal the patients by this label's classes, so that a rare one is in every split. Then more data may move a
    patient; without it, it never does."""
    kind: tuple[Kind, ...] = ("bmode", "unknown")
    """Kinds of clip to write; the others are counted in the manifest."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Force a data set instead of looking at the folder."""
    patient_from: Annotated[PatientFrom | None, tyro.conf.arg(metavar="RULE")] = None
    """Whose a file is, in a plain folder: the DICOM tag, the name of the folder that it lies in, of the folder
    below SRC (top: PATIENT/STUDY/file), its own, or each DICOM study's. Needed where the tag cannot tell."""
    id_key: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File with the key of the ids; default: your own, made on first use. It is never copied into OUT."""
    max_bad: float = 0.1
    """Fraction of unreadable files past which to stop."""
    max_clip_mb: float = 1024
    """Largest clip, decoded, in 10^6 bytes."""
    processes: int = processors()
    """Files read at a time; the bytes written do not depend on it."""
    shard_mb: float = 512
    """Most 10^6 bytes per tar."""
    seed: int = 0
    """Of the splits and of the order in the tars."""
    keep_outside: bool = False
    """Keep what lies outside the sector. Only for images that were never a patient's: burned-in names stay in."""
    decoder: Decoder = "pyav"
    """Of videos: decord, on a CPU or GPU, gives the same frames as pyav or sets a file aside."""
    mask: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Your own sector, white on black, for files of its size; others cannot be read."""
    own: tyro.conf.OmitArgPrefixes[LabelOptions] = LabelOptions()


def main(argv: list[str]) -> int:
    options = tyro.cli(Shards, args=argv, prog="echofm shards", description=__doc__)
    source = open_source(options.src, dataset=options.dataset, patient_from=options.patient_from)
    is_here = os.path.realpath(options.out) == os.path.realpath(os.curdir)
    key, labels = load_key(options.id_key), options.own.read()
    manifest = write_shards(
        source,
        options.out,
        size=options.size,
        frame_rate_hz=None if options.fps == "native" else options.fps,
        channels=options.channels,
        split_by=options.split_by,
        fractions=options.fractions,
        stratify=options.stratify,
        kinds=options.kind,
        keep_outside=options.keep_outside,
        max_bad=options.max_bad,
        shard_mb=options.shard_mb,
        seed=options.seed,
        processes=options.processes,
        key=key,
        options=ReadOptions(
            key=key,
            limits=Limits(max_clip_mb=options.max_clip_mb),
            decoder=options.decoder,
            mask_HW=load_mask(options.mask),
            labels=labels,
        ),
    )
    print(_summary(manifest, source.notes + (labels.notes if labels is not None else Counter())))
    if labels is not None:
        clips = sum(each.clips for each in manifest.splits.values())
        counts = ", ".join(f"{name} {manifest.labels.get(name, 0)}" for name in labels.names if name != "view")
        print(f"labels of {clips} clips: {counts or 'none'}")
    if is_here:
        # The shards' folder took the place of the one in which the shell still is.
        print('the shards are in this folder: `cd "$PWD"` shows them')
    return 0


def _summary(manifest: Manifest, notes: Mapping[str, int]) -> str:
    rate = manifest.settings.frame_rate_hz
    lines = [
        f"{manifest.dataset}: {manifest.settings.size} x {manifest.settings.size} pixels, "
        + ("native frame rates" if rate is None else f"{rate:g} Hz"),
        f"{'split':<6}{'clips':>9}{'patients':>10}{'MB':>10}",
        *(
            f"{name:<6}{counts.clips:>9,}{counts.patients:>10,}{counts.bytes / 1e6:>10,.1f}"
            for name, counts in manifest.splits.items()
        ),
    ]
    for kind, count in manifest.not_selected.items():
        lines.append(f"{'not selected (--kind)' if kind in KINDS else 'no image of a heart'}: {count} {kind}")
    if not manifest.splits["train"].clips:
        lines.append(
            "note: no clip is in train, so these shards train nothing; see --split-by, --fractions, --seed, --stratify"
        )
    lines += [f"note: {what}: {count}" for what, count in sorted(notes.items())]
    if manifest.dropped_frames:
        lines.append(f"note: frames before or after cines that are no echo, left out: {manifest.dropped_frames}")
    if manifest.sector_loses:
        lines.append(
            "note: cines whose sector leaves out more than 5 % of what changes on the screen (`echofm check SRC --html "
            f"FILE` shows them): {manifest.sector_loses}"
        )
    if manifest.set_aside:
        lines.append(f"set aside: {manifest.set_aside}, with reasons in {SET_ASIDE}")
    return "\n".join(lines)
