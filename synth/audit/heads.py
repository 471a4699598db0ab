"""The models of an audit: an encoder, and re-identification heads on it, by name or as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from echofm.backbones import open_encoder
from echofm.embed.options import EmbedOptions
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from echofm.hub import CONFIG
from synth.audit.reid import Reid, load_reid, require_separate

_MOST_BYTES = 1 << 20


def encoder_of(given: str | Path | AnyEncoder, options: EmbedOptions) -> AnyEncoder:
    """An encoder by anything that `echofm embed` takes, or one already open."""
    if isinstance(given, str | Path):
        return open_encoder(given, trust_remote_code=options.trust_remote_code)
    return given


def head_of(given: str | Path | Reid) -> Reid:
    """A head from the folder that `echofm audit fit-reid` wrote, or one already loaded."""
    if isinstance(given, Reid):
        return given
    if not Path(given).is_dir():
        raise EchofmError("--reid or --judge names no folder with a re-identification head; make one by `fit-reid`")
    return load_reid(given)


def judge_of(given: str | Path | Reid | AnyEncoder, options: EmbedOptions) -> tuple[Reid | None, AnyEncoder | None]:
    """The judge as a head or as an encoder."""
    if isinstance(given, Reid) or (isinstance(given, str | Path) and is_head(given)):
        return head_of(cast("str | Path | Reid", given)), None
    return None, encoder_of(cast("str | Path | AnyEncoder", given), options)


def is_head(spec: str | Path) -> bool:
    """Whether a folder holds a re-identification head and no encoder."""
    path = Path(spec) / CONFIG
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return False
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(config, dict) and "reid" in str(config.get("format", ""))


def are_separate(one: Reid | None, other: Reid) -> bool:
    """Whether a judge is no repetition of the filter: other patients, other seed (synth.audit.reid.half)."""
    if one is None:
        return True
    try:
        require_separate(one, other)
    except EchofmError:
        return False
    return True


def as_fitted(options: EmbedOptions, heads: Sequence[Reid | None]) -> EmbedOptions:
    """The options that give features as the heads read them. Raises EchofmError where two heads differ in that."""
    fitted: list[Mapping[str, Any]] = [dict(each.config.settings) for each in heads if each is not None]
    if not fitted:
        return options
    if any(each != fitted[0] for each in fitted):
        raise EchofmError(
            f"the heads of filter and judge read features made with {fitted[0]} and {fitted[1]}; fit them alike"
        )
    windows = fitted[0].get("windows", options.windows)
    return replace(
        options,
        windows=windows if isinstance(windows, int) else None,
        precision=fitted[0].get("precision", options.precision),
        tokens=fitted[0].get("tokens"),
    )
