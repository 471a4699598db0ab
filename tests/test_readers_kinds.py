"""What is sound but no cine of a heart: told by kind, counted, never called damaged, and no reason to stop."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from broken_files import FRAMES, dicom, jpeg, nifti
from hearts import beating_heart, write_avi
from pydicom import Dataset

from echofm import read_clip
from echofm.check.cli import main as check_main
from echofm.errors import UnreadableFile
from echofm.readers.datasets import open_source
from echofm.readers.kinds import NO_CLIP, kind_by_pixels
from echofm.shards.write import write_shards

STORAGE = "1.2.840.10008.5.1.4.1.1."


def region(form: int = 1, kind: int = 1, box: tuple[int, int, int, int] = (0, 0, 111, 111)) -> Dataset:
    made = Dataset()
    made.RegionSpatialFormat, made.RegionDataType = form, kind
    made.RegionLocationMinX0, made.RegionLocationMinY0 = box[:2]
    made.RegionLocationMaxX1, made.RegionLocationMaxY1 = box[2:]
    return made


def group(**tags: object) -> Dataset:
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def without_pixels(sop: str, **tags: object) -> bytes:
    return dicom(pixels=None, SOPClassUID=sop, NumberOfFrames=None, Rows=None, Columns=None, **tags)


OBJECTS = {
    "enhanced_volume": ("volume", dicom(SOPClassUID=STORAGE + "6.2")),
    "private_volume": ("volume", dicom(SOPClassUID="1.2.840.113543.6.6.1.3.10002")),
    "dimensions": ("volume", dicom(DimensionOrganizationType="3D_TEMPORAL")),
    "slice_locations": ("volume", dicom(FrameIncrementPointer=0x00182005)),
    "planes": ("volume", dicom(PerFrameFunctionalGroupsSequence=[group(PlanePositionVolumeSequence=[Dataset()])] * 8)),
    "report": ("structured_report", without_pixels(STORAGE + "88.33", Modality="SR")),
    "report_by_modality": ("structured_report", without_pixels("1.2.3", Modality="SR")),
    "key_objects": ("structured_report", without_pixels(STORAGE + "88.59", Modality="KO")),
    "pdf": ("document", without_pixels(STORAGE + "104.1", Modality="DOC")),
    "dicomdir": ("dicomdir", without_pixels("1.2.840.10008.1.3.10")),
    "presentation": ("presentation_state", without_pixels(STORAGE + "11.1", Modality="PR")),
    "ecg": ("waveform", without_pixels(STORAGE + "9.1.1", Modality="ECG")),
    "raw": ("raw_data", without_pixels(STORAGE + "66", Modality="US")),
    "private": ("no_image", without_pixels("1.3.46.670589.1", Modality="US")),
    "ct": ("ct", dicom(SOPClassUID=STORAGE + "2", Modality="CT")),
    "ct_as_capture": ("ct", dicom(SOPClassUID=STORAGE + "7", Modality="CT")),
    "mr": ("mr", dicom(SOPClassUID=STORAGE + "4.1", Modality="MR")),
    "angiogram": ("xray", dicom(SOPClassUID=STORAGE + "12.1", Modality="XA")),
    "ivus": ("intravascular", dicom(SOPClassUID=STORAGE + "3.1", Modality="IVUS")),
    "linear": ("linear_array", dicom(SOPClassUID=STORAGE + "3.1", TransducerType="LINEAR")),
    "spectral": ("spectral", dicom(SequenceOfUltrasoundRegions=[region(3, 3)])),
    "continuous_wave": ("spectral", dicom(SequenceOfUltrasoundRegions=[region(3, 4), region(4, 10)])),
    "m_mode": ("m_mode", dicom(SequenceOfUltrasoundRegions=[region(2, 1)])),
    "graphics": ("graphics", dicom(SequenceOfUltrasoundRegions=[region(5, 1)])),
    "nifti_volume": ("volume", nifti(values=FRAMES, dim=[4, 112, 112, 4, 2, 1, 1, 1])),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_an_intact_object_of_another_kind_is_called_by_its_kind(tmp_path: Path, name: str) -> None:
    kind, content = OBJECTS[name]
    path = tmp_path / (name + (".nii" if "nifti" in name else ""))
    path.write_bytes(content)
    with pytest.raises(UnreadableFile) as error:
        read_clip(path)
    assert error.value.kind == kind and NO_CLIP[kind] in error.value.reason


@pytest.mark.parametrize(
    "tags",
    [
        {"SOPClassUID": STORAGE + "3.1", "Modality": "US"},
        {"SOPClassUID": STORAGE + "3.1", "Modality": "CT"},  # the class goes before a wrong word
        {"SOPClassUID": STORAGE + "7.2", "Modality": "OT"},
        {"SOPClassUID": STORAGE + "3.1", "TransducerType": "SECTOR_PHASED"},
        {"FrameIncrementPointer": 0x00181063},
        {"SequenceOfUltrasoundRegions": [region(), region(4, 10, (0, 100, 111, 111))]},
        {},
    ],
    ids=str,
)
def test_a_cine_stays_one(tmp_path: Path, tags: dict[str, object]) -> None:
    (tmp_path / "a.dcm").write_bytes(dicom(**tags))
    assert read_clip(tmp_path / "a.dcm").kind == "bmode"


def test_damage_has_no_kind_and_an_image_without_a_sector_has(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, FRAMES.shape, dtype=np.uint8)
    for content, kind in ((dicom(pixels=noise.tobytes()), "no_sector"), (dicom(pixels=FRAMES.tobytes()[:999]), None)):
        (tmp_path / "a.dcm").write_bytes(content)
        with pytest.raises(UnreadableFile) as error:
            read_clip(tmp_path / "a.dcm")
        assert error.value.kind == kind


def test_flow_is_known_from_coloured_labels_and_traces() -> None:
    frames = np.zeros((9, 1, 240, 320), np.uint8)
    sector, flow, label, trace, outside = (np.zeros((240, 320), np.uint8) for _ in range(5))
    sector[20:220, 40:280] = 1
    flow[90:130, 120:160] = 200
    label[100:110, 60:260:4] = 200  # strokes of letters
    trace[200:202, 40:280] = 200
    outside[60:180, 290:310] = 200  # the colour bar
    inside = sector.astype(bool)
    assert kind_by_pixels(frames, flow, inside) == "colour_doppler"
    assert kind_by_pixels(frames[:1], flow, inside) == "colour_still"
    for drawn in (label, trace, outside, label | trace | outside, None):
        assert kind_by_pixels(frames, drawn, inside) == "bmode"
        assert kind_by_pixels(frames[:1], drawn, inside) == "still"


def test_a_coloured_badge_that_stands_still_inside_the_sector_is_no_flow(tmp_path: Path) -> None:
    heart, _ = beating_heart(frames=12)
    painted = np.repeat(heart[..., None], 3, axis=3)
    painted[:, 60:72, 50:62] = (220, 40, 20)
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "NumberOfFrames": 12}
    (tmp_path / "a.dcm").write_bytes(dicom(pixels=painted.tobytes(), **colour))
    assert read_clip(tmp_path / "a.dcm").kind == "bmode"


def write_study(folder: Path, files: int) -> Counter[str]:
    """A hospital's study: cines, stills, flow, traces, reports, other modalities and what people put beside them."""
    folder.mkdir()
    kinds: Counter[str] = Counter()
    for number in range(files):
        heart = np.roll(FRAMES, number, axis=0)
        who = {"PatientID": f"P{number // 20}", "StudyInstanceUID": f"1.2.{number // 20}"}
        cine = {"pixels": heart.tobytes(), "SequenceOfUltrasoundRegions": [region()], "FrameTime": 20, **who}
        still = {**cine, "pixels": heart[0].tobytes(), "NumberOfFrames": 1}
        name, (kind, content) = (
            f"IM{number:04d}",
            (
                ("bmode", dicom(**cine)),
                ("still", dicom(**still)),
                ("spectral", dicom(**{**still, "SequenceOfUltrasoundRegions": [region(3, 3)]})),
                ("m_mode", dicom(**{**still, "SequenceOfUltrasoundRegions": [region(2, 1)]})),
                ("colour_doppler", dicom(**{**cine, "SequenceOfUltrasoundRegions": [region(), region(1, 2)]})),
                ("structured_report", without_pixels(STORAGE + "88.33", Modality="SR", **who)),
                ("volume", dicom(SOPClassUID=STORAGE + "6.2", **who)),
                (".pdf", b"%PDF-1.4\n"),
                (".wmv", b"0&\xb2u\x8ef\xcf\x11"),
                ("bmode", dicom(**cine, meta=False)),
            )[number % 10],
        )
        (folder / (name + kind if kind.startswith(".") else name)).write_bytes(content)
        kinds[kind] += 1
    for name, kind, content in (
        ("DICOMDIR", "dicomdir", without_pixels("1.2.840.10008.1.3.10")),
        (".DS_Store", "hidden", b"x"),
        ("Doe.Jane", "other", b"words"),
        ("cut.jpg", "unreadable", jpeg(FRAMES[0])[:300]),
    ):
        (folder / name).write_bytes(content)
        kinds[kind] += 1
    return kinds


@pytest.mark.parametrize("files", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_a_mixed_study_goes_through_and_its_kinds_add_up(
    tmp_path: Path, files: int, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = write_study(tmp_path / "study", files)
    report = tmp_path / "report.json"
    assert check_main([str(tmp_path / "study"), "--json", str(report)]) == 1  # the cut picture
    found = json.loads(report.read_text())
    assert found["counts"]["kind"] == dict(kinds) and found["files"] == kinds.total()
    assert "Doe" not in capsys.readouterr().out + report.read_text()
    manifest = write_shards(open_source(tmp_path / "study"), tmp_path / "out", size=32, show_progress=False)
    assert manifest.kinds == {"bmode": kinds["bmode"]} and manifest.set_aside == 1
    others = {kind: count for kind, count in kinds.items() if kind not in ("bmode", "unreadable")}
    assert manifest.not_selected == others


def test_videos_of_kinds_that_are_not_read_are_named(tmp_path: Path) -> None:
    write_avi(tmp_path / "a.avi", FRAMES)
    for name in ("b.wmv", "c.MPG", "d.pdf", "e.Smith"):
        (tmp_path / name).write_bytes(b"no echo")
    source = open_source(tmp_path)
    assert len(list(source.rows())) == 1
    assert source.unread == {".wmv": 1, ".mpg": 1, ".pdf": 1, "other": 1}
