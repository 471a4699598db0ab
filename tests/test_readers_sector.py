"""De-identification fails closed: text anywhere outside the sector is gone from every frame, or the file is refused."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hearts import beating_heart, write_avi
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from pydicom.data import get_testdata_file
from scipy import ndimage

from echofm import read_clip
from echofm.errors import UnreadableFile
from echofm.phantom import render_clip
from echofm.phantom.video import write_mjpeg
from echofm.readers import Limits
from echofm.readers.decoded import Decoded, Region
from echofm.readers.dicom import decode_dicom
from echofm.readers.refused import Refused
from echofm.readers.sector import apply_sector, find_sector

Frames = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Text:
    """Burned-in text: place in fractions of the screen, height in fractions of its height, brightness."""

    row: float
    column: float
    height: float
    letters: str
    value: int
    changing: bool


DIMMEST = 15
TEXTS = st.builds(
    Text,
    row=st.floats(-0.05, 1.0),
    column=st.floats(-0.1, 1.0),
    height=st.floats(0.05, 0.16),
    letters=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789^:/.", min_size=1, max_size=12),
    value=st.integers(DIMMEST, 255),
    changing=st.booleans(),
)


def burn_in(frames_THW: Frames, texts: list[Text], allowed_HW: Mask) -> tuple[Frames, Mask]:
    """Frames with the texts drawn where allowed, and every pixel that they touch in any frame."""
    burned = frames_THW.copy()
    touched = np.zeros(allowed_HW.shape, bool)
    rows, columns = allowed_HW.shape
    for text in texts:
        font = ImageFont.load_default(max(6, round(text.height * rows)))
        letters = np.random.default_rng(len(text.letters))
        for index in range(len(burned)):
            shown = "".join(letters.permutation(list("0123456789:" + text.letters)))[: len(text.letters)]
            picture = Image.new("L", (columns, rows))
            ImageDraw.Draw(picture).text(
                (text.column * columns, text.row * rows),
                shown if text.changing else text.letters,
                fill=text.value,
                font=font,
            )
            drawn = np.asarray(picture)
            where = (drawn > 0) & allowed_HW
            burned[index][where] = drawn[where]
            touched |= where
    return burned, touched


def heart_on_screen(seed: int = 0, frames: int = 20) -> tuple[Frames, Mask]:
    """A heart on a larger black screen, and its true sector (the formula of hearts.beating_heart)."""
    heart, _ = beating_heart(frames=frames, seed=seed)
    rows, columns = np.mgrid[:112, :112] / 111
    fan = (np.abs(np.arctan2(columns - 0.5, rows + 0.05)) < 0.7) & (np.hypot(columns - 0.5, rows) < 0.98)
    screen, sector = np.zeros((frames, 150, 180), np.uint8), np.zeros((150, 180), bool)
    screen[:, 20:132, 30:142], sector[20:132, 30:142] = heart, fan
    return screen, sector


def cine(name: str) -> tuple[Decoded, Mask]:
    """Some frames of a real cine, and a mask that surely holds its sector: what is found without text, and a rim."""
    with Path(str(get_testdata_file(name))).open("rb") as file:
        decoded = decode_dicom(file, channels=1, limits=Limits())
    some = replace(decoded, frames_TCHW=decoded.frames_TCHW[:16].copy(), frame_time_s=None)
    rim = 4 if some.frames_TCHW.shape[2] > 300 else 3
    return some, ndimage.binary_dilation(find_sector(decoded).mask_HW, iterations=rim)


def survivors(decoded: Decoded, touched: Mask) -> int | None:
    """Burned-in pixels that are lit in some frame afterwards; None where the clip is refused.

    Half the dimmest ink: the faint edge of a smoothed letter beside the sector's edge is one with the sector's own.
    """
    try:
        frames_TCHW, sector = apply_sector(decoded)
    except Refused:
        return None
    assert not frames_TCHW[:, :, ~sector.mask_HW].any()
    return int((frames_TCHW.max(axis=(0, 1)) > DIMMEST // 2)[touched].sum())


HEART, HEART_SECTOR = heart_on_screen()
AROUND_HEART = ~ndimage.binary_dilation(HEART_SECTOR)
PROPERTY = settings(
    deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow], database=None
)


# Dim words that touch the face of the transducer, found by the slow test below.
DIM_AT_FACE = [
    Text(row=0.0078125, column=0.2109375, height=0.15625, letters=letters, value=value, changing=False)
    for letters, value in (("CHG", 17), ("CH30", 15))
]


@PROPERTY
@given(texts=st.lists(TEXTS, min_size=1, max_size=5))
@example(texts=DIM_AT_FACE[:1])
@example(texts=DIM_AT_FACE[1:])
def test_no_text_survives_around_a_generated_heart(texts: list[Text]) -> None:
    burned, touched = burn_in(HEART, texts, AROUND_HEART)
    assert not survivors(Decoded(frames_TCHW=burned[:, None]), touched)


@settings(PROPERTY, max_examples=25)
@given(texts=st.lists(TEXTS, min_size=1, max_size=5), seed=st.integers(0, 8))
def test_no_text_survives_around_a_still(texts: list[Text], seed: int) -> None:
    heart, sector_HW = heart_on_screen(seed, frames=1)
    burned, touched = burn_in(heart, texts, ~ndimage.binary_dilation(sector_HW))
    assert not survivors(Decoded(frames_TCHW=burned[:, None]), touched)


@settings(PROPERTY, max_examples=2)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
@pytest.mark.parametrize("name", ["color3d_jpeg_baseline.dcm", "examples_ybr_color.dcm"])
def test_no_text_survives_around_a_real_cine(name: str, texts: list[Text], cines: dict[str, tuple]) -> None:
    decoded, sector_HW = cines[name]
    burned, touched = burn_in(decoded.frames_TCHW[:, 0], texts, ~sector_HW)
    assert not survivors(replace(decoded, frames_TCHW=burned[:, None]), touched)


@pytest.fixture(scope="module")
def cines() -> dict[str, tuple[Decoded, Mask]]:
    return {name: cine(name) for name in ("color3d_jpeg_baseline.dcm", "examples_ybr_color.dcm")}


def screen(number: int) -> tuple[Frames, Mask]:
    """Of any number a heart with up to six texts, and what they touch; drawn by number, the same everywhere."""
    draw = np.random.default_rng(number)
    heart, sector_HW = heart_on_screen(number % 31)
    texts = [
        Text(
            *draw.uniform((-0.05, -0.1, 0.05), (1, 1, 0.16)),
            letters="".join(draw.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789^:/."), draw.integers(1, 13))),
            value=int(draw.integers(DIMMEST, 256)),
            changing=bool(draw.integers(2)),
        )
        for _ in range(draw.integers(1, 7))
    ]
    return burn_in(heart, texts, ~ndimage.binary_dilation(sector_HW))


# Digits that change beside the sector widen the fan; in the last two, dim words lie in what is then empty.
@pytest.mark.parametrize("number", [31, 125, 274, 376, 399])
def test_digits_that_change_do_not_widen_the_fan(number: int) -> None:
    burned, touched = screen(number)
    assert survivors(Decoded(frames_TCHW=burned[:, None]), touched) == 0


@pytest.mark.parametrize("number", [2, 41, 51, 93, 128])
def test_digits_that_a_codec_blurs_into_the_echo_do_not_widen_the_fan(number: int) -> None:
    burned, touched = screen(number)
    coded = np.stack([jpeg(frame) for frame in burned])
    frames_TCHW, _ = apply_sector(Decoded(frames_TCHW=coded[:, None]))
    beside = touched & ~ndimage.binary_dilation(heart_on_screen()[1], iterations=3)
    assert not (frames_TCHW.max(axis=(0, 1)) > 20)[beside].any()


def jpeg(frame: Frames) -> Frames:
    """As a codec of quality 90 gives it back."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=90)
    return np.asarray(Image.open(file))


@pytest.mark.slow
def test_no_text_survives_around_many_generated_hearts() -> None:
    left = []
    for number in range(300):
        burned, touched = screen(number)
        if survivors(Decoded(frames_TCHW=burned[:, None]), touched):
            left.append(number)
    assert not left


def test_text_costs_little_of_the_heart() -> None:
    """Failing closed must not mean setting everything aside."""
    covers = []
    for seed in range(12):
        heart, sector_HW = heart_on_screen(seed, frames=30)
        draw = np.random.default_rng(seed)
        texts = [
            Text(*draw.uniform((0, 0, 0.06), (0.95, 0.9, 0.12)), letters="DOE^JANE", value=200, changing=changing)
            for changing in (False, True, False, True)
        ]
        burned, _ = burn_in(heart, texts, ~ndimage.binary_dilation(sector_HW))
        covers.append((find_sector(Decoded(frames_TCHW=burned[:, None])).mask_HW & sector_HW).sum() / sector_HW.sum())
    assert min(covers) > 0.6 and np.median(covers) > 0.9


@pytest.mark.parametrize("seed", range(6))
def test_the_sector_is_the_true_one(seed: int) -> None:
    heart, true_HW = heart_on_screen(seed)
    found_HW = find_sector(Decoded(frames_TCHW=heart[:, None].copy())).mask_HW
    assert not (found_HW & ~ndimage.binary_dilation(true_HW)).any()
    assert (found_HW & true_HW).sum() > 0.85 * true_HW.sum()


# Of 200 half cycles these lost most, up to three quarters of the sector, while four levels alone were tried.
@pytest.mark.parametrize(("patient", "clip", "view"), [(65, 0, "A2C"), (99, 0, "PSAX"), (46, 0, "PLAX")])
def test_half_a_cycle_of_a_phantom_keeps_its_sector(patient: int, clip: int, view: str, tmp_path: Path) -> None:
    whole = render_clip(patient, clip=clip, view=view)
    begin, end = whole.key_frames()
    path = tmp_path / "half.avi"
    write_mjpeg(path, whole.frames_THWC[begin : end + 1], whole.acquisition.frame_rate_hz)
    found_HW = read_clip(path).sector_HW
    assert (found_HW & whole.sector_HW).sum() > 0.9 * whole.sector_HW.sum()
    assert not (found_HW & ~ndimage.binary_dilation(whole.sector_HW, iterations=2)).any()


# Of 320 whole PLAX clips 11 kept less than .8 of their sector while no level between was tried, and 5 do since.
@pytest.mark.parametrize(("patient", "clip"), [(110, 0), (121, 1), (309, 1)])
def test_a_clip_whose_edges_only_one_level_shows(patient: int, clip: int, tmp_path: Path) -> None:
    whole = render_clip(patient, clip=clip, view="PLAX")
    path = tmp_path / "whole.avi"
    write_mjpeg(path, whole.frames_THWC, whole.acquisition.frame_rate_hz)
    found_HW = read_clip(path).sector_HW
    assert (found_HW & whole.sector_HW).sum() > 0.9 * whole.sector_HW.sum()
    assert not (found_HW & ~ndimage.binary_dilation(whole.sector_HW, iterations=2)).any()


def test_an_ecg_that_sweeps_through_the_fan_is_cut_off_beside_it() -> None:
    heart, true_HW = heart_on_screen(frames=40)
    columns = np.arange(180)
    trace = (118 - 10 * np.exp(-(((columns % 45) - 20) ** 2) / 8)).round().astype(int)
    for index, frame in enumerate(heart):
        drawn = columns < (index + 1) * 180 / 40
        for thick in (0, 1):
            frame[trace[drawn] + thick, columns[drawn]] = 220
    found_HW = find_sector(Decoded(frames_TCHW=heart[:, None])).mask_HW
    assert not (found_HW & ~ndimage.binary_dilation(true_HW)).any()
    assert (found_HW & true_HW).sum() > 0.7 * true_HW.sum()


def test_a_fan_that_hangs_upside_down() -> None:
    heart, true_HW = heart_on_screen()
    found_HW = find_sector(Decoded(frames_TCHW=heart[:, None, ::-1].copy())).mask_HW
    assert (found_HW[::-1] & true_HW).sum() > 0.92 * true_HW.sum()


def test_a_declared_region_bounds_the_fan_and_is_not_the_sector_itself() -> None:
    heart, true_HW = heart_on_screen()
    region = Region(top=20, left=30, bottom=131, right=141, spatial_format=1, data_type=1)
    # A name in the region's corner, outside the fan.
    heart[:, 22:30, 32:60] = 255
    found_HW = find_sector(Decoded(frames_TCHW=heart[:, None], regions=(region,))).mask_HW
    assert not (found_HW & ~ndimage.binary_dilation(true_HW)).any()
    assert (found_HW & true_HW).sum() > 0.9 * true_HW.sum()


def test_a_zoomed_image_that_fills_its_declared_region_is_kept() -> None:
    noise = np.random.default_rng(0).integers(0, 200, (12, 1, 120, 160), dtype=np.uint8)
    noise[..., :20], noise[..., 140:] = 0, 0
    region = Region(top=0, left=20, bottom=119, right=139, spatial_format=1, data_type=1)
    assert find_sector(Decoded(frames_TCHW=noise, regions=(region,))).mask_HW.mean() == pytest.approx(120 / 160)


def shapes() -> dict[str, Frames]:
    noise = np.random.default_rng(0).integers(0, 256, (16, 120, 160), dtype=np.uint8)
    rows, columns = np.mgrid[:120, :160]
    return {
        "noise from edge to edge": noise,
        "a box": noise * ((np.abs(rows - 60) < 40) & (np.abs(columns - 80) < 50)),
        "a strip, as of M-mode": noise * (np.abs(rows - 90) < 20),
        "nothing": np.zeros_like(noise),
        "a still picture in every frame": noise[:1].repeat(16, axis=0),
    }


@pytest.mark.parametrize("name", shapes())
def test_what_is_no_fan_is_refused(name: str) -> None:
    with pytest.raises(Refused):
        find_sector(Decoded(frames_TCHW=shapes()[name][:, None]))


@settings(PROPERTY, max_examples=8)
@given(texts=st.lists(TEXTS, min_size=1, max_size=8))
def test_a_screen_of_text_alone_is_refused(texts: list[Text]) -> None:
    burned, _ = burn_in(np.zeros_like(HEART), texts, np.ones(HEART.shape[1:], bool))
    with pytest.raises(Refused):
        find_sector(Decoded(frames_TCHW=burned[:, None]))


def test_keep_outside_keeps_it_and_takes_what_it_cannot_find(tmp_path: Path) -> None:
    heart, sector_HW = heart_on_screen(frames=10)
    heart[:, 2:12, 2:60] = 255
    path = write_avi(tmp_path / "x.avi", heart)
    assert not read_clip(path).frames_TCHW[:, 0, 2:12, 2:60].any()
    kept = read_clip(path, keep_outside=True)
    assert kept.frames_TCHW[:, 0, 4:10, 4:56].min() > 200
    assert (kept.sector_HW & sector_HW).sum() > 0.9 * sector_HW.sum()
    blank = write_avi(tmp_path / "blank.avi", np.zeros_like(heart))
    with pytest.raises(UnreadableFile, match="sector"):
        read_clip(blank)
    assert read_clip(blank, keep_outside=True).sector_HW.all()


def test_real_clips_keep_their_heart(real_clips: Path) -> None:
    for path in sorted(real_clips.glob("*.avi")):
        sector_HW = read_clip(path).sector_HW
        assert 0.4 < sector_HW.mean() < 0.75 and sector_HW[40:90, 45:70].all()
