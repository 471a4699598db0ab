"""The encoders under timm's names: `timm.create_model("echofm_small_patch8_112")` once this module is imported."""

from __future__ import annotations

from typing import Any

from timm.models import register_model

from echofm.errors import EchofmError
from echofm.model.config import SIZES, EncoderConfig, NetworkConfig
from echofm.model.vit import VideoEncoder


def _register(size: str, network: NetworkConfig) -> None:
    def encoder(
        pretrained: bool = False, num_classes: int = 0, in_chans: int | None = None, **changes: Any
    ) -> VideoEncoder:
        """An encoder of a named size; `changes` are fields of EncoderConfig."""
        if pretrained:
            raise EchofmError("no weights ship with this package; use echofm.load_encoder(folder_or_hub_id)")
        if num_classes:
            raise EchofmError("the encoders have no classifier; put one on `video_BD` of `encode`")
        for of_timm in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
            changes.pop(of_timm, None)
        if in_chans is not None:
            changes["channels"] = in_chans
        given = network.model_dump(include=set(EncoderConfig.model_fields))
        return VideoEncoder(EncoderConfig.checked(given | changes, where=f"timm model of size {size}"))

    encoder.__name__ = f"echofm_{size}_patch{network.patch}_{network.size}"
    register_model(encoder)


for _size, _network in SIZES.items():
    _register(_size, _network)
