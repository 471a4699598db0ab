"""The folder of a set that is being made: what made it, and where each clip comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from echofm.atomic import write_whole
from echofm.errors import EchofmError

SET, PROVENANCE = "set.json", "provenance.jsonl"


def begun(out: Path, home: str, settings: Mapping[str, Any]) -> None:
    """Make the folder of a set, and `home` in it for its files, or find it there, begun with the same settings.

    Raises EchofmError where it holds anything else.
    """
    path, text = out / SET, json.dumps(settings, indent=2, sort_keys=True) + "\n"
    if path.exists():
        if path.read_text(encoding="utf-8") != text:
            raise EchofmError(f"{out} holds a set of other settings ({SET}); name another folder")
    elif out.exists() and any(out.iterdir()):
        raise EchofmError(f"{out} is not empty and holds no set of ours; name another folder")
    (out / home).mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
