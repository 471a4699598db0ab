"""What an encoder's time points know of the cardiac phase, beside random init and the pixel prior.

    python -m benchmarks.phantom_phase ENCODER SHARDS

The first clips of each split of a phantom's shards, a window from every frame; prints a row per figure of
`probe.phase.probe_phase` on the test patients, intervals over patients. Five minutes of processor time for `demo`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
import tyro

from echofm.backbones import open_encoder
from echofm.clip import Clip
from echofm.embed.extract import Extractor
from echofm.embed.inputs import Item, ShardInput
from echofm.embed.table import EmbeddingTable
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from echofm.intervals import Estimate
from echofm.progress import progress_bar
from echofm.shards.read import ShardSet
from probe.baselines import pixel_table
from probe.phase.answers import systole_phases
from probe.phase.probe import probe_phase


def chosen(shards: ShardSet, most: dict[str, int]) -> list[int]:
    """Places of the first clips of each split."""
    seen: Counter[str] = Counter()
    places = []
    for place, record in enumerate(shards.records):
        split = record.meta.split
        if seen[split] < most.get(split, 0):
            seen[split] += 1
            places.append(place)
    return places


def dense_table(encoder: AnyEncoder, shards: ShardSet, places: list[int], name: str) -> EmbeddingTable:
    """A window from every frame."""
    with progress_bar(name, len(places)) as bar:

        def items() -> Iterator[Item]:
            for item in ShardInput(shards, contract=encoder.contract).read(places):
                assert isinstance(item, Item)
                yield item
                bar.advance(1)

        return Extractor(encoder=encoder, windows=100_000).table(items())


def shown(estimate: Estimate) -> str:
    """Value and interval."""
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def main(
    encoder: tyro.conf.Positional[Path],
    shards: tyro.conf.Positional[Path],
    train: int = 60,
    val: int = 30,
    test: int = 120,
    threads: int = 1,
) -> None:
    """Print the table.

    Args:
        encoder: Folder of an exported encoder.
        shards: Of a phantom.
        train: Clips of the training split, for the readout.
        val: Clips of the validation split, for the choices.
        test: Clips of the test split.
        threads: Of torch.
    """
    torch.set_num_threads(threads)
    opened = ShardSet.open(shards)
    places = chosen(opened, {"train": train, "val": val, "test": test})
    own = dense_table(open_encoder(str(encoder)), opened, places, "encoder")
    untrained = dense_table(open_encoder(f"random:{encoder}"), opened, places, "untrained")
    clips: list[Clip] = [opened.clip(place) for place in places]
    baselines = {"untrained": untrained, "pixels": pixel_table(own, clips)}
    result = probe_phase(own, systole=systole_phases(clips), baselines=baselines).result
    print(f"phantom, {len(own)} clips; " + " ".join(result.notes))
    for method, choice in result.chosen.items():
        print(f"{method}: {choice}")
    methods = ("probe", *baselines, "chance")
    scores = {(score.method, score.metric): shown(score.estimate) for score in result.scores}
    print("\n| | " + " | ".join(methods) + " |\n" + "|---" * (len(methods) + 1) + "|")
    for metric in dict.fromkeys(score.metric for score in result.scores):
        print(f"| {metric} | " + " | ".join(scores.get((method, metric), "") for method in methods) + " |")
    for each in result.comparisons:
        print(f"minus {each.baseline}, {each.metric}: {shown(each.difference)}")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except EchofmError as error:
        raise SystemExit(f"error: {error}") from None
