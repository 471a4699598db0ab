"""Acoustic perturbations: each does along the beams what its physics says, for training and for embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from heart_shards import write_heart_shards

from echofm.acoustic import KINDS, Kind, parsed_strength, perturbed, perturbed_clip
from echofm.augment import vary_acoustics
from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.cli import main as embed
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.fan import Fan, beams
from echofm.hub import save_model
from echofm.model.config import EncoderConfig
from echofm.model.vit import VideoEncoder
from echofm.phantom import render_clip
from echofm.shards.loader import train_batches
from echofm.shards.read import ShardSet

FAN = Fan(
    apex_row=-4.0, apex_column=31.5, first_rad=-0.7, last_rad=0.7, near=6.0, far=66.0, top=-0.5, left=-0.5, bottom=63.5,
    right=63.5,
)  # fmt: skip
SECTOR = FAN.mask((64, 64))
DRAWS = torch.tensor([3, 1 << 40, -7])


def shown(kind: Kind, strength: float, draws: torch.Tensor = DRAWS) -> torch.Tensor:
    """(B, T, H, W) a level grey of 0.6 in the sector, perturbed."""
    video = (0.6 * torch.from_numpy(SECTOR).float()).expand(len(draws), 1, 4, -1, -1)
    beam = torch.from_numpy(beams(FAN, SECTOR)).expand(len(draws), -1, -1, -1)
    sector = torch.from_numpy(SECTOR).expand(len(draws), -1, -1)
    level = torch.full((len(draws),), strength)
    found = perturbed(video, beam_B2HW=beam, sector_BHW=sector, draw_B=draws, strength={kind: level})
    assert found.shape == video.shape and found.min() >= 0 and found.max() <= 1
    return found[:, 0]


def test_beams_run_from_the_apex() -> None:
    depth, angle = beams(FAN, SECTOR)
    assert depth[2, 31] == pytest.approx(0, abs=0.01) and depth[61, 31] == pytest.approx(59 / 60, abs=0.01)
    assert angle[40, 31] == pytest.approx(0.5, abs=0.02) and angle[40, 10] < 0.3 and angle[40, 53] > 0.7
    assert np.allclose(beams(FAN.upside_down(64), SECTOR[::-1])[0], depth[::-1], atol=1e-5)
    down, across = beams(None, SECTOR)
    rows = np.flatnonzero(SECTOR.any(1))
    assert (
        (down[rows[0]] == 0).all()
        and (down[rows[-1]] == 1).all()
        and across[:, 31].mean() == pytest.approx(0.5, abs=0.02)
    )
    assert np.isfinite(beams(None, np.zeros((8, 8), bool))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_drawn_per_clip_and_grows_with_its_strength(kind: Kind) -> None:
    none, half, full = (shown(kind, strength) for strength in (0.0, 0.5, 1.0))
    plain = 0.6 * torch.from_numpy(SECTOR).float()
    assert torch.allclose(none, plain.expand_as(none), atol=1e-6)
    assert 0.002 < (half - plain).abs().mean() < (full - plain).abs().mean()
    assert not full[:, :, ~torch.from_numpy(SECTOR)].any()
    alone = torch.cat([shown(kind, 1.0, draw[None]) for draw in DRAWS.flip(0)]).flip(0)
    assert torch.allclose(alone, full, atol=1e-6)
    same_for_all = kind == "attenuation"
    assert torch.equal(full[0], full[1]) is same_for_all


def test_losses_are_decibels_along_the_beams() -> None:
    depth, angle = beams(FAN, SECTOR)
    lost = shown("attenuation", 1.0)[0, 0].numpy() - 0.6
    assert np.allclose(lost[SECTOR], -25 / 60 * depth[SECTOR], atol=1e-5)
    shadow = shown("shadow", 1.0)[:, 0].numpy()[:, SECTOR] - 0.6
    # Behind a rib all is lost from its depth on; before it nothing is.
    assert (shadow.min(1) < -0.55).all() and (np.median(shadow, 1) > -0.05).all()
    assert abs(shadow[:, depth[SECTOR] < 0.01]).max() < 0.25
    flank = shown("dropout", 1.0)[:, 0].numpy()[:, SECTOR] - 0.6
    left, right = (flank[:, part].mean(1) for part in (angle[SECTOR] < 0.1, angle[SECTOR] > 0.9))
    assert (np.abs(left - right) > 0.4).all() and (np.minimum(-left, -right) < 0.02).all()
    haze = shown("haze", 1.0)[0, 0].numpy()
    assert haze[SECTOR & (depth < 0.1)].mean() > 0.63 and haze[SECTOR & (depth > 0.8)].mean() == pytest.approx(
        0.6, abs=0.01
    )


def test_speckle_is_anew_in_every_frame_and_keeps_its_mean() -> None:
    found = shown("speckle", 1.0)[..., torch.from_numpy(SECTOR)]
    assert found.mean().item() == pytest.approx(0.6, abs=0.01) and 0.04 < found.std() < 0.1
    assert abs(np.corrcoef(found[0, 0], found[0, 1])[0, 1]) < 0.1


def test_a_clip_is_perturbed_as_its_id_draws() -> None:
    rendered = render_clip(3, view="A4C")
    frames_TCHW = rendered.frames_THWC.transpose(0, 3, 1, 2)[:8, :1].copy()
    clip = Clip(frames_TCHW=frames_TCHW, sector_HW=rendered.sector_HW, clip_id="a", patient_id="p")
    once, again = (perturbed_clip(clip, {"shadow": 0.8, "speckle": 0.5}) for _ in range(2))
    assert np.array_equal(once.frames_TCHW, again.frames_TCHW)
    assert once.frames_TCHW.mean() < 0.97 * clip.frames_TCHW.mean()
    other = perturbed_clip(clip.replace(clip_id="b"), {"shadow": 0.8})
    assert not np.array_equal(other.frames_TCHW, perturbed_clip(clip, {"shadow": 0.8}).frames_TCHW)


def test_words() -> None:
    assert parsed_strength(["shadow:0.5", "haze:1"]) == {"shadow": 0.5, "haze": 1.0}
    for word in ("rain:0.5", "shadow", "shadow:2", "shadow:x", "shadow:nan"):
        with pytest.raises(EchofmError, match="KIND:STRENGTH"):
            parsed_strength([word])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_heart_shards(tmp_path_factory.mktemp("s") / "s", train=5, val=3, frames=48, size=40)


def test_training_views_come_from_the_clips_seeds(shards: Path) -> None:
    loaded = train_batches(
        ShardSet.open(shards), frames=8, frame_rate_hz=25.0, batch=4, workers=0, seed=0, start_step=0, carry=["beam"],
        rank=0, world=1,
    )  # fmt: skip
    batch = next(loaded).to("cpu")
    assert batch.beam_B2HW is not None and batch.beam_B2HW.shape == (4, 2, 40, 40)
    assert vary_acoustics(batch, most=0) is batch
    varied = vary_acoustics(batch, most=1).video_BCTHW
    assert (varied != batch.video_BCTHW).any() and not varied[~batch.sector_BHW[:, None, None].expand_as(varied)].any()
    parts = torch.cat([vary_acoustics(batch[index : index + 1], most=1).video_BCTHW for index in range(4)])
    assert torch.allclose(parts, varied, atol=1e-6)


def test_features_of_perturbed_clips_are_kept_apart(shards: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = VideoEncoder(EncoderConfig(size=32, frames=8, channels=1, patch=8, tubelet=2, width=32, depth=1, heads=2))
    contract = InputContract(size=32, frames=8, frame_rate_hz=25.0)
    encoder = save_model(net, tmp_path / "encoder", contract=contract, card={})
    common = ["--cache", str(tmp_path / "cache")]
    for name, more in (("clean", []), ("hazy", ["--perturb", "haze:1"]), ("again", [])):
        assert embed([str(encoder), str(shards), str(tmp_path / name), *common, *more]) == 0
    clean, hazy, again = (EmbeddingTable.load(tmp_path / name) for name in ("clean", "hazy", "again"))
    assert np.array_equal(clean.video_ND, again.video_ND) and not np.allclose(clean.video_ND, hazy.video_ND, atol=1e-3)
    assert hazy.settings["perturb"] == "haze:1" and "perturb" not in clean.settings
