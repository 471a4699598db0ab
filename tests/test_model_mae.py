"""VideoMae: shapes and gradients in every configuration, and losses that add up over micro-batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from echofm.errors import EchofmError
from echofm.loss.contrastive import Embedded
from echofm.model.config import SIZES, MaskingConfig, NetworkConfig, ObjectiveConfig
from echofm.model.mae import MaeOutput, VideoMae

SMALL: dict[str, Any] = {
    "size": 32, "frames": 16, "channels": 1, "patch": 8, "tubelet": 2, "width": 32, "depth": 2, "heads": 2,
    "decoder_width": 16, "decoder_depth": 2, "decoder_heads": 2, "predicted_frames": 8,
}  # fmt: skip
SECTOR_ONLY: dict[str, Any] = {"reconstruction": {"sector_only": True}}
DRAWS = torch.tensor([3, -7, 11, 2**61])


def clips(channels: int = 1, frames: int = 16, size: int = 32) -> torch.Tensor:
    return torch.rand(4, channels, frames, size, size, generator=torch.Generator().manual_seed(0))


def sector(size: int = 32) -> torch.Tensor:
    inside = torch.ones(4, size, size, dtype=torch.bool)
    for clip in range(4):
        inside[clip, :, : 8 * clip] = False
    return inside


def build(masking: dict[str, Any] | None = None, objective: dict[str, Any] | None = None, **network: Any) -> VideoMae:
    torch.manual_seed(0)
    return VideoMae(
        NetworkConfig(**SMALL | network), MaskingConfig(**masking or {}), ObjectiveConfig(**objective or {})
    )


def joined(parts: list[Embedded | None]) -> Embedded | None:
    """The views of several parts of a batch."""
    rows = [vars(part) for part in parts if part is not None]
    return Embedded(**{name: torch.cat([each[name] for each in rows]) for name in rows[0]}) if rows else None


def figure(output: MaeOutput, name: str) -> float:
    return (output.loss if name == "loss" else output.figures[name]).item()


CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    {"channels": 3},
    {"masking": {"kind": "random"}},
    {"masking": {"kind": "frame", "ratio": 0.5}},
    {"objective": {"prior": {"kind": "embedding"}}},
    {"objective": {"prior": {"kind": "pixel+difference", "context": 2}}},
    {"objective": {"reconstruction": {"sector_only": True, "weight": 0.5}}},
    {"objective": {"reconstruction": {"median_target": True, "normalised_target": False}}},
    {"masking": {"decode_ratio": 0.4}},
    {"predicted_frames": 16, "decoder_depth": 1},
    {"phase_centre": 0.9},
    {"phase_centre": 1.0},
    {"objective": {"clip_contrast": {"weight": 0.5, "views": 3}}},
    {"objective": {"latent": {"weight": 0.5}}, "masking": {"kind": "block"}},
]


@pytest.mark.parametrize("changes", CONFIGURATIONS, ids=str)
def test_finite_loss_and_a_gradient_in_every_parameter(changes: dict[str, Any]) -> None:
    model = build(**changes)
    output = model(clips(changes.get("channels", 1)), sector_BHW=sector(), draw_B=DRAWS, hidden_only=True)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        # Wholly centred phase vectors do not know a constant that is added to all of them.
        if name == "encoder.phase.norm.bias" and changes.get("phase_centre") == 1.0:
            torch.testing.assert_close(parameter.grad, torch.zeros_like(parameter.grad), atol=1e-6, rtol=0)
        else:
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("changes", CONFIGURATIONS, ids=str)
def test_micro_batches_with_global_denominators_are_the_batch(changes: dict[str, Any]) -> None:
    model = build(**changes).double()
    video, inside = clips(changes.get("channels", 1)).double(), sector()
    whole = model(video, sector_BHW=inside, draw_B=DRAWS)
    whole.loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    parts = [slice(0, 1), slice(1, 4)]
    denominators = sum(model.denominators(video[part], sector_BHW=inside[part], draw_B=DRAWS[part]) for part in parts)
    assert denominators.dtype == torch.float64
    with torch.no_grad():
        views = joined([model.embedded_views(video[part], DRAWS[part]) for part in parts])
    sums = dict.fromkeys(("loss", *whole.figures), 0.0)
    for part in parts:
        output = model(video[part], sector_BHW=inside[part], draw_B=DRAWS[part], denominators=denominators, views=views)
        output.loss.backward()
        sums = {name: value + figure(output, name) for name, value in sums.items()}
    assert sums == pytest.approx({name: figure(whole, name) for name in sums}, rel=1e-9)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], msg=lambda text, name=name: f"{name}: {text}")


def test_micro_batches_differ_enough_to_need_denominators() -> None:
    model, video, inside = build(objective=SECTOR_ONLY), clips(), sector()
    counts = [
        model.denominators(video[i : i + 1], sector_BHW=inside[i : i + 1], draw_B=DRAWS[i : i + 1]) for i in range(4)
    ]
    assert len({float(count[0]) for count in counts}) > 1
    assert [float(count[2]) for count in counts] == [8.0] * 4


@pytest.mark.parametrize("mask", ["tube", "random", "frame"])
def test_shapes(mask: str) -> None:
    output: MaeOutput = build({"kind": mask}, channels=3)(clips(3), draw_B=DRAWS)
    times = 2 if mask == "frame" else 8
    assert output.pred_BPV.shape == (4, 128, 64 * 3) and output.tokens_BKD.shape == (4, 32, 32)
    assert output.phase_BTD.shape == (4, times, 32)
    assert torch.equal(output.pred_ids_BP, torch.arange(128).expand(4, -1))


def test_given_ids_and_drawn_ids_are_one_path() -> None:
    model = build()
    drawn = model(clips(), draw_B=DRAWS)
    given = model(clips(), drawn.visible_BK)
    assert torch.equal(given.loss, drawn.loss)


def test_without_seeds_the_mask_follows_torch_s_generator() -> None:
    model = build()
    torch.manual_seed(5)
    first = model(clips()).visible_BK
    second = model(clips()).visible_BK
    torch.manual_seed(5)
    assert torch.equal(model(clips()).visible_BK, first)
    assert not torch.equal(first, second)


def test_what_is_hidden_does_not_reach_the_tokens() -> None:
    model, video = build(), clips()
    output = model(video, draw_B=DRAWS)
    ids = output.pred_ids_BP[0]
    unseen = [int(i) for i in ids if int(i) not in set(output.visible_BK[0].tolist())]
    for token in unseen[:5]:
        time, row, column = token // 16, token % 16 // 4, token % 4
        changed = video.clone()
        changed[0, :, 2 * time : 2 * time + 2, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 0.5
        assert torch.equal(model(changed, draw_B=DRAWS).tokens_BKD, output.tokens_BKD)


def test_grad_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for enabled in (False, True):
        model = build()
        model.set_grad_checkpointing(enabled)
        model(clips(), draw_B=DRAWS).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for kept, again in zip(*gradients):
        torch.testing.assert_close(kept, again, rtol=0, atol=1e-7)


def test_bf16_autocast_stays_close() -> None:
    model = build()
    exact = model(clips(), draw_B=DRAWS)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(clips(), draw_B=DRAWS)
    assert rough.loss.dtype == torch.float32
    assert float(rough.loss.detach()) == pytest.approx(exact.loss.item(), rel=0.02)


def test_sector_loss_ignores_what_lies_outside() -> None:
    model, inside = build(objective=SECTOR_ONLY | {"triplet": {"weight": 0}, "cycle": {"weight": 0}}), sector()
    hidden_outside = clips()
    output = model(hidden_outside, sector_BHW=inside, draw_B=DRAWS)
    # The fourth clip's first three columns of patches are outside; hide them all and change them.
    visible = torch.tensor([[time * 16 + 3 for time in range(8)]])
    first = model(clips()[3:], visible, sector_BHW=inside[3:]).loss
    changed = clips()[3:]
    changed[..., :24] = 0.1
    assert torch.equal(model(changed, visible, sector_BHW=inside[3:]).loss, first)
    assert torch.isfinite(output.loss)
    with pytest.raises(EchofmError, match="give sector_BHW"):
        model(clips(), draw_B=DRAWS)


def test_other_sizes_and_lengths_run() -> None:
    output = build()(clips(frames=8, size=48), draw_B=DRAWS)
    output.loss.backward()
    assert output.pred_BPV.shape == (4, 4 * 36, 64)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"width": 33}, "multiple of its heads"),
        ({"decoder_width": 33}, "multiple of its heads"),
        ({"size": 33}, "multiple of patch"),
        ({"predicted_frames": 12}, "predicted_frames"),
        ({"masking": {"kind": "tubes"}}, "kind"),
        ({"objective": {"prior": {"kind": "pixels"}}}, "kind"),
        ({"size": 8, "patch": 1, "channels": 1, "tubelet": 2, "frames": 4, "predicted_frames": 2}, "has no spread"),
        ({"masking": {"kind": "frame"}, "frames": 4, "tubelet": 4, "predicted_frames": 4}, "two tubelets or more"),
        ({"size": 16, "patch": 16}, "two patches or more"),
    ],
)
def test_configurations_that_do_not_fit_or_could_not_learn(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        build(**changes)


def test_clips_that_do_not_fit() -> None:
    with pytest.raises(EchofmError, match="1 channels"):
        build()(clips(3))
    with pytest.raises(EchofmError, match="not tiled"):
        build()(clips(size=36))
    with pytest.raises(EchofmError, match="evenly"):
        build()(clips(), torch.arange(13).expand(4, -1))


@pytest.mark.parametrize(
    "ids",
    [[0, 16, 32, 48, 64, 80, 96, 128], [-1, 16, 32, 48, 64, 80, 96, 112], [0, 1, 32, 48, 64, 80, 96, 112], [0] * 8],
    ids=["beyond", "negative", "uneven", "repeated"],
)
def test_visible_ids_that_do_not_fit(ids: list[int]) -> None:
    with pytest.raises(EchofmError, match="visible_ids must be"):
        build()(clips(), torch.tensor(ids).expand(4, -1))


@pytest.mark.filterwarnings("ignore:var_mean")
@pytest.mark.parametrize("hidden_only", [False, True])
def test_nothing_hidden_leaves_the_periodic_losses(hidden_only: bool) -> None:
    model = build()
    output = model(clips(), torch.arange(128).expand(4, -1), hidden_only=hidden_only)
    assert output.figures["recon"] == 0 and output.pred_BPV.shape[1] == (0 if hidden_only else 128)
    torch.testing.assert_close(output.loss, output.figures["triplet"] + output.figures["cycle"])
    torch.testing.assert_close(output.phase_BTD, model.encode(clips()).phase_BTD)


@pytest.mark.parametrize(("name", "millions"), [("tiny", 3), ("small", 24), ("base", 115), ("large", 340)])
def test_sizes_build(name: str, millions: int) -> None:
    with torch.device("meta"):
        model = VideoMae(SIZES[name])
    count = sum(parameter.numel() for parameter in model.parameters())
    assert round(count / 1e6) == pytest.approx(millions, rel=0.2)


def test_every_size_is_tested() -> None:
    assert set(SIZES) == {"tiny", "small", "base", "large"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"masking": {"kind": "frame", "ratio": 0.5}},
        {"masking": {"decode_ratio": 0.5}, "objective": SECTOR_ONLY | {"prior": {"kind": "pixel+difference"}}},
    ],
    ids=str,
)
def test_compiles_in_one_graph(changes: dict[str, Any]) -> None:
    model = build(**changes)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    arguments = {"draw_B": DRAWS, "sector_BHW": sector(), "hidden_only": True}
    assert torch.equal(compiled(clips(), **arguments).loss, model(clips(), **arguments).loss)
