"""Pixels of DICOM as writers really store them: palettes, windows, samplings, headers."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from broken_files import dicom, jpeg
from hearts import beating_heart
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from echofm.readers import Limits
from echofm.readers.dicom import decode_dicom
from echofm.readers.dicom_file import is_dicom
from echofm.readers.refused import Refused

HEART, _ = beating_heart(frames=8)
GREYS = np.arange(256)
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
HTJ2K = "1.2.840.10008.1.2.4.20"


def greys(content: bytes) -> npt.NDArray[np.uint8]:
    return decode_dicom(io.BytesIO(content), channels=1, limits=Limits()).frames_TCHW[:, 0]


def refusal(content: bytes) -> str:
    with pytest.raises(Refused) as error:
        greys(content)
    return error.value.reason


def palette(entries: npt.NDArray[np.int_], bits: int, form: str, first: int = 0) -> dict[str, object]:
    tags: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        tags[colour + "PaletteColorLookupTableDescriptor"] = [len(entries), first, bits]
        tags[colour + "PaletteColorLookupTableData"] = entries.astype(form).tobytes()
    return tags


@pytest.mark.parametrize(
    ("entries", "bits", "form"),
    [
        (GREYS * 257, 16, "<u2"),
        (GREYS * 256, 16, "<u2"),
        (GREYS, 16, "<u2"),
        (GREYS, 8, "<u2"),
        (GREYS, 8, "u1"),
        (GREYS, 16, "u1"),
        (GREYS * 4, 10, "<u2"),
        (GREYS * 16, 12, "<u2"),
        (GREYS * 16, 16, "<u2"),
    ],
    ids=str,
)
def test_a_palette_gives_its_greys_whatever_its_width(entries: npt.NDArray[np.int_], bits: int, form: str) -> None:
    assert (greys(dicom(**palette(entries, bits, form))) == HEART).all()


def test_a_palette_may_begin_elsewhere_and_ends_hold() -> None:
    short = palette(np.arange(20, 200) * 257, 16, "<u2", first=20)
    assert (greys(dicom(**short)) == np.clip(HEART, 20, 199)).all()
    cut = palette(GREYS[:99], 8, "u1")
    for colour in ("Red", "Green", "Blue"):
        cut[colour + "PaletteColorLookupTableDescriptor"] = [256, 0, 8]
    assert "palette is cut" in refusal(dicom(**cut))


@pytest.mark.parametrize("width", [0, -1, -400, 0.5, "0"])
def test_a_window_of_no_width_counts_as_absent(width: object) -> None:
    assert (greys(dicom(WindowCenter=40, WindowWidth=width)) == HEART).all()


def test_the_first_window_that_shows_something_is_taken() -> None:
    many = greys(dicom(WindowCenter=[0, 60, 90], WindowWidth=[0, 120, 10]))
    assert (many == greys(dicom(WindowCenter=60, WindowWidth=120))).all() and not (many == HEART).all()
    exact = {"WindowCenter": 100.5, "WindowWidth": 0.5, "VOILUTFunction": "LINEAR_EXACT"}
    assert set(np.unique(greys(dicom(**exact)))) == {0, 255}


@pytest.mark.parametrize("groups", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_enhanced_objects_keep_their_window_in_groups(groups: str) -> None:
    def enhanced(width: float) -> bytes:
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = 60, width
        group.FrameVOILUTSequence = [window]
        return dicom(**{groups: [group]})

    assert (greys(enhanced(120)) == greys(dicom(WindowCenter=60, WindowWidth=120))).all()
    assert (greys(enhanced(0)) == HEART).all() and (greys(enhanced(-3)) == HEART).all()


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("is_ybr", [False, True])
def test_three_bytes_a_pixel_under_the_words_of_two(is_ybr: bool, planar: int) -> None:
    samples = np.repeat(HEART[..., None], 3, axis=3)
    if is_ybr:
        samples[..., 1:] = 128
    stored = samples if planar == 0 else samples.transpose(0, 3, 1, 2)
    tags = {"SamplesPerPixel": 3, "PlanarConfiguration": planar, "PhotometricInterpretation": "YBR_FULL_422"}
    assert (greys(dicom(pixels=np.ascontiguousarray(stored).tobytes(), **tags)) == HEART).all()


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("padding", [0, 2])
def test_two_bytes_a_pixel_of_uncompressed_colour(count: int, padding: int) -> None:
    grey_THW = HEART[:count]
    stored = np.full((count, 112, 56, 4), 128, np.uint8)  # Y Y Cb Cr (PS3.3 C.7.6.3.1.2)
    stored[..., 0], stored[..., 1] = grey_THW[:, :, 0::2], grey_THW[:, :, 1::2]
    tags = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "YBR_FULL_422"}
    content = dicom(pixels=stored.tobytes() + bytes(padding), NumberOfFrames=count, **tags)
    assert (greys(content) == grey_THW).all()
    assert "cut" in refusal(dicom(pixels=stored.tobytes()[:-9], NumberOfFrames=count, **tags))


@pytest.mark.parametrize(
    "tag", ["SamplesPerPixel", "PlanarConfiguration", "BitsStored", "HighBit", "PixelRepresentation"]
)
@pytest.mark.parametrize("is_colour", [False, True])
def test_pixel_tags_left_out_have_the_value_that_viewers_take(tag: str, is_colour: bool) -> None:
    tags: dict[str, object] = {}
    if is_colour:
        pixels = np.repeat(HEART[..., None], 3, axis=3).tobytes()
        tags = {"pixels": pixels, "SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}
    assert (greys(dicom(**tags | {tag: None})) == HEART).all()
    assert "PhotometricInterpretation" in refusal(dicom(**tags | {"PhotometricInterpretation": None}))


def bare(*, implicit: bool, little: bool = True, **tags: object) -> bytes:
    """A data set without preamble and header."""
    whole, alone, buffer = pydicom.dcmread(io.BytesIO(dicom(**tags))), Dataset(), io.BytesIO()
    alone.update(dict(whole.items()))
    alone.SOPClassUID, alone.Modality = "1.2.840.10008.5.1.4.1.1.3.1", "US"
    if not little and whole.BitsAllocated == 16:
        alone.PixelData = np.frombuffer(whole.PixelData, "<u2").astype(">u2").tobytes()
    alone.save_as(buffer, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    return buffer.getvalue()


WIDE = {"pixels": (HEART.astype("<u2") * 16).tobytes(), "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}


@pytest.mark.parametrize("tags", [{}, WIDE], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_a_data_set_alone_is_read(implicit: bool, little: bool, tags: dict[str, object]) -> None:
    content = bare(implicit=implicit, little=little, **tags)
    assert is_dicom(content[:512])
    assert (greys(content) == greys(dicom(**tags))).all()


def test_a_header_without_preamble_or_transfer_syntax() -> None:
    assert (greys(dicom()[132:]) == HEART).all() and is_dicom(dicom()[132:])
    whole, buffer = pydicom.dcmread(io.BytesIO(dicom())), io.BytesIO()
    del whole.file_meta.TransferSyntaxUID
    whole.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=False)
    assert (greys(buffer.getvalue()) == HEART).all()


def test_compressed_pixels_need_the_header() -> None:
    alone = dicom(syntax=JPEG2000Lossless, pixels=encapsulate([jpeg(frame, "JPEG2000") for frame in HEART]))
    headless = alone[132:]
    start = headless.index(b"\x08\x00\x16\x00") if b"\x08\x00\x16\x00" in headless else headless.index(b"\x10\x00\x10")
    meta_end = 12 + int.from_bytes(headless[8:12], "little")
    assert "file header" in refusal(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + headless[min(start, meta_end) :])


@pytest.mark.parametrize("text", [b"\x08\x00" + bytes(600), b"II*\x00" * 99, b"%PDF-1.4" + bytes(500), bytes(512), b""])
def test_other_content_is_not_taken_for_a_data_set(text: bytes) -> None:
    assert not is_dicom(text)


# Written by imagecodecs 2026.3.6 (OpenJPH): 16 x 20 greys, reversible and not. It takes 26 MB, too much for a test.
HTJ2K_FRAMES = {
    "grey": (
        "|4;u>04YEK0000K0000G00000000000000K0000G0000000000009R90sl|{2mk^A00092QUDA90ssL31q1{@0smY86Cg-XP*6}%P*6}"
        "%P*6}vNJ#%=02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00000?f?P*lfWhI00(pcz!HF>0S9ydz!Ja{KoWrb0Ect{#>4<ZGyvuRhja"
        "kI6TlU41weCU`2YsA06$<}2L<^Mz<!kgZOs7m078@iz!t;-YrqzOhDuKu(-0y=1=zq87!dsr^9zT-05h2Yrd;_~uS^0=15?E`Fqr@XF{"
        "<zcQn>)k($gcRB*1b209n%HQnvuWEw}~HKr6r(04p+pLIY3$27sOgJvtZMr@+1|A$%RrZ~+(7*lr|P9Vra~0002sm}kCEe)&C?0%NCW1"
        "RbP9QUT)w@xK570Put0fzXe90RPz"
    ),
    "lossy": (
        "|4;u>04YEK0000K0000G00000000000000K0000G0000000000009R90sl|{2mk^A001KYQUDA90ssL31q1{@0RLP7BO-SgcItNOcD!!"
        "@ZvbxMXG~{IXJk+VPy<j#SJGF~S7HBT02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00001CIA8dlfVHm3H<_xbO68sFv$J_hjakI0$2"
        "b~00}@00ta*eoTTIcqBH>R0Ect{zy(AAR=@>7tKg*e0D`mt2|%hIIzsaR5dprI0Ab!j`v5|e0KgX10d2q*hzuP!3Mu8u%L4*9sfhw4{s"
        "I2Tz&QXwhnfJ8!5vTu`DLaApbn%VtPG<C_yNpmKZF1)nE=f4afzTLEy5xE0A`=$QnvuW7gGRToB?WppaGr&hDy2#RWb;Zp#T6t1SkwN6"
        "#X$yZl0`Y>A@MC0Yw<POJtuD0SvJ+l|etz5)Bb}5Vde6%n4M`02By?aBvt7!(liKP)cN!>5@}+tl}6nRzQOUAw+Zm(MQJ2mIS9H27Cc|"
        "FRBm&oqz|-0RPz"
    ),
}


@pytest.mark.parametrize("last", "123")
def test_high_throughput_jpeg_2000(last: str) -> None:
    ramp_HW = np.add.outer(np.arange(16) * 9, np.arange(20) * 5).astype(np.uint8)
    ramp_HW[4:8, 5:12] = 255
    for name, near in (("grey", 0), ("lossy", 1)):
        frame = base64.b85decode(HTJ2K_FRAMES[name])
        content = dicom(syntax=HTJ2K + last, pixels=encapsulate([frame] * 3), NumberOfFrames=3, Rows=16, Columns=20)
        assert np.abs(greys(content).astype(int) - ramp_HW).max() <= near
        cut = dicom(syntax=HTJ2K + last, pixels=encapsulate([frame[:80]] * 3), NumberOfFrames=3, Rows=16, Columns=20)
        assert refusal(cut)
    older = [jpeg(frame, "JPEG2000") for frame in HEART]
    same = np.stack([np.asarray(pydicom_image(part)) for part in older])
    assert (greys(dicom(syntax=HTJ2K + last, pixels=encapsulate(older))) == same).all()
    assert "no JPEG image" in refusal(dicom(syntax=HTJ2K + last, pixels=encapsulate([bytes(99)] * 8)))


def pydicom_image(part: bytes) -> npt.NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(part)))


def test_a_syntax_that_is_not_read_is_named() -> None:
    listed = dicom(syntax="1.2.840.10008.1.2.4.94", pixels=encapsulate([bytes(99)] * 8))
    assert "JPIP Referenced" in refusal(listed)
    private = refusal(dicom(syntax="1.2.3.4711", pixels=encapsulate([bytes(99)] * 8)))
    assert "an unknown transfer syntax" in private and "4711" not in private


def test_the_limit_counts_the_channels_asked_for() -> None:
    rgb = dicom(
        pixels=np.repeat(HEART[..., None], 3, axis=3).tobytes(),
        SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
    )  # fmt: skip
    limits = Limits(max_clip_mb=HEART.size * 2 / 1e6)
    assert len(rgb) < limits.max_file_bytes
    decode_dicom(io.BytesIO(rgb), channels=1, limits=limits)
    with pytest.raises(Refused, match="--max-clip-mb"):
        decode_dicom(io.BytesIO(rgb), channels=3, limits=limits)
