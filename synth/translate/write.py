"""A set of grey twins: lossless videos, a table about them, and where each comes from."""

from __future__ import annotations

import csv
import functools
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import echofm
from echofm.atomic import whole_file, write_whole
from echofm.clip import Clip
from echofm.digest import tensor_digest
from echofm.embed.videos import Videos
from echofm.errors import EchofmError, UnreadableFile
from echofm.hub import load_model
from echofm.progress import progress_bar
from echofm.readers.refused import Refused
from echofm.shards.splits import given_splits
from synth.set_folder import PROVENANCE, begun
from synth.translate.clip import TranslatedClip, translated
from synth.translate.lossless import suffix_of, write_lossless
from synth.translate.page import Shown, page_of
from synth.translate.translator import Translator

TABLE, CLIPS = "manifest.csv", "clips"
_FACTS = ("path", "patient", "study", "split", "view", "kind")
_SHOWN = 4


def open_translator(run: str, *, device: str) -> Translator:
    """Of a run, its export or a hub id. Raises EchofmError where it is no translator."""
    export = Path(run) / "export"
    model = load_model(export if export.is_dir() else run)
    if not isinstance(model, Translator):
        raise EchofmError(f"{run} is a model of kind {model.kind!r}; give a run of `echofm synth train translate`")
    return model.eval().requires_grad_(False).to(device)


def translate_set(
    net: Translator,
    videos: Videos,
    out: Path,
    *,
    splits: Sequence[str] = (),
    seed: int = 0,
    show_progress: bool = True,
) -> str:
    """Write the twins of a set into a folder, and say in words what became of its clips.

    splits: to take; none: all. A killed run goes on when called again alike. Raises EchofmError where the folder holds
    anything else.
    """
    settings = {
        "source": videos.fingerprint(),
        "splits": list(splits),
        "translator": tensor_digest(net.state_dict(), settings=net.architecture),
        "seed": seed,
        "tool": f"echofm {echofm.__version__}",
    }
    begun(out, CLIPS, settings)
    journal, split_of, shown = _Journal.of(out / PROVENANCE), _splits(videos), list[Shown]()
    task = functools.partial(_unless, known=frozenset(journal.done))
    with progress_bar("translating", len(videos), show=show_progress) as bar:
        for each in videos.every(task, splits=splits, channels=3):
            bar.advance()
            if isinstance(each, UnreadableFile):
                journal.add(each.file_id, {"file_id": each.file_id, **_refusal(each)})
                continue
            clip_id, patient_id, clip = each
            if clip is None or clip_id in journal.done:
                continue
            about = {"clip_id": clip_id, "patient_id": patient_id, "study_id": clip.study_id}
            try:
                translation = translated(net, clip, seed=seed, with_spread=len(shown) < _SHOWN)
            except Refused as refused:
                journal.add(clip_id, {**about, **_refusal(refused)})
                continue
            on_page = translation.is_translated and len(shown) < _SHOWN
            if on_page:
                shown.append(Shown.of(clip, translation))
            split = split_of.get(clip_id) or split_of.get(patient_id)
            journal.add(clip_id, {**about, "split": split, **_written(out, translation), "on_page": on_page})
    lines = journal.close()
    write_whole(out / TABLE, _table(lines))
    page_of(shown, lines, settings).save(out / "index.html")
    return _in_words(lines)


def _unless(clip: Clip, _: object, *, known: frozenset[str]) -> Clip | None:
    """Where clips are read: pixels of those that are there already stay there."""
    return None if clip.clip_id in known else clip


def _splits(videos: Videos) -> dict[str, str | None]:
    """By clip, of files by patient: the split that the set gives."""
    if videos.shards is not None:
        return {record.clip_id: str(record.meta.split) for record in videos.shards.records}
    key = videos.options.key
    given = zip(videos.rows, given_splits(videos.rows, key=key))
    return {key.patient(row.patient): split for row, split in given if row.patient}


def _written(out: Path, translation: TranslatedClip) -> dict[str, Any]:
    clip = translation.clip
    suffix = suffix_of(clip.frame_time_s)
    name = f"{CLIPS}/{clip.clip_id}{suffix}"
    with whole_file(out / name) as path:
        write_lossless(path, clip.frames_TCHW[:, 0], clip.frame_time_s, suffix=suffix)
    return {
        "became": "translated" if translation.is_translated else "copied",
        "file": name,
        "predicted": round(
            float(translation.mask_THW.sum() / (len(translation.mask_THW) * max(1, clip.sector_HW.sum()))), 6
        ),
        "view": clip.view,
        "kind": clip.kind,
        "labels": dict(clip.labels),
        "pixel_spacing_mm": clip.pixel_spacing_mm,
        "frame_rate_hz": clip.frame_rate_hz,
        "simulated": clip.simulated,
    }


def _refusal(error: Refused | UnreadableFile) -> dict[str, Any]:
    return {"became": "refused", "reason": error.reason, "kind": error.kind}


@dataclass
class _Journal:
    """What became of each clip, on the disk as soon as it is there.

    done: the clips that need no second look; those on the page are translated again for it.
    """

    path: Path
    lines: dict[str, dict[str, Any]]
    done: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, path: Path) -> _Journal:
        """With what an earlier run has written whole."""
        lines: dict[str, dict[str, Any]] = {}
        for text in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else ():
            if text.endswith("\n"):
                line = json.loads(text)
                lines[line.get("clip_id") or line["file_id"]] = line
        journal = cls(path, lines, {name for name, line in lines.items() if not line.get("on_page")})
        journal.close()
        return journal

    def add(self, name: str, line: dict[str, Any]) -> None:
        self.lines[name] = line
        self.done.add(name)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def close(self) -> list[dict[str, Any]]:
        """Put in the order of the ids, which tells nothing of the files' names."""
        lines = [self.lines[name] for name in sorted(self.lines)]
        write_whole(self.path, "".join(f"{json.dumps(line)}\n" for line in lines))
        return lines


def _table(lines: list[dict[str, Any]]) -> str:
    """manifest.csv, as `echofm.readers.datasets.generic` reads it; labels are its further columns."""
    written = [line for line in lines if "file" in line]
    labels = sorted({name for line in written for name in line["labels"]})
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*_FACTS, *labels])
    for line in written:
        facts = (line["file"], line["patient_id"], line["study_id"], line["split"], line["view"], line["kind"])
        table.writerow(
            ["" if each is None else each for each in (*facts, *(line["labels"].get(name) for name in labels))]
        )
    return text.getvalue()


def _in_words(lines: list[dict[str, Any]]) -> str:
    became = Counter(line["became"] for line in lines)
    reasons = Counter(line["reason"] for line in lines if line["became"] == "refused")
    found = [f"{became['translated']} translated", f"{became['copied']} without colour, copied"]
    return "\n".join([", ".join(found), *(f"{count} refused: {reason}" for reason, count in reasons.most_common())])
