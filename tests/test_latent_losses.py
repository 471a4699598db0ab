"""Losses of adversarial autoencoders: closed forms, and the published composition number by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from echofm.errors import EchofmError
from echofm.hub import Encoder, load_encoder, save_model
from echofm.loss.adversarial import LARGEST_WEIGHT, adaptive_weight, hinge_discriminator, hinge_generator
from echofm.loss.kl import kl_to_normal
from echofm.loss.lpips import Lpips
from echofm.loss.perceptual import PerceptualDistance
from echofm.metric.pixel import psnr_db
from echofm.model.config import EncoderConfig
from echofm.model.vit import VideoEncoder
from synth.latent.autoencoder import Reconstructed
from synth.latent.config import LossConfig
from synth.latent.discriminator import PatchDiscriminator
from synth.latent.objective import costs_of
from synth.latent.recipes import published

GOLDEN = Path(__file__).parent / "golden" / "vae_loss.npz"


def test_divergence_is_that_of_torch() -> None:
    mean, logvar = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    ours = torch.distributions.Normal(mean, (logvar / 2).exp())
    wanted = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0, 1)).flatten(1).sum(1)
    assert torch.allclose(kl_to_normal(mean, logvar), wanted, rtol=1e-5)
    assert kl_to_normal(torch.zeros(1, 4), torch.zeros(1, 4)) == 0


def test_hinge_is_flat_beyond_its_margin() -> None:
    sure, wrong = torch.tensor([[2.0, 3.0]]), torch.tensor([[-1.0, 0.0]])
    assert hinge_discriminator(sure, -sure).item() == 0
    assert hinge_discriminator(wrong, -wrong).item() == pytest.approx(1.5)
    assert hinge_generator(sure).item() == -2.5


def test_adaptive_weight_balances_and_is_bounded() -> None:
    assert adaptive_weight(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 0.5])).item() == pytest.approx(10, rel=1e-3)
    assert adaptive_weight(torch.tensor([1e3]), torch.zeros(1)).item() == LARGEST_WEIGHT


def test_psnr_in_closed_form() -> None:
    true = torch.rand(2, 1, 3, 8, 8)
    found = true + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1, 1)
    assert psnr_db(found, true).tolist() == pytest.approx([20, 40], abs=1e-3)
    assert psnr_db(true, true).tolist() == [120, 120]


@pytest.mark.parametrize("begun", [False, True])
def test_the_published_composition(begun: bool) -> None:
    """Rombach et al.'s loss, one step before the adversary begins and at its first (golden2/README)."""
    known = {name: torch.from_numpy(np.asarray(array)) for name, array in np.load(GOLDEN).items()}
    key = f"gen{50_001 if begun else 50_000}/"
    last = known["decoder_last_weight"].clone().requires_grad_()
    output = F.conv2d(known["decoder_last_input"], last, padding=1)
    assert torch.allclose(output, known["reconstruction"], atol=1e-5)
    mean, logvar = known["posterior"].chunk(2, 1)
    found = Reconstructed(seen_NCHW=known["x"], output_NCHW=output, mean_NChw=mean, logvar_NChw=logvar.clamp(-30, 20))
    small = (F.avg_pool2d(each, 4) for each in (known["x"], output))
    distance_N = F.mse_loss(*small, reduction="none").flatten(1).mean(1)
    assert torch.allclose(distance_N, known["perceptual_per_sample"], rtol=1e-5)
    recipe = published()
    costs = costs_of(found, distance_N, recipe.objective)
    nll, kl = costs.nll_N.mean(), costs.kl_N.mean()
    score = nn.Sequential(nn.Conv2d(3, 6, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(6, 1, 4, 1, 1)).requires_grad_(False)
    score.load_state_dict({name: known[f"disc/main.{name}"] for name in score.state_dict()})
    adversarial = hinge_generator(score(output)).mean()
    slopes = [torch.autograd.grad(each, last, retain_graph=True)[0] for each in (nll, adversarial)]
    weight = recipe.adversary.weight * adaptive_weight(*slopes)
    loss = nll + recipe.objective.kl * kl + begun * weight * adversarial
    for name, value in (("nll_loss", nll), ("kl_loss", kl), ("g_loss", adversarial), ("d_weight", weight)):
        assert value.item() == pytest.approx(known[key + name].item(), rel=2e-6), name
    assert loss.item() == pytest.approx(known[key + "loss"].item(), rel=2e-6)
    slope = torch.autograd.grad(loss, last)[0].norm().item()
    assert slope == pytest.approx(known[key + "grad_norm_last"].item(), rel=2e-6)
    hinge = hinge_discriminator(score(known["x"]), score(output)).mean().item()
    assert hinge == pytest.approx(known["disc50001/loss"].item(), rel=2e-6)


def test_means_are_sums_over_the_number_of_pixels() -> None:
    draws = [torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2)]
    names = ("seen_NCHW", "output_NCHW", "mean_NChw", "logvar_NChw")
    found, distance_N = Reconstructed(**dict(zip(names, draws))), torch.rand(2)
    by = {way: costs_of(found, distance_N, LossConfig(reduction=way)) for way in ("mean", "sum")}  # type: ignore[arg-type]
    for name in ("nll_N", "kl_N"):
        assert torch.allclose(192 * getattr(by["mean"], name), getattr(by["sum"], name), rtol=1e-5)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    torch.manual_seed(0)
    net = VideoEncoder(EncoderConfig(size=32, frames=8, channels=1, patch=8, tubelet=2, width=32, depth=4, heads=2))
    from echofm.contract import InputContract

    folder = tmp_path_factory.mktemp("encoder")
    save_model(net, folder, contract=InputContract(size=32, frames=8, frame_rate_hz=25), card={})
    return load_encoder(folder)


def test_perceptual_distance_grows_with_the_damage(encoder: Encoder) -> None:
    distance = PerceptualDistance(encoder)
    video = torch.rand(2, 1, 4, 32, 32)
    noise = torch.randn_like(video)
    found = [distance(video + strength * noise, video) for strength in (0.0, 0.05, 0.2)]
    assert (found[0] == 0).all() and (found[0] < found[1]).all() and (found[1] < found[2]).all()
    # Each clip has its own, whatever lies beside it.
    assert torch.allclose(distance(video[:1] + 0.2 * noise[:1], video[:1]), found[2][:1], rtol=1e-4)
    output = (video + 0.1 * noise).requires_grad_()
    distance(output, video).sum().backward()
    assert output.grad is not None and (output.grad.flatten(1).norm(dim=1) > 0).all()
    assert all(weight.grad is None for weight in distance.parameters())
    with pytest.raises(EchofmError, match="sees 1 channels"):
        distance(video.expand(-1, 3, -1, -1, -1), video)


def test_lpips_reads_its_authors_weights_and_nothing_else(tmp_path: Path) -> None:
    names = {
        0: 64,
        2: 64,
        5: 128,
        7: 128,
        10: 256,
        12: 256,
        14: 256,
        17: 512,
        19: 512,
        21: 512,
        24: 512,
        26: 512,
        28: 512,
    }
    torch.manual_seed(0)
    state, before = {}, 3
    for number, width in names.items():
        level = 1 + sum(number > last for last in (3, 8, 15, 22))
        state[f"net.slice{level}.{number}.weight"] = torch.randn(width, before, 3, 3) / (3 * before**0.5)
        state[f"net.slice{level}.{number}.bias"], before = torch.zeros(width), width
    for level, width in enumerate((64, 128, 256, 512, 512)):
        state[f"lin{level}.model.1.weight"] = torch.rand(1, width, 1, 1)
    torch.save(state, tmp_path / "lpips.pth")
    net, frames = Lpips(tmp_path / "lpips.pth"), torch.rand(2, 1, 32, 32)
    found = net(frames, frames.flip(0))
    assert found.shape == (2,) and (found > 0).all() and (net(frames, frames) == 0).all()
    black = torch.full_like(frames, -1.0, requires_grad=True)
    net(black, frames).sum().backward()
    assert black.grad is not None and black.grad.isfinite().all()
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    for name, reason in (("other.pth", "holds no LPIPS weights"), ("none.pth", "is not there")):
        with pytest.raises(EchofmError, match=reason):
            Lpips(tmp_path / name)


def test_a_frames_score_does_not_depend_on_the_others() -> None:
    net = PatchDiscriminator(channels=1, width=8, layers=2)
    frames = torch.rand(4, 1, 32, 32)
    assert net(frames).shape[1:] == (1, 6, 6)
    assert torch.allclose(net(frames)[:1], net(frames[:1]), atol=1e-6) and net(frames).isfinite().all()
