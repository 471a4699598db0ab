"""The published model's tensors, losses and gradients, stage by stage (tests/golden/README.md says what they are)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echofm.loss import periodic, pixel
from echofm.model.mae import MaeOutput, VideoMae
from echofm.model.official import from_official, official_names, to_official
from echofm.model.tokens import cut

GOLDEN = Path(__file__).parent / "golden" / "official_tiny.npz"
TENSOR = {"rtol": 0.0, "atol": 1e-5}
LOSS = {"rtol": 0.0, "atol": 2e-6}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN, allow_pickle=False) as data:
        return {name: torch.from_numpy(data[name]) for name in data.files if data[name].dtype.kind != "U"}


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    with np.load(GOLDEN, allow_pickle=False) as data:
        return json.loads(str(data["config"]))


@pytest.fixture(scope="module")
def weights(golden: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name[2:]: tensor for name, tensor in golden.items() if name.startswith("w/")}


@pytest.fixture(scope="module")
def model(weights: dict[str, torch.Tensor], config: dict[str, Any]) -> VideoMae:
    return from_official(weights, config)


@pytest.fixture(scope="module")
def output(model: VideoMae, golden: dict[str, torch.Tensor]) -> MaeOutput:
    model.zero_grad()
    output = model(golden["imgs"], golden["ids_keep"])
    output.loss.backward()
    return output


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual.detach(), expected, **TENSOR)


def test_patch_embedding(model: VideoMae, golden: dict[str, torch.Tensor]) -> None:
    close(model.encoder.embed(golden["imgs"]), golden["full/patch_embed"].flatten(1, 2))


def test_visible_patches_alone_embed_the_same(model: VideoMae, golden: dict[str, torch.Tensor]) -> None:
    ids = golden["ids_keep"]
    everything = golden["full/patch_embed"].flatten(1, 2)
    close(model.encoder.embed(golden["imgs"], ids), everything.gather(1, ids[..., None].expand(-1, -1, 64)))


def test_encoding_of_whole_clips(model: VideoMae, golden: dict[str, torch.Tensor]) -> None:
    encoding = model.encode(golden["imgs"])
    close(encoding.tokens_BND, golden["full/latent"])
    close(encoding.phase_BTD, golden["full/cls_stack"])
    close(encoding.video_BD, golden["full/latent"].mean(1))


def test_pixel_prior(golden: dict[str, torch.Tensor]) -> None:
    close(periodic.pixel_prior(golden["imgs"], tubelet=2), golden["pixel_similarity"])


def test_target_frames(golden: dict[str, torch.Tensor]) -> None:
    assert torch.equal(pixel.target_frames(8, 4), golden["target_frames"])


def test_raw_target(golden: dict[str, torch.Tensor]) -> None:
    shown = golden["imgs"][:, :, golden["target_frames"]]
    assert torch.equal(cut(shown, tubelet=1, patch=16, channels_last=True), golden["target_raw"])


def test_masked_latents_and_phase(output: MaeOutput, golden: dict[str, torch.Tensor]) -> None:
    close(output.tokens_BKD, golden["masked/latent"])
    close(output.phase_BTD, golden["masked/cls_stack"])
    close(periodic.cosine_similarity(output.phase_BTD), golden["masked/embed_sim"])


def test_mined_triplets(golden: dict[str, torch.Tensor]) -> None:
    mined = periodic.mine(golden["pixel_similarity"], golden["masked/embed_sim"])
    valid = golden["masked/triplet_valid"]
    assert torch.equal(mined.valid_BT, valid)
    assert torch.equal(mined.positive_BT[valid], golden["masked/triplet_pos_idx"][valid])
    assert torch.equal(mined.negative_BT[valid], golden["masked/triplet_neg_idx"][valid])


def test_predictions_of_all_positions(output: MaeOutput, golden: dict[str, torch.Tensor]) -> None:
    close(output.pred_BPV, golden["masked/pred"])


def test_predictions_of_hidden_positions(model: VideoMae, golden: dict[str, torch.Tensor]) -> None:
    output = model(golden["imgs"], golden["ids_keep"], hidden_only=True)
    hidden = golden["mask"].bool()
    assert torch.equal(output.pred_ids_BP, hidden.nonzero()[:, 1].view(2, -1))
    close(output.pred_BPV, golden["masked/pred"][hidden].view(2, -1, 768))
    torch.testing.assert_close(output.loss, golden["loss/total"], **LOSS)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("recon",) * 2, ("triplet",) * 2, ("cycle",) * 2, ("triplet_active",) * 2, ("loss", "total")],
)
def test_losses(output: MaeOutput, golden: dict[str, torch.Tensor], ours: str, theirs: str) -> None:
    found = output.loss if ours == "loss" else output.figures[ours]
    torch.testing.assert_close(found.detach(), golden[f"loss/{theirs}"], **LOSS)


@pytest.mark.usefixtures("output")
def test_gradient_norms(model: VideoMae, golden: dict[str, torch.Tensor]) -> None:
    gradients = official_names({name: p.grad for name, p in model.named_parameters()}, patch=16, tubelet=2)
    norms = {name: gradient.norm() for name, gradient in gradients.items()}
    expected = {name[2:]: norm for name, norm in golden.items() if name.startswith("g/")}
    assert norms.keys() == expected.keys()
    for name, norm in expected.items():
        # A bias of all keys moves no softmax: its gradient is round-off, below the floor.
        torch.testing.assert_close(
            norms[name], norm, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_round_trip_is_exact(model: VideoMae, weights: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    back, back_config = to_official(model)
    assert back_config == config
    assert back.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(back[name], tensor), name
