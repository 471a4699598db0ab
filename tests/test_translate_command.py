"""`echofm synth translate`: only hidden pixels change, ids and times stay, what has no twin is refused, runs go on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from coloured import SIZE, coloured, tiny_recipe, write_coloured
from shardfolder import Hearts, read_heart

import echofm
from echofm.cli import main as command
from echofm.clip import Clip
from echofm.conform import conform, grey_bt601, placed_back
from echofm.hub import save_model
from echofm.readers.datasets import open_source
from echofm.readers.refused import Refused
from echofm.shards.read import ShardSet
from synth.translate.clip import translated
from synth.translate.hidden import colour_mask, filled
from synth.translate.lossless import suffix_of, write_lossless
from synth.translate.network import SpaceTimeUnet
from synth.translate.translator import Translator


def untrained() -> Translator:
    """With weights that add something everywhere."""
    torch.manual_seed(0)
    net = Translator(tiny_recipe().network)
    for unet in (net.structure, net.texture):
        torch.nn.init.normal_(unet.last.weight, std=0.1)
    return net.eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net, folder = untrained(), tmp_path_factory.mktemp("run")
    save_model(net, folder / "export", contract=net.config.contract, card={})
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colour") / "shards"
    write_coloured(folder, 8)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """As read: larger than the networks' size, no square."""
    heart = read_heart(next(Hearts(tmp_path_factory.mktemp("heart"), 1).rows()))
    heart = heart.replace(
        frames_TCHW=heart.frames_TCHW[..., 3:].copy(), sector_HW=heart.sector_HW[:, 3:].copy(), mask_THW=None
    )
    return coloured(heart)


def test_outside_the_mask_nothing_changes(clip: Clip) -> None:
    translation = translated(untrained(), clip, with_spread=True)
    own_THW, found_THW = grey_bt601(clip.frames_TCHW)[:, 0], translation.clip.frames_TCHW[:, 0]
    coloured_THW = clip.frames_TCHW.max(1) != clip.frames_TCHW.min(1)
    assert coloured_THW.any() and not (coloured_THW & ~translation.mask_THW).any(), "all colour is under the mask"
    assert np.array_equal(found_THW[~translation.mask_THW], own_THW[~translation.mask_THW])
    assert np.array_equal(translation.structure_THW[~translation.mask_THW], own_THW[~translation.mask_THW])
    assert (found_THW[translation.mask_THW] != own_THW[translation.mask_THW]).mean() > 0.9
    assert not found_THW[:, ~clip.sector_HW].any() and not translation.mask_THW[::3].any(), "frames without colour stay"
    assert translation.spread_THW is not None and translation.spread_THW.max() > 0
    same = [translated(untrained(), clip, seed=seed).clip.frames_TCHW for seed in (0, 1)]
    assert np.array_equal(same[0], translation.clip.frames_TCHW) and not np.array_equal(*same), (
        "speckle follows the seed"
    )


def test_a_clip_in_parts_is_the_clip_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net, video_BCTHW = untrained(), torch.rand(1, 3, 61, SIZE, SIZE)
    sector_BHW, draw_B = torch.ones(1, SIZE, SIZE, dtype=torch.bool), torch.tensor([5])
    once = net.translate(video_BCTHW, sector_BHW, draw_B)
    monkeypatch.setattr("synth.translate.translator._FRAMES_AT_ONCE", 9)
    parts = net.translate(video_BCTHW, sector_BHW, draw_B)
    for name in ("mask_B1THW", "structure_B1THW", "texture_B1THW"):
        assert torch.allclose(getattr(once, name).float(), getattr(parts, name).float(), atol=1e-5), name


def test_a_frame_sees_its_neighbours_and_no_further() -> None:
    net = SpaceTimeUnet(channels=1, widths=(4, 8), patch=1, groups=2)
    torch.nn.init.normal_(net.last.weight)
    video = torch.rand(1, 1, 21, 8, 8)
    other = video.clone()
    other[:, :, 10] += 0.5
    moved_T = (net(video) != net(other)).flatten(3).any(-1)[0, 0]
    assert net.reach == 4 and moved_T[10 - net.reach : 11 + net.reach].all()
    assert not moved_T[: 10 - net.reach].any() and not moved_T[11 + net.reach :].any()


def test_grey_tints_and_labels_are_no_colour() -> None:
    sector_BHW = torch.ones(1, 24, 24, dtype=torch.bool)
    grey = torch.rand(1, 1, 2, 24, 24).expand(-1, 3, -1, -1, -1)
    sepia = grey * torch.tensor([1.0, 0.85, 0.7]).view(3, 1, 1, 1)
    assert not colour_mask(grey, sector_BHW).any() and not colour_mask(sepia, sector_BHW).any()
    red = grey.clone()
    red[:, 0, :, 10, 10], red[:, 1:, :, 10, 10] = 0.9, 0.1
    assert colour_mask(red, sector_BHW).sum() == 2 * 9, "one pixel to each side"


def test_fill_in_of_a_plane_is_the_plane() -> None:
    video, known = torch.full((1, 1, 1, 32, 32), 0.4), torch.ones(1, 1, 1, 32, 32, dtype=torch.bool)
    known[..., 8:20, 5:25] = False
    found = filled(torch.where(known, video, torch.tensor(1.0)), known)
    assert torch.allclose(found, video, atol=1e-5)


def test_back_from_the_networks_size(clip: Clip) -> None:
    grey = clip.replace(frames_TCHW=grey_bt601(clip.frames_TCHW), paired_TCHW=None)
    smooth = np.mgrid[: clip.sector_HW.shape[0], : clip.sector_HW.shape[1]].sum(0) * clip.sector_HW
    grey = grey.replace(frames_TCHW=np.broadcast_to(smooth.astype(np.uint8), grey.frames_TCHW.shape).copy())
    small = conform(grey, size=2 * SIZE).frames_TCHW[:, 0].astype(np.float32)
    inner = np.zeros_like(clip.sector_HW)
    inner[18:30, 18:30] = True
    assert np.abs(placed_back(small, clip.sector_HW) - smooth)[:, inner].max() < 3


@pytest.mark.parametrize("shape", ["even", "uneven", "unknown", "still"])
def test_lossless_files_give_back_pixels_and_times(shape: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames_THW = rng.integers(0, 256, (1 if shape == "still" else 9, 33, 47), dtype=np.uint8)
    steps_s = {"even": np.full(8, 1 / 30), "uneven": rng.uniform(0.02, 0.05, 8)}.get(shape)
    time_s = None if steps_s is None else np.concatenate([[0], np.cumsum(steps_s)])
    path = tmp_path / f"clip{suffix_of(time_s)}"
    write_lossless(path, frames_THW, time_s, suffix=path.suffix)
    read = echofm.read_clip(path, keep_outside=True, mask=np.ones(frames_THW.shape[1:], bool))
    assert np.array_equal(read.frames_TCHW[:, 0], frames_THW)
    if time_s is not None:
        assert read.frame_time_s == pytest.approx(time_s, abs=6e-4)
    else:
        assert shape == "still" or read.frame_time_s is None


def test_what_has_no_grey_is_refused_by_name(clip: Clip) -> None:
    net, whole = untrained(), np.broadcast_to(np.array([220, 40, 0], np.uint8)[:, None, None], clip.frames_TCHW.shape)
    for changed, reason in (
        (clip.replace(kind="m_mode"), "M-mode"),
        (clip.replace(kind="spectral"), "spectral Doppler"),
        (clip.replace(frames_TCHW=whole * clip.sector_HW), "covers the whole sector"),
        (clip.replace(frames_TCHW=clip.frames_TCHW[:, :1]), "--channels 3"),
    ):
        with pytest.raises(Refused, match=reason):
            translated(net, changed)


def test_a_clip_without_colour_is_its_own_grey(clip: Clip) -> None:
    """Whatever tints it has."""
    found = translated(untrained(), clip.replace(kind="bmode"))
    assert not found.is_translated and not found.mask_THW.any() and found.clip.kind == "bmode"
    assert np.array_equal(found.clip.frames_TCHW, grey_bt601(clip.frames_TCHW))


def test_the_command_writes_clips_that_shards_are_made_of(
    run: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "grey"
    words = ["synth", "translate", str(run), str(shards), str(out)]
    assert command(words) == 0
    assert "8 translated, 0 without colour" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        "clips",
        "manifest.csv",
        "provenance.jsonl",
        "set.json",
        "index.html",
    }
    lines = [json.loads(text) for text in (out / "provenance.jsonl").read_text().splitlines()]
    known = {record.clip_id: clip for record, clip in zip(ShardSet.open(shards).records, ShardSet.open(shards))}
    assert [line["clip_id"] for line in lines] == sorted(known)
    rows = {row["path"]: row for row in csv.DictReader((out / "manifest.csv").open())}
    for line in lines:
        clip = known[line["clip_id"]]
        read = echofm.read_clip(out / line["file"], keep_outside=True, mask=np.ones((SIZE, SIZE), bool))
        translation = translated(echofm.load_model(run / "export").eval(), clip)
        assert np.array_equal(read.frames_TCHW, translation.clip.frames_TCHW)
        assert np.array_equal(
            read.frames_TCHW[:, 0][~translation.mask_THW], grey_bt601(clip.frames_TCHW)[:, 0][~translation.mask_THW]
        )
        if clip.frame_time_s is not None:
            assert read.frame_time_s == pytest.approx(clip.frame_time_s, abs=1e-6)
        row = rows[line["file"]]
        assert row["patient"] == clip.patient_id and float(row["ef_percent"]) == clip.labels["ef_percent"]
        assert row["split"] == line["split"] and row["view"] == clip.view
    page = (out / "index.html").read_text()
    assert page.count("data:image") > 20 and str(tmp_path) not in page
    # A kill: some files and lines are gone, one line is half written; the same command brings back the same bytes.
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    text = (out / "provenance.jsonl").read_text().splitlines(keepends=True)
    (out / "provenance.jsonl").write_text("".join(text[:4]) + text[4][:20])
    (out / lines[7]["file"]).unlink()
    assert command(words) == 0
    assert all(path.read_bytes() == content for path, content in before.items())
    assert command([*words, "--seed", "1"]) == 2 and "other settings" in capsys.readouterr().err
    read_back = list(open_source(out).rows())
    assert len(read_back) == 8 and len({row.patient for row in read_back}) == 4
    assert {row.split for row in read_back} <= {"train", "val", "test"} and {row.kind for row in read_back} == {"bmode"}


def test_only_a_translator_is_taken(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tiny_latent import tiny_autoencoder

    net = tiny_autoencoder()
    save_model(net, tmp_path / "other", contract=net.config.contract, card={})
    assert command(["synth", "translate", str(tmp_path / "other"), str(shards), str(tmp_path / "out")]) == 2
    assert "a model of kind 'autoencoder'" in capsys.readouterr().err
