"""Canaries are what they say, stay in the sector, and are the same every time; new beats are other clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from audit_sets import TRAIN, planted
from hearts import beating_heart

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed import videos
from echofm.embed.inputs import conformed
from echofm.embed.table import EmbeddingTable
from echofm.embed.videos import open_videos
from echofm.errors import UnreadableFile
from echofm.ids import IdKey
from echofm.nearest import Neighbours
from echofm.readers.options import ReadOptions
from echofm.readers.read import read_row
from echofm.readers.source import Row
from synth.audit.canaries.planting import CanaryInput, canary_id, sources, with_new_beats
from synth.audit.canaries.transforms import FAITHFUL, KINDS, NEW_BEAT, STRENGTHS, SWAP, in_between, plan, transformed
from synth.audit.sets import KIND, LEFT_OUT, SOURCE
from synth.audit.statistics.scores import _of_canaries, vectors
from synth.audit.statistics.search import Search


def heart(seed: int, size: int = 48) -> Clip:
    frames, _ = beating_heart(frames=20, size=size, seed=seed)
    return Clip(
        frames_TCHW=frames[:, None],
        sector_HW=frames.any(0),
        frame_time_s=np.arange(20) / 50,
        clip_id=f"{seed:020x}",
        patient_id=f"{seed:020x}",
    )


def difference(one: Clip, other: Clip) -> float:
    return float(np.abs(one.frames_TCHW.astype(float) - other.frames_TCHW).mean())


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("size", [48, 47])
def test_a_canary_keeps_to_the_sector_and_is_the_same_every_time(kind: str, size: int) -> None:
    clip = heart(1, size)
    strengths = KINDS[kind][1]
    made = [transformed(clip, kind, strength, seed=0) for strength in strengths]
    for each, strength in zip(made, strengths):
        assert each.frames_TCHW.shape == clip.frames_TCHW.shape and each.frames_TCHW.dtype == np.uint8
        assert not each.frames_TCHW[:, :, ~each.sector_HW].any()
        again = transformed(clip, kind, strength, seed=0)
        assert np.array_equal(again.frames_TCHW, each.frames_TCHW)
    changes = [difference(clip, each) for each in made]
    assert changes == sorted(changes)
    assert (changes[0] == 0) == (kind == "exact")


def test_plain_copies_look_like_the_clip_and_other_patients_do_not() -> None:
    clip, other = heart(1), heart(2)
    apart = difference(clip, other)
    for kind in FAITHFUL:
        for strength in KINDS[kind][1]:
            assert difference(clip, transformed(clip, kind, strength, seed=0)) < 0.3 * apart
    parts = [difference(clip, in_between(clip, other, part)) for part in (0.1, 0.25, 0.5)]
    assert parts == sorted(parts) and 0 < parts[0] < parts[-1] < apart


def test_every_kind_that_is_planted_says_what_its_strength_is() -> None:
    assert {kind for kind, _ in plan()} | {NEW_BEAT, SWAP} == set(STRENGTHS)
    ids = {canary_id("a", kind, strength) for kind, strength in plan()}
    assert len(ids) == len(plan())


def test_sources_are_clips_of_different_patients_and_bounded() -> None:
    chosen = sources(TRAIN, wanted=50, budget=10**6, seed=0)
    patients = TRAIN.rows.set_index("clip_id").loc[chosen, "patient_id"]
    assert len(chosen) == 50 == patients.nunique()
    assert sources(TRAIN, wanted=50, budget=10**6, seed=0) == chosen != sources(TRAIN, wanted=50, budget=10**6, seed=1)
    assert len(sources(TRAIN, wanted=50, budget=30 * len(plan()), seed=0)) == 30
    assert len(sources(TRAIN, wanted=50, budget=0, seed=0)) == 20
    assert len(sources(TRAIN, wanted=1000, budget=10**6, seed=0)) == 150


def test_a_new_beat_is_another_clip_of_the_patient_and_is_left_out_itself() -> None:
    views = ["A4C", "PLAX"] * (len(TRAIN) // 2)
    views[:6] = ["A4C"] * 6
    train = EmbeddingTable(
        video_ND=TRAIN.video_ND, rows=TRAIN.rows.assign(view=views), encoder_digest=TRAIN.encoder_digest
    )
    table = with_new_beats(planted("exact", 0.0), train, wanted=50, seed=0)
    beats = table.rows[table.rows[KIND] == NEW_BEAT]
    # Three patients have two clips of one view; the others' second clip shows another view.
    assert len(beats) == 3
    patient = train.rows.set_index("clip_id")["patient_id"]
    assert (patient[beats[SOURCE]].to_numpy() == patient[beats[LEFT_OUT]].to_numpy()).all()
    assert (beats[SOURCE] != beats[LEFT_OUT]).all()
    place = {each: row for row, each in enumerate(train.clip_id)}
    rows = [place[each] for each in beats[LEFT_OUT]]
    assert np.array_equal(table.video_ND[beats.index], train.video_ND[rows])
    assert len(with_new_beats(planted("exact", 0.0), TRAIN, wanted=50, seed=0)) == 50 + 50
    single = TRAIN.select(np.arange(0, len(TRAIN), 2))
    assert len(with_new_beats(planted("exact", 0.0), single, wanted=50, seed=0)) == 50


def test_files_that_lie_elsewhere_change_no_draw() -> None:
    turned = TRAIN.select(np.random.default_rng(0).permutation(len(TRAIN)))
    assert sources(turned, wanted=50, budget=10**6, seed=0) == sources(TRAIN, wanted=50, budget=10**6, seed=0)
    beats = [
        with_new_beats(planted("exact", 0.0), train, wanted=40, seed=0).select(canary_kind=NEW_BEAT)
        for train in (TRAIN, turned)
    ]
    assert beats[0].rows[[SOURCE, LEFT_OUT]].equals(beats[1].rows[[SOURCE, LEFT_OUT]])
    assert np.array_equal(beats[0].video_ND, beats[1].video_ND)


def test_canaries_are_sought_as_synthetic_clips_are_but_for_new_beats() -> None:
    """An index that misses neighbours must miss those of copies, or the power told is not the audit's."""
    asked = []

    class Spy(Search):
        def nearest(self, queries_QD: np.ndarray, *, k: int = 1, exclude_QN: Any = None) -> Neighbours:
            asked.append((len(queries_QD), exclude_QN is not None))
            return super().nearest(queries_QD, k=k, exclude_QN=exclude_QN)

    canaries = with_new_beats(planted("exact", 0.0), TRAIN, wanted=40, seed=0)
    own = vectors(canaries, "clip", head=None, frames=1)
    train = vectors(TRAIN, "clip", head=None, frames=1)
    found = _of_canaries(own, canaries, TRAIN, train, Spy(train.vectors_VD, metric="cosine"))
    assert asked == [(50, False), (40, True)]
    assert np.allclose(found.score[:50], 1) and (found.score[50:] < 0.999).all()


def test_canaries_of_an_encoder_of_colour_are_read_in_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colour_THWC = np.stack([beating_heart(frames=8, size=48, seed=seed)[0] for seed in range(3)], -1)
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 48, "yuvj444p"
        for frame in colour_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    monkeypatch.setattr(videos, "ReaderPool", InProcess)
    key = IdKey(bytes(16))
    own = open_videos(tmp_path, options=ReadOptions(key=key))
    clip = read_row(own.rows[0], ReadOptions(channels=3, key=key))
    own._positions = {clip.clip_id: (0, 0)}
    contract = InputContract(size=48, frames=8, channels=3, colour="rgb")
    planted_here = CanaryInput(videos=own, source_ids=[clip.clip_id], contract=contract, seed=0)
    exact = next(planted_here.read([0]))
    assert not isinstance(exact, UnreadableFile)
    assert np.array_equal(exact.clip.frames_TCHW, conformed(clip, contract).frames_TCHW)
    assert np.ptp(exact.clip.frames_TCHW.astype(int), axis=1).max() > 10


class InProcess:
    """A ReaderPool that reads here."""

    def __init__(self, task: Any, *, processes: int, options: ReadOptions) -> None:
        self.task, self.options = task, options

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, rows: Iterable[Row]) -> Iterator[tuple[Row, Any]]:
        return ((row, self.task(row, [read_row(row, self.options)])) for row in rows)
