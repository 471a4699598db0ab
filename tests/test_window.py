"""Windows: nearest frames, looping, starts; against a loop over all frames and by properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echofm.window import Windows

LENGTHS = st.integers(1, 40)
RATES = st.floats(5, 100)


@st.composite
def clocks(draw: st.DrawFn) -> np.ndarray:
    intervals = draw(st.lists(st.floats(0.004, 0.2), min_size=0, max_size=50))
    return np.concatenate([[0.0], np.cumsum(intervals)])


@given(clocks(), LENGTHS, RATES, st.floats(0, 1, exclude_max=True))
def test_drawn_window_is_the_nearest_frames_in_order(clock: np.ndarray, length: int, rate: float, u: float) -> None:
    start_s = Windows(clock, len(clock), length=length, frame_rate_hz=rate).random_start_s(u)
    indices, valid = Windows(clock, len(clock), length=length, frame_rate_hz=rate).indices(start_s)
    assert indices.shape == valid.shape == (length,)
    assert ((indices >= 0) & (indices < len(clock))).all()
    wanted = start_s + np.arange(length) / rate
    off_by = np.abs(clock[indices] - wanted)[valid]
    best = np.abs(clock[None] - wanted[:, None]).min(1)[valid]
    assert np.allclose(off_by, best, atol=3e-6)
    assert (np.diff(indices[valid]) >= 0).all()
    assert valid[0] and (np.diff(valid.astype(int)) <= 0).all()
    assert valid.all() or start_s == 0.0, "a clip that is too short is looped from its first frame"


@given(st.integers(1, 60), LENGTHS, st.integers(0, 60), st.none() | RATES)
def test_unknown_times_give_consecutive_frames(n_frames: int, length: int, start: int, rate: float | None) -> None:
    start = min(start, n_frames - 1)
    indices, valid = Windows(None, n_frames, length=length, frame_rate_hz=rate).indices(start)
    assert indices.tolist() == [(start + step) % n_frames for step in range(length)]
    assert valid.tolist() == [start + step < n_frames for step in range(length)]


def test_known_times_without_a_rate_start_at_the_nearest_frame() -> None:
    clock = np.array([0.0, 0.02, 0.05, 0.06, 0.1])
    indices, valid = Windows(clock, 5, length=3, frame_rate_hz=None).indices(0.021)
    assert indices.tolist() == [1, 2, 3] and valid.all()


def test_a_short_clip_is_looped_at_its_own_period() -> None:
    clock = np.arange(4) / 50
    indices, valid = Windows(clock, 4, length=10, frame_rate_hz=50).indices()
    assert indices.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert valid.tolist() == [True] * 4 + [False] * 6
    assert np.allclose(Windows(clock, 4, length=10, frame_rate_hz=50).time_s(indices), np.arange(10) / 50)
    half, _ = Windows(clock, 4, length=5, frame_rate_hz=25).indices()
    assert half.tolist() == [0, 2, 0, 2, 0]


def test_a_single_frame_fills_the_window() -> None:
    indices, valid = Windows(np.zeros(1), 1, length=4, frame_rate_hz=50).indices()
    assert indices.tolist() == [0] * 4 and valid.tolist() == [True, False, False, False]


def test_slower_windows_skip_frames_and_faster_ones_repeat_them() -> None:
    clock = np.arange(20) / 50
    assert Windows(clock, 20, length=4, frame_rate_hz=12.5).indices()[0].tolist() == [0, 4, 8, 12]
    assert Windows(clock, 20, length=4, frame_rate_hz=100).indices()[0].tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("rate", [50.0, 25.0, None])
def test_every_possible_start_is_equally_likely(rate: float | None) -> None:
    clock = np.arange(40) / 50
    starts = Windows(clock, 40, length=10, frame_rate_hz=rate).starts_s
    span = 19 if rate == 25 else 10
    assert len(starts) == 40 - span + 1
    drawn = [Windows(clock, 40, length=10, frame_rate_hz=rate).random_start_s(u) for u in np.arange(3100) / 3100]
    _, counts = np.unique(drawn, return_counts=True)
    assert len(counts) == len(starts) and np.ptp(counts) <= 1


@given(clocks(), LENGTHS, st.none() | RATES)
def test_all_windows_cover_the_clip(clock: np.ndarray, length: int, rate: float | None) -> None:
    starts = Windows(clock, len(clock), length=length, frame_rate_hz=rate).even_starts_s(None)
    possible = Windows(clock, len(clock), length=length, frame_rate_hz=rate).starts_s
    assert len(starts) == 1 or (starts[0], starts[-1]) == (0, possible[-1])
    if rate is None:
        seen = {
            int(index)
            for start in starts
            for index in Windows(clock, len(clock), length=length, frame_rate_hz=None).indices(start)[0]
        }
        assert seen == set(range(len(clock)))


def test_even_starts() -> None:
    clock = np.arange(100) / 50
    spread = Windows(clock, 100, length=32, frame_rate_hz=50).even_starts_s(3)
    assert np.allclose(spread, np.array([0, 34, 68]) / 50)
    assert Windows(clock, 100, length=32, frame_rate_hz=50).even_starts_s(1) == [34 / 50]
    assert Windows(clock, 100, length=100, frame_rate_hz=50).even_starts_s(5) == [0.0]
    assert Windows(None, 10, length=8, frame_rate_hz=None).even_starts_s(9) == [0.0, 1.0, 2.0]
