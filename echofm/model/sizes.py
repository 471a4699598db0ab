"""Architecture: VideoMae's arguments as one checked, saved value; and the named sizes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from echofm.schema import FrozenModel

# Bounds far above any use: a hostile config.json must not claim all memory before its weights are looked at.
Width = Annotated[int, Field(gt=0, le=8192)]
Depth = Annotated[int, Field(gt=0, le=128)]
Heads = Annotated[int, Field(gt=0, le=256)]
Weight = Annotated[float, Field(ge=0, le=1e6)]


class Architecture(FrozenModel):
    """What a VideoMae is made of; `VideoMae(**architecture.model_dump())` makes it. The default is `large`."""

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
    mlp_ratio: Annotated[float, Field(gt=0, le=16)] = 4.0
    """Hidden width of a block's two-layer network over its width."""
    norm_eps: Annotated[float, Field(gt=0, le=0.1)] = 1e-6
    """Added to the variance in every LayerNorm."""
    phase_centre: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How much of the clip's mean phase vector is left out, as the prior leaves out the mean picture."""
    decoder_width: Width = 512
    """Numbers that a token holds in the decoder."""
    decoder_depth: Depth = 8
    """Blocks of the decoder."""
    decoder_heads: Heads = 16
    """Attention heads of a decoder block."""
    predicted_frames: Annotated[int, Field(gt=0, le=1024)] = 8
    """Frames of a clip that are reconstructed; a multiple of frames / tubelet."""
    mask: Literal["tube", "frame", "random"] = "tube"
    """One spatial mask for all times, whole time indices, or a spatial mask for each time index."""
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    """Part of the tokens that is hidden."""
    decode_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the hidden tokens that is decoded and scored."""
    normalised_target: bool = True
    """Normalise each target tubelet."""
    median_target: bool = False
    """Median-filter the target frames, 3x3."""
    sector_only: bool = False
    """Score only tubelets that touch the ultrasound sector."""
    prior: Literal["pixel", "embedding", "pixel+difference"] = "pixel"
    """What says which moments of a clip are alike."""
    prior_centre: Annotated[float, Field(ge=0, le=1)] = 1.0
    """How much of the clip's mean picture the prior leaves out."""
    prior_reach: Annotated[int, Field(ge=0, le=1024)] = 0
    """Time indices to either side over which the prior compares the ways to and from two moments; 0: not at all."""
    triplet_weight: Weight = 1.0
    """Of the triplet loss in the total; reconstruction has weight 1."""
    triplet_margin: Annotated[float, Field(ge=0, le=2)] = 0.2
    """By how much a positive's cosine must exceed a negative's."""
    cycle_weight: Weight = 1.0
    """Of the cycle distillation in the total."""
    cycle_temperature: Annotated[float, Field(gt=0, le=100)] = 0.1
    """Divides the similarities before the softmax of the cycle distillation."""
    clip_weight: Weight = 0.0
    """Of the contrast of clips in the total: moments of one clip against those of the batch's other clips; 0: none."""
    clip_views: Annotated[int, Field(ge=2, le=64)] = 4
    """Moments of a clip in its contrast."""
    clip_temperature: Annotated[float, Field(gt=0, le=100)] = 0.1
    """Divides the similarities in the contrast of clips."""

    @model_validator(mode="after")
    def _fits(self) -> Architecture:
        if self.size % self.patch or self.frames % self.tubelet:
            raise ValueError("size must be a multiple of patch, frames of tubelet")
        if self.width % self.heads or self.decoder_width % self.decoder_heads:
            raise ValueError("a width must be a multiple of its heads")
        if self.predicted_frames % (self.frames // self.tubelet) or self.predicted_frames > self.frames:
            raise ValueError("predicted_frames must be a multiple of frames / tubelet, at most frames")
        times = self.frames // self.tubelet
        if self.normalised_target and self.patch**2 * self.channels * (self.predicted_frames // times) == 1:
            raise ValueError("a target tubelet of one value has no spread: normalised_target takes a patch above 1")
        if self.mask == "frame" and times == 1:
            raise ValueError("frame masks hide whole time indices: they take frames of two tubelets or more")
        if self.mask != "frame" and self.size == self.patch:
            raise ValueError(f"{self.mask} masks hide places: they take a size of two patches or more")
        return self


# Clips of 112x112 as the public sets hold them, in 8-pixel patches: as many tokens as the published model has.
_SMALL = Architecture(
    size=112, patch=8, channels=1, width=384, depth=12, heads=6, decoder_width=256, decoder_depth=4, decoder_heads=8
)

SIZES: dict[str, Architecture] = {
    "tiny": _SMALL.model_copy(
        update={"width": 192, "depth": 6, "heads": 3, "decoder_width": 96, "decoder_depth": 2, "decoder_heads": 3}
    ),
    "small": _SMALL,
    # Maths of its own: 85 % hidden (video bears 90 %: arXiv 2203.12602), half of that decoded by two narrower blocks.
    "fast": _SMALL.model_copy(
        update={"decoder_width": 192, "decoder_depth": 2, "decoder_heads": 6, "mask_ratio": 0.85, "decode_ratio": 0.5}
    ),
    "base": Architecture(width=768, depth=12, heads=12),
    # The published model (arXiv 2410.23413).
    "large": Architecture(),
}
