"""The named sizes of the network. Imports no torch."""

from __future__ import annotations

from echofm.model.config import NetworkConfig

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
