"""NIfTI, MetaImage and stills: axes, scales, units, and headers that claim what the file does not hold."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hearts import beating_heart
from PIL import Image

from echofm import read_clip
from echofm.errors import UnreadableFile
from echofm.readers import Limits

FRAMES, _ = beating_heart(frames=12)


def write_nifti(path: Path, values_THW: np.ndarray, *, zooms: tuple[float, ...] = (0.3, 0.3, 1.0)) -> Path:
    image = nibabel.Nifti1Image(np.ascontiguousarray(values_THW.transpose(2, 1, 0)), np.eye(4))
    image.header.set_zooms(zooms)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def write_mhd(folder: Path, frames: np.ndarray, **changes: str) -> Path:
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "DimSize": f"{frames.shape[2]} {frames.shape[1]} {frames.shape[0]}",
        "ElementSpacing": "0.3 0.3 1",
        "ElementType": "MET_UCHAR",
        "ElementDataFile": "heart.raw",
    } | changes
    (folder / "heart.raw").write_bytes(frames.tobytes())
    path = folder / "heart.mhd"
    path.write_text("\n".join(f"{name} = {value}" for name, value in fields.items()))
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_nifti_axes_are_columns_rows_time(tmp_path: Path, suffix: str, dtype: type) -> None:
    clip = read_clip(write_nifti(tmp_path / f"x{suffix}", FRAMES.astype(dtype)))
    assert (clip.frames_TCHW[:, 0] == FRAMES * clip.sector_HW).all()
    assert clip.sector_HW.mean() > 0.5
    assert clip.pixel_spacing_mm == pytest.approx((0.3, 0.3))
    assert clip.frame_time_s is None and clip.frame_rate_hz is None


def test_a_fourth_axis_carries_the_time(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(FRAMES.transpose(2, 1, 0)[:, :, None], np.eye(4))
    image.header.set_zooms((0.3, 0.3, 1.0, 0.02))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, tmp_path / "x.nii")
    clip = read_clip(tmp_path / "x.nii")
    assert clip.frame_rate_hz == pytest.approx(50)


def test_values_beyond_a_byte_are_scaled_once_for_the_clip(tmp_path: Path) -> None:
    values = FRAMES.astype(np.int16) * 16 - 100
    clip = read_clip(write_nifti(tmp_path / "x.nii", values))
    expected = np.rint((values - values.min()) * (255 / np.ptp(values.astype(int))))
    assert (clip.frames_TCHW[:, 0] == expected * clip.sector_HW).all()


def test_metaimage_reads_like_nifti(tmp_path: Path) -> None:
    clip = read_clip(write_mhd(tmp_path, FRAMES))
    assert (clip.frames_TCHW[:, 0] == FRAMES * clip.sector_HW).all()
    assert clip.pixel_spacing_mm == (0.3, 0.3)


def test_the_clip_id_covers_the_pixels_beside_the_header(tmp_path: Path) -> None:
    one = read_clip(write_mhd(tmp_path, FRAMES)).clip_id
    other = read_clip(write_mhd(tmp_path, FRAMES[::-1])).clip_id
    assert one != other


@pytest.mark.parametrize(
    "changes",
    [
        {"ElementDataFile": "../heart.raw"},
        {"ElementDataFile": "/etc/passwd"},
        {"ElementDataFile": "LIST"},
        {"ElementDataFile": ""},
        {"DimSize": "112 112 999999999"},
        {"DimSize": "112 112 13"},
        {"DimSize": "112 -112 12"},
        {"DimSize": "x"},
        {"ElementType": "MET_STRING"},
        {"ElementNumberOfChannels": "7"},
        {"CompressedData": "True"},
    ],
)
def test_a_wrong_metaimage_header_is_a_reason(tmp_path: Path, changes: dict[str, str]) -> None:
    path = write_mhd(tmp_path, FRAMES, **changes)
    with pytest.raises(UnreadableFile) as caught:
        read_clip(path)
    assert "heart" not in str(caught.value) and "fault" not in caught.value.reason


@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_a_still_is_a_clip_of_one_frame(tmp_path: Path, name: str) -> None:
    Image.fromarray(FRAMES[0]).save(tmp_path / name, quality=95)
    clip = read_clip(tmp_path / name)
    assert clip.frames_TCHW.shape == (1, 1, 112, 112) and clip.kind == "still"
    inside = clip.frames_TCHW[0, 0][clip.sector_HW].astype(int) - FRAMES[0][clip.sector_HW]
    assert np.abs(inside).mean() < 3 and clip.sector_HW.mean() > 0.5


def test_a_volume_that_unpacks_to_more_than_it_claims_costs_what_it_claims(tmp_path: Path) -> None:
    packed = gzip.compress((tmp_path / write_nifti(tmp_path / "x.nii", FRAMES).name).read_bytes() + bytes(50_000_000))
    (tmp_path / "bomb.nii.gz").write_bytes(packed)
    assert len(read_clip(tmp_path / "bomb.nii.gz").frames_TCHW) == 12
    with pytest.raises(UnreadableFile, match="--max-clip-mb"):
        read_clip(tmp_path / "bomb.nii.gz", limits=Limits(max_clip_mb=0.1))
