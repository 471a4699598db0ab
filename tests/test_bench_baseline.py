"""The benchmark's baseline is the published model: every tensor, loss and gradient norm of the golden file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.baseline import PlainEchoFM, PlainOutput, plain_optimizer, visible_positions
from benchmarks.baseline_losses import mine_triplets, pixel_similarity, similarity

Golden = dict[str, npt.NDArray[np.generic]]
GOLDEN_FILE = Path(__file__).parent / "golden" / "official_tiny.npz"


@pytest.fixture(scope="module")
def golden() -> Golden:
    with np.load(GOLDEN_FILE, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def model(golden: Golden) -> PlainEchoFM:
    net = PlainEchoFM(json.loads(str(golden["config"])))
    net.load_state_dict({name[2:]: torch.from_numpy(value) for name, value in golden.items() if name[:2] == "w/"})
    return net


@pytest.fixture(scope="module")
def output(golden: Golden, model: PlainEchoFM) -> PlainOutput:
    out = model(torch.from_numpy(golden["imgs"]), visible_positions(torch.from_numpy(golden["noise"])))
    out.loss.backward()
    return out


def close(actual: torch.Tensor, expected: npt.NDArray[np.generic], tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual.detach(), torch.from_numpy(expected), rtol=0, atol=tolerance)


def test_the_mask_is_the_official_one(golden: Golden) -> None:
    visible_BK = visible_positions(torch.from_numpy(golden["noise"]))
    tokens = torch.cat([visible_BK + 16 * t for t in range(4)], dim=1)
    assert torch.equal(tokens, torch.from_numpy(golden["ids_keep"]))


def test_unmasked_encoding(golden: Golden, model: PlainEchoFM) -> None:
    video = torch.from_numpy(golden["imgs"])
    close(model.patch_embed(video), golden["full/patch_embed"])
    latent = model.encode_tokens(video)
    close(latent, golden["full/latent"])
    video_BD, cls_BTD = model.embed(video)
    close(cls_BTD, golden["full/cls_stack"])
    close(video_BD, golden["full/latent"].mean(1))


def test_masked_stages(golden: Golden, output: PlainOutput) -> None:
    close(output.latent_BND, golden["masked/latent"])
    close(output.cls_BTD, golden["masked/cls_stack"])
    close(output.pred_BNV, golden["masked/pred"])


def test_prior_target_and_mining(golden: Golden, model: PlainEchoFM, output: PlainOutput) -> None:
    video = torch.from_numpy(golden["imgs"])
    prior, sim = pixel_similarity(video, times=4, alpha=1.0), similarity(output.cls_BTD)
    close(prior, golden["pixel_similarity"])
    close(sim, golden["masked/embed_sim"])
    close(model.target(video), golden["target_raw"])
    positive, negative, valid = mine_triplets(sim, prior)
    assert torch.equal(valid, torch.from_numpy(golden["masked/triplet_valid"]))
    assert torch.equal(positive[valid], torch.from_numpy(golden["masked/triplet_pos_idx"])[valid])
    assert torch.equal(negative[valid], torch.from_numpy(golden["masked/triplet_neg_idx"])[valid])


@pytest.mark.parametrize("name", ["recon", "triplet", "cycle", "triplet_active", "total"])
def test_losses(golden: Golden, output: PlainOutput, name: str) -> None:
    close(output.loss if name == "total" else getattr(output, name), golden[f"loss/{name}"], 2e-6)


def test_gradient_norms(golden: Golden, model: PlainEchoFM, output: PlainOutput) -> None:
    assert output.loss.requires_grad
    stored = {name[2:]: float(value) for name, value in golden.items() if name[:2] == "g/"}
    norms = {name: float(parameter.grad.norm()) for name, parameter in model.named_parameters()}
    assert norms == pytest.approx(stored, rel=1e-4, abs=1e-6)


def test_weight_decay_spares_biases_and_norms(model: PlainEchoFM) -> None:
    decayed, kept = plain_optimizer(model).param_groups
    assert decayed["weight_decay"] == 0.05 and kept["weight_decay"] == 0.0
    assert any(p is model.pos_embed_spatial for p in decayed["params"])
    assert all(p.ndim == 1 for p in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))
