"""Windows to one row and one timeline: averages, stitching, batches, frame times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hearts import beating_heart
from hypothesis import given
from hypothesis import strategies as st

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.extract import embed_clips, stitch
from echofm.embed.table import EmbeddingTable
from echofm.embed.tokens import parse_grid
from echofm.errors import EchofmError
from echofm.model.config import EncoderConfig
from echofm.model.vit import Encoding, VideoEncoder
from echofm.shards.windows import Windowing

TUBELET = 2


class MeanGrey(torch.nn.Module):
    """An encoder whose features are known: every token is the mean grey of its frames."""

    def __init__(self, *, frames: int = 8, frame_rate_hz: float | None = 50.0, broken: bool = False) -> None:
        super().__init__()
        self.contract = InputContract(size=16, frames=frames, frame_rate_hz=frame_rate_hz)
        self.digest = "mean-grey"
        self.grid = (frames // TUBELET, 1, 1)
        self.broken = broken
        self.batches: list[int] = []

    def encode(self, video_BCTHW: torch.Tensor, frame_rate_hz: float | None = None) -> Encoding:
        self.contract.check(video_BCTHW, frame_rate_hz)
        self.batches.append(len(video_BCTHW))
        phase_BT1 = video_BCTHW.mean((1, 3, 4)).unflatten(1, (-1, TUBELET)).mean(2)[..., None]
        if self.broken:
            phase_BT1 = phase_BT1 / 0
        return Encoding(tokens_BND=phase_BT1, phase_BTD=phase_BT1, video_BD=phase_BT1.mean(1))


def ramp(frames: int, *, name: str = "clip", frame_rate_hz: float | None = 50.0) -> Clip:
    """Every pixel of frame t is t."""
    frames_TCHW = np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, 1, 16, 16)).copy()
    return Clip(
        frames_TCHW=frames_TCHW,
        sector_HW=np.ones((16, 16), bool),
        clip_id=name,
        patient_id="patient",
        frame_time_s=None if frame_rate_hz is None else np.arange(frames) / frame_rate_hz,
        labels={"ef_percent": 55.0},
        view="A4C",
    )


@pytest.mark.parametrize("frames", [8, 9, 20, 24, 31])
def test_the_default_windows_cover_the_clip_once(frames: int) -> None:
    table = embed_clips(MeanGrey(), [ramp(frames)])
    phase = table.phase
    assert phase is not None
    # What the encoder says at a moment is what was there at that moment.
    np.testing.assert_allclose(phase.feature_PD[:, 0] * 255, phase.frame_P, atol=1e-4)
    np.testing.assert_allclose(phase.time_s_P, phase.frame_P / 50, atol=1e-6)
    gaps = np.diff(phase.frame_P)
    assert gaps.min() > 0 and gaps.max() <= TUBELET * 1.5
    assert phase.frame_P[0] == 0.5 and phase.frame_P[-1] in (frames - 1.5, frames - 2.5)
    assert np.isnan(phase.cycle_P).all()


def test_a_window_from_every_frame_puts_each_moment_in_the_middle() -> None:
    table = embed_clips(MeanGrey(frames=8), [ramp(40)], windows=1000)
    phase = table.phase
    assert phase is not None and table.rows["windows"][0] == 33
    np.testing.assert_allclose(phase.feature_PD[:, 0] * 255, phase.frame_P, atol=1e-4)
    inner = (phase.frame_P > 4) & (phase.frame_P < 35)
    # A window that starts at frame w has its middle at w + 3.5; its tokens lie 1 and 3 frames from it.
    assert (np.abs(phase.frame_P - (phase.window_P + 3.5))[inner] == 1).all()
    assert np.diff(phase.frame_P).min() >= TUBELET and np.diff(phase.frame_P).max() <= 1.5 * TUBELET


def test_a_row_says_what_is_known() -> None:
    row = embed_clips(MeanGrey(), [ramp(20)]).rows.iloc[0]
    assert (row.clip_id, row.patient_id, row["view"], row.kind) == ("clip", "patient", "A4C", "unknown")
    assert (row.frame_rate_hz, row.frames, row.windows, row.ef_percent) == (50, 20, 3, 55)


def test_no_label_takes_the_place_of_a_column() -> None:
    labels = {"frame_rate_hz": 1.0, "split": "test", "clip_id": "other", "esv_ml": 40.0}
    table = embed_clips(MeanGrey(), [ramp(20).replace(labels=labels)])
    row = table.rows.iloc[0]
    assert (row.clip_id, row.frame_rate_hz, row.esv_ml) == ("clip", 50, 40) and table.split[0] is None
    assert list(table.labels) == ["esv_ml"]


def test_windows_are_averaged() -> None:
    # Windows of frames 0-7, 6-13 and 12-19: mean grey 3.5, 9.5, 15.5.
    table = embed_clips(MeanGrey(), [ramp(20)])
    assert table.video_ND[0, 0] * 255 == pytest.approx(9.5)
    assert embed_clips(MeanGrey(), [ramp(20)], windows=1).video_ND[0, 0] * 255 == pytest.approx(9.5, abs=0.51)
    assert embed_clips(MeanGrey(), [ramp(20)], windows=2).video_ND[0, 0] * 255 == pytest.approx(9.5)


def test_unknown_frame_times_stay_unknown() -> None:
    table = embed_clips(MeanGrey(frame_rate_hz=25.0), [ramp(20, frame_rate_hz=None)])
    assert table.phase is not None
    assert np.isnan(table.rows["frame_rate_hz"][0]) and np.isnan(table.phase.time_s_P).all()
    np.testing.assert_allclose(table.phase.feature_PD[:, 0] * 255, table.phase.frame_P, atol=1e-4)


def test_known_frame_times_are_brought_to_the_encoders_rate() -> None:
    table = embed_clips(MeanGrey(frame_rate_hz=25.0), [ramp(32, frame_rate_hz=50.0)])
    assert table.phase is not None
    assert (table.rows["frame_rate_hz"][0], table.rows["frames"][0]) == (50, 16)
    np.testing.assert_allclose(table.phase.feature_PD[:, 0] * 255, table.phase.time_s_P * 50, atol=1e-3)


def test_a_short_clip_is_looped_and_its_repeats_are_not_kept() -> None:
    table = embed_clips(MeanGrey(), [ramp(5)])
    assert table.phase is not None
    # Tokens of frames (0, 1), (2, 3), (4, 0 again); the fourth token repeats only.
    np.testing.assert_allclose(table.phase.frame_P, [0.5, 2.5, 4])
    np.testing.assert_allclose(table.phase.time_s_P, [0.01, 0.05, 0.08])


def test_neither_batch_nor_company_matters() -> None:
    clips = [ramp(8 + 3 * n, name=f"clip{n}") for n in range(7)]
    alone = np.concatenate([embed_clips(MeanGrey(), [clip]).video_ND for clip in clips])
    for batch in (1, 4, 100):
        encoder = MeanGrey()
        table = embed_clips(encoder, clips, batch=batch)
        np.testing.assert_allclose(table.video_ND, alone, atol=1e-6)
        assert max(encoder.batches) <= batch
    assert encoder.batches == [sum(table.rows["windows"].astype(int))]


def test_phase_truth_is_the_circular_mean() -> None:
    frames_THW, phase_T = beating_heart(frames=40, size=32)
    clip = Clip(
        frames_TCHW=frames_THW[:, None],
        sector_HW=frames_THW.any(0),
        clip_id="c",
        patient_id="p",
        frame_time_s=np.arange(40) / 50,
        phase_T=phase_T,
    )
    phase = embed_clips(MeanGrey(), [clip]).phase
    assert phase is not None
    # 75 beats a minute: the phase runs by 1.25 per second from the first frame's.
    away = (phase.cycle_P - phase_T[0] - 1.25 * phase.time_s_P + 0.5) % 1 - 0.5
    assert np.abs(away).max() < 1e-5 and phase.cycle_P.min() >= 0 and phase.cycle_P.max() < 1


def test_phase_can_be_left_out_and_no_clips_are_no_error() -> None:
    assert embed_clips(MeanGrey(), [ramp(8)], phase=False).phase is None
    assert len(embed_clips(MeanGrey(), [])) == 0


def test_bf16_is_close_and_does_not_mix() -> None:
    full, half = (embed_clips(MeanGrey(), [ramp(20)], precision=name) for name in ("fp32", "bf16"))
    np.testing.assert_allclose(half.video_ND, full.video_ND, rtol=2e-2)
    with pytest.raises(EchofmError, match="different settings"):
        full.join(half)


def test_features_that_are_not_finite_name_the_clip() -> None:
    with pytest.raises(EchofmError, match="no finite features for clip clip7"):
        embed_clips(MeanGrey(broken=True), [ramp(8, name="clip7")])


@given(frames=st.integers(1, 70), length=st.sampled_from([4, 8, 12]), count=st.one_of(st.none(), st.integers(1, 9)))
def test_timeline_rises_without_repeats(frames: int, length: int, count: int | None) -> None:
    windows = Windowing(length=length, frame_rate_hz=None).spread(0, "clip", None, frames, count=count)
    shape = (len(windows), length // TUBELET, 1)
    phase = stitch(windows, np.arange(np.prod(shape), dtype=np.float32).reshape(shape), frame_time_s=None, phase_F=None)
    assert len(phase.feature_PD) >= 1
    gaps = np.diff(phase.frame_P)
    # The last token of a looped clip may see one frame less.
    assert (gaps[:-1] >= TUBELET).all() and (gaps >= TUBELET * 0.75).all()
    if (count is None or count > frames) and frames >= length:
        assert phase.frame_P[0] in (0.5, 1.5) and phase.frame_P[-1] in (frames - 1.5, frames - 2.5)
        assert (gaps <= 1.5 * TUBELET).all()
    owner = [windows[window].indices_L.tolist() for window in phase.window_P]
    assert all(int(frame) in indices for frame, indices in zip(phase.frame_P, owner))


def test_other_value_ranges_are_served() -> None:
    encoder = MeanGrey()
    encoder.contract = encoder.contract.model_copy(update={"value_range": (-1.0, 1.0)})
    seen = SimpleNamespace()

    def check(video_BCTHW: torch.Tensor, frame_rate_hz: float | None) -> None:
        seen.least, seen.greatest = video_BCTHW.min().item(), video_BCTHW.max().item()

    object.__setattr__(encoder.contract, "check", check)
    clip = ramp(8)
    embed_clips(encoder, [clip.replace(frames_TCHW=clip.frames_TCHW * 36)])
    assert seen.least == -1 and seen.greatest == pytest.approx(2 * 252 / 255 - 1)


def test_tokens_come_from_the_middle_window() -> None:
    # Windows of frames 0-7, 6-13 and 12-19 of the first clip, one of the second, whatever the batches.
    for batch in (1, 3, 16):
        table = embed_clips(MeanGrey(), [ramp(20), ramp(8, name="short")], tokens=(2, 1, 1), batch=batch)
        assert table.tokens is not None and table.tokens.grid == (2, 1, 1)
        np.testing.assert_allclose(
            table.tokens.feature_NTRCD[:, :, 0, 0, 0] * 255, [[7.5, 11.5], [1.5, 5.5]], atol=1e-4
        )
    assert table.settings["tokens"] == "2,1,1" and embed_clips(MeanGrey(), [ramp(8)]).tokens is None


def test_tokens_keep_their_places() -> None:
    torch.manual_seed(0)
    net = VideoEncoder(EncoderConfig(size=32, frames=8, channels=1, patch=8, tubelet=2, width=16, depth=1, heads=2))
    encoder = SimpleNamespace(
        contract=InputContract(size=32, frames=8), digest="e", grid=net.positions.grid, encode=net.encode
    )
    frames_TCHW = np.random.default_rng(0).integers(0, 255, (8, 1, 32, 32)).astype(np.uint8)
    clip = ramp(8).replace(frames_TCHW=frames_TCHW, sector_HW=np.ones((32, 32), bool))
    with torch.no_grad():
        tokens_TRCD = net.encode(torch.from_numpy(frames_TCHW / 255).float().transpose(0, 1)[None]).tokens_BND[0]
    whole = embed_clips(encoder, [clip], tokens=(4, 4, 4)).tokens
    assert whole is not None
    np.testing.assert_allclose(whole.feature_NTRCD[0].reshape(64, 16), tokens_TRCD, atol=1e-5)
    pooled = embed_clips(encoder, [clip], tokens=(2, 2, 4)).tokens
    assert pooled is not None
    by_hand = whole.feature_NTRCD.reshape(1, 2, 2, 2, 2, 4, 16).mean((2, 4))
    np.testing.assert_allclose(pooled.feature_NTRCD, by_hand, atol=1e-5)


def test_tokens_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(EchofmError, match="at most 4,1,1"):
        embed_clips(MeanGrey(), [ramp(8)], tokens=(4, 2, 2))
    for text in ("4,7", "4, 7, 7", "0,1,1", "a,b,c"):
        with pytest.raises(EchofmError, match="times,rows,columns"):
            parse_grid(text)
    assert parse_grid("4,7,7") == (4, 7, 7)


class Patches(MeanGrey):
    """Tokens of 4 x 4 pixels: their mean grey."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = (8 // TUBELET, 4, 4)

    def encode(self, video_BCTHW: torch.Tensor, frame_rate_hz: float | None = None) -> Encoding:
        cut = video_BCTHW[:, 0].unflatten(1, (-1, TUBELET)).unflatten(3, (4, 4)).unflatten(5, (4, 4))
        tokens_BN1 = cut.mean((2, 4, 6)).flatten(1)[..., None]
        phase_BT1 = tokens_BN1.unflatten(1, (-1, 16)).mean(2)
        return Encoding(tokens_BND=tokens_BN1, phase_BTD=phase_BT1, video_BD=tokens_BN1.mean(1))


def test_the_motion_map_tells_where_something_moves() -> None:
    still = ramp(8)
    frames = np.zeros_like(still.frames_TCHW)
    frames[4:, :, 8:12, 0:4] = 200
    clip = still.replace(frames_TCHW=frames)
    motion_RC = embed_clips(Patches(), [clip]).motion_NRCD[0, ..., 0]
    wanted = np.zeros((4, 4))
    wanted[2, 0] = np.std([0, 0, 1, 1]) * 200 / 255
    np.testing.assert_allclose(motion_RC, wanted, atol=1e-6)


def test_the_motion_map_survives_the_disk_and_is_cut_with_its_clips(tmp_path: Path) -> None:
    table = embed_clips(Patches(), [ramp(8, name="a"), ramp(16, name="b")])
    table.save(tmp_path / "table")
    back = EmbeddingTable.load(tmp_path / "table")
    np.testing.assert_array_equal(back.motion_NRCD, table.motion_NRCD)
    np.testing.assert_array_equal(EmbeddingTable.concat([back.select([1])]).motion_NRCD, table.motion_NRCD[1:])
    with pytest.raises(EchofmError, match="motion features and some have none"):
        EmbeddingTable.concat([back.select([0]), replace(back.select([1]), motion_NRCD=None)])
