"""Bytes changed, cut or repeated at random in every format: a clip or a reason, nothing else."""

from __future__ import annotations

import functools
import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
from broken_files import FRAMES, dicom, jpeg, mhd, nifti, video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000, JPEGBaseline8Bit, RLELossless

from echofm import read_clip
from echofm.clip import Clip
from echofm.errors import UnreadableFile
from echofm.ids import IdKey
from echofm.readers import Limits

KEY = IdKey(b"0123456789abcdef")
COLOUR = {"PhotometricInterpretation": "YBR_FULL_422", "SamplesPerPixel": 3, "PlanarConfiguration": 0}


@functools.cache
def samples() -> dict[str, bytes]:
    """One good file of each format. No fixture: hypothesis would print it with every failure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = {
            "x.avi": video(folder),
            "x.mp4": video(folder, ".mp4", "mpeg4"),
            "x.mkv": video(folder, ".mkv", "mpeg4"),
        }
    rgb = [jpeg(np.repeat(frame[..., None], 3, axis=2)) for frame in FRAMES]
    return videos | {
        "native.dcm": dicom(CineRate=50),
        "jpeg.dcm": dicom(syntax=JPEGBaseline8Bit, pixels=encapsulate(rgb), **COLOUR),
        "jpeg2000.dcm": dicom(syntax=JPEG2000, pixels=encapsulate([jpeg(frame, "JPEG2000") for frame in FRAMES])),
        "rle.dcm": dicom(syntax=RLELossless, pixels=encapsulate([b"\1" + bytes(200)] * 8)),
        "x.nii": nifti(),
        "x.nii.gz": gzip.compress(nifti()),
        "x.mhd": mhd(ElementDataFile="x.raw"),
        "x.png": jpeg(FRAMES[0], "PNG"),
    }


def damage(content: bytes, places: list[tuple[float, int]], cut: float, early: bool) -> bytes:
    """Bytes overwritten (in the first KB, where headers are, if early), then the end cut off."""
    damaged = bytearray(content)
    reach = min(len(damaged), 1024) if early else len(damaged)
    for where, value in places:
        damaged[int(where * (reach - 1))] = value
    return bytes(damaged[: int(len(damaged) * cut)])


FUZZ = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
DAMAGE = {
    "places": st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    "cut": st.one_of(st.just(1.0), st.floats(0, 1)),
    "early": st.booleans(),
}
NAMES = [
    "x.avi",
    "x.mp4",
    "x.mkv",
    "native.dcm",
    "jpeg.dcm",
    "jpeg2000.dcm",
    "rle.dcm",
    "x.nii",
    "x.nii.gz",
    "x.mhd",
    "x.png",
]


def check(name: str, content: bytes, folder: Path) -> None:
    path = folder / name
    path.write_bytes(content)
    (folder / "x.raw").write_bytes(FRAMES.tobytes())
    try:
        clip = read_clip(path, key=KEY, limits=Limits(max_clip_mb=64))
    except UnreadableFile as error:
        reason = error.reason
    else:
        assert isinstance(clip, Clip) and not clip.frames_TCHW[:, :, ~clip.sector_HW].any()
        return
    assert reason and "\n" not in reason and str(folder) not in reason and "Doe" not in reason


@pytest.mark.parametrize("name", NAMES)
@FUZZ
@given(**DAMAGE)
def test_damage_is_a_clip_or_a_reason(
    name: str, tmp_path: Path, places: list[tuple[float, int]], cut: float, early: bool
) -> None:
    check(name, damage(samples()[name], places, cut, early), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(FUZZ, max_examples=120)
@given(**DAMAGE)
def test_much_damage_is_a_clip_or_a_reason(
    name: str, tmp_path: Path, places: list[tuple[float, int]], cut: float, early: bool
) -> None:
    check(name, damage(samples()[name], places, cut, early), tmp_path)
