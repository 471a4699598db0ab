"""The models of an audit: an encoder, and re-identification heads on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from echofm.errors import EchofmError
from echofm.hub import CONFIG, Encoder, load_encoder
from synth.audit.levels import Head

_MOST_BYTES = 1 << 20


def open_model(spec: str) -> Encoder:
    """The encoder that embeds."""
    return load_encoder(spec)


def is_head(spec: str) -> bool:
    """Whether a folder holds a re-identification head and no encoder."""
    path = Path(spec) / CONFIG
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return False
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(told, dict) and "reid" in str(told.get("format", ""))


def load_head(folder: str | Path) -> Head:
    """A head as `echofm audit fit-reid` wrote it."""
    if not Path(folder).is_dir():
        raise EchofmError("--reid or --judge names no folder with a re-identification head; make one by `fit-reid`")
    from synth.audit.reid import load_reid

    head: Head = load_reid(folder)
    return head


def seen_by_both(one: Head | None, other: Head | None) -> bool:
    """Whether two heads are known to have been fitted on the same patients."""
    halves: list[Any] = [getattr(each, "half", None) for each in (one, other)]
    return one is not None and other is not None and (halves[0] == halves[1] or "all" in halves)
