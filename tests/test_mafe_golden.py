"""The published frame-pair network, stage by stage and in its losses (tests/golden/README.md)."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echofm.errors import EchofmError
from echofm.hub import load_model, save_model
from synth.mafe import load_published
from synth.mafe.published.condition import motion_condition, pooled_motion
from synth.mafe.published.network import FramePair, PublishedMafe
from synth.mafe.pyramid import pyramid_l1

GOLDEN = Path(__file__).parent / "golden" / "mafe_tiny.npz"
CASES = ("win", "pad", "pub")
Arrays = dict[str, torch.Tensor]


@functools.cache
def golden() -> tuple[Arrays, dict[str, Any]]:
    with np.load(GOLDEN, allow_pickle=False) as data:
        arrays = {name: torch.from_numpy(np.asarray(data[name])) for name in data.files if data[name].dtype.kind != "U"}
        return arrays, json.loads(str(data["config"]))


def weights() -> Arrays:
    arrays, _ = golden()
    return {name[2:]: value.float() * arrays[f"s/{name[2:]}"] for name, value in arrays.items() if name[:2] == "w/"}


def network(case: str) -> PublishedMafe:
    config = golden()[1]
    return load_published(weights(), config | {"window": of_case(case)["window"]})


def of_case(case: str) -> dict[str, Any]:
    return next(each for each in golden()[1]["cases"] if each["name"] == case)


def images(case: str) -> list[torch.Tensor]:
    return [golden()[0][f"{case}/{name}"].float() / 255 for name in ("img0", "img1", "gt")]


@functools.cache
def found(case: str) -> tuple[FramePair, Arrays]:
    """The output, and under the golden names what the stages gave."""
    net, seen = network(case), {}
    bone = net.feature_bone
    for stage in (4, 5):
        bone.get_submodule(f"patch_embed{stage}").register_forward_hook(
            lambda _, __, out, stage=stage: seen.__setitem__(f"stage{stage}/patch_embed", out.flatten(1, 2))
        )
        for number, block in enumerate(bone.get_submodule(f"block{stage}").children()):

            def note(_: Any, __: Any, out: Any, name: str = f"stage{stage}/block{number}") -> None:
                seen[f"{name}/x"], seen[f"{name}/motion"] = (each.flatten(1, 2) for each in out)

            block.register_forward_hook(note)
    first, last, _ = images(case)
    output = net(first, last)
    for name in ("appearance", "motion", "flow", "mask", "merged"):
        seen |= {f"{name}/{number}": each for number, each in enumerate(getattr(output, name))}
    seen |= {"refine/unet_out": output.residual, "pred": output.pred, "motion_vector_pooled": pooled_motion(output)}
    return output, seen


@pytest.mark.parametrize("case", CASES)
def test_every_stage(case: str) -> None:
    seen, compared = found(case)[1], 0
    for name, expected in golden()[0].items():
        of, _, rest = name.partition("/")
        base, _, thinned = rest.partition("@")
        if of == case and base in seen:
            got = seen[base][..., ::8, ::8] if thinned else seen[base]
            torch.testing.assert_close(got.detach(), expected, rtol=0, atol=1e-5)
            compared += 1
    assert compared >= 10


def recon(output: FramePair, truth: torch.Tensor, levels: int) -> torch.Tensor:
    parts = [pyramid_l1(image, truth, levels=levels).mean() for image in (output.pred, *output.merged)]
    return parts[0] + 0.5 * (parts[1] + parts[2])


@pytest.mark.parametrize("case", CASES)
def test_losses(case: str) -> None:
    arrays, truth, levels = golden()[0], images(case)[2], of_case(case)["lap_levels"]
    output = found(case)[0]
    expected = arrays[f"{case}/loss/recon_total"].item()
    assert recon(output, truth, levels).item() == pytest.approx(expected, rel=2e-6)
    alone = pyramid_l1(output.pred, truth, levels=levels).mean().item()
    assert alone == pytest.approx(arrays[f"{case}/loss/lap_pred"].item(), rel=2e-6)
    # The published loss does not see brightness; with the lowest octave it does.
    shifted = truth + 0.2
    assert pyramid_l1(shifted, truth, levels=levels).mean() < 1e-6
    assert pyramid_l1(shifted, truth, levels=levels, lowest=True).mean().item() == pytest.approx(0.2, rel=1e-4)


def test_gradients() -> None:
    net = network("win")
    first, last, truth = images("win")
    recon(net(first, last), truth, 4).backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None
        assert weight.grad.norm().item() == pytest.approx(golden()[0][f"win/g/{name}"].item(), rel=1e-3, abs=1e-6)


def test_another_time_and_the_turned_pair() -> None:
    arrays, net = golden()[0], network("win")
    first, last, _ = images("win")
    with torch.no_grad():
        torch.testing.assert_close(net(first, last, t=0.25).flow[-1], arrays["win/t0.25/flow"], rtol=0, atol=1e-5)
        swapped = net(last, first)
        torch.testing.assert_close(swapped.flow[-1], arrays["win/swap/flow"], rtol=0, atol=1e-5)
        torch.testing.assert_close(pooled_motion(swapped), arrays["win/swap/motion_vector_pooled"], rtol=0, atol=1e-5)
        by_pair = net(first, last, t=torch.tensor([0.25])).flow[-1]
    torch.testing.assert_close(by_pair, arrays["win/t0.25/flow"], rtol=0, atol=1e-5)
    for case in CASES:
        first, last, _ = images(case)
        vector = motion_condition(network(case), first[:1], last[:1])[0]
        torch.testing.assert_close(vector, arrays[f"{case}/tta/motion_vector"], rtol=0, atol=1e-5)


def test_pooled_motion_is_a_bottleneck() -> None:
    """The defect that the coarse grid mends: two numbers a head are left of all motion channels."""
    config, net = golden()[1], network("win")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        rows = [
            pooled_motion(net(*torch.rand(2, 2, 3, 64, 64, generator=generator))) for _ in range(16)
        ]  # 32 pairs, 64 rows
    values = torch.linalg.svdvals(torch.cat(rows) - torch.cat(rows).mean(0))
    heads = [depth * number for depth, number in zip(config["depths"][3:], config["num_heads"])]
    bound = 2 * sum(heads)
    assert bound == 24 and values[bound - 1] > 1e-4 * values[0] > values[bound]


def test_a_published_state_dict_loads_strictly(tmp_path: Path) -> None:
    config = golden()[1] | {"window": 4}
    caches = {"feature_bone.block4.1.attn_mask": torch.zeros(4, 16, 16), "feature_bone.block4.1.HW": torch.tensor(64)}
    wrapped = {f"module.{name}": tensor for name, tensor in (weights() | caches).items()}
    loaded = load_published(wrapped, config)
    pair = images("win")[:2]
    torch.testing.assert_close(loaded(*pair).pred, network("win")(*pair).pred, rtol=0, atol=0)
    lacking = dict(weights())
    del lacking["unet.conv.bias"]
    with pytest.raises(EchofmError, match=r"'unet.conv.bias' is missing"):
        load_published(lacking, config)
    with pytest.raises(EchofmError, match=r"the config needs"):
        load_published(weights(), config | {"refine_c": 16})
    with pytest.raises(EchofmError, match="sides that 16 divides"):
        loaded(pair[0][..., :60], pair[1][..., :60])
    save_model(loaded, tmp_path, contract=None, card={})
    again = load_model(tmp_path)
    torch.testing.assert_close(again(*pair).pred, loaded(*pair).pred, rtol=0, atol=0)
