"""The video network of the utility panel: it teaches what its clips show, and nothing where they show nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from echofm.embed.table import EmbeddingTable
from synth.evaluate import video_network
from synth.evaluate.card import Figure
from synth.evaluate.features import Vectors
from synth.evaluate.temporal import Watched
from synth.evaluate.utility import REAL, filmed, utility
from synth.evaluate.video_network import Filmed, VideoReader


def clips(count: int, seed: int, *, shown: bool = True, frames: int = 18) -> tuple[EmbeddingTable, Watched]:
    """Clips of a square as large as their EF, or as another's. All sets name theirs alike."""
    rng = np.random.default_rng(seed)
    ef = rng.uniform(35, 75, count)
    films = rng.integers(0, 20, (count, frames, 64, 64), np.uint8)
    for film, side in zip(films, (ef if shown else rng.permutation(ef)) - 30):
        film[:, : round(side), :32] += 200
    names = [f"clip{index:03d}" for index in range(count)]
    table = EmbeddingTable.from_arrays(
        rng.standard_normal((count, 4)),
        clip_id=names,
        patient_id=[f"{seed}p{index}" for index in range(count)],
        encoder_digest="e" * 64,
        labels=pd.DataFrame({"ef_percent": ef}),
    )
    vectors = Vectors(vectors_VD=np.zeros((0, 5)), patients=np.zeros(0, str))
    return table, Watched(vectors=vectors, frames=dict(zip(names, films)))


def films_of(*of: int, **how: bool) -> Filmed:
    found = filmed(*clips(*of, **how))
    assert found is not None
    return found


@pytest.mark.slow
def test_it_teaches_what_its_clips_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_network, "SEEDS", 1)
    (train, _), (held, _), (made, _) = clips(30, 0), clips(40, 5), clips(30, 2)
    reader = VideoReader(network="small", steps=60, seed=0, device="cpu", real=films_of(30, 0), held=films_of(40, 5))

    def figures(films: Filmed) -> list[Figure]:
        panel = utility(train, held, made, video=reader, films=films, seed=0)
        return [each for each in panel.figures if each.name.startswith("video network")]

    alone, share = figures(films_of(30, 2))
    assert alone.found.value > 0.3 and alone.beside[REAL].value > 0.3 and share.found.value > 0.5
    # Another set, whose clips have the same names and are of the same number.
    assert figures(films_of(30, 3, shown=False))[0].found.value < 0.1


def test_clips_too_short_or_too_few_are_none() -> None:
    assert filmed(*clips(30, 0, frames=15)) is None and filmed(*clips(19, 0)) is None
    assert filmed(clips(30, 0)[0], None) is None and len(films_of(20, 0)) == 20


def test_the_large_network_reads_grey_clips() -> None:
    with torch.no_grad():
        assert video_network._build("r2plus1d_18")(torch.zeros(1, 1, 8, 32, 32)).shape == (1, 1)
