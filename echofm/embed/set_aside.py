"""The files that gave no row, and which of the others gave which: set_aside.jsonl and several.json beside a table."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from echofm.errors import EchofmError

SET_ASIDE, SEVERAL = "set_aside.jsonl", "several.json"
# Of a clip: its file's position in the input, and its number among the file's clips.
Position = tuple[int, int]


@dataclass(frozen=True)
class SetAside:
    """A file that gave no row, by its hashed id, and why. kind: of an intact file of another kind (UnreadableFile)."""

    file_id: str
    reason: str
    kind: str | None = None


def write_set_aside(folder: Path, aside: Sequence[SetAside]) -> None:
    """The list that lies beside a table."""
    lines = [json.dumps({name: value for name, value in vars(each).items() if value}) + "\n" for each in aside]
    (folder / SET_ASIDE).write_text("".join(lines), encoding="utf-8")


def read_set_aside(folder: Path) -> list[SetAside]:
    """The files of a run that gave no row."""
    lines = (folder / SET_ASIDE).read_text(encoding="utf-8").splitlines()
    return [SetAside(**json.loads(line)) for line in lines]


def write_several(folder: Path, file_ids: Sequence[str]) -> None:
    """Note beside a table how many clips came of each file, where one gave several. file_ids: of each clip."""
    several = {file_id: count for file_id, count in Counter(file_ids).items() if count > 1}
    if several:
        (folder / SEVERAL).write_text(json.dumps(several, sort_keys=True), encoding="utf-8")


def copy_lists(folder: Path, out: Path) -> None:
    """Both lists of a table's folder, into that of a copy."""
    for name in (SET_ASIDE, SEVERAL):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)


def file_positions(clip_ids: Sequence[str], folder: Path, file_ids: Sequence[str]) -> dict[str, Position]:
    """Which file gave each clip: clip id to the file's position in the input, and the clip's number in the file.

    clip_ids: of the whole table of a run, which lies in `folder`. Raises EchofmError where the files are not those of
    the run.
    """
    aside = {each.file_id for each in read_set_aside(folder)}
    path = folder / SEVERAL
    several: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = [
        (position, number)
        for position, file_id in enumerate(file_ids)
        if file_id not in aside
        for number in range(several.get(file_id, 1))
    ]
    if len(kept) != len(clip_ids):
        raise EchofmError(
            f"the embeddings do not fit the files ({len(clip_ids)} against {len(kept)}); remove them and run again"
        )
    return dict(zip((str(each) for each in clip_ids), kept))
