"""conform: size, rate and channels against plain references, and what must hold for any clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from echofm import Clip, EchofmError
from echofm.conform import conform, grey_bt601


def make_clip(seed: int, *, frames: int = 6, height: int = 40, width: int = 56, channels: int = 1) -> Clip:
    """Noise inside a rectangular sector that leaves a border on each side."""
    rng = np.random.default_rng(seed)
    top, bottom = sorted(rng.choice(height + 1, 2, replace=False))
    left, right = sorted(rng.choice(width + 1, 2, replace=False))
    sector = np.zeros((height, width), bool)
    sector[top:bottom, left:right] = True
    mask = rng.integers(0, 4, (frames, height, width), dtype=np.uint8)
    mask[1:] = 255
    return Clip(
        frames_TCHW=rng.integers(1, 256, (frames, channels, height, width), dtype=np.uint8) * sector,
        sector_HW=sector,
        frame_time_s=np.cumsum(rng.uniform(0.01, 0.05, frames)),
        phase_T=(np.arange(frames) / frames).astype(np.float32),
        mask_THW=mask,
        pixel_spacing_mm=(0.5, 0.4),
        clip_id="c",
        patient_id="p",
        labels={"ef_percent": 55.0},
    )


clips = st.builds(
    make_clip,
    st.integers(0, 2**32 - 1),
    frames=st.integers(1, 8),
    height=st.integers(2, 60),
    width=st.integers(2, 60),
    channels=st.sampled_from([1, 3]),
)


@settings(deadline=None)
@given(clips, st.integers(1, 48), st.floats(10, 90), st.sampled_from([1, 3]))
def test_what_holds_for_any_clip(clip: Clip, size: int, rate: float, channels: int) -> None:
    done = conform(clip, size=size, frame_rate_hz=rate, channels=channels)
    assert done.frames_TCHW.shape == (len(done.frames_TCHW), channels, size, size)
    assert not done.frames_TCHW[:, :, ~done.sector_HW].any(), "zero outside the sector in every frame"
    assert done.sector_HW.any()
    assert np.allclose(done.frame_time_s, np.arange(len(done.frames_TCHW)) / rate)
    length_s = clip.frame_time_s[-1] - clip.frame_time_s[0]
    assert abs(done.frame_time_s[-1] - length_s) <= 1 / rate + 1e-9
    assert set(np.unique(done.phase_T)) <= set(clip.phase_T)
    assert set(np.unique(done.mask_THW)) <= {0, 1, 2, 3, 255}
    assert (done.clip_id, done.patient_id, done.labels) == (clip.clip_id, clip.patient_id, clip.labels)
    again = conform(done, size=size, frame_rate_hz=rate, channels=channels)
    for name in ("frames_TCHW", "sector_HW", "frame_time_s", "phase_T", "mask_THW"):
        assert np.array_equal(getattr(again, name), getattr(done, name)), name


@given(clips)
def test_nothing_asked_nothing_changed(clip: Clip) -> None:
    done = conform(clip)
    assert all(getattr(done, name) is getattr(clip, name) for name in ("frames_TCHW", "sector_HW", "frame_time_s"))


@pytest.mark.parametrize(("height", "width"), [(96, 96), (150, 90), (41, 97)])
def test_resizing_is_torchs_antialiased_bilinear_of_the_padded_square(height: int, width: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 1, height, width), dtype=np.uint8)
    clip = Clip(frames_TCHW=frames, sector_HW=np.ones((height, width), bool), clip_id="c", patient_id="p")
    side = max(height, width)
    padded = np.zeros((2, 1, side, side), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    padded[:, :, top : top + height, left : left + width] = frames
    expected = torch.nn.functional.interpolate(torch.from_numpy(padded), (64, 64), mode="bilinear", antialias=True)
    difference = np.abs(conform(clip, size=64).frames_TCHW - expected.numpy())
    assert difference.max() <= 1.5  # Pillow rounds to bytes after each of its two passes.


def test_the_sectors_box_fills_the_longer_side_and_spacing_follows() -> None:
    sector = np.zeros((60, 100), bool)
    sector[10:50, 20:40] = True
    clip = Clip(
        frames_TCHW=np.full((1, 1, 60, 100), 200, np.uint8) * sector,
        sector_HW=sector,
        pixel_spacing_mm=(0.3, 0.3),
        clip_id="c",
        patient_id="p",
    )
    done = conform(clip, size=20)
    assert done.pixel_spacing_mm == pytest.approx((0.6, 0.6))
    assert np.array_equal(done.frames_TCHW[0, 0] > 0, done.sector_HW)
    # The filter's support softens the edge by less than a pixel on each side.
    assert done.sector_HW[:, 5:15].all() and done.sector_HW.sum() == 20 * 12


def test_masks_keep_their_classes_and_what_is_not_annotated() -> None:
    clip = make_clip(3, height=30, width=80)
    done = conform(clip, size=25)
    assert (done.mask_THW[1:] == 255).all(), "a frame without annotation stays without, the padding too"
    assert (done.mask_THW[0] != 255).all()


def test_frames_are_the_nearest_in_time_never_blended() -> None:
    frames = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1) * np.ones((1, 1, 4, 4), np.uint8)
    clip = Clip(
        frames_TCHW=frames,
        sector_HW=np.ones((4, 4), bool),
        frame_time_s=5.0 + np.arange(10) / 30,
        clip_id="c",
        patient_id="p",
    )
    assert conform(clip, frame_rate_hz=10).frames_TCHW[:, 0, 0, 0].tolist() == [0, 3, 6, 9]
    assert conform(clip, frame_rate_hz=60).frames_TCHW[:, 0, 0, 0].tolist()[:5] == [0, 1, 1, 2, 2]
    unknown = clip.replace(frame_time_s=None)
    assert conform(unknown, frame_rate_hz=10).frames_TCHW is frames


def test_grey_is_pillows_luma() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 3, 17, 19), dtype=np.uint8)
    for frame, grey in zip(frames, grey_bt601(frames)):
        assert np.array_equal(grey[0], np.asarray(Image.fromarray(frame.transpose(1, 2, 0)).convert("L")))


def test_an_empty_sector_keeps_the_whole_image() -> None:
    clip = make_clip(0).replace(sector_HW=np.zeros((40, 56), bool), frames_TCHW=np.zeros((6, 1, 40, 56), np.uint8))
    assert conform(clip, size=16).frames_TCHW.shape == (6, 1, 16, 16)


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"frame_rate_hz": 0.0}, {"frame_rate_hz": float("nan")}, {"channels": 2}]
)
def test_impossible_requests(wrong: dict) -> None:
    with pytest.raises(EchofmError):
        conform(make_clip(0), **wrong)
