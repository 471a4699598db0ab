"""What an encoder tells of clips held otherwise than in its training: mirrored, turned, zoomed, moved.

    python -m benchmarks.phantom_wide ENCODER SHARDS

Every clip of a phantom's shards under one drawn similarity: mirrored or not (apical views are stored either way round),
turned by up to 25 degrees, zoomed by up to a quarter, moved by up to 7.5 % of the image. Training, validation and test
clips alike, so that it is the features that must bear it, not the probe. Ten minutes of processor time for `demo`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro

from benchmarks.phantom_phase import shown
from echofm.backbones import open_encoder
from echofm.clip import Clip
from echofm.embed.extract import Extractor
from echofm.embed.inputs import Item, ShardInput
from echofm.embed.table import EmbeddingTable
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from echofm.progress import progress_bar
from echofm.shards.read import ShardSet
from probe.labels.evaluate import evaluate


def held_otherwise(clip: Clip, rng: np.random.Generator) -> Clip:
    """A clip under a drawn similarity, the same for all frames."""
    angle, zoom = np.deg2rad(rng.uniform(-25, 25)), np.exp(rng.uniform(-0.25, 0.25))
    mirrored, (across, down) = rng.choice([-1, 1]), rng.uniform(-0.15, 0.15, 2)
    turned = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned[:, 0] *= mirrored
    map_23 = torch.from_numpy(np.column_stack([turned, [across, down]])).float()
    frames = torch.from_numpy(clip.frames_TCHW).float()
    grid = F.affine_grid(map_23.expand(len(frames), 2, 3), list(frames.shape), align_corners=False)
    drawn = F.grid_sample(frames, grid, align_corners=False).round().to(torch.uint8)
    return replace(clip, frames_TCHW=drawn.numpy())


def wide_table(encoder: AnyEncoder, shards: ShardSet, name: str, *, seed: int) -> EmbeddingTable:
    """All clips, each held otherwise."""
    with progress_bar(name, len(shards)) as bar:

        def items() -> Iterator[Item]:
            for number, item in enumerate(ShardInput(shards, contract=encoder.contract).read(range(len(shards)))):
                assert isinstance(item, Item)
                yield replace(item, clip=held_otherwise(item.clip, np.random.default_rng([seed, number])))
                bar.advance(1)

        return Extractor(encoder=encoder).table(items())


def main(
    encoder: tyro.conf.Positional[Path],
    shards: tyro.conf.Positional[Path],
    targets: tuple[str, ...] = ("ef_percent", "view"),
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Print the probes of a trained and of the untrained encoder.

    Args:
        encoder: Folder of an exported encoder.
        shards: Of a phantom.
        targets: Labels to probe.
        seed: Of the similarities.
        threads: Of torch.
    """
    torch.set_num_threads(threads)
    opened = ShardSet.open(shards)
    own = wide_table(open_encoder(str(encoder)), opened, "encoder", seed=seed)
    untrained = wide_table(open_encoder(f"random:{encoder}"), opened, "untrained", seed=seed)
    for target in targets:
        result = evaluate(own, target=target, baselines={"untrained": untrained}).result
        for score in result.scores:
            print(f"{target}, {score.metric} by {score.level}, {score.method}: {shown(score.estimate)}")
        for each in result.comparisons:
            print(f"{target}, {each.metric} by {each.level}, minus {each.baseline}: {shown(each.difference)}")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except EchofmError as error:
        raise SystemExit(f"error: {error}") from None
