"""Copies are found, whatever was done to them; two recordings are never taken for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from copies import brighter, cropped
from hearts import Frames, beating_heart, write_avi
from PIL import Image

from echofm.check.duplicates import compare, find_copies, find_duplicates
from echofm.check.fingerprint import CURVE_POINTS, FRAMES, GRID, Fingerprint, fingerprint
from echofm.clip import Clip
from echofm.readers import read_clip

Change = Callable[[Frames, np.random.Generator], Frames]


def print_of(frames_THW: Frames) -> Fingerprint:
    sector_HW = frames_THW.max(axis=0) > 8
    return fingerprint(Clip(frames_TCHW=frames_THW[:, None], sector_HW=sector_HW, clip_id="c", patient_id="p"))


def exact(frames_THW: Frames, rng: np.random.Generator) -> Frames:
    return frames_THW


def reversed_in_time(frames_THW: Frames, rng: np.random.Generator) -> Frames:
    return frames_THW[::-1]


def re_encoded(frames_THW: Frames, rng: np.random.Generator, *, folder: Path, codec: str = "mpeg4") -> Frames:
    path = write_avi(folder / "copy.avi", frames_THW, codec=codec)
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


def all_at_once(frames_THW: Frames, rng: np.random.Generator) -> Frames:
    return cropped(brighter(frames_THW[::-1], rng), rng)


CHANGES: tuple[Change, ...] = (exact, reversed_in_time, brighter, cropped, all_at_once)


@pytest.fixture(scope="module")
def hearts() -> list[Frames]:
    return [beating_heart(frames=24, seed=seed)[0] for seed in range(10)]


@pytest.fixture(scope="module")
def prints(hearts: list[Frames]) -> list[Fingerprint]:
    return [print_of(heart) for heart in hearts]


def found_copies(prints: Sequence[Fingerprint], copies: Sequence[Fingerprint], originals: Sequence[int]) -> list[bool]:
    """Which copies are paired with their originals. Asserts that nothing is paired but copies of one recording."""
    recording = [*range(len(prints)), *originals]
    pairs = {(pair.first, pair.second) for pair in find_duplicates([*prints, *copies])}
    assert [pair for pair in pairs if recording[pair[0]] != recording[pair[1]]] == []
    return [(original, len(prints) + place) in pairs for place, original in enumerate(originals)]


def test_different_recordings_are_never_paired(prints: list[Fingerprint]) -> None:
    assert find_duplicates(prints) == []


def test_changed_copies_are_found(hearts: list[Frames], prints: list[Fingerprint], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    changes = [*CHANGES, lambda frames, rng: re_encoded(frames, rng, folder=tmp_path)]
    copies = [print_of(change(heart, rng)) for change in changes for heart in hearts[:3]]
    found = found_copies(prints, copies, list(range(3)) * len(changes))
    assert found == [True] * len(copies)


def test_padding_and_size_do_not_matter(hearts: list[Frames]) -> None:
    padded = np.pad(hearts[0], ((0, 0), (31, 5), (12, 60)))
    larger = np.stack([np.asarray(Image.fromarray(frame).resize((400, 300))) for frame in padded])
    (pair,) = find_duplicates([print_of(hearts[0]), print_of(larger)])
    assert pair.correlation > 0.8


def test_a_copy_of_which_half_the_sector_was_found(hearts: list[Frames]) -> None:
    """The picture's own fingerprint does not depend on the sector's bounding box."""
    sector_HW = hearts[0].max(axis=0) > 8
    left_HW = sector_HW & (np.arange(112) < 56)
    clips = [
        Clip(frames_TCHW=(heart * sector)[:, None], sector_HW=sector, clip_id="c", patient_id="p")
        for heart, sector in ((hearts[0], sector_HW), (hearts[1], sector_HW), (hearts[0][::-1], left_HW))
    ]
    by_picture = [fingerprint(clip, whole_picture=True) for clip in clips]
    assert [(p.first, p.second) for p in find_copies([fingerprint(clip) for clip in clips], by_picture)] == [(0, 2)]


def test_the_fit_recovers_the_crop(hearts: list[Frames]) -> None:
    """Half a cell too far from the truth would already lose the speckle."""
    heart = hearts[3]
    box = np.argwhere(heart.max(axis=0) > 8)
    (top, left), (bottom, right) = box.min(axis=0), box.max(axis=0) + 1
    cut = np.ascontiguousarray(heart[:, top + 6 : bottom - 3, left + 4 : right - 8])
    height, width = bottom - top, right - left
    window = np.array([6 / height, 4 / width, 1 - 3 / height, 1 - 8 / width])
    close = compare(print_of(heart), print_of(cut), window=window + np.array([0.03, -0.02, -0.03, 0.02]))
    assert close > 0.85


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_stills_and_tiny_clips_have_fingerprints(hearts: list[Frames], frames: int) -> None:
    one, other = print_of(hearts[0][:frames]), print_of(hearts[1][:frames])
    assert one.motion_M.shape == (CURVE_POINTS,) and np.isfinite(one.motion_M).all()
    assert one.shape_2GG.shape == (2, GRID, GRID) and one.frames_KGG.shape == (FRAMES, GRID, GRID)
    pairs = find_duplicates([one, other, print_of(hearts[0][:frames])])
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 2)]


def test_blank_clips_are_no_copies_of_anything() -> None:
    blank = Clip(
        frames_TCHW=np.zeros((5, 1, 20, 30), np.uint8), sector_HW=np.ones((20, 30), bool), clip_id="c", patient_id="p"
    )
    assert find_duplicates([fingerprint(blank)] * 3) == [] and find_duplicates([fingerprint(blank)]) == []


def test_the_same_in_several_processes(
    hearts: list[Frames], prints: list[Fingerprint], monkeypatch: pytest.MonkeyPatch
) -> None:
    several = [*prints[:6], print_of(hearts[0][::-1])]
    alone = find_duplicates(several)
    monkeypatch.setattr("echofm.check.duplicates._WORTH_PROCESSES", 1)
    assert find_duplicates(several, processes=2) == alone != []


def test_real_clips(real_clips: Path) -> None:
    rng = np.random.default_rng(3)
    clips = [read_clip(path) for path in sorted(real_clips.glob("*.avi"))]
    frames = [clip.frames_TCHW[:, 0] for clip in clips]
    assert find_duplicates([fingerprint(clip) for clip in clips]) == []
    for change in CHANGES:
        pairs = find_duplicates([fingerprint(clips[0]), fingerprint(clips[1]), print_of(change(frames[0], rng))])
        assert [(pair.first, pair.second) for pair in pairs] == [(0, 2)]
