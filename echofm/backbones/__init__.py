"""Backbones: any frozen encoder under one face, with its input contract, digest and token grid."""

from echofm.backbones.frozen import FrozenEncoder, PixelEncoder
from echofm.backbones.opening import open_encoder, random_spec

__all__ = ["FrozenEncoder", "PixelEncoder", "open_encoder", "random_spec"]
