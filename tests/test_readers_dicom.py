"""Ultrasound DICOM: what leaves the reader, and in which units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from echofm import read_clip
from echofm.ids import IdKey

KEY = IdKey(b"0123456789abcdef")
CINE = Path(str(get_testdata_file("color3d_jpeg_baseline.dcm")))


def test_the_four_chamber_cine() -> None:
    clip = read_clip(CINE, key=KEY)
    assert clip.frames_TCHW.shape == (120, 1, 480, 640)
    assert clip.frame_rate_hz == pytest.approx(1000 / 33.333, rel=1e-4)
    assert clip.pixel_spacing_mm == pytest.approx((0.5104970, 0.5104970), rel=1e-6)
    assert clip.kind == "bmode"
    assert clip.patient_id == KEY.patient(pydicom.dcmread(CINE, stop_before_pixels=True).PatientID)
    assert not clip.frames_TCHW[:, :, ~clip.sector_HW].any()
    assert 0.3 < clip.sector_HW.mean() < 0.4
    # The scanner's burned-in texts: top left, right margin, depth at the bottom right, tool bar.
    assert not clip.sector_HW[:60, :80].any() and not clip.sector_HW[:, 600:].any() and not clip.sector_HW[405:].any()


def test_regions_of_another_size_than_the_image_are_not_believed() -> None:
    clip = read_clip(str(get_testdata_file("examples_ybr_color.dcm")), key=KEY)
    assert clip.frames_TCHW.shape == (30, 1, 240, 320)
    assert clip.pixel_spacing_mm is None
    assert not clip.sector_HW[:30, :40].any() and not clip.sector_HW[:, 300:].any() and not clip.sector_HW[205:].any()
    assert np.flatnonzero(clip.sector_HW.any(axis=1))[0] < 30
