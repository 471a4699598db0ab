"""The masked video transformer; importing it registers the encoders with timm."""

from echofm.model import registry

__all__ = ["registry"]
