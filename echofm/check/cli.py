"""What is in a folder of echo files: counts, labels, leakage, duplicates, files that cannot be used.

SRC is one of the public sets, any folder of echo files, a manifest.csv, or one file. Exit codes: 0 nothing that needs a
person, 1 findings (patients that are not known, duplicates across patients or splits, patients in two splits,
unreadable files, cines of unknown frame rate), 2 bad input.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from echofm.atomic import write_whole
from echofm.check.run import check
from echofm.check.summary import Summary
from echofm.errors import EchofmError
from echofm.ids import IdKey, load_key
from echofm.machine import processors
from echofm.names import Name, unread_name, write_names
from echofm.readers.datasets import FolderSource, open_source
from echofm.readers.decord_video import Decoder
from echofm.readers.limits import Limits
from echofm.readers.options import ReadOptions, load_mask
from echofm.readers.patients import PatientFrom
from echofm.schema import FrozenModel

_SHOWN = 8


class Check(FrozenModel):
    """The options of `echofm check`."""

    src: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """Data set, folder, manifest.csv or file."""
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write a page: counts, histograms, random clips with their sector. No names; ids are hashes."""
    json_path: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None
    """Write the same as JSON, with the ids behind each finding."""
    names: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the path behind each id, to act on the findings. It names files: keep it where the files are kept."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Force a data set instead of looking at the folder."""
    patient_from: Annotated[PatientFrom | None, tyro.conf.arg(metavar="RULE")] = None
    """Whose a file is, in a plain folder: the DICOM tag, the name of the folder that it lies in, of the folder
    below SRC (top: PATIENT/STUDY/file), its own, or each DICOM study's."""
    id_key: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File with the key of the ids; default: your own, made on first use."""
    max_clip_mb: float = 1024
    """Largest clip, decoded, in 10^6 bytes."""
    processes: int = processors()
    """Files read at a time; the report does not depend on it."""
    seed: int = 0
    """Of the contact sheet, and of the splits where the set has none: give the one that you give `echofm shards`."""
    keep_outside: bool = False
    """Keep what lies outside the sector. Only for images that were never a patient's: burned-in names are shown."""
    decoder: Decoder = "pyav"
    """Of videos: decord, on a CPU or GPU, gives the same frames as pyav or sets a file aside."""
    mask: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Your own sector, white on black, for files of its size; others are set aside."""


def main(argv: list[str]) -> int:
    """Entry point of `echofm check`."""
    options = tyro.cli(Check, args=argv, prog="echofm check", description=__doc__)
    source = open_source(options.src, dataset=options.dataset, patient_from=options.patient_from)
    key = load_key(options.id_key)
    summary = check(
        source,
        processes=options.processes,
        options=ReadOptions(
            key=key,
            limits=Limits(max_clip_mb=options.max_clip_mb),
            keep_outside=options.keep_outside,
            decoder=options.decoder,
            mask_HW=load_mask(options.mask),
        ),
        seed=options.seed,
    )
    if options.json_path is not None:
        _write(options.json_path, json.dumps(summary.to_json(), indent=1))
    if options.names is not None:
        write_names(options.names, _names(source, summary, key))
    if options.html is not None:
        from echofm.check.page import page_of

        page_of(summary).save(options.html)
    print("\n".join(lines(summary)))
    if options.names is None and summary.has_problems and (summary.facts or summary.set_aside):
        print("which files: --json FILE has the ids of each finding, --names FILE the path behind each id")
    return 1 if summary.has_problems else 0


def lines(summary: Summary) -> list[str]:
    """The summary for a terminal."""
    patients = len({one.patient_id for one in summary.facts})
    text = [f"{summary.data_set}: {len(summary.facts)} clips, {patients} patients ({summary.patient_rule})"]
    for title, counts in summary.counts().items():
        at_most = len(counts) if title == "kind" else _SHOWN
        shown = [f"{name}: {count}" for name, count in list(counts.items())[:at_most]]
        if len(counts) > at_most:
            shown.append(f"{len(counts) - at_most} more")
        text.append(f"  {title:<10} {', '.join(shown)}")
    for name, values in summary.to_json()["labels"].items():
        spread = f"{values['min']:.4g} to {values['max']:.4g}, median {values['median']:.4g}" if "min" in values else ""
        words = ", ".join(f"{word}: {count}" for word, count in values.get("counts", {}).items())
        text.append(f"  {name} ({values['clips']} clips): {spread or words}")
    text += [f"  set aside: {count} because {reason}" for reason, count in summary.reasons().items()]
    text.append(
        f"  shards would take about {summary.shard_bytes() / 1e6:,.0f} MB and {summary.elapsed_s:,.0f} s to write"
    )
    text += [f"{'!!' if finding.is_problem else '--'} {finding.text}" for finding in summary.findings]
    return text


def _names(source: FolderSource, summary: Summary, key: IdKey) -> list[Name]:
    """A line a clip, and for each file without one."""
    known: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for one in summary.facts:
        known[one.file_id].append((one.clip_id, one.patient_id))
    lines = []
    for row in source.rows(doubtful=True):
        name = unread_name(row, key=key)
        of_clips = [replace(name, clip_id=clip, patient_id=patient) for clip, patient in known.get(name.file_id, [])]
        lines += of_clips or [name]
    return lines


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text + "\n")
    except OSError as error:
        raise EchofmError(f"a report cannot be written ({error.strerror}); choose another path") from None
