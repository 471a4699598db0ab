"""The files that gave no row, and which of the others gave which: set_aside.jsonl beside a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from echofm.errors import EchofmError

SET_ASIDE = "set_aside.jsonl"


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


def file_positions(clip_ids: Sequence[str], folder: Path, file_ids: Sequence[str]) -> dict[str, int]:
    """Which file gave each clip: clip id to the file's position in the input.

    clip_ids: of the whole table of a run, which lies in `folder`. Raises EchofmError where the files are not those of
    the run.
    """
    aside = {each.file_id for each in read_set_aside(folder)}
    kept = [position for position, file_id in enumerate(file_ids) if file_id not in aside]
    if len(kept) != len(clip_ids):
        raise EchofmError(
            f"the embeddings do not fit the files ({len(clip_ids)} against {len(kept)}); remove them and run again"
        )
    return dict(zip((str(each) for each in clip_ids), kept))
