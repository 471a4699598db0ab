"""Paths and samplers: equal to the published code's tensors (tests/golden), and right where the answer is known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from golden_tensors import tensors

from echofm.errors import EchofmError
from synth.generator import path as paths
from synth.generator.denoiser import path_of
from synth.generator.path import AverageVelocity, DataFlow, Diffusion, Flow, LogitNormal, Path, Times
from synth.generator.sampler import Guidance, diffusion_step, levels_of, sample

ALL: list[Path] = [Flow(), DataFlow(), Diffusion(), AverageVelocity(), Flow(shift=4)]
DRAW_B = torch.arange(5) * 7919 + 3


def close(found: torch.Tensor, expected: torch.Tensor, within: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, atol=within, rtol=0)


def at(*time: float) -> Times:
    return Times(time_B=torch.tensor(time), interval_B=torch.zeros(len(time)))


@cache
def data() -> torch.Tensor:
    return torch.randn(5, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_flow_is_the_published() -> None:
    golden, flow = tensors("diffusion_step"), Flow()
    z0, z1, t = (golden[f"flow/{name}"] for name in ("z0", "z1", "t"))
    close(flow.noisy(z0, z1, t), golden["flow/zt"])
    close(flow.target(z0, z1, t), golden["flow/target"])
    close(flow.data(flow.target(z0, z1, t), flow.noisy(z0, z1, t), t), z0)


def test_diffusion_is_the_published() -> None:
    golden, path = tensors("diffusion_step"), Diffusion()
    time_B = golden["timesteps"] / 1000
    close(path.alphas_cumprod, golden["alphas_cumprod"], 1e-6)
    noise = golden["eps"] + 0.1 * golden["offset"]
    close(noise, golden["noise"])
    close(path.noisy(golden["latents"], noise, time_B), golden["noisy"])
    close(path.target(golden["latents"], noise, time_B), golden["v_target"])


@pytest.mark.parametrize("step", range(4))
def test_a_step_of_ddpm_is_the_published(step: int) -> None:
    golden, path = tensors("diffusion_step"), Diffusion()
    level = int(golden[f"ddpm/{step}/t"])
    noisy = golden["ddpm/x_start"]
    output, noise = golden[f"ddpm/{step}/v"], golden[f"ddpm/{step}/noise"]
    close(path.data(output, noisy, torch.full((2,), level / 1000)), golden[f"ddpm/{step}/x0"])
    following = level - 1000 // 64
    found = diffusion_step(path, output, noisy, level, max(following, -1), noise=noise if level else None)
    close(found, golden[f"ddpm/{step}/x_next"])


@pytest.mark.parametrize("steps", [64, 128])
def test_levels(steps: int) -> None:
    """As published they begin at 945 and 889 of 999; ours show the noisiest."""
    published = tensors("diffusion_step")[f"timesteps_{steps}"]
    assert levels_of(Diffusion(), steps, spacing="leading") == published.tolist()
    ours = levels_of(Diffusion(), steps)
    assert ours[0] == 999 and len(set(ours)) == steps and ours == sorted(ours, reverse=True)


def test_average_velocity_is_the_published() -> None:
    golden = tensors("meanflow")
    names = ("x", "noise", "t", "r", "cond", "A", "a", "b", "c", "frame_mask")
    x, noise, t, r, cond, mix, a, b, c, mask = (golden[name] for name in names)

    def predict(z: torch.Tensor, time_B: torch.Tensor, interval_B: torch.Tensor) -> torch.Tensor:
        shift_BC = time_B[:, None] * a + interval_B[:, None] * b + c * cond[:, 0]
        return 1.5 * torch.tanh(torch.einsum("dc,bcthw->bdthw", mix, z) + shift_BC[:, :, None, None, None])

    path, times = AverageVelocity(), Times(time_B=t, interval_B=t - r)
    noisy, velocity = path.noisy(x, noise, t), path.target(x, noise, t)
    close(noisy, golden["zt"])
    close(velocity, golden["v"])
    mean_velocity, change = paths.with_change(predict, noisy, times, velocity)
    close(mean_velocity, golden["u"])
    close(change, golden["du_dt"])
    loss = path.loss_B(predict, x, noise, times, mask.bool()).mean()
    torch.testing.assert_close(loss.double(), golden["loss"], rtol=2e-6, atol=0)
    close(sample(path, predict, noise, steps=1), golden["one_step_sample"])


@pytest.mark.parametrize("path", ALL, ids=lambda path: type(path).__name__)
def test_a_perfect_predictor_has_no_loss_and_returns_the_data(path: Path) -> None:
    noise = path.noise(DRAW_B, *data().shape[1:])
    true = data().clamp(-1, 1)

    def predict(z: torch.Tensor, time_B: torch.Tensor, interval_B: torch.Tensor) -> torch.Tensor:
        # Wherever a sampler stands, the noise follows from data and place.
        if isinstance(path, Diffusion):
            signal, spread = path.shares(time_B)
            return path.target(true, (z - signal * true) / spread, time_B)
        assert isinstance(path, Flow)
        t = time_B[:, None, None, None, None]
        implied = (z - (1 - t) * true) / (path.data_noise + (1 - path.data_noise) * t)
        return path.target(true, implied, time_B)

    valid_BT = torch.ones(5, 3, dtype=torch.bool)
    close(path.loss_B(predict, true, noise, at(0.1, 0.3, 0.5, 0.7, 0.95), valid_BT), torch.zeros(5))
    for steps in (1, 7):
        close(sample(path, predict, noise, steps=steps), true, 1e-4)


def test_euler_is_exact_on_a_straight_flow() -> None:
    """Velocity is a constant: data and noise of a clip, whatever the steps."""
    noise = torch.randn_like(data())
    for steps in (1, 3):
        found = sample(Flow(data_noise=0), lambda z, time_B, interval_B: noise - data(), noise, steps=steps)
        close(found, data())


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_samplers_converge_at_their_order(method: str, order: int) -> None:
    """dz/dt = z cos(3t) has z(0) = z(1) exp(-sin(3) / 3)."""
    start = data().double()

    def predict(z: torch.Tensor, time_B: torch.Tensor, interval_B: torch.Tensor) -> torch.Tensor:
        return z * torch.cos(3 * time_B)[:, None, None, None, None]

    true = start * np.exp(-np.sin(3) / 3)
    found = [sample(Flow(), predict, start, steps=steps, method=method) for steps in (32, 64)]  # type: ignore[arg-type]
    coarse, fine = (float((each - true).abs().max()) for each in found)
    assert order - 0.2 < np.log2(coarse / fine) < order + 0.4


def test_ddim_of_a_gaussian_converges() -> None:
    """Of data of one Gaussian the best v is linear in z; its deterministic flow maps noise to mean + std noise."""
    mean, std, path, noise = 0.7, 0.5, Diffusion(clip=None), torch.randn(5, 1, 1, 4, 4, generator=torch.Generator())

    def predict(z: torch.Tensor, time_B: torch.Tensor, interval_B: torch.Tensor) -> torch.Tensor:
        signal, spread = path.shares(time_B)
        variance = (signal * std) ** 2 + spread**2
        best_data = mean + signal * std**2 / variance * (z - signal * mean)
        return path.target(best_data, (z - signal * best_data) / spread, time_B)

    errors = [
        float((sample(path, predict, noise, steps=steps) - (mean + std * noise)).abs().max()) for steps in (20, 40, 320)
    ]
    assert errors[0] > 1.6 * errors[1] > 3 * errors[2] and errors[2] < 0.03


def test_ddpm_draws_from_the_data() -> None:
    """For the same Gaussian its samples have the data's mean and spread."""
    mean, std, path = 0.7, 0.5, Diffusion(clip=None)
    made = torch.Generator().manual_seed(1)

    def predict(z: torch.Tensor, time_B: torch.Tensor, interval_B: torch.Tensor) -> torch.Tensor:
        signal, spread = path.shares(time_B)
        best_data = mean + signal * std**2 / ((signal * std) ** 2 + spread**2) * (z - signal * mean)
        return path.target(best_data, (z - signal * best_data) / spread, time_B)

    def again(step: int) -> torch.Tensor:
        return torch.randn(4000, 1, 1, 1, 1, generator=made)

    found = sample(path, predict, again(0), steps=250, method="ddpm", again=again)
    assert abs(found.mean() - mean) < 0.04 and abs(found.std() - std) < 0.04


def test_padding_counts_for_nothing() -> None:
    """What the frames that are no frames hold changes no loss, infinite values included."""
    valid_BT = torch.tensor([[True, True, False]]).expand(5, 3)
    changed = data().clone()
    changed[:, :, 2] = torch.inf
    noise = torch.randn_like(changed)

    def predict(z: torch.Tensor, time_B: torch.Tensor, interval_B: torch.Tensor) -> torch.Tensor:
        return 0.5 * z

    for path in ALL[:3]:
        times = path.times(DRAW_B)
        found = [path.loss_B(predict, each, noise, times, valid_BT) for each in (data(), changed)]
        assert torch.equal(*found)


def test_times_are_as_asked_and_each_clips_own() -> None:
    many_B = torch.arange(20_000)
    logit = torch.logit(DataFlow(level=LogitNormal(mean=0.8, std=0.8)).times(many_B).time_B)
    assert abs(logit.mean() - 0.8) < 0.02 and abs(logit.std() - 0.8) < 0.02
    # Of uniform times above .5, shifted by 3, are those that were above .25.
    assert abs((path_of("flow", shift=3).times(many_B).time_B > 0.5).float().mean() - 0.75) < 0.01
    two = AverageVelocity(plain=0.75).times(many_B)
    assert abs((two.interval_B == 0).float().mean() - 0.75) < 0.01 and (two.interval_B <= two.time_B).all()
    for path in ALL:
        whole, part = path.times(many_B), path.times(many_B[100:103])
        assert torch.equal(whole.time_B[100:103], part.time_B)
        close(path.noise(many_B[:5], 2, 3, 4, 4)[2:3], path.noise(many_B[2:3], 2, 3, 4, 4), 0)


def test_guidance_acts_at_middle_levels_alone() -> None:
    guidance = Guidance(scale=3, low=0.2, high=0.8)
    assert [guidance.scale_at(time) for time in (0.1, 0.2, 0.5, 0.9)] == [1, 3, 3, 1]


def test_what_does_not_fit_is_refused() -> None:
    for path, method in ((Flow(), "ddim"), (Diffusion(), "heun"), (AverageVelocity(), "euler"), (Flow(), "mean")):
        with pytest.raises(EchofmError, match="no sampler"):
            sample(path, lambda *_: data(), data(), steps=1, method=method)  # type: ignore[arg-type]
    with pytest.raises(EchofmError, match="steps"):
        sample(Flow(), lambda *_: data(), data(), steps=0)
    with pytest.raises(EchofmError, match="--shift is for flows"):
        path_of("diffusion", shift=3)
