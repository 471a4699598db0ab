"""Like frames by ventricular area, through the command's own path, and the core's reader of the area per frame."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np
import pytest
from heart_shards import KEY
from test_probe_segment import SIZE, Discs, Patches

from echofm.clip import Clip
from echofm.embed.extract import embed_clips
from echofm.errors import EchofmError
from echofm.estimators.left_ventricle import fit_left_ventricle, mask_area, traced_frames
from echofm.readers.source import Row
from echofm.shards.read import ShardSet
from echofm.shards.write import write_shards
from probe.cli import main
from probe.inputs import ProbeInputs
from probe.report import write_report
from probe.targets import ProbeRequest, probe_target

FRAMES, RATE_HZ = 70, 50


def read_beating(row: Row, *, traced: bool = True) -> Clip:
    """A disc that shrinks and grows three times, class 1."""
    rng = np.random.default_rng(int(row.path.name.removeprefix("disc-")))
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    distance = np.hypot(y - rng.uniform(7, 9), x - rng.uniform(7, 9))
    turns = np.arange(FRAMES) / RATE_HZ * rng.uniform(2.0, 2.3)
    radius = 5.5 - rng.uniform(1.0, 2.0) * (0.5 - 0.5 * np.cos(2 * np.pi * turns))
    # A soft edge, so that a small change of the radius is seen.
    inside = np.clip(radius[:, None, None] - distance + 0.5, 0, 1)
    frames = 20 + 200 * inside + rng.integers(0, 4, inside.shape)
    mask = (inside > 0.5).astype(np.uint8)
    if not traced:
        mask[3:] = 255
    return Clip(
        frames_TCHW=frames.astype(np.uint8)[:, None],
        sector_HW=np.ones((SIZE, SIZE), bool),
        frame_time_s=np.arange(FRAMES) / RATE_HZ,
        clip_id=KEY.clip(hashlib.sha256(frames.tobytes()).digest()),
        patient_id=KEY.patient(row.patient),
        view="A4C",
        mask_THW=mask,
    )


def beating_shards(folder: Path, *, clips: int, traced: bool = True) -> Path:
    read = functools.partial(read_beating, traced=traced)
    write_shards(Discs(clips), folder, size=SIZE, frame_rate_hz=None, key=KEY, read=read, show_progress=False)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return beating_shards(tmp_path_factory.mktemp("lv") / "shards", clips=24)


def test_like_frames_have_like_areas(shards: Path, tmp_path: Path) -> None:
    clips = list(ShardSet.open(shards, show_progress=False))
    table = embed_clips(Patches(), clips)
    blind = Patches(blind=True)
    inputs = ProbeInputs(table=table, encoder=Patches(), baseline_encoders={"blind": blind})
    request = ProbeRequest(target="retrieval:lv_area", data=shards, draws=100)
    probed = probe_target(request, inputs)
    result, rows = probed.result, probed.predictions
    assert (result.target, result.task, result.clips) == ("lv_area-retrieval", "retrieval", {"val": 6, "test": 6})
    assert {each.method for each in result.scores} == {"probe", "chance", "blind", "pixels", "pixels and change"}
    error, chance = (result.score("area_error_percent", method=name) for name in ("probe", "chance"))
    assert error.high < chance.low / 2 and error.high < result.score("area_error_percent", method="blind").low
    assert len(rows) == 6 * FRAMES and (np.abs(rows["time_s"] - rows["match_time_s"]) >= 0.5 - 1e-6).all()
    span = rows.groupby("clip_id")["area"].transform(np.ptp)
    apart = (rows["area"] - rows["match_area"]).abs() / span
    assert error.value == pytest.approx(100 * apart.groupby(rows["clip_id"]).mean().mean())
    assert all(each.baseline in ("blind", "pixels", "pixels and change") for each in result.comparisons)
    page = write_report(tmp_path, [probed], table=table).read_text()
    assert "area error (%)" in page and "is at least as good by area" in page


def test_another_set_is_tested_on_whole(shards: Path, tmp_path: Path) -> None:
    other = beating_shards(tmp_path / "other", clips=6)
    table = embed_clips(Patches(), list(ShardSet.open(other, show_progress=False)))
    inputs = ProbeInputs(table=table, encoder=Patches())
    request = ProbeRequest(target="retrieval:lv_area", data=shards, test_on=other, draws=20)
    result = probe_target(request, inputs).result
    assert result.clips == {"val": 6, "test": 6} and result.splits_from == "test clips"


def test_what_has_no_traced_clips_is_refused(tmp_path: Path) -> None:
    two = beating_shards(tmp_path / "two", clips=8, traced=False)
    table = embed_clips(Patches(), list(ShardSet.open(two, show_progress=False)))
    inputs = ProbeInputs(table=table, encoder=Patches())
    with pytest.raises(EchofmError, match="mask on every frame"):
        probe_target(ProbeRequest(target="retrieval:lv_area", data=two, draws=20), inputs)
    table.save(tmp_path / "table")
    with pytest.raises(EchofmError, match="masks are pixels"):
        main([str(tmp_path / "table"), "--target", "retrieval:lv_area", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists(), "a refused probe leaves no empty folder"


def test_the_area_is_read_in_every_frame(shards: Path) -> None:
    opened, encoder = ShardSet.open(shards, show_progress=False), Patches()
    train, val = (traced_frames(encoder, opened, split=name, frames_per_clip=8) for name in ("train", "val"))
    reader = fit_left_ventricle(encoder, train, val, steps=150)
    for clip in opened.split("test"):
        true, found = mask_area(clip), reader.curve(clip)
        assert true is not None and len(found.area_F) == FRAMES and (found.area_F <= 1).all()
        assert np.corrcoef(true.area_F, found.area_F)[0, 1] > 0.8
    with pytest.raises(EchofmError, match="frame times"):
        reader.curve(clip.replace(frame_time_s=None))
