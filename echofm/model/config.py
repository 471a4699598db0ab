"""What a VideoMae is (`network`, named SIZES), hides (`masking`) and learns (`objective`). Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro
from pydantic import Field, model_validator

from echofm.errors import EchofmError
from echofm.schema import FrozenModel

# Bounds far above any use: a hostile config.json must not claim all memory before its weights are looked at.
Width = Annotated[int, Field(gt=0, le=8192)]
Depth = Annotated[int, Field(gt=0, le=128)]
Heads = Annotated[int, Field(gt=0, le=256)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(gt=0, le=100), tyro.conf.Suppress]


class EncoderConfig(FrozenModel):
    """A VideoEncoder: the clips it takes, its tubelets and its transformer. The defaults are the published encoder."""

    size: Annotated[int, Field(gt=0, le=1024)] = 224
    """Rows and columns of a frame, pixels."""
    frames: Annotated[int, Field(gt=0, le=1024)] = 32
    """Frames of a clip."""
    channels: Literal[1, 3] = 3
    """1 grey, 3 colour."""
    patch: Annotated[int, Field(gt=0, le=256)] = 16
    """Side of a tubelet, pixels."""
    tubelet: Annotated[int, Field(gt=0, le=256)] = 4
    """Frames of a tubelet."""
    width: Width = 1024
    """Numbers that a token holds in the encoder."""
    depth: Depth = 24
    """Blocks of the encoder."""
    heads: Heads = 16
    """Attention heads of an encoder block."""
    mlp_ratio: Annotated[float, Field(gt=0, le=16), tyro.conf.Suppress] = 4.0
    """Hidden width of a block's two-layer network over its width."""
    norm_eps: Annotated[float, Field(gt=0, le=0.1), tyro.conf.Suppress] = 1e-6
    """Added to the variance in every LayerNorm."""
    phase_centre: Share = 0.0
    """How much of the clip's mean phase vector is left out, as the prior leaves out the mean picture."""

    phase_projector: Annotated[bool, tyro.conf.Suppress] = True
    """Whether a projector summarises the tokens of a time index; without, their mean is its phase vector."""

    @property
    def times(self) -> int:
        """Time indices of a clip."""
        return self.frames // self.tubelet

    @model_validator(mode="after")
    def _tiles(self) -> EncoderConfig:
        if self.size % self.patch or self.frames % self.tubelet:
            raise ValueError("size must be a multiple of patch, frames of tubelet")
        if self.width % self.heads:
            raise ValueError("width must be a multiple of its heads")
        return self


class NetworkConfig(EncoderConfig):
    """The weights of a VideoMae: encoder and decoder. The defaults are the published network, `large`."""

    decoder_width: Width = 512
    """Numbers that a token holds in the decoder."""
    decoder_depth: Depth = 8
    """Blocks of the decoder."""
    decoder_heads: Heads = 16
    """Attention heads of a decoder block."""
    predicted_frames: Annotated[int, Field(gt=0, le=1024)] = 8
    """Frames of a clip that are reconstructed; a multiple of frames / tubelet."""

    @model_validator(mode="after")
    def _decodes(self) -> NetworkConfig:
        if self.decoder_width % self.decoder_heads:
            raise ValueError("decoder_width must be a multiple of its heads")
        if self.predicted_frames % self.times or self.predicted_frames > self.frames:
            raise ValueError("predicted_frames must be a multiple of frames / tubelet, at most frames")
        return self


class MaskingConfig(FrozenModel):
    """Which tokens are hidden from the encoder, and how many of them are decoded."""

    kind: Literal["tube", "block", "frame", "random"] = "tube"
    """One spatial mask for all times, of single positions or of blocks; whole time indices; or a mask for each."""
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    """Part of the tokens that is hidden."""
    decode_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the hidden tokens that is decoded and scored; below 1 saves decoder work."""


class ReconstructionConfig(FrozenModel):
    """The error of predicted tubelets."""

    weight: Weight = 1.0
    """In the total loss."""
    normalised_target: bool = True
    """Normalise each target tubelet."""
    median_target: bool = False
    """Median-filter the target frames, 3x3."""
    sector_only: bool = False
    """Score only tubelets that touch the ultrasound sector."""


class PriorConfig(FrozenModel):
    """What says which time points of a clip are alike, for the triplets and the cycle."""

    kind: Literal["pixel", "embedding", "pixel+difference"] = "pixel"
    """Likeness of the pictures, of the embedding itself, or of the pictures and how they change."""
    centre: Annotated[Share, tyro.conf.Suppress] = 1.0
    """How much of the clip's mean picture is left out."""
    context: Annotated[int, Field(ge=0, le=1024)] = 0
    """Time indices to either side over which the trajectories through two time points are compared; 0: not at all."""


class TripletConfig(FrozenModel):
    """Hard triplets of time points."""

    weight: Weight = 1.0
    """In the total loss."""
    margin: Annotated[float, Field(ge=0, le=2), tyro.conf.Suppress] = 0.2
    """By how much a positive's cosine must exceed a negative's."""


class CycleConfig(FrozenModel):
    """Distillation of the prior into the embedding's self-similarity."""

    weight: Weight = 1.0
    """In the total loss."""
    temperature: Temperature = 0.1
    """Divides the similarities before the softmax."""


class ClipContrastConfig(FrozenModel):
    """Views of one clip against those of the batch's other clips, which the published model does not have."""

    weight: Weight = 0.0
    """In the total loss; 0: no such contrast, and no head for it."""
    views: Annotated[int, Field(ge=2, le=64)] = 4
    """Views of a clip, each of single time indices, that are contrasted."""
    temperature: Temperature = 0.1
    """Divides the similarities."""


class LatentConfig(FrozenModel):
    """The error of hidden tokens' features, which the published model does not predict."""

    weight: Weight = 0.0
    """In the total loss; 0: no such prediction, and no head for it. It takes --fit.ema-decay, as 0.998."""


class ObjectiveConfig(FrozenModel):
    """The losses, each with its weight: one field and one term of `echofm.model.terms` each."""

    reconstruction: ReconstructionConfig = ReconstructionConfig()
    """The error of predicted tubelets."""
    prior: PriorConfig = PriorConfig()
    """What says which time points of a clip are alike, for the triplets and the cycle."""
    triplet: TripletConfig = TripletConfig()
    """Hard triplets of time points."""
    cycle: CycleConfig = CycleConfig()
    """Distillation of the prior into the embedding's self-similarity."""
    clip_contrast: ClipContrastConfig = ClipContrastConfig()
    """Views of one clip against those of the batch's other clips."""
    latent: LatentConfig = LatentConfig()
    """The error of hidden tokens' features, as the encoder's running mean gives them for the whole clip."""


def require_learnable(network: NetworkConfig, masking: MaskingConfig, objective: ObjectiveConfig) -> None:
    """Raise EchofmError where nothing could be hidden, or a target has no spread."""
    values = network.patch**2 * network.channels * (network.predicted_frames // network.times)
    if objective.reconstruction.normalised_target and values == 1:
        raise EchofmError("a target tubelet of one value has no spread: normalised_target takes a patch above 1")
    if masking.kind == "frame" and network.times == 1:
        raise EchofmError("frame masks hide whole time indices: they take frames of two tubelets or more")
    if masking.kind != "frame" and network.size == network.patch:
        raise EchofmError(f"{masking.kind} masks hide parts of a frame: they take a size of two patches or more")


# Clips of 112x112 as the public sets hold them, in 8-pixel patches: as many tokens as the published model has.
_SMALL = NetworkConfig(
    size=112, patch=8, channels=1, width=384, depth=12, heads=6, decoder_width=256, decoder_depth=4, decoder_heads=8
)

SIZES: dict[str, NetworkConfig] = {
    "tiny": _SMALL.model_copy(
        update={"width": 192, "depth": 6, "heads": 3, "decoder_width": 96, "decoder_depth": 2, "decoder_heads": 3}
    ),
    "small": _SMALL,
    "base": NetworkConfig(width=768, depth=12, heads=12),
    # The published model (arXiv 2410.23413).
    "large": NetworkConfig(),
}
