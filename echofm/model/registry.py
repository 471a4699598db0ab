"""The encoders under timm's names: `timm.create_model("echofm_small_patch8_112")` once this module is imported."""

from __future__ import annotations

from typing import Any

from timm.models import register_model

from echofm.errors import EchofmError
from echofm.model.config import EncoderConfig
from echofm.model.sizes import SIZES
from echofm.model.vit import VideoEncoder


def _encoder(
    name: str, *, pretrained: bool, num_classes: int = 0, in_chans: int | None = None, **changes: Any
) -> VideoEncoder:
    if pretrained:
        raise EchofmError("no weights ship with this package; use echofm.load_encoder(folder_or_hub_id)")
    if num_classes:
        raise EchofmError("the encoders have no classifier; put one on `video_BD` of `encode`")
    for of_timm in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        changes.pop(of_timm, None)
    if in_chans is not None:
        changes["channels"] = in_chans
    given = SIZES[name].model_dump(include=set(EncoderConfig.model_fields))
    return VideoEncoder(EncoderConfig.checked(given | changes, where=f"timm model of size {name}"))


@register_model
def echofm_tiny_patch8_112(pretrained: bool = False, **changes: Any) -> VideoEncoder:
    """Width 192, 6 blocks, grey clips of 32 frames of 112x112. `changes` are fields of EncoderConfig."""
    return _encoder("tiny", pretrained=pretrained, **changes)


@register_model
def echofm_small_patch8_112(pretrained: bool = False, **changes: Any) -> VideoEncoder:
    """Width 384, 12 blocks, grey clips of 32 frames of 112x112. `changes` are fields of EncoderConfig."""
    return _encoder("small", pretrained=pretrained, **changes)


@register_model
def echofm_base_patch16_224(pretrained: bool = False, **changes: Any) -> VideoEncoder:
    """Width 768, 12 blocks, colour clips of 32 frames of 224x224. `changes` are fields of EncoderConfig."""
    return _encoder("base", pretrained=pretrained, **changes)


@register_model
def echofm_large_patch16_224(pretrained: bool = False, **changes: Any) -> VideoEncoder:
    """The published encoder: width 1024, 24 blocks, colour clips of 32 frames of 224x224."""
    return _encoder("large", pretrained=pretrained, **changes)
