"""ED and ES from two traced frames: the frames are found in masks, timed by a reader that knows, and by chance else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hearts import beating_heart
from test_probe_phase import END_SYSTOLE, table

from echofm.clip import LEFT_VENTRICLE, NOT_ANNOTATED, Clip
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.phase.ed_es import Traced, probe_ed_es, traced
from probe.report import write_report


def truth_of(made: EmbeddingTable) -> dict[str, Traced]:
    """Of each clip the first end-diastole with a whole systole after it."""
    assert made.phase is not None
    found = {}
    for row, clip in enumerate(made.clip_id):
        one = made.phase.of(row)
        turns = np.unwrap(2 * np.pi * one.cycle_P.astype(float)) / (2 * np.pi)
        first = np.ceil(turns[0])
        ed_s, es_s = np.interp([first, first + END_SYSTOLE], turns, one.time_s_P)
        found[str(clip)] = Traced(ed_s=float(ed_s), es_s=float(es_s))
    return found


def test_traced_frames_are_timed_far_better_than_by_chance_and_noise_is_not(tmp_path: Path) -> None:
    made = table()
    blind = table(blind=True)
    probed = probe_ed_es(made, truth_of(made), baselines={"blind": blind}, draws=100)
    result = probed.result
    for event in ("ed", "es"):
        chance = result.score(f"{event}_error_ms", method="chance").value
        assert result.score(f"{event}_error_ms").value < chance / 3
        assert result.score(f"{event}_error_ms", method="blind").value > chance / 2
        frames = result.score(f"{event}_error_frames").value
        assert frames == pytest.approx(result.score(f"{event}_error_ms").value * 50 / 1000)
    assert len(probed.predictions) == result.clips["test"]
    assert any(each.baseline == "blind" and each.difference.high < 0 for each in result.comparisons)
    assert "traced time" in write_report(tmp_path, [probed], table=made).read_text()


def test_another_set_is_tested_on_as_it_is() -> None:
    ours, theirs = table(), table(seed=3)
    rows = theirs.rows.assign(
        clip_id=[f"t{each}" for each in theirs.clip_id], patient_id=[f"t{each}" for each in theirs.patient_id]
    )
    both = EmbeddingTable.concat(
        [ours, type(ours)(**{**vars(theirs), "rows": rows.astype({"clip_id": "string", "patient_id": "string"})})]
    )
    result = probe_ed_es(both, truth_of(both), test_clips=frozenset(rows["clip_id"]), draws=50).result
    assert result.splits_from == "test clips" and result.clips["test"] == len(theirs)
    assert result.score("ed_error_ms").value < result.score("ed_error_ms", method="chance").value / 2


def test_the_larger_of_two_tracings_of_one_beat_is_end_diastole() -> None:
    frames = beating_heart(frames=20, size=32, seed=0)[0]
    mask = np.full((20, 32, 32), NOT_ANNOTATED, np.uint8)
    mask[[4, 11]] = 0
    mask[11, :20, :20], mask[4, :10, :10] = LEFT_VENTRICLE, LEFT_VENTRICLE
    clip = Clip(
        frames_TCHW=frames[:, None], sector_HW=np.ones((32, 32), bool), clip_id="c", patient_id="p",
        frame_time_s=np.arange(20) / 25, mask_THW=mask,
    )  # fmt: skip
    assert traced(clip) == Traced(ed_s=11 / 25, es_s=4 / 25)
    assert traced(clip.replace(frame_time_s=None)) is None
    mask[4, :20, :20] = LEFT_VENTRICLE
    assert traced(clip) is None
    made = table(6)
    with pytest.raises(EchofmError, match="0 clips have two traced frames"):
        probe_ed_es(made, {})
