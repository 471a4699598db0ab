"""Shards in a training loop of one's own."""

from __future__ import annotations

import pytest
import torch
from labelled_hearts import write_labelled_hearts
from torch.utils.data import DataLoader

from echofm.errors import EchofmError
from echofm.progress import left
from echofm.shards.dataset import ClipDataset
from echofm.shards.read import ShardSet


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet.open(write_labelled_hearts(tmp_path_factory.mktemp("s") / "shards"))


def test_batches_with_labels(shards: ShardSet) -> None:
    clips = ClipDataset(shards.split("train"), frames=8, frame_rate_hz=25, labels=["ef_percent"], random=True)
    batches = list(DataLoader(clips, batch_size=4))
    assert len(clips) == 8 and batches[0]["video_CTHW"].shape == (4, 1, 8, 16, 16)
    video, truth = batches[0]["video_CTHW"], {r.clip_id: r.meta.labels["ef_percent"] for r in shards.records}
    assert video.dtype == torch.float32 and video.min() >= 0 and 0.5 < video.max() <= 1
    for batch in batches:
        assert batch["ef_percent"].tolist() == [truth[clip] for clip in batch["clip_id"]]
    again = clips[0]["video_CTHW"]
    clips.set_epoch(1)
    others = [clips[number]["video_CTHW"] for number in range(8)]
    clips.set_epoch(0)
    assert torch.equal(clips[0]["video_CTHW"], again)
    assert any(not torch.equal(clips[number]["video_CTHW"], other) for number, other in enumerate(others))


def test_labels_that_no_clip_has(shards: ShardSet) -> None:
    with pytest.raises(EchofmError, match="they have: ef_percent, heart_rate_bpm"):
        ClipDataset(shards, frames=8, labels=["lvidd_cm"])


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "0 s"), (89, "89 s"), (430, "7 min"), (7500, "2 h 05 min")])
def test_time_to_go(seconds: float, words: str) -> None:
    assert left(seconds) == words
