"""The order of training depends on the seed alone: not on ranks, workers, or how clips lie in the tars."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shardfolder import Hearts, read_heart, write_hearts

from echofm.clip import ClipBatch
from echofm.conform import conform
from echofm.errors import EchofmError
from echofm.shards.loader import train_batches, window_batches
from echofm.shards.read import ShardSet
from echofm.shards.windows import draws, epoch_order, joined

TENSORS = ("video_BCTHW", "sector_BHW", "valid_BT", "frame_time_s_BT", "draw_B")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    out = tmp_path_factory.mktemp("order") / "shards"
    write_hearts(out, 22, shard_mb=0.3, split_by="none")
    return ShardSet.open(out)


def take(shards: ShardSet, steps: int, **options: int) -> list[ClipBatch]:
    options = {"frames": 16, "frame_rate_hz": 50, "batch": 6, "seed": 1, **options}
    return list(itertools.islice(train_batches(shards, **options), steps))


def assert_equal(one: list[ClipBatch], other: list[ClipBatch]) -> None:
    assert [batch.clip_ids for batch in one] == [batch.clip_ids for batch in other]
    for left, right in zip(one, other):
        for name in TENSORS:
            assert torch.equal(torch.nan_to_num(getattr(left, name), -1), torch.nan_to_num(getattr(right, name), -1)), (
                name
            )


def test_ranks_share_out_the_same_batches(shards: ShardSet) -> None:
    alone = take(shards, 7)
    for world in (2, 3):
        ranks = [take(shards, 7, rank=rank, world=world) for rank in range(world)]
        assert_equal(alone, [joined(parts) for parts in zip(*ranks)])


def test_workers_change_nothing(shards: ShardSet) -> None:
    state = torch.get_rng_state()
    assert_equal(take(shards, 7), take(shards, 7, workers=2))
    assert torch.equal(state, torch.get_rng_state()), "the training's random numbers are not touched"


def test_any_step_is_reached_at_once(shards: ShardSet) -> None:
    assert_equal(take(shards, 9)[5:], take(shards, 4, start_step=5))


def test_each_epoch_meets_each_clip_once_in_another_order(shards: ShardSet) -> None:
    clips = [clip_id for batch in take(shards, 9) for clip_id in batch.clip_ids]
    epochs = [clips[start : start + 18] for start in (0, 18, 36)]
    assert all(len(set(epoch)) == 18 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_windows_and_draws_change_with_epoch_and_seed(shards: ShardSet) -> None:
    draw = {}
    for seed in (1, 2):
        for step, batch in enumerate(take(shards, 6, seed=seed)):
            draw.update({(seed, step // 3, clip): int(value) for clip, value in zip(batch.clip_ids, batch.draw_B)})
    assert len(set(draw.values())) == len(draw)


def test_the_cut_into_tars_changes_nothing(shards: ShardSet, tmp_path: Path) -> None:
    write_hearts(tmp_path / "other", 22, shard_mb=5, seed=7, split_by="none")
    assert_equal(take(shards, 4), take(ShardSet.open(tmp_path / "other"), 4))


@pytest.mark.parametrize(
    ("options", "fix"),
    [({"batch": 64}, "batch of 20 or less"), ({"batch": 7, "world": 2}, "use 6"), ({"batch": 32, "world": 32}, "rank")],
)
def test_a_batch_that_cannot_be_made_names_the_number_to_use(shards: ShardSet, options: dict, fix: str) -> None:
    with pytest.raises(EchofmError, match=fix):
        take(shards, 1, **options)


def test_an_unknown_or_empty_split(shards: ShardSet) -> None:
    with pytest.raises(EchofmError, match="no split 'dev'"):
        shards.split("dev")
    with pytest.raises(EchofmError, match="0 clips"):
        next(train_batches(shards, split="val", frames=4, frame_rate_hz=50, batch=1, seed=0))


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_windows_are_those_of_the_clips_in_memory(shards: ShardSet, tmp_path: Path, workers: int) -> None:
    by_id = {clip.clip_id: clip for clip in map(read_heart, Hearts(tmp_path, 22).rows())}
    clips = [conform(by_id[record.clip_id], size=32, frame_rate_hz=50) for record in shards.records]
    options = {"frames": 12, "frame_rate_hz": 50.0, "windows_per_clip": 3, "batch": 8}
    from_shards = list(window_batches(shards, workers=workers, **options))
    assert_equal(from_shards, list(window_batches(clips, **options)))
    assert [len(batch) for batch in from_shards[:-1]] == [8] * (len(from_shards) - 1)
    counts = Counter(clip_id for batch in from_shards for clip_id in batch.clip_ids)
    assert list(counts) == [record.clip_id for record in shards.records] and set(counts.values()) == {3}


def test_evaluation_over_ranks_covers_every_clip_once(shards: ShardSet) -> None:
    options = {"frames": 12, "frame_rate_hz": 50.0, "batch": 5}
    ids = [
        [clip_id for batch in window_batches(shards, rank=rank, world=3, **options) for clip_id in batch.clip_ids]
        for rank in range(3)
    ]
    assert sorted(itertools.chain(*ids)) == sorted(record.clip_id for record in shards.records)


@given(st.lists(st.text("0123456789abcdef", min_size=4, max_size=4), unique=True, min_size=1), st.integers(0, 99))
def test_the_order_is_one_of_the_set_of_clips(ids: list[str], epoch: int) -> None:
    order = [ids[index] for index in epoch_order(ids, seed=0, epoch=epoch)]
    backwards = ids[::-1]
    assert order == [backwards[index] for index in epoch_order(backwards, seed=0, epoch=epoch)]
    assert sorted(order) == sorted(ids)


def test_draws_are_uniform_and_independent() -> None:
    keys, seeds, places = np.array([draws(0, 0, str(index)) for index in range(20_000)]).T
    assert np.histogram(places.astype(float), 10, (0, 1))[0] == pytest.approx(2000, abs=200)
    assert abs(np.corrcoef(places.astype(float), keys.astype(float))[0, 1]) < 0.03
    assert seeds.min() >= 0 and seeds.max() < 2**63
