"""Frames that are no echo: a page before or after a cine is left out and told, one within it sets the file aside."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hearts import beating_heart, write_avi
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from echofm import read_clip
from echofm.clip import Clip
from echofm.errors import UnreadableFile
from echofm.readers.decoded import Decoded
from echofm.readers.pages import without_pages
from echofm.readers.refused import Refused
from echofm.shards.cli import main

Frames = npt.NDArray[np.uint8]


def page(shape: tuple[int, int], seed: int = 0, ground: int = 0) -> Frames:
    """A screen of words, all over it."""
    draw = np.random.default_rng(seed)
    picture = Image.new("L", shape[::-1], ground)
    for line in range(int(draw.integers(3, 7))):
        words = "".join(draw.choice(list("ABCDEFGHIKLMNOPRSTUV0123456789 "), 14))
        where = shape[1] * draw.uniform(0.05, 0.4), shape[0] * (0.08 + 0.13 * line)
        ink = 255 - ground if ground != 128 else 255
        ImageDraw.Draw(picture).text(where, words, fill=ink, font=ImageFont.load_default(max(8, shape[0] // 12)))
    return np.asarray(picture)


def on_screen(frames: int, seed: int, size: int = 112) -> Frames:
    heart, _ = beating_heart(frames=frames, seed=seed, size=size)
    return np.pad(heart, ((0, 0), (16, 16), (24, 24)))


@settings(deadline=None, max_examples=4, derandomize=True)
@given(
    seed=st.integers(0, 20),
    frames=st.sampled_from([3, 8, 12, 40]),
    size=st.sampled_from([64, 112, 200]),
    lead=st.integers(0, 2),
    tail=st.integers(0, 2),
    ground=st.sampled_from([0, 128, 255]),
)
def test_pages_before_and_after_are_left_out(
    seed: int, frames: int, size: int, lead: int, tail: int, ground: int
) -> None:
    heart = on_screen(frames, seed, size)
    lead, tail = min(lead, frames // 3), min(tail, frames // 3)
    pages = page(heart.shape[1:], seed, ground)
    whole = np.concatenate([pages[None].repeat(lead, 0), heart, pages[None].repeat(tail, 0)])
    time_s = np.arange(len(whole)) / 50
    left, first = without_pages(Decoded(frames_TCHW=whole[:, None], frame_time_s=time_s))
    assert first == lead and np.array_equal(left.frames_TCHW[:, 0], heart)
    assert np.allclose(left.frame_time_s, np.arange(frames) / 50)


@pytest.mark.parametrize("frames", [3, 10, 30])
def test_a_page_within_a_cine_sets_it_aside(frames: int) -> None:
    heart = on_screen(frames, 1)
    middle = len(heart) // 2
    whole = np.concatenate([heart[:middle], page(heart.shape[1:])[None], heart[middle:]])
    with pytest.raises(Refused, match="several scenes"):
        without_pages(Decoded(frames_TCHW=whole[:, None]))


def test_two_frames_of_which_neither_shows_the_others_scene_are_set_aside() -> None:
    draw = np.random.default_rng(18)
    first = draw.integers(0, 255, (16, 16))
    second = first * draw.uniform(0.2, 1) + draw.normal(0, draw.uniform(0, 40), first.shape)
    frames = np.clip(np.stack([first, second]), 0, 255).astype(np.uint8)
    with pytest.raises(Refused, match="several scenes"):
        without_pages(Decoded(frames_TCHW=frames[:, None]))


def test_black_frames_before_a_cine_are_left_out() -> None:
    heart = on_screen(20, 2)
    whole = np.concatenate([np.zeros_like(heart[:3]), heart])
    assert without_pages(Decoded(frames_TCHW=whole[:, None]))[1] == 3


def test_two_cines_one_after_another_are_set_aside() -> None:
    whole = np.concatenate([on_screen(20, 2), np.roll(on_screen(20, 2), 70, axis=2)])
    with pytest.raises(Refused, match="several scenes"):
        without_pages(Decoded(frames_TCHW=whole[:, None]))


@pytest.mark.parametrize(("ground", "lead"), [(255, 1), (200, 2), (90, 1)])
def test_a_page_within_the_scanner_s_own_still_frame_is_left_out(ground: int, lead: int) -> None:
    """What stands still around cine and page makes them alike: the whole screens correlate with .8."""
    heart = on_screen(20, 3)
    pages = page(heart.shape[1:], 3)[None].repeat(lead, 0)
    whole = np.pad(np.concatenate([pages, heart]), ((0, 0), (40, 40), (60, 60)), constant_values=ground)
    assert without_pages(Decoded(frames_TCHW=whole[:, None]))[1] == lead


def test_a_page_whose_clock_goes_on_is_a_page() -> None:
    heart = on_screen(20, 3)
    pages = page(heart.shape[1:], 3)[None].repeat(5, 0)
    for number, one in enumerate(pages):
        one[:12, :40] = page((12, 40), number)
    left, first = without_pages(Decoded(frames_TCHW=np.concatenate([pages, heart])[:, None]))
    assert first == 5 and len(left.frames_TCHW) == 20


@pytest.mark.parametrize("length", [2, 3, 8])
def test_a_short_second_cine_at_an_end_sets_the_file_aside(length: int) -> None:
    """It is no page: it would be lost in silence."""
    first = np.pad(on_screen(30, 2), ((0, 0), (0, 0), (0, 140)))
    second = np.pad(on_screen(length, 7), ((0, 0), (0, 0), (140, 0)))
    for parts in ([first, second], [second, first]):
        with pytest.raises(Refused, match="several scenes"):
            without_pages(Decoded(frames_TCHW=np.concatenate(parts)[:, None]))


def test_a_page_that_is_faded_in_sets_the_file_aside() -> None:
    """Of a page dropped alone some would be left, readable, in the frames of the fade."""
    heart = on_screen(40, 2).astype(float)
    words = page(heart.shape[1:], 2)
    share_T = np.clip(np.arange(40) / 12, 0, 1)[:, None, None]
    faded = ((1 - share_T) * words + share_T * heart).astype(np.uint8)
    with pytest.raises(Refused, match="several scenes"):
        without_pages(Decoded(frames_TCHW=faded[:, None]))


def test_a_cine_that_slowly_lights_up_keeps_its_frames_and_loses_the_black() -> None:
    """As contrast does, or a fade from black."""
    heart = on_screen(40, 2).astype(float)
    gain_T = np.clip(0.25 + np.arange(40) / 30, 0, 1.6)[:, None, None]
    lit = np.clip(gain_T * heart, 0, 255).astype(np.uint8)
    assert len(without_pages(Decoded(frames_TCHW=lit[:, None]))[0].frames_TCHW) == 40
    faded = (np.clip(np.arange(40) / 10, 0, 1)[:, None, None] * heart).astype(np.uint8)
    left, first = without_pages(Decoded(frames_TCHW=faded[:, None]))
    assert first <= 2 and len(left.frames_TCHW) == 40 - first


REAL = [path for folder in ("sector", "real") for path in sorted(Path("/work/shared", folder).rglob("*.*"))]


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="the real files are not here")
def test_real_cines_keep_every_frame_and_lose_a_page() -> None:
    """The measurement behind the thresholds: as the module states it."""
    from echofm.readers.formats import decode
    from echofm.readers.limits import Limits
    from echofm.readers.pages import _differ, _greys

    read = 0
    for path in (path for path in REAL if path.suffix in (".avi", ".mp4", ".dcm")):
        try:
            frames_TCHW = decode(io.BytesIO(path.read_bytes()), path=path, channels=1, limits=Limits()).frames_TCHW
        except Refused:
            continue
        if len(frames_TCHW) < 8 or path.name.startswith("1669437834753712128"):
            # That one has a page of its own.
            continue
        greys_TG = _greys(frames_TCHW)
        assert _differ(greys_TG, np.median(greys_TG, axis=0)).max() < 0.21, path.name
        assert without_pages(Decoded(frames_TCHW=frames_TCHW))[0].frames_TCHW is frames_TCHW
        pages = page(frames_TCHW.shape[2:], read)[None, None]
        left, first = without_pages(Decoded(frames_TCHW=np.concatenate([pages, frames_TCHW])))
        assert first == 1 and len(left.frames_TCHW) == len(frames_TCHW), path.name
        read += 1
    assert read >= 25


def test_a_heart_that_moves_much_keeps_its_frames() -> None:
    heart, _ = beating_heart(frames=12, seed=3, frame_rate_hz=8)
    assert len(without_pages(Decoded(frames_TCHW=heart[:, None]))[0].frames_TCHW) == 12


def test_truth_follows_the_frames_that_are_left(tmp_path: Path) -> None:
    from echofm.readers.read import read_row
    from echofm.readers.source import Row

    def add_truth(clip: Clip) -> Clip:
        mask_THW = np.zeros((len(clip.frames_TCHW), *clip.sector_HW.shape), np.uint8)
        mask_THW[5] = 1
        return clip.replace(mask_THW=mask_THW, phase_T=np.linspace(0, 0.9, len(mask_THW), dtype=np.float32))

    heart = on_screen(20, 4)
    path = write_avi(tmp_path / "a.avi", np.concatenate([page(heart.shape[1:])[None].repeat(2, 0), heart]))
    clip = read_row(Row(path=path, patient="a", add_truth=add_truth))
    assert len(clip.frames_TCHW) == len(clip.phase_T) == 20 and clip.dropped_frames == 2
    assert clip.mask_THW[3].all() and clip.mask_THW.sum() == clip.mask_THW[3].size
    assert clip.frame_time_s[0] == 0


def test_no_word_of_a_page_is_in_a_shard_and_it_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heart = on_screen(20, 5)
    words = page(heart.shape[1:], 1)
    for name, parts in (("a", [words[None], heart]), ("b", [heart, words[None]]), ("c", [heart])):
        (tmp_path / "in" / name).mkdir(parents=True)
        write_avi(tmp_path / "in" / name / "x.avi", np.concatenate(parts))
    command = [str(tmp_path / "in"), str(tmp_path / "out"), "--patient-from", "parent", "--fps", "native"]
    assert main(command) == 0
    assert "no echo, left out: 2" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["dropped_frames"] == 2 and sum(one["frames"] for one in manifest["splits"].values()) == 60


def test_a_file_of_a_page_and_one_frame_is_set_aside(tmp_path: Path) -> None:
    heart = on_screen(1, 6)
    path = write_avi(tmp_path / "a.avi", np.concatenate([page(heart.shape[1:])[None], heart]))
    with pytest.raises(UnreadableFile):
        read_clip(path)
