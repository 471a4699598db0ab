"""An encoder of our own and shards, small enough to be embedded in a second."""

from __future__ import annotations

from pathlib import Path

import torch
from shardfolder import KEY, Hearts, read_heart

from echofm.contract import InputContract
from echofm.hub import save_model
from echofm.model.config import NetworkConfig
from echofm.model.mae import VideoMae
from echofm.shards.write import write_shards


def write_encoder_and_sets(folder: Path, *, hearts: int = 24, fresh: int = 4) -> Path:
    """encoder; shards, of hearts with splits; fresh, of others."""
    # Not the seed of the untrained network that stands beside it.
    torch.manual_seed(7)
    net = VideoMae(NetworkConfig(
        size=32, frames=8, channels=1, patch=8, tubelet=2, width=32, depth=1, heads=2,
        decoder_width=16, decoder_depth=1, decoder_heads=2, predicted_frames=4,
    ))  # fmt: skip
    save_model(net, folder / "encoder", contract=InputContract(size=32, frames=8, frame_rate_hz=25.0), card={})
    for name, count in (("shards", hearts), ("fresh", fresh)):
        source = Hearts(folder / f"{name}-files", count, splits=name == "shards")
        for number in range(fresh if name == "fresh" else 0):
            (folder / "fresh-files" / f"{number}.avi").write_text(str(100 + number))
        write_shards(source, folder / name, size=32, frame_rate_hz=None, key=KEY, read=read_heart, show_progress=False)
    return folder
