"""Frames matched far in time: counted as a loop counts, tested against chance, read from an encoder at every frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from hearts import beating_heart

from benchmarks.real_cycle import match_figures, paired_test, real_curves, with_random_weights
from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.extract import embed_clips
from echofm.errors import EchofmError
from echofm.estimators.left_ventricle import AreaCurve, mask_area
from echofm.hub import load_encoder, save_model
from echofm.loss.periodic import motion_prior, pixel_prior
from echofm.model.config import NetworkConfig
from echofm.model.mae import VideoMae
from echofm.model.vit import Encoding
from probe.baselines import pixel_table
from probe.retrieval.frames import Reading, encode_windows, frame_features, frame_similarity
from probe.retrieval.lv_area import AreaMatch, encoder_similarity, match_frames, prior_similarity, rate_readings

RATE_HZ = 50.0


class MeanGrey(torch.nn.Module):
    """Every token is the mean grey of its frames, plus a bias of its place in the window."""

    def __init__(self, *, bias: float = 0.0, frame_rate_hz: float | None = RATE_HZ) -> None:
        super().__init__()
        self.contract = InputContract(size=16, frames=8, frame_rate_hz=frame_rate_hz)
        self.digest, self.bias, self.grid = "mean-grey", bias, (4, 2, 2)

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        self.contract.check(video_BCTHW)
        grey_BT1 = video_BCTHW.mean((1, 3, 4)).unflatten(1, (-1, 2)).mean(2)[..., None] * 255
        phase_BTD = torch.cat([grey_BT1 + self.bias * torch.arange(4)[:, None], torch.ones_like(grey_BT1)], 2)
        tokens = phase_BTD[:, :, None].expand(-1, -1, 4, -1).flatten(1, 2)
        return Encoding(tokens_BND=tokens, phase_BTD=phase_BTD, video_BD=phase_BTD.mean(1))


def ramp(frames: int = 40) -> Clip:
    frames_TCHW = np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, 1, 16, 16)).copy()
    return Clip(
        frames_TCHW=frames_TCHW,
        sector_HW=np.ones((16, 16), bool),
        clip_id="c",
        patient_id="p",
        frame_time_s=np.arange(frames) / RATE_HZ,
    )


def heart(seed: int = 0, frames: int = 120) -> tuple[Clip, AreaCurve]:
    frames_THW, phase_T = beating_heart(frames=frames, size=48, seed=seed, frame_rate_hz=RATE_HZ)
    clip = Clip(
        frames_TCHW=frames_THW[:, None],
        sector_HW=frames_THW.any(0),
        clip_id=f"c{seed}",
        patient_id=f"p{seed}",
        frame_time_s=np.arange(frames) / RATE_HZ,
        phase_T=phase_T,
    )
    # As its maker moves it: systole fills a third of the beat.
    fall = np.where(phase_T < 0.33, np.sin(np.pi * phase_T / 0.66), np.cos(np.pi * (phase_T - 0.33) / 1.34)) ** 2
    return clip, AreaCurve(area_F=1000 * (1 - 0.4 * fall) ** 2, time_s_F=np.arange(frames) / RATE_HZ)


def sawtooth(beats: int = 4, frames: int = 40) -> AreaCurve:
    phase = np.arange(beats * frames) / frames % 1
    area = np.interp(phase, [0, 0.35, 1], [1.0, 0.3, 1.0])
    return AreaCurve(area_F=area, time_s_F=np.arange(len(area)) / RATE_HZ)


def matched(curve: AreaCurve, match_F: np.ndarray) -> AreaMatch:
    similarity = np.zeros((len(match_F), len(match_F)))
    similarity[np.arange(len(match_F)), match_F] = 1
    return match_frames(similarity, curve)


def test_a_match_is_judged_as_a_loop_judges_it() -> None:
    rng = np.random.default_rng(0)
    curve = AreaCurve(area_F=rng.uniform(50, 90, 70), time_s_F=np.arange(70) / RATE_HZ)
    similarity = rng.standard_normal((70, 70))
    found = match_frames(similarity, curve)
    area, span = curve.area_F, np.ptp(curve.area_F)

    def moves(t: int) -> float:
        return np.sign(area[min(t + 2, 69)] - area[max(t - 2, 0)])

    every, agree = [], []
    for t in range(70):
        far = [u for u in range(70) if abs(t - u) >= 25]
        best = max(far, key=lambda u: similarity[t, u])
        assert found.match_F[t] == best and found.difference_F[t] == pytest.approx(abs(area[t] - area[best]) / span)
        assert found.same_F[t] == (moves(t) == moves(best))
        every += [abs(area[t] - area[u]) / span for u in far]
        agree += [moves(t) == moves(u) for u in far]
    assert found.chance_difference == pytest.approx(np.mean(every)) and found.chance_same == pytest.approx(
        np.mean(agree)
    )
    with pytest.raises(EchofmError, match="no other far enough"):
        match_frames(similarity[:30, :30], AreaCurve(area_F=area[:30], time_s_F=curve.time_s_F[:30]))


def test_the_permutation_test_knows_a_right_match_from_a_late_one() -> None:
    curve = sawtooth()
    frames = np.arange(160)
    right = (frames + 40) % 160
    # Always half a beat late: as regular as the right one, and wrong.
    late = (frames + 60) % 160
    found = match_figures([matched(curve, right)] * 3, draws=2000)
    assert found.area_difference < 1e-9 and found.same_direction == 1 and found.clips == 3 and found.frames == 480
    # One move in forty is a whole beat, and then the match is right again; three clips must all draw it.
    assert found.p_area_difference < 0.01 and found.p_same_direction < 0.01
    wrong = match_figures([matched(curve, late)] * 3, draws=2000)
    assert wrong.p_area_difference > 0.3 and wrong.p_same_direction > 0.3


def test_p_values_of_blind_matches_are_about_even() -> None:
    rng = np.random.default_rng(3)
    curve = sawtooth()
    values = []
    for _ in range(150):
        smooth = scipy.ndimage.gaussian_filter1d(rng.standard_normal((2, 160, 6)), 2.0, axis=1)
        found = [match_frames(frame_similarity(each, Reading(), frame_rate_hz=RATE_HZ), curve) for each in smooth]
        values.append(match_figures(found, draws=400).p_area_difference)
    assert np.mean(np.array(values) < 0.05) < 0.15 and 0.35 < np.mean(values) < 0.65


def test_paired_test_sees_a_difference_and_none() -> None:
    curve = sawtooth()
    right = [matched(curve, (np.arange(160) + 40) % 160)] * 3
    late = [matched(curve, (np.arange(160) + 60) % 160)] * 3
    area, direction = paired_test(right, late, draws=2000).values()
    assert area[0] < -0.2 and area[1] < 0.01 and direction[0] > 0.4 and direction[1] < 0.01
    assert paired_test(right, right, draws=200)["area_difference"] == (0.0, 1.0)


@pytest.mark.parametrize("windows", ["middle", "all"])
@pytest.mark.parametrize("source", ["phase", "tokens", "grid"])
def test_a_frame_gets_the_features_of_its_moment(source: str, windows: str) -> None:
    encoded = encode_windows(MeanGrey(), ramp(), batch=7)
    assert encoded.time_s_WT.shape == (33, 4)
    grey = frame_features(encoded, Reading(source=source, windows=windows))[:, 0]
    # A token of two frames lies between them; a frame is the mean of the tokens on its either side.
    np.testing.assert_allclose(grey[1:-1], np.arange(1, 39), atol=1e-3)


def test_the_clips_mean_at_each_place_is_taken_out() -> None:
    biased = encode_windows(MeanGrey(bias=100.0), ramp())
    centred = frame_features(biased, Reading(windows="all", centre_positions=True))[:, 0]
    with_bias = frame_features(biased, Reading(windows="all"))[:, 0]
    # In the middle all places are averaged; at the end only the last place is there, and its bias shows.
    assert with_bias[38] - with_bias[20] > 150 and 0 < centred[38] - centred[20] < 20


def test_the_middle_is_read_from_middle_places() -> None:
    grey = frame_features(encode_windows(MeanGrey(bias=100.0), ramp()), Reading())[:, 0]
    # Places 1 and 2 of 0 to 3 share the middle.
    np.testing.assert_allclose(grey[5:-5], np.arange(5, 35) + 150, atol=1e-3)


def test_slower_contracts_still_give_every_frame() -> None:
    encoded = encode_windows(MeanGrey(frame_rate_hz=25.0), ramp())
    grey = frame_features(encoded, Reading())[:, 0]
    assert len(grey) == 40
    np.testing.assert_allclose(grey[2:-2], np.arange(2, 38), atol=0.51)


def test_similarity_is_that_of_the_priors() -> None:
    clip, _ = heart(frames=30)
    video = torch.from_numpy(clip.frames_TCHW).float().transpose(0, 1)[None] / 255
    np.testing.assert_allclose(prior_similarity(clip), pixel_prior(video, tubelet=1)[0], atol=1e-6)
    pixels = torch.nn.functional.adaptive_avg_pool2d(video[0, 0][:, None], 32).flatten(1).numpy()
    pixels = pixels - pixels.mean(1, keepdims=True)
    mixed = frame_similarity(pixels, Reading(motion_weight=0.5, reach_s=0.02), frame_rate_hz=RATE_HZ)
    np.testing.assert_allclose(mixed, motion_prior(video, tubelet=1)[0], atol=1e-5)
    along = frame_similarity(pixels, Reading(along_s=3 / RATE_HZ), frame_rate_hz=RATE_HZ)
    np.testing.assert_allclose(along, prior_similarity(clip, reach=3), atol=1e-5)


def test_generated_hearts_are_matched_and_readings_rated() -> None:
    hearts = [heart(seed) for seed in range(2)]
    priors = [match_frames(prior_similarity(clip, motion=True), curve) for clip, curve in hearts]
    assert match_figures(priors, draws=500).same_direction > 0.9
    encoder = MeanGrey()
    readings = (Reading(), Reading(motion_weight=0.5))
    rated = rate_readings([(encode_windows(encoder, clip), curve) for clip, curve in hearts], readings=readings)
    assert set(rated["reading"]) == set(readings)
    assert (rated["merit"].diff().dropna() <= 0).all()
    first = [
        match_frames(encoder_similarity(encode_windows(encoder, c), rated["reading"][0]), curve) for c, curve in hearts
    ]
    assert rated["same_direction"][0] == pytest.approx(np.mean([each.same_F.mean() for each in first]))
    with pytest.raises(EchofmError, match="no clip with a left-ventricle mask"):
        rate_readings([], readings=readings)


def test_area_is_read_off_whole_masks() -> None:
    clip, _ = heart(frames=20)
    mask = np.zeros((20, 48, 48), np.uint8)
    mask[:, :5, :4] = 1
    mask[:, 10] = 2
    curve = mask_area(clip.replace(mask_THW=mask))
    assert curve is not None and (curve.area_F == 20).all() and curve.frame_rate_hz == pytest.approx(RATE_HZ)
    mask[3] = 255
    assert mask_area(clip.replace(mask_THW=mask)) is None and mask_area(clip) is None


def test_pixel_table_has_the_pixels_of_each_tokens_frames() -> None:
    clips = [heart(seed, frames=40)[0] for seed in range(2)]
    table = embed_clips(MeanGrey(), clips, windows=1000)
    pixels = pixel_table(table, reversed(clips))
    assert pixels.phase is not None and table.phase is not None and pixels.encoder_digest != table.encoder_digest
    np.testing.assert_array_equal(pixels.phase.cycle_P, table.phase.cycle_P)
    one = pixels.phase.of(1)
    from echofm.conform import conform

    grey = torch.from_numpy(conform(clips[1], size=16).frames_TCHW).float()[:, 0] / 255
    small = torch.nn.functional.adaptive_avg_pool2d(grey[:, None], 32).flatten(1).numpy()
    for feature, frame in zip(one.feature_PD, one.frame_P):
        pair = small[int(frame - 0.5)] / 2 + small[int(frame + 0.5)] / 2
        np.testing.assert_allclose(feature, pair - pair.mean(), atol=1e-5)
    with pytest.raises(EchofmError, match="1 clips of the table were not given"):
        pixel_table(table, clips[:1])


def test_unknown_times_are_refused() -> None:
    with pytest.raises(EchofmError, match="does not tell its frame times"):
        encode_windows(MeanGrey(), ramp().replace(frame_time_s=None))


def test_real_clips_give_the_pixel_priors_known_figures(real_clips: Path, tmp_path: Path) -> None:
    whole = [match_frames(prior_similarity(clip), curve) for clip, curve in real_curves(real_clips, keep_outside=True)]
    found = match_figures(whole, draws=500)
    # Published: .078 of the range against .323 by chance, 75 % against 50 %.
    assert found.area_difference == pytest.approx(0.078, abs=0.0006) and found.same_direction == pytest.approx(
        0.75, abs=0.006
    )
    assert found.chance_area_difference == pytest.approx(0.323, abs=0.002)
    assert found.chance_same_direction == pytest.approx(0.5, abs=0.005)
    assert found.p_area_difference < 0.01
    model = VideoMae(NetworkConfig(
        size=32, frames=8, channels=1, patch=16, tubelet=2, width=24, depth=1, heads=2, decoder_width=24,
        decoder_depth=1, decoder_heads=2, predicted_frames=4,
    ))  # fmt: skip
    contract = InputContract(size=32, frames=8, frame_rate_hz=25.0, channels=1)
    encoder = with_random_weights(load_encoder(save_model(model, tmp_path, contract=contract, card={})))
    clip, curve = real_curves(real_clips)[2]
    encoded = encode_windows(encoder, clip, batch=64)
    match = match_frames(encoder_similarity(encoded, Reading(source="grid")), curve)
    assert len(match.match_F) == 133 and 0 < match.difference_F.mean() < match.chance_difference
