"""Phase probe: finds the phase that is there, none that is not, and counts as a loop over all pairs does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hearts import beating_heart

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.extract import embed_clips
from echofm.embed.phase import PhaseTokens
from echofm.embed.positions import token_positions
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.metric.circular import circular_distance
from echofm.model.vit import Encoding
from probe.phase.answers import end_systole_phase, event_errors, systole_phases
from probe.phase.match import Comparing, descriptors, in_another_beat, in_other_patients
from probe.phase.probe import probe_phase

WIDTH, STEP_S, END_SYSTOLE = 12, 0.04, 0.35


def table(
    patients: int = 24, *, noise: float = 0.05, seed: int = 0, blind: bool = False, seconds: float = 2.4
) -> EmbeddingTable:
    """Two clips a patient whose tokens turn with the phase, in a patient's own offset; `blind`: noise alone."""
    rng = np.random.default_rng([seed, 1])
    plane = np.random.default_rng(7).standard_normal((4, WIDTH))
    features, times, cycles, owner = [], [], [], []
    for patient in range(patients):
        offset = rng.standard_normal(WIDTH)
        for _ in range(2):
            time_s = np.arange(round(seconds / STEP_S)) * STEP_S + 0.02
            phase = (rng.uniform() + time_s * rng.uniform(0.9, 1.6)) % 1
            angle = 2 * np.pi * phase
            circle = np.stack([np.cos(angle), np.sin(angle), 0.3 * np.cos(2 * angle), 0.3 * np.sin(2 * angle)], 1)
            clean = np.zeros((len(phase), WIDTH)) if blind else circle @ plane
            features.append(clean + offset + noise * rng.standard_normal((len(phase), WIDTH)))
            times.append(time_s)
            cycles.append(phase)
            owner.append(f"p{patient}")
    split = ["train" if n % 6 < 3 else "val" if n % 6 < 4 else "test" for n in range(patients) for _ in range(2)]
    return EmbeddingTable.from_arrays(
        np.stack([each.mean(0) for each in features]),
        clip_id=[f"c{n}" for n in range(2 * patients)],
        patient_id=owner,
        encoder_digest="a" * 64,
        split=split,
        view=["A4C" if n % 4 < 2 else "A2C" for n in range(2 * patients)],
        frame_rate_hz=np.full(2 * patients, 50.0),
        phase=PhaseTokens.from_arrays(features, time_s=times, cycle=cycles),
    )


@pytest.fixture(scope="module")
def probed():
    good = table()
    systole = {str(name): END_SYSTOLE for name in good.clip_id}
    return probe_phase(good, systole=systole, baselines={"blind": table(blind=True)}, draws=200)


def test_the_phase_is_found(probed) -> None:
    result = probed.result
    assert result.score("cycle_retrieval").low > 0.95
    assert result.score("cycle_retrieval_readout").low > 0.95
    assert result.score("patient_retrieval").low > 0.9
    assert result.score("same_direction").low > 0.95
    assert result.score("phase_error_percent").high < 2
    assert result.score("ed_error_ms").high < 25 and result.score("es_error_ms").high < 25
    assert result.score("ed_error_frames").value == pytest.approx(result.score("ed_error_ms").value / 20)
    assert 0.05 < result.score("cycle_retrieval", method="chance").value < 0.3
    assert result.clips == {"train": 24, "val": 8, "test": 16} and result.task == "phase"


def test_what_is_not_there_is_not_found(probed) -> None:
    result = probed.result
    for metric in ("cycle_retrieval", "patient_retrieval"):
        chance = result.score(metric, method="chance")
        assert abs(result.score(metric, method="blind").value - chance.value) < 0.06
    assert result.score("phase_error_percent", method="blind").low > 20
    assert (
        abs(result.score("ed_error_ms", method="blind").value / result.score("ed_error_ms", method="chance").value - 1)
        < 0.4
    )
    better = {each.metric: each.difference for each in result.comparisons}
    assert better["cycle_retrieval"].low > 0.5 and better["phase_error_percent"].high < -15


def test_rows_of_tokens(probed) -> None:
    rows = probed.predictions
    assert len(rows) == 16 * 60 and rows.columns[:2].tolist() == ["clip_id", "patient_id"]
    asked = rows.dropna(subset="hit")
    apart = (asked["time_s"] - asked["match_time_s"]).abs()
    assert apart.min() >= 0.5 - 1e-6 - STEP_S / 2 and set(asked["hit"]) <= {0.0, 1.0}
    assert ((circular_distance(asked["true_phase"], asked["match_phase"]) <= 0.05 + 1e-6) == (asked["hit"] == 1)).all()
    assert (
        set(rows["event"].dropna()) == {"ed", "es"} and rows.loc[rows["event"] == "ed", "event_error_ms"].notna().all()
    )


def test_notes_say_what_the_figures_stand_on(probed) -> None:
    notes = " ".join(probed.result.notes)
    assert "40 ms apart" in notes and "not known whether" in notes
    good = table(8)
    rows = good.rows.assign(frames=80.0, windows=49.0)
    dense = replace(good, rows=rows, contract={"frames": 32})
    assert not any("window" in note for note in probe_phase(dense, draws=20).result.notes)
    sparse = replace(dense, rows=rows.assign(windows=3.0))
    found = probe_phase(sparse, draws=20).result.notes
    assert any("not every frame began a window" in note for note in found)
    assert any("No end-systole" in note for note in found)


def test_matches_are_those_of_a_plain_loop() -> None:
    some = table(3, noise=0.8)
    phase = some.phase
    assert phase is not None
    comparing = Comparing(motion_weight=0.5)
    found = in_another_beat(some, descriptors(phase, comparing), systole={"c0": END_SYSTOLE}).set_index("token")
    for clip in range(2):
        one, first = phase.of(clip), int(phase.start_N1[clip])
        x = one.feature_PD.astype(float)
        still = x - x.mean(0)
        change = np.stack([x[min(t + 1, len(x) - 1)] - x[max(t - 1, 0)] for t in range(len(x))])
        for t in range(len(x)):
            best, place, right, far, alike = -2.0, -1, 0, 0, {}
            for u in range(len(x)):
                if abs(one.time_s_P[t] - one.time_s_P[u]) < 0.5 - 1e-6:
                    continue
                cosines = [a[t] @ a[u] / np.linalg.norm(a[t]) / np.linalg.norm(a[u]) for a in (still, change)]
                far += 1
                right += circular_distance(one.cycle_P[t], one.cycle_P[u]) <= 0.05 + 1e-6
                alike[u] = float(np.mean(cosines))
                if np.mean(cosines) > best:
                    best, place = float(np.mean(cosines)), u
            assert (first + t in found.index) == (right > 0)
            if right:
                row = found.loc[first + t]
                # Between tokens: where the parabola through the match and its neighbours is highest.
                at = float(place)
                if place - 1 in alike and place + 1 in alike:
                    bend = np.polyfit([-1, 0, 1], [alike[place - 1], best, alike[place + 1]], 2)
                    at += -bend[1] / (2 * bend[0])
                turns = np.unwrap(2 * np.pi * one.cycle_P.astype(float)) / (2 * np.pi)
                matched = np.interp(at, np.arange(len(x)), turns) % 1
                distance = float(circular_distance(one.cycle_P[t], matched))
                assert row["match_time_s"] == pytest.approx(np.interp(at, np.arange(len(x)), one.time_s_P), abs=1e-5)
                assert row["match"] == first + place and row["chance"] == pytest.approx(right / far)
                assert row["hit"] == (distance <= 0.05 + 1e-6) and row["distance"] == pytest.approx(distance, abs=1e-5)
                same = (one.cycle_P[t] < END_SYSTOLE) == (matched < END_SYSTOLE)
                assert np.isnan(row["same_direction"]) if clip else row["same_direction"] == same


def test_other_patients_are_searched_within_the_view() -> None:
    some = table(6, noise=0.5)
    phase = some.phase
    assert phase is not None
    features = descriptors(phase, Comparing())
    found = in_other_patients(some, features)
    owner = np.repeat(np.arange(len(phase)), np.diff(phase.start_N1))
    view, patient = some.view[owner], some.patient_id[owner]
    for row in found.iloc[::37].itertuples():
        allowed = np.flatnonzero((view == view[row.token]) & (patient != patient[row.token]))
        assert row.match == allowed[(features[allowed] @ features[row.token]).argmax()]
        near = circular_distance(phase.cycle_P[allowed], phase.cycle_P[row.token]) <= 0.05 + 1e-6
        assert row.chance == pytest.approx(near.mean())


def test_events_are_timed_from_the_predicted_phase() -> None:
    some = table(2)
    phase = some.phase
    assert phase is not None
    # Everything seen a tenth of a beat early: each event is predicted a tenth of a beat late.
    predicted = np.exp(2j * np.pi * (phase.cycle_P.astype(np.float64) - 0.1))
    found = event_errors(some, predicted, systole={str(name): END_SYSTOLE for name in some.clip_id})
    for clip, events in found.groupby("clip"):
        one = phase.of(clip)
        beat_s = STEP_S / (np.diff(one.cycle_P.astype(np.float64)) % 1).mean()
        inner = events[
            (events["time_s"] > one.time_s_P[0] + beat_s / 2) & (events["time_s"] < one.time_s_P[-1] - beat_s / 2)
        ]
        assert set(inner["event"]) == {"ed", "es"}
        np.testing.assert_allclose(inner["error_s"], 0.1 * beat_s, atol=0.006)
        np.testing.assert_allclose(inner["error_frames"], 50 * inner["error_s"])
        np.testing.assert_allclose(inner["chance_s"], beat_s / 4, rtol=0.02)


def test_end_systole_is_read_off_the_masks() -> None:
    phase = (np.arange(100) * 0.027) % 1
    # Falls until 0.35, stays small until 0.45, fills until 1.
    radius = 30 - 12 * np.interp(phase, [0, 0.35, 0.45, 1], [0, 1, 1, 0])
    rows, columns = np.mgrid[0:80, 0:80] - 40
    mask = (np.hypot(rows, columns) < radius[:, None, None]).astype(np.uint8)
    clip = Clip(
        frames_TCHW=np.zeros((100, 1, 80, 80), np.uint8),
        sector_HW=np.ones((80, 80), bool),
        clip_id="c",
        patient_id="p",
        phase_T=phase.astype(np.float32),
        mask_THW=mask,
    )
    assert end_systole_phase(clip) == pytest.approx(0.35, abs=0.03)
    assert systole_phases([clip, clip.replace(clip_id="d", mask_THW=None)]) == {"c": end_systole_phase(clip)}
    assert end_systole_phase(clip.replace(mask_THW=np.ones_like(mask))) is None
    assert end_systole_phase(clip.replace(mask_THW=np.full_like(mask, 255))) is None
    assert end_systole_phase(clip.replace(phase_T=None)) is None


def test_a_table_without_phase_says_so() -> None:
    with pytest.raises(EchofmError, match="no phase tokens of known phase"):
        probe_phase(replace(table(4), phase=None))
    other = table(24).select(np.arange(40))
    with pytest.raises(EchofmError, match="8 clips are not in the table of 'other'"):
        probe_phase(table(24), baselines={"other": other}, draws=10)


def placed(*, seed: int = 0) -> EmbeddingTable:
    """As `embed` makes it of short clips: one window over most of a clip, and a place's own mark on every token."""
    some = table(24, seed=seed, seconds=1.28)
    phase = some.phase
    assert phase is not None
    tokens = np.tile(np.arange(32), len(some))
    mark = np.random.default_rng(5).standard_normal((32, WIDTH)).astype(np.float32)
    rows = some.rows.assign(frames=64.0, windows=1.0)
    moved = replace(
        phase, feature_PD=phase.feature_PD + 6 * mark[tokens], frame_P=(2 * tokens + 0.5).astype(np.float32)
    )
    return replace(some, rows=rows, phase=moved, contract={"frames": 64})


def test_a_places_mark_is_taken_out() -> None:
    some = placed()
    places = token_positions(some)
    assert places is not None and (places == np.tile(np.arange(32), len(some))).all()
    result = probe_phase(some, draws=50).result
    assert result.chosen["probe"]["tokens_compared"] == "without their position's mean"
    unknown = probe_phase(replace(some, contract=None), draws=50).result
    assert result.score("cycle_retrieval").low > unknown.score("cycle_retrieval").high
    assert result.score("patient_retrieval").low > unknown.score("patient_retrieval").high
    assert token_positions(replace(some, contract=None)) is None


def test_places_are_those_that_embedding_gave() -> None:
    frames, phase_T = beating_heart(frames=44, size=16)
    clip = Clip(
        frames_TCHW=frames[:, None],
        sector_HW=np.ones((16, 16), bool),
        clip_id="c",
        patient_id="p",
        frame_time_s=np.arange(44) / 50,
        phase_T=phase_T,
    )
    for windows in (1, 3, 1000):
        found = embed_clips(PlaceTeller(), [clip], windows=windows)
        assert found.phase is not None
        np.testing.assert_array_equal(token_positions(found), found.phase.feature_PD[:, 0])


class PlaceTeller(torch.nn.Module):
    """Every token says its place in the window."""

    contract = InputContract(size=16, frames=8, frame_rate_hz=50.0)
    digest, grid = "places", (4, 1, 1)

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        place_BT1 = torch.arange(4.0).expand(len(video_BCTHW), 4)[..., None]
        return Encoding(tokens_BND=place_BT1, phase_BTD=place_BT1, video_BD=place_BT1.mean(1))


def test_the_way_to_a_moment_tells_filling_from_ejection() -> None:
    """Tokens that know the volume alone: moments are ambiguous, the ways to and from them are not."""
    time_s = np.arange(75) * STEP_S
    cycle = [(0.1 * clip + time_s * 1.3) % 1 for clip in range(6)]
    # Slow filling, fast ejection: the same volume twice a beat.
    volume = [np.interp(each, [0, 0.3, 1], [1.0, 0.0, 1.0]) for each in cycle]
    features = [np.stack([v - 0.5, np.full(len(v), 0.01)], 1) for v in volume]
    clips = EmbeddingTable.from_arrays(
        np.zeros((6, 2)),
        clip_id=[f"c{n}" for n in range(6)],
        patient_id=[f"p{n}" for n in range(6)],
        encoder_digest="a" * 64,
        phase=PhaseTokens.from_arrays(features, time_s=[time_s] * 6, cycle=cycle),
    )
    assert clips.phase is not None
    hits = [
        in_another_beat(clips, clips.phase.feature_PD, reach_s=reach_s)["hit"].mean() for reach_s in (0.0, 0.16, 0.32)
    ]
    assert hits[0] < 0.4 and hits[2] > 0.9
