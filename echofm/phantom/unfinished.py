"""A phantom's folder that is not whole yet: what it was asked to be, and which of its clips are written.

OUT/phantom-unfinished.json holds the settings, OUT/unfinished/ a record of every clip, written after the clip's own
files. When all is there the records go and the settings are renamed to phantom.json, so that a killed command can go on
where it ended and a whole folder tells nothing of it.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from echofm.atomic import write_whole
from echofm.errors import EchofmError

MARKER = "phantom.json"
_SETTINGS = "phantom-unfinished.json"
_RECORDS = "unfinished"

Result = dict[str, Any]


def begin(root: Path, settings: dict[str, Any]) -> None:
    """Take an empty or new folder, or one that was begun with the same settings.

    Raises EchofmError on a folder that holds anything else, and names the first setting that differs.
    """
    if root.exists() and not root.is_dir():
        raise EchofmError(f"{root}: is no folder; name an empty or a new one")
    path = root / _SETTINGS
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        wanted = json.loads(json.dumps(settings))
        names = [name for name in {**known, **wanted} if known.get(name) != wanted.get(name)]
        if names:
            name = names[0]
            raise EchofmError(
                f"{root}: begun with {name} {known.get(name)}, now {wanted.get(name)} is asked for; "
                "give the same options to finish it, or name another folder"
            )
    elif root.exists() and any(root.iterdir()):
        raise EchofmError(f"{root}: holds something already; name an empty or a new folder")
    root.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        write_whole(path, json.dumps(settings, indent=2) + "\n", durable=False)
    (root / _RECORDS).mkdir(exist_ok=True)


def record(root: Path, name: str, result: Result) -> Result:
    """Note that a clip's files are written; returns what `recorded` will, numpy's numbers turned into plain ones."""
    text = json.dumps(result, default=lambda number: number.item())
    write_whole(_record_path(root, name), text, durable=False)
    return json.loads(text)


def recorded(root: Path, name: str) -> Result | None:
    """What was noted about a clip; None where it is still to be made."""
    path = _record_path(root, name)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def finish(root: Path) -> None:
    """The folder is whole."""
    shutil.rmtree(root / _RECORDS)
    os.replace(root / _SETTINGS, root / MARKER)


def _record_path(root: Path, name: str) -> Path:
    return root / _RECORDS / f"{name}.json"
