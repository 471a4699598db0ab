"""Latents in place of pixels: the same clips, windows, draws and labels, and no command mistakes them for pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from shardfolder import write_hearts

from echofm.cli import main as echofm
from echofm.clip import Clip
from echofm.errors import EchofmError
from echofm.shards.latents import channel_statistics, write_latents
from echofm.shards.loader import train_batches, window_batches
from echofm.shards.manifest import Latents
from echofm.shards.read import ShardSet

SCALE = 4


def encode(clip: Clip) -> npt.NDArray[np.float64]:
    """Mean and spread of each 4 x 4 pixels: a codec of two channels."""
    frames, _, height, width = clip.frames_TCHW.shape
    cells = clip.frames_TCHW[:, 0].reshape(frames, height // SCALE, SCALE, width // SCALE, SCALE)
    return np.stack([cells.mean((2, 4)), cells.std((2, 4))], 1)


def described(shards: ShardSet, **changes: object) -> Latents:
    mean_C, std_C = channel_statistics(shards.split("train"), encode)
    return Latents(**{"codec_digest": "ab" * 32, "scale": SCALE, "mean_C": mean_C, "std_C": std_C} | changes)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShardSet, ShardSet]:
    """Pixels, and the latents made from them."""
    root = tmp_path_factory.mktemp("latents")
    write_hearts(root / "pixels", 24, shard_mb=0.2, fractions=(0.5, 0.25, 0.25))
    pixels = ShardSet.open(root / "pixels")
    written = write_latents(pixels, root / "latents", encode=encode, latents=described(pixels), show_progress=False)
    latents = ShardSet.open(root / "latents", latents=True)
    assert latents.manifest == written
    return pixels, latents


def test_batches_are_those_of_the_pixels_but_for_the_video(pair: tuple[ShardSet, ShardSet]) -> None:
    wanted = {"frames": 8, "frame_rate_hz": 25.0, "batch": 4, "seed": 3, "carry": ["labels", "view", "phase", "mask"]}
    by_id = {clip.clip_id: encode(clip) for clip in pair[0]}
    known = pair[1].manifest.latents
    mean, std = (np.array(each)[:, None, None] for each in (known.mean_C, known.std_C))
    for _, pixels, latents in zip(range(3), *(train_batches(shards, **wanted) for shards in pair)):
        assert latents.video_BCTHW.shape == (4, 2, 8, 8, 8) and latents.video_BCTHW.dtype == torch.float16
        assert latents.to("cpu").video_BCTHW.dtype == torch.float32
        for name, value in pixels.held().items():
            if name != "video_BCTHW":
                same = getattr(latents, name)
                assert np.array_equal(value, same, equal_nan=True) if "_B" in name else value == same, name
        for clip_id, stored, frames in zip(latents.clip_ids, latents.video_BCTHW, pixels.video_BCTHW):
            cells = frames[0].numpy().reshape(8, 8, SCALE, 8, SCALE)
            shown = np.stack([cells.mean((2, 4)), cells.std((2, 4))])
            back = stored.numpy().astype(float) * std[:, None] + mean[:, None]
            assert np.abs(back - shown).max() < 0.2 and by_id[clip_id].shape[1:] == (2, 8, 8)
    every = torch.cat([b.video_BCTHW for b in window_batches(pair[1].split("train"), **EVERY)]).float()
    assert every.mean((0, 2, 3, 4)).abs().max() < 0.1 and (every.std((0, 2, 3, 4)) - 1).abs().max() < 0.1


EVERY = {"frames": 16, "frame_rate_hz": None, "windows_per_clip": None, "batch": 8}


def test_an_interrupted_run_ends_with_the_same_bytes(pair: tuple[ShardSet, ShardSet], tmp_path: Path) -> None:
    count = 0

    def dies(clip: Clip) -> npt.NDArray[np.float64]:
        nonlocal count
        count += 1
        if count == 9:
            raise KeyboardInterrupt
        return encode(clip)

    latents = pair[1].manifest.latents
    with pytest.raises(KeyboardInterrupt):
        write_latents(pair[0], tmp_path / "l", encode=dies, latents=latents, show_progress=False)
    assert not (tmp_path / "l").exists()
    other = latents.model_copy(update={"codec_digest": "cd" * 32})
    with pytest.raises(EchofmError, match="other data or other settings"):
        write_latents(pair[0], tmp_path / "l", encode=encode, latents=other, show_progress=False)
    write_latents(pair[0], tmp_path / "l", encode=dies, latents=latents, show_progress=False)
    assert count == 9 + len(pair[0]) - 8, "clips that are written are not encoded again"
    names = sorted(path.name for path in pair[1].folder.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "l").iterdir())
    assert all((tmp_path / "l" / name).read_bytes() == (pair[1].folder / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("changes", "codec", "reason"),
    [
        ({"scale": 8}, encode, "by its scale and channels they are"),
        ({"mean_C": (0.0,), "std_C": (1.0,)}, encode, "by its scale and channels they are"),
        ({"std_C": (1e-9, 1.0)}, encode, "not finite in float16"),
        ({}, lambda clip: encode(clip) * np.nan, "not finite in float16"),
    ],
)
def test_a_codec_that_does_not_fit(
    pair: tuple[ShardSet, ShardSet], tmp_path: Path, changes: dict, codec: object, reason: str
) -> None:
    latents = described(pair[0], **changes)
    with pytest.raises(EchofmError, match=reason):
        write_latents(pair[0], tmp_path / "l", encode=codec, latents=latents, show_progress=False)


def test_pixels_and_latents_are_not_mistaken(
    pair: tuple[ShardSet, ShardSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EchofmError, match="hold pixels, not latents"):
        ShardSet.open(pair[0].folder, latents=True)
    folder = str(pair[1].folder)
    out = f"--out={tmp_path / 'out'}"
    commands = (
        ["embed", "pixels", folder, str(tmp_path / "table")],
        ["probe", "pixels", "--data", folder, "--target", "ef_percent", out],
        ["audit", *(f"--{part}={folder}" for part in ("train", "holdout", "synthetic")), "--encoder=pixels", out],
        ["pretrain", "demo", "--data", folder, out],
    )
    for command in commands:
        assert echofm(command) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "hold latents of codec abababababab, not pixels" in line


def test_a_channel_that_never_changes_is_refused(pair: tuple[ShardSet, ShardSet]) -> None:
    def dead(clip: Clip) -> npt.NDArray[np.float64]:
        latents_TChw = encode(clip)
        latents_TChw[:, 1] = 1 / 3
        return latents_TChw

    with pytest.raises(EchofmError, match="the same everywhere"):
        channel_statistics(pair[0], dead)
