"""The phantom's dense truth is right where it is made, and in batches from shards of another size and rate."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from echofm.clip import MYOCARDIUM, ClipBatch
from echofm.errors import EchofmError
from echofm.phantom import LayoutName, generate, render_clip
from echofm.readers import read_row
from echofm.readers.datasets import open_source
from echofm.shards.loader import train_batches, window_batches
from echofm.shards.read import ShardSet
from echofm.shards.write import write_shards

TRUTH = ("displacement", "velocity", "grey", "clean")


def warped(frame_HW: npt.NDArray, field_2HW: npt.NDArray) -> npt.NDArray:
    rows, columns = np.indices(frame_HW.shape).astype(np.float32)
    across, along = field_2HW.astype(np.float32)
    return cv2.remap(frame_HW.astype(np.float32), columns + across, rows + along, cv2.INTER_LINEAR)


def assert_explains(*clips: tuple[npt.NDArray, npt.NDArray, npt.NDArray]) -> None:
    """Frame t is the next one read where the field points: of each clip (clean_THW, field_T2HW, where_THW).

    Judged by the mean grey difference over that of two frames unmoved: less than with the same field shorter or longer.
    Not all is explained: the slice stays while tissue moves through it, so that speckle turns into other speckle.
    """
    left = {}
    for scale in (0.6, 1.0, 1.5):
        moved, still = [], []
        for clean_THW, field_T2HW, where_THW in clips:
            for here, following, field, where in zip(clean_THW, clean_THW[1:], field_T2HW, where_THW):
                moved.append(np.abs(warped(following, scale * field) - here)[where])
                still.append(np.abs(following.astype(float) - here)[where])
        left[scale] = np.concatenate(moved).mean() / np.concatenate(still).mean()
    assert min(left, key=left.__getitem__) == 1.0 and left[1.0] < 0.8, left


@pytest.mark.parametrize("view", ["A4C", "PSAX"])
def test_a_clean_frame_moved_by_the_displacement_is_the_next(view: str) -> None:
    clip = render_clip(3, view=view, frames=24, frame_rate_hz=25.0, truth=["clean"])
    wall = clip.pixels.mask_THW == MYOCARDIUM
    assert clip.pixels.clean_THW is not None and not clip.pixels.clean_THW[:, ~clip.sector_HW].any()
    assert_explains((clip.pixels.clean_THW, clip.pixels.displacement_T2HW, wall))


def test_velocity_is_the_change_of_distance_from_the_probe_over_time() -> None:
    clip = render_clip(3, view="A4C", frames=20, frame_rate_hz=50.0, truth=["velocity"])
    velocity, moved = clip.pixels.velocity_THW, clip.pixels.displacement_T2HW.astype(float)
    assert velocity is not None
    here = clip.sector.pixel_points()
    after = here + np.moveaxis(moved, 1, -1) * clip.sector.spacing_mm
    towards = (np.linalg.norm(here, axis=-1) - np.linalg.norm(after, axis=-1)) * 1e-3 * 50
    wall = clip.pixels.mask_THW[:-1] == MYOCARDIUM
    assert np.abs(velocity[:-1].astype(float) - towards)[wall].max() < 0.002
    assert np.abs(velocity).max() > 5 * np.abs(towards[wall]).max(), "jets of blood are faster than walls"
    assert not velocity[:, ~clip.sector_HW].any()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Colour and grey clips, 112 pixels at 50 Hz, as shards of 72 pixels at 25 Hz."""
    root = tmp_path_factory.mktemp("dense")
    options = {"frames": 40, "frame_rate_hz": 50.0, "colour_fraction": 0.5, "truth": TRUTH, "seed": 0}
    generate(root / "d", patients=2, views=("A4C",), processes=1, show_progress=False, **options)
    write_shards(
        open_source(root / "d"), root / "s", size=72, frame_rate_hz=25, channels=3, kinds=["all"], split_by="none"
    )
    return ShardSet.open(root / "s")


def batch_of(shards: ShardSet, *carry: str, **options: float) -> ClipBatch:
    wanted = {"frames": 10, "frame_rate_hz": 25.0, "batch": 4, "seed": 0, **options}
    return next(train_batches(shards, carry=carry, **wanted))


@pytest.mark.parametrize("rate_hz", [25.0, 12.5])
def test_it_explains_the_frames_of_a_batch_at_any_rate(shards: ShardSet, rate_hz: float) -> None:
    batch = batch_of(shards, "clean", "mask", "displacement", frames=8, frame_rate_hz=rate_hz)
    clips = []
    for clean, mask, field, valid in zip(
        batch.clean_BCTHW, batch.mask_BTHW, batch.displacement_px_BT2HW, batch.valid_BT
    ):
        n = int(valid.sum())
        assert np.isfinite(field.numpy()[: n - 1]).all() and np.isnan(field.numpy()[-1]).any()
        clips.append((clean.numpy()[0, :n], field.numpy()[: n - 1], mask.numpy()[:n] == MYOCARDIUM))
    assert_explains(*clips)


def test_what_a_batch_carries(shards: ShardSet) -> None:
    plain, batch = batch_of(shards), batch_of(shards, "labels", "view", "phase", "velocity", "clean")
    assert set(plain.held()) == {
        "video_BCTHW",
        "sector_BHW",
        "valid_BT",
        "frame_time_s_BT",
        "draw_B",
        "clip_ids",
        "patient_ids",
    }
    assert all(
        (getattr(batch, name) == value).all() if hasattr(value, "all") else getattr(batch, name) == value
        for name, value in plain.held().items()
        if name != "frame_time_s_BT"
    )
    assert batch.views == ["A4C"] * 4 and all(15 <= labels["ef_percent"] <= 80 for labels in batch.labels)
    assert batch.phase_BT.shape == (4, 10) and batch.velocity_m_per_s_BTHW.shape == (4, 10, 72, 72)
    part = batch[1:3].to("cpu")
    assert part.clean_BCTHW.shape == (2, 1, 10, 72, 72) and float(part.clean_BCTHW.max()) <= 1
    assert len(part.labels) == 2 and str(part.velocity_m_per_s_BTHW.dtype) == "torch.float32"


def test_shards_and_the_clips_in_them_carry_the_same(shards: ShardSet) -> None:
    wanted = {"frames": 6, "frame_rate_hz": 12.5, "windows_per_clip": 2, "batch": 3}
    carry = ("mask", "phase", "clean", "displacement", "velocity", "labels", "view")
    of_shards = list(window_batches(shards, carry=carry, **wanted))
    of_clips = list(window_batches(list(shards), carry=carry, **wanted))
    for one, other in zip(of_shards, of_clips, strict=True):
        for name, value in one.held().items():
            same = getattr(other, name)
            equal = np.array_equal(value, same, equal_nan=True) if name.split("_")[-1][0] == "B" else value == same
            assert equal, name


def test_colour_and_grey_of_one_moment(shards: ShardSet) -> None:
    with pytest.raises(EchofmError, match="of 4 clips in the shards hold no paired"):
        batch_of(shards, "paired")
    colour = [clip for clip in shards if clip.kind == "colour_doppler"]
    assert 0 < len(colour) < 4
    for clip in colour:
        (batch,) = window_batches(
            [clip], frames=8, frame_rate_hz=25, windows_per_clip=1, batch=1, carry=["paired", "velocity"]
        )
        video, grey = batch.video_BCTHW.numpy()[0].astype(int), batch.paired_BCTHW.numpy()[0, 0].astype(int)
        uncoloured = np.ptp(video, axis=0) < 8
        assert 0.5 < uncoloured.mean() < 1 and np.abs(video.mean(0) - grey)[uncoloured].mean() < 3
        assert np.abs(batch.velocity_m_per_s_BTHW.numpy()).max() > 0.2


@pytest.mark.parametrize("layout", ["camus", "dicom", "echonet-pediatric"])
def test_every_layout_holds_it(tmp_path: Path, layout: LayoutName) -> None:
    wanted = {"frames": 24, "frame_rate_hz": 20.0, "size": 96, "truth": TRUTH}
    generate(tmp_path / "d", layout=layout, patients=1, processes=1, show_progress=False, **wanted)
    clips = [read_row(row) for row in open_source(tmp_path / "d").rows()]
    for clip in clips:
        assert clip.displacement_px_T2HW is not None and clip.velocity_m_per_s_THW is not None
        assert clip.clean_TCHW is not None and clip.paired_TCHW is None and clip.mask_THW is not None
    walls = [(clip.mask_THW == MYOCARDIUM) & clip.sector_HW for clip in clips]
    assert_explains(*((c.clean_TCHW[:, 0], c.displacement_px_T2HW[:-1], wall) for c, wall in zip(clips, walls)))


def test_names_that_are_none(shards: ShardSet) -> None:
    with pytest.raises(EchofmError, match="cannot carry 'strain'; it can labels, view"):
        batch_of(shards, "strain")
