"""Each layout goes through our own readers with frames, patients and truth; colour clips carry their greyscale pair."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from echofm.cli import main as echofm
from echofm.errors import EchofmError, UnreadableFile
from echofm.phantom import add_truth, generate, render_clip
from echofm.phantom.cli import main as phantom
from echofm.phantom.truth import truth_path
from echofm.phantom.video import write_mjpeg
from echofm.readers import read_clip, read_row
from echofm.readers.datasets import open_source

VIEWS = {"echonet-dynamic": {"A4C"}, "echonet-pediatric": {"A4C", "PSAX"}, "camus": {"A4C", "A2C"}}


@pytest.mark.parametrize("layout", ["echonet-dynamic", "echonet-pediatric", "camus"])
def test_layouts_come_back_with_their_truth(layout: str, tmp_path: Path) -> None:
    argv = [str(tmp_path / "d"), "--layout", layout, "--patients", "2", "--frames", "48", "--processes", "1"]
    assert phantom([*argv, "--frame-rate-hz", "40", "--size", "112"]) == 0
    rows = list(open_source(tmp_path / "d").rows())
    clips = [read_row(row) for row in rows]
    assert len(clips) == 4 and len({clip.patient_id for clip in clips}) == 2
    assert {clip.view for clip in clips} == VIEWS[layout]
    for clip in clips:
        assert clip.kind == "bmode" and clip.mask_THW is not None and clip.phase_T is not None
        assert {"ef_percent", "edv_ml", "esv_ml", "heart_rate_bpm"} <= set(clip.labels)
        cavity = clip.frames_TCHW[:, 0][clip.mask_THW == 1].mean()
        wall = clip.frames_TCHW[:, 0][clip.mask_THW == 2].mean()
        assert wall > 1.5 * cavity, "the masks lie on the image"


def test_dicom_holds_planted_tags_and_none_of_them_leaves_the_reader(tmp_path: Path) -> None:
    generate(tmp_path / "d", layout="dicom", patients=1, frames=8, processes=1, size=112, colour_fraction=0.5, seed=3)
    rows = list(open_source(tmp_path / "d").rows())
    kinds = set()
    for row in rows:
        data = pydicom.dcmread(row.path)
        assert data.PatientBirthDate and data.PatientID == "P3N00000" and "^" in data.PatientName
        clip = read_row(row)
        assert clip.frame_rate_hz == pytest.approx(float(data.CineRate), rel=1e-3)
        assert clip.mask_THW is not None and clip.mask_THW.shape[1:] == (data.Rows, data.Columns)
        assert not clip.frames_TCHW[:, :, ~clip.sector_HW].any()
        burnt = data.pixel_array.reshape(len(clip.frames_TCHW), data.Rows, data.Columns, -1)[:, :12, :60]
        assert burnt.max() > 150, "the name is burned into the corner"
        assert not clip.frames_TCHW[:, :, :12, :60].any(), "and gone from the clip"
        kinds.add(clip.kind)
    assert kinds <= {"bmode", "colour_doppler"}


def test_colour_clips_carry_their_greyscale_pair_and_velocities_beyond_the_aliasing_limit() -> None:
    clip = render_clip(12, view="A2C", colour=True, truth=["velocity"])
    assert clip.kind == "colour_doppler" and clip.frames_THWC.shape[-1] == 3
    coloured = np.ptp(clip.frames_THWC.astype(int), axis=-1) > 20
    assert 0.005 < coloured.mean() < 0.4
    same = np.broadcast_to(clip.pixels.grey_THW[..., None], clip.frames_THWC.shape)[~coloured]
    assert np.abs(clip.frames_THWC[~coloured].astype(int) - same).max() <= 20
    velocity = clip.pixels.velocity_THW.astype(float)
    assert 0.3 < np.abs(velocity).max() < 2.5
    towards = velocity.max((1, 2)) > 0.4
    assert towards.any() and (clip.cycle.filling_T[towards] > 0).all(), "inflow in diastole alone"
    aliased = velocity > 1.1 * clip.acquisition.nyquist_m_per_s
    red, blue = clip.frames_THWC[..., 0].astype(int), clip.frames_THWC[..., 2].astype(int)
    assert aliased.any() and (blue > red)[aliased & coloured].mean() > 0.8


@pytest.mark.parametrize("size", [112, 97])
def test_grey_videos_are_grey_and_as_bright_as_the_frames(size: int, tmp_path: Path) -> None:
    frames = render_clip(3, frames=6, size=size).frames_THWC
    write_mjpeg(tmp_path / "clip.avi", frames, 50.0)
    grey, colour = (read_clip(tmp_path / "clip.avi", channels=n, keep_outside=True).frames_TCHW for n in (1, 3))
    assert (colour == grey).all(), "red, green and blue alike, and their luma with them"
    difference = grey[:, 0].astype(int) - frames[..., 0]
    assert abs(difference.mean()) < 0.5 and np.abs(difference).mean() < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": ("A5C",)}, "no view 'A5C'"),
        ({"views": ("PLAX",), "layout": "camus"}, "layout camus holds A4C and A2C"),
        ({"clips_per_patient": 3, "layout": "camus"}, "2 clips of each patient"),
        ({"colour_fraction": 0.5, "layout": "camus"}, "no colour"),
        ({"patients": 0}, "at least one patient"),
        ({"colour_fraction": 2.0}, "0 to 1"),
        ({"views": ("A4C",), "layout": "camus"}, "one clip of each view of a patient; take the views A4C, A2C"),
        ({"views": ("A2C", "A2C"), "layout": "camus"}, "one clip of each view of a patient"),
        ({"frame_rate_hz": 0.0}, "frame rate 0 Hz"),
        ({"frame_rate_hz": float("nan")}, "frame rate nan Hz"),
        ({"frames": 0}, "frames 0: a clip has at least 1"),
        ({"frames": 1, "colour_fraction": 0.5}, "frames 1: a clip with colour or velocity has at least 2"),
        ({"size": 0}, "size 0"),
        ({"truth": ("strain",)}, "no truth 'strain'; the phantom has displacement"),
    ],
)
def test_what_cannot_be_made_is_named(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match=message):
        generate(tmp_path / "d", **options)
    assert not (tmp_path / "d").exists()


def test_truth_that_is_missing_or_of_another_clip_is_an_unreadable_file(tmp_path: Path) -> None:
    generate(tmp_path / "d", patients=1, frames=5, processes=1)
    row = next(iter(open_source(tmp_path / "d").rows()))
    clip = read_row(row)
    path = truth_path(tmp_path / "d", row.path.stem)
    assert "displacement_px" not in np.load(path, allow_pickle=False)
    with pytest.raises(UnreadableFile, match="truth is for"):
        add_truth(clip.replace(frames_TCHW=clip.frames_TCHW[:3], frame_time_s=None, phase_T=None, mask_THW=None), path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UnreadableFile, match="damaged"):
        add_truth(clip, path)
    path.unlink()
    with pytest.raises(UnreadableFile, match="missing"):
        add_truth(clip, path)


def test_the_command_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert echofm(["--help"]) == 0
    assert "phantom" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["echonet-dynamic", "echonet-pediatric", "camus", "dicom"])
def test_a_folder_goes_through_check_shards_and_pretraining(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is set aside and nothing needs a person. Three steps, unmonitored: 12 patients may leave val empty."""
    monkeypatch.chdir(tmp_path)
    assert echofm(["phantom", "d", "--layout", layout, "--patients", "12"]) == 0
    assert echofm(["check", "d"]) == 0
    assert echofm(["shards", "d", "s"]) == 0
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["set_aside"] == 0 and sum(split["clips"] for split in manifest["splits"].values()) == 24
    assert echofm(["pretrain", "demo", "--data", "s", "--fit.steps", "3", "--monitor.every", "0"]) == 0
    assert (tmp_path / "runs" / "demo" / "export" / "model.safetensors").stat().st_size > 0
