"""Image models of timm as encoders of clips: frame by frame, vectors pooled over time.

Shapes: N frames, C channels, H rows, W columns, K places, D features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from echofm.backbones.frozen import FrozenEncoder, encode_frames, seeded
from echofm.backbones.opening import Spec
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.model.tokens import Grid
from echofm.model.vit import Encoding

FRAMES = 16


class TimmFrames(nn.Module):
    """A timm model without its classifier; vectors are what its classifier would see."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        """Frame by frame."""
        return encode_frames(self.see, video_BCTHW)

    def see(self, frames_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Vectors (N, D) and tokens (N, K, D'), rows outermost; None where the model's maps have no places."""
        features = self.model.forward_features(frames_NCHW)
        return self.model.forward_head(features, pre_logits=True), self._places(features)

    def grid(self, size: int, frames: int) -> Grid | None:
        """Of a clip's tokens; None without."""
        with torch.no_grad():
            features = self.model.forward_features(torch.zeros(1, 3, size, size))
        tokens_1KD = self._places(features)
        if tokens_1KD is None:
            return None
        if features.ndim == 4:
            rows, columns = features.shape[1:3] if self._channels_last(features) else features.shape[2:]
            return Grid(frames, rows, columns)
        side = round(tokens_1KD.shape[1] ** 0.5)
        return Grid(frames, side, side) if side * side == tokens_1KD.shape[1] else None

    def _places(self, features: torch.Tensor) -> torch.Tensor | None:
        if features.ndim == 3:
            return features[:, getattr(self.model, "num_prefix_tokens", 0) :]
        if features.ndim == 4:
            return features.flatten(1, 2) if self._channels_last(features) else features.flatten(2).transpose(1, 2)
        return None

    def _channels_last(self, features: torch.Tensor) -> bool:
        return str(getattr(self.model, "output_fmt", "NCHW")) == "NHWC"


def open_timm(spec: Spec) -> FrozenEncoder:
    """`timm:NAME`: options frames (16), size (the model's own), random. Raises EchofmError where it cannot be had."""
    import timm
    from timm.data import resolve_model_data_config

    spec.only("frames", "size")
    frames = spec.count("frames", FRAMES)
    sized = {"img_size": spec.count("size", 1)} if "size" in spec.options else {}
    try:
        with seeded(spec.seed):
            model = _created(timm.create_model, spec, sized)
    except RuntimeError as error:
        # timm says so where it has no such model, or no weights for it.
        raise EchofmError(f"timm:{spec.name}: {str(error).splitlines()[0][:160]}") from None
    except (OSError, ValueError) as error:
        raise EchofmError(
            f"timm:{spec.name}: its weights cannot be fetched ({type(error).__name__}); check the name and the "
            f"network, or take untrained ones: timm:{spec.name}?random"
        ) from None
    data = resolve_model_data_config(model)
    size = spec.count("size", data["input_size"][1])
    net = TimmFrames(model).eval()
    return FrozenEncoder(
        net,
        contract=InputContract(size=size, frames=frames, channels=3),
        grid=net.grid(size, frames),
        sees_time=False,
        settings={"encoder": "timm", "name": spec.name},
        mean=data["mean"],
        std=data["std"],
    )


def _created(create: Any, spec: Spec, sized: dict[str, int]) -> nn.Module:
    options = {"pretrained": not spec.random, "num_classes": 0}
    try:
        return create(spec.name, **options, **sized)
    except TypeError:
        # A convolutional model takes frames of any size and has no such argument.
        return create(spec.name, **options)
