"""Every random choice about a clip: a function of its seed `draw_B`, a stream and a number, by integer arithmetic.

A draw is a counter hashed with the seed (SplitMix64, Steele et al. 2014, doi 10.1145/2660193.2660195): the same on
every device, for every number of processes and cut of the batch, and no generator state needs saving. The seed itself
is a function of (seed of the run, epoch, clip id), see echofm.shards.windows.

Shapes: B clips; `shape` is that of one clip's numbers.
"""

from __future__ import annotations

import enum
import math

import torch

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
_BELOW_1 = 1 - 2.0**-53


class Stream(enum.IntEnum):
    """What a clip's numbers are for; numbers of different streams are independent. Never give a value a second use."""

    MASK = 0
    DECODED = 1
    LOOK = 2
    VIEW_TIME = 3
    VIEW_POSITION = 4
    VIEW_LOOK = 5
    NOISE = 6
    NOISE_LEVEL = 7
    CONDITION = 8
    PAIR = 9
    LATENT = 10
    INTERVAL = 11
    SAMPLER = 12
    REFERENCE = 13
    TEXT = 14
    SHAPE = 15
    BLOCK = 16
    ACOUSTIC = 17
    ACOUSTIC_VIEW = 18
    SPECKLE = 19
    HAZE = 20
    COLOUR_BOX = 21
    TEXTURE = 22


def hashed(draw_B: torch.Tensor, *shape: int, stream: Stream) -> torch.Tensor:
    """Uniform int64 in [0, 2^63), (B, *shape); sorted, they are a shuffle."""
    counter = torch.arange(1, math.prod(shape) + 1, device=draw_B.device) + (stream << 32)
    bits = _mixed(draw_B)[:, None] + counter * _GOLDEN
    return (_mixed(bits) & (2**63 - 1)).view(-1, *shape)


def uniform(draw_B: torch.Tensor, *shape: int, stream: Stream) -> torch.Tensor:
    """Float64 in [0, 1), (B, *shape)."""
    return (hashed(draw_B, *shape, stream=stream).double() / 2.0**63).clamp_(max=_BELOW_1)


def normal(draw_B: torch.Tensor, *shape: int, stream: Stream) -> torch.Tensor:
    """Float32 of mean 0 and variance 1, (B, *shape): Box and Muller 1958, doi 10.1214/aoms/1177706645."""
    radius, turn = uniform(draw_B, 2, math.prod(shape), stream=stream).unbind(1)
    normal_BN = (-2 * (1 - radius).log()).sqrt_() * (2 * math.pi * turn).cos_()
    return normal_BN.float().view(-1, *shape)


def bernoulli(draw_B: torch.Tensor, *shape: int, probability: float, stream: Stream) -> torch.Tensor:
    """Bool, True with `probability` in [0, 1], (B, *shape)."""
    return uniform(draw_B, *shape, stream=stream) < probability


def integers(draw_B: torch.Tensor, *shape: int, high: int, stream: Stream) -> torch.Tensor:
    """Int64 in [0, high), (B, *shape)."""
    return hashed(draw_B, *shape, stream=stream) % high


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    for shift, factor in _MIX:
        bits = (bits ^ _shifted(bits, shift)) * factor
    return bits ^ _shifted(bits, 31)


def _shifted(bits: torch.Tensor, shift: int) -> torch.Tensor:
    # `>>` keeps the sign; SplitMix64 shifts zeros in.
    return (bits >> shift) & ((1 << (64 - shift)) - 1)
