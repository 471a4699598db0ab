"""What lies between a heart and its image: attenuation, shadows, gain, haze, a lost flank, other speckle.

All run along the beams. Grey values stand for decibels, from black to white 60 of them, as scanners compress them, so
a loss is a difference; haze is added as amplitudes are. What is black stays black, but where haze lies.

Shapes: B clips, C channels, T frames, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F

from echofm.clip import Clip
from echofm.draws import Stream, uniform
from echofm.errors import EchofmError
from echofm.fan import beams
from echofm.shards.windows import draws

Kind = Literal["attenuation", "shadow", "gain", "haze", "dropout", "speckle"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_RANGE_DB = 60.0
# At strength 1, of the far end, behind a rib, of a slider, of the haze below white at the transducer, of a lost flank.
_ATTENUATION_DB, _SHADOW_DB, _GAIN_DB, _HAZE_DB, _DROPOUT_DB = 25.0, 40.0, 9.0, 20.0, 35.0
_RIBS, _SLIDERS, _NUMBERS = 2, 6, 8
# What of the haze is gone at the far end.
_HAZE_FADES_DB = 30.0
# Speckle cells along and across the beams.
_CELLS = (48, 40)
_MOST_SPECKLE_DB = 12.0


def perturbed(
    video_BCTHW: torch.Tensor,
    *,
    beam_B2HW: torch.Tensor,
    sector_BHW: torch.Tensor,
    draw_B: torch.Tensor,
    strength: Mapping[Kind, torch.Tensor],
) -> torch.Tensor:
    """Clips, values in [0, 1], with each kind of a strength (B) in [0, 1] laid over them; strength 0 changes nothing.

    Where ribs lie, which flank is lost and how the speckle falls is drawn from the clips' seeds, a kind's from its own
    numbers: more kinds or clips change no other's.
    """
    drawn = uniform(draw_B, len(KINDS), _NUMBERS, stream=Stream.ACOUSTIC).float()
    depth_BHW, angle_BHW = beam_B2HW.unbind(1)
    for number, kind in enumerate(KINDS):
        if kind in strength:
            strength_B11 = strength[kind].float()[:, None, None]
            if kind == "speckle":
                speckle_dB = _speckle_dB(beam_B2HW, draw_B, frames=video_BCTHW.shape[2], stream=Stream.SPECKLE)
                change_dB = strength_B11[:, None] * speckle_dB
            elif kind == "haze":
                texture_dB = _speckle_dB(beam_B2HW, draw_B, frames=1, stream=Stream.HAZE)[:, 0]
                level_dB = texture_dB - _HAZE_DB - _HAZE_FADES_DB * depth_BHW
                haze = torch.where(sector_BHW, strength_B11 * 10 ** (level_dB / 20), 0.0)
                video_BCTHW = _hazed(video_BCTHW, haze[:, None, None])
                continue
            else:
                shaped = _CHANGES[kind](depth_BHW, angle_BHW, drawn[:, number, :, None, None])
                change_dB = (strength_B11 * shaped)[:, None]
            lit = video_BCTHW > 0
            video_BCTHW = torch.where(lit, video_BCTHW + change_dB[:, None] / _RANGE_DB, video_BCTHW).clamp(0, 1)
    return video_BCTHW


def perturbed_clip(clip: Clip, strength: Mapping[Kind, float]) -> Clip:
    """One clip, drawn from its id alone."""
    video = torch.from_numpy(np.ascontiguousarray(clip.frames_TCHW)).transpose(0, 1)[None].float() / 255
    found = perturbed(
        video,
        beam_B2HW=torch.from_numpy(beams(clip.fan, clip.sector_HW))[None],
        sector_BHW=torch.from_numpy(clip.sector_HW)[None],
        draw_B=torch.tensor([draws(0, 0, clip.clip_id)[1]]),
        strength={kind: torch.tensor([value]) for kind, value in strength.items()},
    )
    frames_TCHW = (found[0].transpose(0, 1) * 255).round().byte().numpy()
    return clip.replace(frames_TCHW=np.ascontiguousarray(frames_TCHW))


def parsed_strength(words: Sequence[str]) -> dict[Kind, float]:
    """{"shadow": 0.5} from ["shadow:0.5"]. Raises EchofmError on another kind, or no strength from 0 to 1."""
    strength: dict[Kind, float] = {}
    for word in words:
        name, _, text = word.partition(":")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if name not in KINDS or not 0 <= value <= 1:
            raise EchofmError(f"--perturb {word}: give KIND:STRENGTH, one of {', '.join(KINDS)}, from 0 to 1")
        strength[KINDS[KINDS.index(name)]] = value
    return strength


def _attenuation(depth_BHW: torch.Tensor, angle_BHW: torch.Tensor, drawn_BN11: torch.Tensor) -> torch.Tensor:
    return -_ATTENUATION_DB * depth_BHW


def _shadow(depth_BHW: torch.Tensor, angle_BHW: torch.Tensor, drawn_BN11: torch.Tensor) -> torch.Tensor:
    """Behind two ribs, each across a sixteenth to an eighth of the beams."""
    lost = torch.zeros_like(depth_BHW)
    for rib in range(_RIBS):
        centre, width, begin = drawn_BN11[:, 3 * rib : 3 * rib + 3].unbind(1)
        half = (1 + width) / 32
        across = torch.sigmoid((half - (angle_BHW - centre).abs()) / 0.01)
        lost = torch.maximum(lost, across * torch.sigmoid((depth_BHW - 0.02 - 0.15 * begin) / 0.01))
    return -_SHADOW_DB * lost


def _gain(depth_BHW: torch.Tensor, angle_BHW: torch.Tensor, drawn_BN11: torch.Tensor) -> torch.Tensor:
    """The overall gain and the sliders of the time-gain compensation, joined by straight lines."""
    slider_BN11 = 2 * drawn_BN11[:, :_SLIDERS] - 1
    place = depth_BHW * (_SLIDERS - 1)
    lines = [(1 - (place - number).abs()).clamp(min=0) * slider_BN11[:, number] for number in range(_SLIDERS)]
    return _GAIN_DB * (torch.stack(lines).sum(0) + (2 * drawn_BN11[:, _SLIDERS] - 1))


def _dropout(depth_BHW: torch.Tensor, angle_BHW: torch.Tensor, drawn_BN11: torch.Tensor) -> torch.Tensor:
    """Of the beams on one side, a fifth to two fifths of them."""
    side, width = drawn_BN11[:, :2].unbind(1)
    from_edge = torch.where(side < 0.5, angle_BHW, 1 - angle_BHW)
    return -_DROPOUT_DB * torch.sigmoid((0.2 + 0.2 * width - from_edge) / 0.03)


_CHANGES: Mapping[Kind, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "attenuation": _attenuation,
    "shadow": _shadow,
    "gain": _gain,
    "dropout": _dropout,
}


def _hazed(video_BCTHW: torch.Tensor, haze: torch.Tensor) -> torch.Tensor:
    """Reverberation between skin and probe: amplitudes (B, 1, 1, H, W) that stay while the heart beats."""
    # 20 decibels are a factor of ten; black is none.
    echo = torch.where(video_BCTHW > 0, 10 ** (_RANGE_DB * (video_BCTHW - 1) / 20), 0.0)
    both = (1 + 20 * torch.log10(torch.hypot(echo, haze).clamp(min=1e-9)) / _RANGE_DB).clamp(0, 1)
    return torch.where((haze > 0).expand_as(both), both, video_BCTHW)


def _speckle_dB(beam_B2HW: torch.Tensor, draw_B: torch.Tensor, *, frames: int, stream: Stream) -> torch.Tensor:
    """(B, T, H, W) fully developed speckle about its mean, anew in each frame, in cells along the beams."""
    drawn = uniform(draw_B, frames, *_CELLS, stream=stream).float()
    power_dB = 10 * torch.log10((-torch.log1p(-drawn.clamp(max=1 - 1e-6))).clamp(min=1e-6))
    # Euler's constant: the mean of the logarithm of an exponential variable is its negative.
    centred = (power_dB + 10 * 0.5772 / math.log(10)).clamp(-_MOST_SPECKLE_DB, _MOST_SPECKLE_DB)
    where_BHW2 = 2 * beam_B2HW.flip(1).permute(0, 2, 3, 1) - 1
    return F.grid_sample(centred, where_BHW2, padding_mode="border", align_corners=True)
