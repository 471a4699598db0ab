"""A folder of DICOM ultrasound loops with planted fake patient tags, burned-in text and a region of ultrasound."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEGBaseline8Bit, UltrasoundMultiFrameImageStorage, generate_uid

from echofm.phantom.clip import PhantomClip
from echofm.phantom.layout import Layout
from echofm.phantom.overlay import burn_in, fake_identity

Row = dict[str, Any]

_MARGIN = 0.17
"""Of the image's side: above and below it, and twice at each side, the scanner's own screen."""


class Dicom(Layout):
    """studies/PATIENT/STEM.dcm: Ultrasound Multi-frame Image Storage, JPEG baseline. Tags about persons are made up."""

    name = "dicom"
    views = ("A4C", "A2C", "PLAX", "PSAX")
    size = 224
    overlay = True

    def prepare(self, clip: PhantomClip) -> tuple[str, PhantomClip]:
        """The clip on a larger screen, text and trace around the sector; truth moves along."""
        above = round(_MARGIN * clip.sector.size)
        margins = ((0, 0), (above, above), (2 * above, 2 * above))
        frames = burn_in(
            np.pad(clip.frames_THWC, (*margins, (0, 0))),
            clip,
            trace_rows=(clip.sector.size + above + 2, clip.sector.size + 2 * above - 2),
        )
        placed = dataclasses.replace(
            clip,
            frames_THWC=frames,
            pixels=clip.pixels.padded(above, 2 * above),
            outline_TSL2=clip.outline_TSL2 + np.array([2 * above, above]),
            sector_HW=np.pad(clip.sector_HW, margins[1:]),
        )
        return clip.stem, placed

    def write_clip(self, root: Path, stem: str, clip: PhantomClip, split: str) -> Row:
        folder = root / "studies" / clip.patient.name
        folder.mkdir(parents=True, exist_ok=True)
        data = _tags(clip, stem)
        _add_region(data, clip)
        _add_pixels(data, clip.frames_THWC)
        data.save_as(folder / f"{stem}.dcm", enforce_file_format=True)
        return {}


def _uid(*sources: str) -> UID:
    return generate_uid(entropy_srcs=["echofm phantom", *sources])


def _tags(clip: PhantomClip, stem: str) -> Dataset:
    seed, patient = str(clip.patient.seed), clip.patient
    name, born = fake_identity(patient.seed, patient.number)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = _uid(seed, stem)
    data.StudyInstanceUID = _uid(seed, patient.name)
    data.SeriesInstanceUID = _uid(seed, patient.name, "series")
    data.Modality = "US"
    data.Manufacturer = "EchoFM phantom"
    data.PatientName = name
    data.PatientID = patient.name
    data.PatientBirthDate = born.strftime("%Y%m%d")
    data.PatientSex = "FM"[patient.number % 2]
    data.PatientComments = "A phantom: no such person"
    data.InstitutionName = "Hospital of Nowhere"
    data.ReferringPhysicianName = "NOBODY^DOCTOR"
    data.StudyDate = "19990101"
    data.StudyTime = "120000"
    data.AccessionNumber = f"ACC{patient.number:08d}"
    data.StudyID = f"{patient.number:05d}"
    data.SeriesNumber = 1
    data.InstanceNumber = clip.number + 1
    data.SeriesDescription = clip.view
    data.HeartRate = round(clip.heart_rate_bpm)
    data.FrameTime = f"{1000 / clip.acquisition.frame_rate_hz:.6f}"
    data.CineRate = round(clip.acquisition.frame_rate_hz)
    data.FrameIncrementPointer = 0x00181063
    return data


def _add_region(data: Dataset, clip: PhantomClip) -> None:
    rows, columns = np.nonzero(clip.sector_HW)
    region = Dataset()
    region.RegionSpatialFormat = 1
    region.RegionDataType = 2 if clip.kind == "colour_doppler" else 1
    region.RegionFlags = 2
    region.RegionLocationMinX0, region.RegionLocationMaxX1 = int(columns.min()), int(columns.max())
    region.RegionLocationMinY0, region.RegionLocationMaxY1 = int(rows.min()), int(rows.max())
    # Code 3 is centimetres.
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = clip.sector.spacing_mm / 10
    data.SequenceOfUltrasoundRegions = [region]


def _add_pixels(data: Dataset, frames_THWC: npt.NDArray[np.uint8]) -> None:
    count, rows, columns, channels = frames_THWC.shape
    data.NumberOfFrames, data.Rows, data.Columns = count, rows, columns
    data.SamplesPerPixel = channels
    data.PhotometricInterpretation = "MONOCHROME2" if channels == 1 else "YBR_FULL_422"
    if channels == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit = 7
    data.PixelRepresentation = 0
    data.BurnedInAnnotation = "YES"
    data.LossyImageCompression = "01"
    data.LossyImageCompressionMethod = "ISO_10918_1"
    encoded = [_jpeg(frame[..., 0] if channels == 1 else frame) for frame in frames_THWC]
    data.PixelData = encapsulate(encoded)
    data["PixelData"].is_undefined_length = True


def _jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=93)
    return buffer.getvalue()
