"""Files that no reader may crash, hang or run out of memory on: made anew by the tests, none of them an echo.

`write_broken_files(folder)` returns the paths by what is wrong with them. Every one must end as one reason.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import nibabel
import numpy as np
from hearts import beating_heart, write_avi
from PIL import Image
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

Content = bytes
FRAMES, _ = beating_heart(frames=8)


def dicom(
    *, syntax: str = ExplicitVRLittleEndian, pixels: bytes | None = FRAMES.tobytes(), meta: bool = True, **tags: object
) -> Content:
    """An ultrasound DICOM file; by default eight good frames."""
    data_set = FileDataset("", {}, preamble=bytes(128), file_meta=FileMetaDataset())
    data_set.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    data_set.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["broken"])
    data_set.file_meta.TransferSyntaxUID = syntax
    data_set.PatientName, data_set.PatientID = "Doe^Jane", "4711"
    described = {
        "NumberOfFrames": 8,
        "Rows": 112,
        "Columns": 112,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
    } | tags
    for name, value in described.items():
        if value is not None:
            setattr(data_set, name, value)
    if pixels is not None:
        data_set.PixelData = pixels
        data_set["PixelData"].VR = "OB"
        data_set["PixelData"].is_undefined_length = syntax not in (
            ExplicitVRLittleEndian,
            DeflatedExplicitVRLittleEndian,
        )
    buffer = io.BytesIO()
    data_set.save_as(buffer, enforce_file_format=meta)
    return buffer.getvalue()


def jpeg(frame: np.ndarray, form: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, form)
    return buffer.getvalue()


def deep_dicom(depth: int = 3000) -> Content:
    """Sequences of undefined length, one in another."""
    opened = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    return dicom(pixels=None, NumberOfFrames=None) + opened * depth


def video(folder: Path, suffix: str = ".avi", codec: str = "mjpeg", frames: np.ndarray = FRAMES) -> Content:
    path = write_avi(folder / f"work{suffix}", frames, codec=codec)
    content = path.read_bytes()
    path.unlink()
    return content


def changing_size(folder: Path) -> Content:
    """JPEG frames of two sizes in one stream."""
    path = folder / "work.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=50)
        stream.height, stream.width, stream.pix_fmt = 112, 112, "yuvj420p"
        for index in range(8):
            size = 112 if index < 4 else 64
            packet = av.Packet(jpeg(np.repeat(FRAMES[index, :size, :size, None], 3, axis=2)))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, index, index, Fraction(1, 50)
            packet.is_keyframe = True
            container.mux(packet)
    content = path.read_bytes()
    path.unlink()
    return content


def patched(content: Content, place: int, value: bytes) -> Content:
    return content[:place] + value + content[place + len(value) :]


def nifti(*, values: np.ndarray = FRAMES, **fields: object) -> Content:
    image = nibabel.Nifti1Image(np.ascontiguousarray(values.transpose(2, 1, 0)), np.eye(4))
    content = image.to_bytes()
    header = nibabel.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + content[348:]


def mhd(**changes: str) -> Content:
    fields = {"ObjectType": "Image", "NDims": "3", "DimSize": "112 112 8", "ElementType": "MET_UCHAR"} | changes
    return "\n".join(f"{name} = {value}" for name, value in fields.items()).encode()


def png_claiming(width: int, height: int) -> Content:
    """A PNG of a few bytes that would be this large."""
    chunks = {b"IHDR": struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(bytes(1000))}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


def videos(folder: Path) -> dict[str, Content]:
    avi, mp4, mkv = video(folder), video(folder, ".mp4", "mpeg4"), video(folder, ".mkv", "mpeg4")
    random = np.random.default_rng(0)
    flipped = bytearray(avi)
    for place in random.integers(len(avi) // 3, len(avi) * 2 // 3, size=400):
        flipped[place] = random.integers(256)
    total_frames, stream_length = avi.index(b"avih") + 8 + 16, avi.index(b"strh") + 8 + 32
    frame_size = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 112, 112)
    assert avi.count(frame_size) == len(FRAMES)
    noise = random.integers(0, 256, FRAMES.shape, dtype=np.uint8)
    box = noise.copy()
    box[:, :30], box[:, 80:], box[..., :20], box[..., 90:] = 0, 0, 0, 0
    return {
        "empty.avi": b"",
        "text.avi": b"Jane Doe, born 1950\n" * 100,
        "pickle.avi": pickle.dumps({"patient": "Jane Doe"}),
        "wave.avi": b"RIFF" + struct.pack("<L", 36) + b"WAVEfmt ",
        "cut to 60 percent.avi": avi[: len(avi) * 6 // 10],
        "cut in its header.avi": avi[:200],
        "riff alone.avi": avi[:12],
        "no frames.avi": avi[: avi.index(b"movi") + 4],
        "claims a million frames.avi": patched(
            patched(avi, total_frames, struct.pack("<L", 10**6)), stream_length, struct.pack("<L", 10**6)
        ),
        "frames claim 65000 x 65000.avi": avi.replace(frame_size, frame_size[:5] + struct.pack(">HH", 65000, 65000)),
        "unknown codec.avi": avi.replace(b"MJPG", b"XQZW"),
        "flipped bytes.avi": bytes(flipped),
        "frame size changes.avi": changing_size(folder),
        "cut.mp4": mp4[: len(mp4) * 6 // 10],
        "only a type.mp4": b"\x00\x00\x00\x18ftypisom" + bytes(12),
        "zeros after its type.mp4": mp4[:40] + bytes(100_000),
        "cut.mkv": mkv[: len(mkv) * 6 // 10],
        "only a mark.mkv": b"\x1aE\xdf\xa3" + bytes(40),
        "playlist.mp4": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        "concat list.mkv": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "nothing moves.avi": video(folder, frames=np.repeat(FRAMES[:1] * 0 + 30, 8, axis=0)),
        "noise from edge to edge.avi": video(folder, frames=noise),
        "a moving box.avi": video(folder, frames=box),
    }


def dicoms() -> dict[str, Content]:
    whole = dicom()
    colour = np.repeat(FRAMES[0][..., None], 3, axis=2)
    baseline = {"PhotometricInterpretation": "YBR_FULL_422", "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType = 3, 3
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 111, 111
    return {
        "html.dcm": b"<html><body>Jane Doe</body></html>",
        "pickle.dcm": pickle.dumps(["Jane Doe"]),
        "preamble alone.dcm": bytes(128) + b"DICM",
        "preamble and noise.dcm": bytes(128) + b"DICM" + np.random.default_rng(1).bytes(5000),
        "no pixels.dcm": dicom(pixels=None),
        "claims 3000000 frames.dcm": dicom(NumberOfFrames=3_000_000),
        "claims 3000000 small frames.dcm": dicom(NumberOfFrames=3_000_000, Rows=4, Columns=4),
        "claims 65535 x 65535.dcm": dicom(Rows=65535, Columns=65535),
        "no rows.dcm": dicom(Rows=0),
        "rows missing.dcm": dicom(Rows=None),
        "minus eight frames.dcm": dicom(NumberOfFrames=-8),
        "pixels cut.dcm": dicom(pixels=FRAMES.tobytes()[: FRAMES.size // 2]),
        "cut to 60 percent.dcm": whole[: len(whole) * 6 // 10],
        "cut among its tags.dcm": whole[:400],
        "tag longer than the file.dcm": patched(whole, whole.index(b"Doe^Jane") - 2, struct.pack("<H", 60000)),
        "fewer fragments than frames.dcm": dicom(
            syntax=JPEGBaseline8Bit, pixels=encapsulate([jpeg(colour)] * 3), **baseline
        ),
        "fragments are noise.dcm": dicom(syntax=JPEGBaseline8Bit, pixels=encapsulate([bytes(300)] * 8), **baseline),
        "fragments cut.dcm": dicom(syntax=JPEGBaseline8Bit, pixels=encapsulate([jpeg(colour)[:900]] * 8), **baseline),
        "fragments of another size.dcm": dicom(
            syntax=JPEGBaseline8Bit, pixels=encapsulate([jpeg(colour[:64])] * 8), **baseline
        ),
        "jpeg 2000 is noise.dcm": dicom(syntax=JPEG2000, pixels=encapsulate([b"\xff\x4f\xff\x51" + bytes(99)] * 8)),
        "rle is noise.dcm": dicom(syntax=RLELossless, pixels=encapsulate([bytes(100)] * 8)),
        "lossless jpeg is noise.dcm": dicom(syntax=JPEGLosslessSV1, pixels=encapsulate([bytes(100)] * 8)),
        "last fragment cut.dcm": dicom(
            syntax=JPEGBaseline8Bit, pixels=encapsulate([jpeg(colour)] * 8), **baseline
        )[:-600],
        "unknown syntax.dcm": whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0"),
        "deflated bomb.dcm": deflated_bomb(),
        "sequences in sequences.dcm": deep_dicom(),
        "four samples.dcm": dicom(SamplesPerPixel=4, PhotometricInterpretation="ARGB"),
        "sixteen bits of colour.dcm": dicom(
            pixels=bytes(112 * 112 * 6), NumberOfFrames=1, BitsAllocated=16, BitsStored=16, HighBit=15,
            SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
        ),
        "palette missing.dcm": dicom(PhotometricInterpretation="PALETTE COLOR"),
        "spectral trace.dcm": dicom(SequenceOfUltrasoundRegions=[region], NumberOfFrames=1),
    }  # fmt: skip


def deflated_bomb() -> Content:
    """A deflated file that holds nothing but 64 MB of zeros."""
    whole = dicom(syntax=ExplicitVRLittleEndian, pixels=None).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.")
    start = whole.index(b"1.2.840.10008.1.2.1.")
    # The same meta group, two bytes longer in its syntax's name.
    meta = whole[: start - 2] + struct.pack("<H", 22) + DeflatedExplicitVRLittleEndian.encode()
    packer = zlib.compressobj(9, wbits=-15)
    zeros = b"".join(packer.compress(bytes(1 << 24)) for _ in range(4)) + packer.flush()
    return meta + zeros


def volumes() -> dict[str, Content]:
    whole = nifti()
    huge = nifti(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    return {
        "empty.nii": b"",
        "cut.nii": whole[: len(whole) * 6 // 10],
        "header alone.nii": whole[:348],
        "claims 30000 cubed.nii": huge,
        "minus one column.nii": nifti(dim=[3, -1, 112, 8, 1, 1, 1, 1]),
        "no axes.nii": nifti(dim=[0, 0, 0, 0, 0, 0, 0, 0]),
        "two long axes.nii": nifti(dim=[4, 112, 112, 4, 2, 1, 1, 1]),
        "complex numbers.nii": nifti(datatype=32, bitpix=64),
        "unknown type.nii": nifti(datatype=999),
        "not numbers.nii": nifti(values=np.full(FRAMES.shape, np.nan, np.float32)),
        "pixels far away.nii": nifti(vox_offset=4e9),
        "pixels nowhere.nii": nifti(vox_offset=np.nan),
        "bomb.nii.gz": gzip.compress(huge[:352] + bytes(20_000_000), 1),
        "cut.nii.gz": gzip.compress(whole)[:-2000],
        "damaged.nii.gz": patched(gzip.compress(whole), 2000, bytes(500)),
        "text.nii.gz": gzip.compress(b"Jane Doe\n" * 1000),
        "zip mark alone.nii.gz": b"\x1f\x8b",
        "raw missing.mhd": mhd(ElementDataFile="nowhere.raw"),
        "raw elsewhere.mhd": mhd(ElementDataFile="../../etc/passwd"),
        "raw itself.mhd": mhd(ElementDataFile="raw itself.mhd"),
        "claims a trillion.mhd": mhd(DimSize="10000 10000 10000", ElementDataFile="bomb.zraw", CompressedData="True"),
        "cut.png": jpeg(FRAMES[0], "PNG")[:3000],
        "claims 60000 x 60000.png": png_claiming(60000, 60000),
        "cut, of 12000 x 12000.png": png_claiming(12000, 12000),
        "cut.jpg": jpeg(FRAMES[0])[:1500],
        "noise.png": jpeg(np.random.default_rng(2).integers(0, 256, (112, 112), dtype=np.uint8), "PNG"),
    }


def odd_entries(folder: Path) -> list[Path]:
    """Things in a folder that are no plain files, or whose names are no text."""
    (folder / "folder.avi").mkdir()
    (folder / "loop.avi").symlink_to(folder / "loop.avi")
    (folder / "dangling.avi").symlink_to(folder / "nothing")
    (folder / "zero.avi").symlink_to("/dev/zero")
    made = [folder / name for name in ("folder.avi", "loop.avi", "dangling.avi", "zero.avi")]
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.avi")
        made.append(folder / "pipe.avi")
    odd_name = Path(os.fsdecode(os.fsencode(folder) + b"/J\xf6rg \xff.avi"))
    odd_name.write_bytes(b"not a video")
    closed = folder / "closed.avi"
    closed.write_bytes(b"not for you")
    closed.chmod(0)
    return [*made, odd_name, closed]


def write_broken_files(folder: Path) -> list[Path]:
    """Make them all in a folder that exists; sorted by name."""
    makers: list[Callable[[], dict[str, Content]]] = [lambda: videos(folder), dicoms, volumes]
    paths = odd_entries(folder)
    for make in makers:
        for name, content in make().items():
            (folder / name).write_bytes(content)
            paths.append(folder / name)
    return sorted(paths)
