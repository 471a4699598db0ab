"""The monitor's figures against closed forms and naive loops; the reconstruction picture."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from echofm.metric.circular import circular_distance
from echofm.metric.cycle import phase_contrast, position_share, prior_correlation, token_phase
from echofm.model.config import MaskingConfig, NetworkConfig, ObjectiveConfig
from echofm.model.mae import VideoMae
from echofm.model.picture import joined, reconstruct, sheet
from echofm.model.tokens import cut, grid_of


def cosines(phase_BT: torch.Tensor) -> torch.Tensor:
    return torch.cos(2 * torch.pi * (phase_BT[:, :, None] - phase_BT[:, None, :]))


def test_correlation_is_pearson_over_the_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    prior = cosines(torch.rand(2, 9, generator=generator))
    assert prior_correlation(3 * prior - 5, prior).tolist() == pytest.approx([1, 1])
    assert prior_correlation(-prior, prior).tolist() == pytest.approx([-1, -1])
    other = cosines(torch.rand(2, 9, generator=generator))
    rows, columns = torch.triu_indices(9, 9, offset=1)
    naive = [
        float(torch.corrcoef(torch.stack([a[rows, columns], b[rows, columns]]))[0, 1]) for a, b in zip(prior, other)
    ]
    assert prior_correlation(other, prior).tolist() == pytest.approx(naive, abs=1e-6)
    assert prior_correlation(torch.ones(1, 4, 4), cosines(torch.rand(1, 4))).isnan().all()


def test_contrast_of_a_perfect_and_of_a_blind_embedding() -> None:
    phase_BT = (torch.arange(20) / 10 % 1)[None]
    perfect = cosines(phase_BT)
    noise = torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(0))
    by_truth = phase_contrast(perfect, prior_BTT=noise, phase_BT=phase_BT)
    # Same: distance 0 or 0.1 cycle; opposite: 0.4 or 0.5.
    assert by_truth.item() > 1.7
    assert phase_contrast(-perfect, prior_BTT=noise, phase_BT=phase_BT).item() == pytest.approx(-by_truth.item())
    assert phase_contrast(torch.ones(1, 20, 20), prior_BTT=noise, phase_BT=phase_BT).item() == pytest.approx(0)
    by_prior = phase_contrast(perfect, prior_BTT=perfect)
    unknown = torch.full_like(phase_BT, math.nan)
    assert phase_contrast(perfect, prior_BTT=perfect, phase_BT=unknown).item() == by_prior.item() > 1.5


def test_position_share_of_places_of_hearts_and_of_both() -> None:
    generator = torch.Generator().manual_seed(0)
    clips, times, width = 12, 8, 16
    places = torch.randn(times, width, generator=generator).expand(clips, -1, -1)
    own = torch.randn(clips, times, width, generator=generator)
    clip_B1D = 9 * torch.randn(clips, 1, width, generator=generator)
    assert position_share(places + clip_B1D) == pytest.approx(1)
    assert position_share(own + clip_B1D) < 0.05
    assert position_share(places + own + clip_B1D) == pytest.approx(0.5, abs=0.1)
    assert math.isnan(position_share(clip_B1D.expand(-1, times, -1)))


def test_contrast_earns_nothing_by_slowness() -> None:
    """An embedding that only knows what is next to what: neighbours alike, all else alike."""
    times = torch.arange(20)
    near = ((times[:, None] - times[None]).abs() <= 1).float()[None]
    assert phase_contrast(near, prior_BTT=cosines(times[None] / 10), phase_BT=times[None] / 10 % 1).item() == 0


def test_contrast_without_a_whole_cycle_is_unknown() -> None:
    phase_BT = (torch.arange(8) / 40)[None]
    assert phase_contrast(torch.rand(1, 8, 8), prior_BTT=cosines(phase_BT), phase_BT=phase_BT).isnan().all()


def test_phase_of_a_token_wraps_around() -> None:
    phase_BF = torch.tensor([[0.95, 0.05, 0.2, 0.4, 0.1, math.nan]])
    found = token_phase(phase_BF, tubelet=2)
    assert circular_distance(found[0, 0], torch.tensor(0.0)).item() == pytest.approx(0, abs=1e-6)
    assert found[0, 1].item() == pytest.approx(0.3) and found[0, 2].isnan()
    assert circular_distance(torch.tensor([0.9, 0.2]), torch.tensor([0.1, 0.6])).tolist() == pytest.approx([0.2, 0.4])


def test_joined_undoes_cut() -> None:
    video = torch.rand(2, 3, 6, 8, 12)
    tubelets = cut(video, tubelet=2, patch=4, channels_last=True)
    assert torch.equal(joined(tubelets, grid=grid_of(video, tubelet=2, patch=4), patch=4, per_time=2), video)


@pytest.mark.parametrize(
    "changes",
    [{}, {"objective": {"reconstruction": {"normalised_target": False}}}, {"masking": {"decode_ratio": 0.5}}],
    ids=str,
)
def test_reconstruction_keeps_what_is_seen(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = NetworkConfig(
        size=16, frames=4, channels=1, patch=4, tubelet=2, width=16, depth=1, heads=2, decoder_width=16,
        decoder_depth=1, decoder_heads=2, predicted_frames=4,
    )  # fmt: skip
    masking, objective = MaskingConfig(**changes.get("masking", {})), ObjectiveConfig(**changes.get("objective", {}))
    model = VideoMae(network, masking, objective).eval()
    video = torch.rand(3, 1, 4, 16, 16)
    sector = torch.ones(3, 16, 16, dtype=torch.bool)
    made = reconstruct(model, video, torch.arange(3), sector_BHW=sector)
    assert made.frames_F.tolist() == [0, 1, 2, 3] and torch.equal(made.target_BCFHW, video)
    hidden = made.seen_BCFHW == 0.5
    assert hidden.float().mean().item() == pytest.approx(0.75)
    assert torch.equal(made.filled_BCFHW[~hidden], video[~hidden])
    error = ((made.filled_BCFHW - video).square() * hidden).flatten(1).sum(1) / hidden.flatten(1).sum(1)
    assert made.psnr_db_B.tolist() == pytest.approx((-10 * error.log10()).tolist(), abs=1e-4)
    picture = sheet(made, clips=2, columns=3)
    assert picture.shape == (2 * 3 * 16, 3 * 16, 3)
    assert (picture[:16, :16, 0] == (video[0, 0, 0] * 255).round().byte().numpy()).all()
