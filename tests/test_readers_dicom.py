"""Ultrasound DICOM: every way of storing pixels, frame times in their order, scale, kind, and no tag that leaves."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from broken_files import FRAMES, dicom, jpeg
from hearts import beating_heart
from PIL import Image
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_windowing
from pydicom.uid import JPEG2000, JPEGBaseline8Bit, RLELossless

from echofm import read_clip
from echofm.errors import UnreadableFile
from echofm.ids import IdKey
from echofm.readers import Limits, dicom_pixels
from echofm.readers.decoded import Decoded
from echofm.readers.dicom import decode_dicom
from echofm.readers.refused import Refused

KEY = IdKey(b"0123456789abcdef")
HEART, _ = beating_heart(frames=8)


def path_of(name: str) -> Path:
    return Path(str(get_testdata_file(name)))


def decode(content: bytes | str, channels: int = 1) -> Decoded:
    data = path_of(content).read_bytes() if isinstance(content, str) else content
    return decode_dicom(io.BytesIO(data), channels=channels, limits=Limits())


@pytest.fixture
def any_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels are tested on objects of other kinds, too."""
    monkeypatch.setattr("echofm.readers.dicom.check_object", lambda _: None)


def region(**tags: object) -> Dataset:
    made = Dataset()
    box = {"MinX0": 0, "MinY0": 0, "MaxX1": 111, "MaxY1": 111}
    for name, value in {"RegionSpatialFormat": 1, "RegionDataType": 1, **tags}.items():
        setattr(made, name, value)
    for name, value in box.items():
        setattr(made, "RegionLocation" + name, value)
    return made


def test_the_four_chamber_cine() -> None:
    path = path_of("color3d_jpeg_baseline.dcm")
    clip = read_clip(path, key=KEY)
    assert clip.frames_TCHW.shape == (120, 1, 480, 640)
    assert clip.frame_rate_hz == pytest.approx(1000 / 33.333, rel=1e-4)
    assert clip.pixel_spacing_mm == pytest.approx((0.5104970, 0.5104970), rel=1e-6)
    assert clip.kind == "bmode"
    assert clip.patient_id == KEY.patient(pydicom.dcmread(path, stop_before_pixels=True).PatientID)
    assert not clip.frames_TCHW[:, :, ~clip.sector_HW].any()
    assert 0.3 < clip.sector_HW.mean() < 0.4
    # The scanner's burned-in texts: top left, right margin, depth at the bottom right, tool bar.
    assert not clip.sector_HW[:60, :80].any() and not clip.sector_HW[:, 600:].any() and not clip.sector_HW[405:].any()


def test_regions_of_another_size_than_the_image_are_not_believed() -> None:
    clip = read_clip(path_of("examples_ybr_color.dcm"), key=KEY)
    assert clip.frames_TCHW.shape == (30, 1, 240, 320)
    assert clip.pixel_spacing_mm is None
    assert not clip.sector_HW[:30, :40].any() and not clip.sector_HW[:, 300:].any() and not clip.sector_HW[205:].any()
    assert np.flatnonzero(clip.sector_HW.any(axis=1))[0] < 30


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb.dcm",
        "SC_rgb_2frame.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_rle_2frame.dcm",
        "SC_rgb_expb_2frame.dcm",
        "SC_ybr_full_uncompressed.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_dcmtk_+eb+cy+s2.dcm",
        "SC_jpeg_no_color_transform.dcm",
        "SC_rgb_jpeg_app14_dcmd.dcm",
        "US1_J2KR.dcm",
        "US1_J2KI.dcm",
        "US1_UNCR.dcm",
        "examples_rgb_color.dcm",
        "examples_ybr_color.dcm",
    ],
)
def test_colour_equals_pydicoms(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.dcmread(path_of(name)).pixel_array
    theirs = theirs if theirs.ndim == 4 else theirs[None]
    ours = np.moveaxis(decode(name, channels=3).frames_TCHW, 1, 3)
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("name", ["examples_palette.dcm", "OBXXXX1A_rle_2frame.dcm"])
def test_palettes_become_their_colours(name: str) -> None:
    data_set = pydicom.dcmread(path_of(name))
    theirs = apply_color_lut(data_set.pixel_array, data_set)
    theirs = (theirs >> 8 if theirs.dtype == np.uint16 else theirs).reshape(-1, data_set.Rows, data_set.Columns, 3)
    assert (np.moveaxis(decode(name, channels=3).frames_TCHW, 1, 3) == theirs).all()


@pytest.mark.parametrize("name", ["emri_small.dcm", "emri_small_RLE.dcm", "emri_small_big_endian.dcm"])
@pytest.mark.usefixtures("any_object")
def test_sixteen_bits_are_scaled_once_for_the_whole_clip(name: str) -> None:
    values = pydicom.dcmread(path_of(name)).pixel_array.astype(float)
    expected = np.rint((values - values.min()) * (255 / np.ptp(values)))
    assert (decode(name).frames_TCHW[:, 0] == expected).all()


def test_signed_values_go_through_rescale_and_window() -> None:
    values = (HEART.astype(np.int16) - 100) * 20
    content = dicom(
        pixels=values.tobytes(), BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=1,
        RescaleSlope=0.5, RescaleIntercept=-10, WindowCenter=100, WindowWidth=800,
    )  # fmt: skip
    data_set = pydicom.dcmread(io.BytesIO(content))
    shown = apply_windowing(apply_modality_lut(values, data_set), data_set)
    every = np.arange(-32768, 32768).astype(np.int16)
    whole = apply_windowing(apply_modality_lut(every, data_set), data_set)
    expected = (shown - whole.min()) * 255 / np.ptp(whole)
    assert np.abs(decode(content).frames_TCHW[:, 0] - expected).max() <= 0.5001


@pytest.mark.parametrize(
    "empty",
    [
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowWidth": "100"},
        {"WindowCenter": " ", "WindowWidth": "100"},
        {"VOILUTSequence": []},
        {"VOILUTSequence": [Dataset()]},
        {"RescaleSlope": "", "RescaleIntercept": ""},
        {"RescaleSlope": "", "RescaleIntercept": "5"},
    ],
    ids=str,
)
def test_empty_grey_tags_count_as_absent(empty: dict[str, object]) -> None:
    wide = {"pixels": (HEART.astype(np.uint16) * 16).tobytes(), "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    without = decode(dicom(**wide)).frames_TCHW
    assert without.min() == 0 and without.max() == 255
    assert (decode(dicom(**wide, **empty)).frames_TCHW == without).all()


def test_monochrome1_is_turned_so_that_echo_is_bright() -> None:
    content = dicom(pixels=(255 - HEART).tobytes(), PhotometricInterpretation="MONOCHROME1")
    assert (decode(content).frames_TCHW[:, 0] == HEART).all()


@pytest.mark.parametrize(("syntax", "form"), [(JPEGBaseline8Bit, "JPEG"), (JPEG2000, "JPEG2000")])
def test_compressed_grey(syntax: str, form: str) -> None:
    content = dicom(syntax=syntax, pixels=encapsulate([jpeg(frame, form) for frame in HEART]))
    decoded = decode(content).frames_TCHW[:, 0]
    for ours, frame in zip(decoded, HEART):
        assert (ours == np.asarray(Image.open(io.BytesIO(jpeg(frame, form))))).all()


def test_rle_of_a_cine() -> None:
    data_set = pydicom.dcmread(io.BytesIO(dicom()))
    data_set.compress(RLELossless)
    buffer = io.BytesIO()
    data_set.save_as(buffer)
    assert (decode(buffer.getvalue()).frames_TCHW[:, 0] == FRAMES).all()


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"FrameTimeVector": [0, 20, 30, 20, 30, 20, 30, 20], "FrameTime": 5}, [0, 20, 50, 70, 100, 120, 150, 170]),
        ({"FrameTimeVector": [0, 20], "FrameTime": 25, "CineRate": 1}, range(0, 200, 25)),
        ({"FrameTimeVector": [0, 20, -5, 20, 30, 20, 30, 20], "CineRate": 100}, range(0, 80, 10)),
        ({"FrameTime": 0, "CineRate": 50, "RecommendedDisplayFrameRate": 10}, range(0, 160, 20)),
        ({"RecommendedDisplayFrameRate": 40}, range(0, 200, 25)),
        ({"CineRate": 0}, None),
        ({"FrameTime": "0.02"}, None),
        ({"FrameTime": "0.02", "CineRate": 50}, range(0, 160, 20)),
        ({"FrameTime": 2000, "CineRate": 5000, "RecommendedDisplayFrameRate": 40}, range(0, 200, 25)),
        ({"FrameTimeVector": [0, *[0.02] * 7], "FrameTime": 25}, range(0, 200, 25)),
        ({"FrameTime": 1}, range(8)),
        ({"FrameTime": 1000}, range(0, 8000, 1000)),
        ({}, None),
    ],
)
def test_frame_times_come_from_the_first_tag_that_tells(tags: dict[str, object], expected: list[int] | None) -> None:
    found = decode(dicom(**tags)).frame_time_s
    if expected is None:
        assert found is None
    else:
        assert found is not None and found == pytest.approx(np.array(list(expected)) / 1000)


def test_spacing_of_a_region_is_in_centimetres_and_goes_before_pixel_spacing() -> None:
    scaled = region(PhysicalUnitsXDirection=3, PhysicalUnitsYDirection=3, PhysicalDeltaX=0.02, PhysicalDeltaY=-0.03)
    both = dicom(SequenceOfUltrasoundRegions=[scaled], PixelSpacing=[1, 1])
    assert decode(both).pixel_spacing_mm == pytest.approx((0.3, 0.2))
    assert decode(dicom(PixelSpacing=[0.4, 0.5])).pixel_spacing_mm == (0.4, 0.5)
    assert decode(dicom(PixelSpacing=[0, 0.5])).pixel_spacing_mm is None


def test_kinds() -> None:
    flow, trace = region(RegionDataType=2), region(RegionDataType=3, RegionSpatialFormat=3)
    assert decode(dicom(SequenceOfUltrasoundRegions=[region()])).kind is None
    assert decode(dicom(SequenceOfUltrasoundRegions=[region(), flow])).kind == "colour_doppler"
    assert decode(dicom(SequenceOfUltrasoundRegions=[region(), trace])).kind == "spectral"
    assert decode(dicom(SequenceOfUltrasoundRegions=[region(), region(RegionSpatialFormat=2)])).kind == "m_mode"
    flow_still = dicom(NumberOfFrames=1, pixels=HEART[0].tobytes(), SequenceOfUltrasoundRegions=[region(), flow])
    assert decode(flow_still).kind == "colour_still"


def test_more_frames_than_announced_are_not_dropped_in_silence(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(dicom(NumberOfFrames=3))
    with pytest.raises(UnreadableFile, match="more frames than the 3 announced"):
        read_clip(tmp_path / "x.dcm")


def test_pydicom_neither_warns_nor_logs_a_tag(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = dicom(SOPInstanceUID="1.2.3").replace(b"Doe^Jane", b"Doe\\Jane").replace(b"1.2.3\0", b"J.Doe\0")
    (tmp_path / "x.dcm").write_bytes(content)
    with warnings.catch_warnings(), caplog.at_level("DEBUG"):
        warnings.simplefilter("error")
        read_clip(tmp_path / "x.dcm")
        with pytest.raises(UnreadableFile):
            read_clip(path_of("badVR.dcm"))
    assert not [record for record in caplog.records if record.name.startswith("pydicom")]


def test_colour_in_the_sector_makes_a_colour_doppler_clip(tmp_path: Path) -> None:
    painted = np.repeat(HEART[..., None], 3, axis=3)
    painted[:, 50:70, 45:65] = np.array([200, 30, 20]) - np.arange(8)[:, None, None, None] * 10
    content = dicom(pixels=painted.tobytes(), SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    (tmp_path / "x.dcm").write_bytes(content)
    assert read_clip(tmp_path / "x.dcm").kind == "colour_doppler"


def test_a_tinted_grey_map_is_no_colour_doppler(tmp_path: Path) -> None:
    tinted = (HEART[..., None] * np.array([1.0, 0.8, 0.5])).astype(np.uint8)
    content = dicom(pixels=tinted.tobytes(), SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    (tmp_path / "x.dcm").write_bytes(content)
    assert read_clip(tmp_path / "x.dcm").kind == "bmode"


def test_the_patient_is_the_tag_then_the_study_then_the_name(tmp_path: Path) -> None:
    path = tmp_path / "stem.dcm"
    for tags, name in (
        ({"PatientID": " 4711 "}, "4711"),
        ({"PatientID": None, "StudyInstanceUID": "1.2.3"}, "1.2.3"),
        ({"PatientID": ""}, "stem"),
    ):
        content = pydicom.dcmread(io.BytesIO(dicom(**tags)))
        if tags.get("PatientID", "") is None:
            del content.PatientID
        content.save_as(path)
        assert read_clip(path, key=KEY).patient_id == KEY.patient(name)
    assert read_clip(path, key=KEY, patient="other").patient_id == KEY.patient("other")
    assert read_clip(path, key=KEY).study_id is None


@pytest.mark.parametrize(
    ("file_name", "patient"),
    [("1.2.840.113619.2.1.100", "1.2.840.113619.2.1.100"), ("IM.0001.DCM", "IM.0001"), ("IM_0001", "IM_0001")],
)
def test_the_name_loses_its_suffix_only_where_it_has_one(tmp_path: Path, file_name: str, patient: str) -> None:
    (tmp_path / file_name).write_bytes(dicom(PatientID=""))
    assert read_clip(tmp_path / file_name, key=KEY).patient_id == KEY.patient(patient)


def test_the_study_is_the_tags_unless_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "s.dcm"
    path.write_bytes(dicom(PatientID="4711", StudyInstanceUID="1.2.3"))
    assert read_clip(path, key=KEY).study_id == KEY.study("", "1.2.3"), "unique whoever the patient is"
    assert read_clip(path, key=KEY, patient="1").study_id == KEY.study("1", "1.2.3") != KEY.study("2", "1.2.3")
    assert read_clip(path, key=KEY, study="7").study_id == KEY.study("4711", "7")


def test_a_missing_codec_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_pixels, "_has_gdcm", lambda: False)
    with pytest.raises(UnreadableFile, match=r"echofm\[dicom-lossless\]"):
        read_clip(path_of("JPGLosslessP14SV1_1s_1f_8b.dcm"))


@pytest.mark.parametrize(("syntax", "name"), [("100", "MPEG2"), ("102", "H.264"), ("107", "HEVC"), ("102.1", "H.264")])
def test_video_within_dicom_is_named(syntax: str, name: str) -> None:
    content = dicom(syntax="1.2.840.10008.1.2.4." + syntax, pixels=encapsulate([bytes(3000)]))
    with pytest.raises(Refused, match=rf"{name}.*\(video within DICOM\) is not read"):
        decode(content)


@pytest.mark.parametrize("name", ["JPGLosslessP14SV1_1s_1f_8b.dcm", "MR_small_jpeg_ls_lossless.dcm"])
@pytest.mark.usefixtures("any_object")
def test_lossless_jpeg_through_the_extra(name: str) -> None:
    pytest.importorskip("gdcm")
    assert decode(name).frames_TCHW.max() > 100
