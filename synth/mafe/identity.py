"""The appearance teacher: what a re-identification head of the audit makes of the training clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from echofm.embed.cache import embedded
from echofm.embed.options import EmbedOptions
from echofm.embed.source import open_set
from echofm.errors import EchofmError
from echofm.hub import load_encoder
from echofm.shards.read import ShardSet
from synth.audit.reid import load_reid


def identities_of(shards: ShardSet, *, encoder: str, head: Path) -> tuple[dict[str, npt.NDArray[np.float32]], str]:
    """By clip id the head's features (E,), of length one, of the clips of the shards; and the head's digest.

    The encoder's features come from the cache that all commands share. Raises EchofmError where the head reads another
    encoder's.
    """
    reid = load_reid(head)
    net = load_encoder(encoder)
    if net.digest != reid.config.base_encoder_digest:
        raise EchofmError("--reid: the head was fitted on another encoder than --encoder; fit one on this encoder")
    level = "clip" if "clip" in reid.levels else next(iter(reid.levels))
    # As the head was fitted, or it refuses the table.
    fitted = reid.config.settings
    windows = fitted.get("windows")
    options = EmbedOptions(
        windows=windows if isinstance(windows, int) else None,
        tokens=fitted.get("tokens"),
        precision=fitted.get("precision", "fp32"),
    )
    opened = open_set(shards.folder, name="training", options=options)
    assert opened.videos is not None
    device = options.torch_device
    extractor = options.extractor(net.to(device), device=device, tokens=options.grid)
    table = embedded(extractor, opened.videos.input(net.contract), name="appearance teacher").table
    features = reid.project(table.select(reid.usable(table, level=level)), level=level)
    return dict(zip(features.clip_id.tolist(), features.video_ND)), reid.digest(level)
