"""The models of an audit: an encoder, and re-identification heads on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from echofm.backbones import open_encoder
from echofm.embed.options import EmbedOptions
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from echofm.hub import CONFIG
from synth.audit.reid import Reid, load_reid, require_separate

_MOST_BYTES = 1 << 20


def open_model(spec: str, *, trust_remote_code: bool = False) -> AnyEncoder:
    """The encoder that embeds: anything that `echofm embed` takes."""
    return open_encoder(spec, trust_remote_code=trust_remote_code)


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


def load_head(folder: str | Path) -> Reid:
    """A head as `echofm audit fit-reid` wrote it."""
    if not Path(folder).is_dir():
        raise EchofmError("--reid or --judge names no folder with a re-identification head; make one by `fit-reid`")
    return load_reid(folder)


def are_separate(one: Reid | None, other: Reid) -> bool:
    """Whether a judge is no repetition of the filter: other patients, other seed (synth.audit.reid.half)."""
    if one is None:
        return True
    try:
        require_separate(one, other)
    except EchofmError:
        return False
    return True


def settings_of(heads: Sequence[Reid | None]) -> Mapping[str, Any]:
    """How the heads' encoder has to be applied; empty where there is no head. Raises EchofmError where they differ."""
    told = [dict(each.config.settings) for each in heads if each is not None]
    if any(each != told[0] for each in told):
        raise EchofmError(
            f"the heads of filter and judge read features made with {told[0]} and {told[1]}; fit them alike"
        )
    return told[0] if told else {}


def as_fitted(options: EmbedOptions, settings: Mapping[str, Any]) -> EmbedOptions:
    """The options that give features as the heads read them."""
    windows = settings.get("windows")
    return replace(
        options,
        windows=windows if isinstance(windows, int) else None,
        precision=settings.get("precision", options.precision),
        tokens=settings.get("tokens"),
    )
