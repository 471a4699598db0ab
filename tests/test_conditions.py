"""Conditions: refusals, dropping by draws of each clip, nulls, and the three ways into a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from golden_tensors import tensors

from echofm.errors import EchofmError
from synth.condition import Condition, joined
from synth.condition_field import Sizes
from synth.condition_fields import FIELDS
from synth.conditioner import Conditioner, Encoded
from synth.generator.config import NetworkConfig
from synth.generator.transformer import CrossAttention, Transformer
from synth.generator.unet import VideoUnet, cropped, load_unet, padded, unet, unet_config
from synth.generator.window import across, starts
from synth.text.grammar import VOCABULARY

CLIPS, FRAMES, LATENT = 3, 6, (2, 4, 4)
SHAPE = (LATENT[0], FRAMES, *LATENT[1:])
SIZES = Sizes(
    width=16,
    latent=LATENT,
    views=("A4C", "PLAX"),
    words=VOCABULARY,
    tokens={"embedding_BND": (3, 5), "motion_BND": (4, 7)},
)


def every_field() -> Condition:
    made = torch.Generator().manual_seed(0)
    return Condition.of(
        CLIPS,
        frames=FRAMES,
        frame_rate_hz=12.5,
        ef_percent=[20, 50, 70],
        heart_rate_bpm=[50, 60, 90],
        first_phase=[0, 0.25, 0.5],
        view=["A4C", "PLAX", "A4C"],
        time_point=["ED", "ES", "ES"],
        text=["PLAX, EF 35 %", "end-systole, A4C", "HR 75, PLAX"],
        embedding_BND=torch.randn(CLIPS, 3, 5, generator=made),
        motion_BND=torch.randn(CLIPS, 4, 7, generator=made),
        label_map_BTHW=torch.randint(0, 4, (CLIPS, FRAMES, 16, 16), generator=made).to(torch.uint8),
        reference_BCTHW=torch.randn(CLIPS, *SHAPE, generator=made),
        observed_BT=torch.eye(FRAMES, dtype=torch.bool)[:CLIPS],
    )


def conditioner() -> Conditioner:
    torch.manual_seed(0)
    return Conditioner(list(FIELDS), SIZES)


def flat(encoded: Encoded) -> torch.Tensor:
    parts = (encoded.vector_BTD, encoded.tokens_BND, encoded.channels_BCTHW)
    return torch.cat([part.flatten(1) for part in parts if part is not None], 1)


def test_the_phase_of_every_frame_follows_from_the_first() -> None:
    condition = Condition.of(1, frames=6, frame_rate_hz=10, heart_rate_bpm=120, first_phase=0.9)
    expected = torch.tensor([[0.9, 0.1, 0.3, 0.5, 0.7, 0.9]])
    torch.testing.assert_close(condition.phase_BT, expected)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"ef_percent": 0.55}, "percent"),
        ({"ef_percent": [0, 50, 0.4]}, "of 0.4 percent"),
        ({"ef_percent": 120}, "0 to 100"),
        ({"heart_rate_bpm": 1.2}, "beats per minute"),
        ({"first_phase": 0.5}, "heart rate"),
        ({"ef_percent": [10, 20]}, "2 values for 3 clips"),
    ],
)
def test_what_cannot_be_meant_is_refused(asked: dict[str, object], words: str) -> None:
    with pytest.raises(EchofmError, match=words):
        Condition.of(CLIPS, frames=FRAMES, **asked)  # type: ignore[arg-type]


def test_unknown_views_and_fields_are_refused_by_name() -> None:
    with pytest.raises(EchofmError, match=r"no view 'A3C'.*A4C, PLAX"):
        conditioner().complete(Condition.of(1, frames=6, view="A3C"), 1, SHAPE)
    with pytest.raises(EchofmError, match=r"no ef_percent_B; it was trained with view"):
        Conditioner(["view"], SIZES).complete(every_field(), CLIPS, SHAPE)
    with pytest.raises(EchofmError, match="no condition 'weather'"):
        Conditioner(["weather"], SIZES)
    with pytest.raises(EchofmError, match="one token"):
        Conditioner(["motion"], SIZES.model_copy(update={"tokens": {"motion_BND": (1, 7)}}))


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_changes_what_the_network_is_given_and_unknown_is_its_null(name: str) -> None:
    """Of one clip alone; a clip of which it is unknown is given the same as all others of which it is."""
    whole, field = conditioner(), FIELDS[name].field
    if name == "frame-rate":
        changed = every_field()
        assert changed.frame_rate_hz_B is not None
        changed.frame_rate_hz_B[1] = 50
    else:
        shifted = every_field().held()[field]
        turned = [*shifted[1:], *shifted[:1]] if isinstance(shifted, list) else torch.roll(shifted, 1, 0)
        changed = Condition(**{**every_field().held(), field: turned})
    before, after = flat(whole(every_field(), FRAMES)), flat(whole(changed, FRAMES))
    assert not torch.equal(before, after)
    dropped = every_field().without([field], torch.tensor([False, True, False]))
    partly = flat(whole(dropped, FRAMES))
    assert torch.equal(partly[[0, 2]], before[[0, 2]]) and not torch.equal(partly[1], before[1])
    own = Conditioner([name], SIZES)
    nothing = flat(own(own.complete(Condition(), CLIPS, SHAPE), FRAMES))
    assert torch.equal(nothing[0], nothing[1])
    asked = Condition(**{key: value for key, value in every_field().held().items() if key == field})
    forgotten = own.complete(asked, CLIPS, SHAPE).without([field])
    assert torch.equal(flat(own(forgotten, FRAMES)), nothing)


def test_dropping_is_each_clips_own_and_at_its_rate() -> None:
    names = ["ef", "view", "reference"]
    whole, many = Conditioner(names, SIZES), 4000
    condition = Condition.of(many, frames=FRAMES, ef_percent=50, view="A4C", reference_BCTHW=torch.zeros(many, *SHAPE))
    condition = whole.complete(condition, many, SHAPE)
    dropped = whole.drop(condition, torch.arange(many), 0.1)
    assert dropped.ef_percent_B is not None and dropped.views is not None and dropped.reference_BCTHW is not None
    ef, view = dropped.ef_percent_B.isnan(), torch.tensor([each is None for each in dropped.views])
    reference = dropped.reference_BCTHW.isnan().flatten(1).all(1)
    # Together .1, or alone .1: .19 each; both: .1 + .9 x .01; the reference stays unless its own draw falls.
    for found, share in ((ef, 0.19), (view, 0.19), (ef & view, 0.109), (reference, 0.1)):
        assert abs(float(found.float().mean()) - share) < 0.02
    hidden = whole.drop(condition, torch.arange(many), 0.1, but={"reference_BCTHW": 0.4}).reference_BCTHW
    assert hidden is not None and abs(float(hidden[:, 0, 0, 0, 0].isnan().float().mean()) - 0.4) < 0.02
    part = whole.drop(condition[100:110], torch.arange(100, 110), 0.1)
    assert part.ef_percent_B is not None and torch.equal(part.ef_percent_B.isnan(), ef[100:110])


def test_parts_and_windows() -> None:
    whole = every_field()
    # Motion is spread over the whole clip, however many frames are cut of it.
    whole = whole.without(["motion_BND"])
    again = joined([whole[:1], whole[1:]])
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) if isinstance(a, torch.Tensor) else a == b
               for a, b in zip(again.held().values(), whole.held().values()))  # fmt: skip
    cut = {"phase_BT": 1, "label_map_BTHW": 1, "observed_BT": 1, "reference_BCTHW": 2}
    part = Condition(**{
        name: value.narrow(cut[name], 2, 3) if name in cut else value for name, value in whole.held().items()
    })  # fmt: skip
    encoded = conditioner()(whole, FRAMES)
    torch.testing.assert_close(flat(conditioner()(part, 3)), flat(encoded.window(2, 3)))


def trained_a_little(net: torch.nn.Module) -> torch.nn.Module:
    """Weights off zero, as after training."""
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    return net


NETWORKS = {
    "factorised": NetworkConfig(width=16, depth=2, heads=2, patch=2),
    "full": NetworkConfig(width=16, depth=2, heads=2, patch=2, attention="full"),
    "unet": NetworkConfig(kind="unet", width=32, depth=1),
}


def built(name: str) -> tuple[torch.nn.Module, Conditioner]:
    torch.manual_seed(0)
    config = NETWORKS[name]
    whole = Conditioner(list(FIELDS), SIZES.model_copy(update={"width": config.width}))
    shape = {"channels": LATENT[0], "extra": whole.channels, "two_times": True}
    return VideoUnet(config, **shape) if name == "unet" else Transformer(config, **shape, tokens=True), whole


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_learns_and_every_way_in_counts(name: str) -> None:
    net, whole = built(name)
    trained_a_little(net)
    encoded, noisy = whole(every_field(), FRAMES), torch.randn(CLIPS, *SHAPE)
    times = (torch.rand(CLIPS), torch.rand(CLIPS))
    output = net(noisy, *times, encoded)[0]
    assert output.shape == noisy.shape
    output.square().mean().backward()
    for key, weight in net.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), key
    dead = [key for key, weight in net.named_parameters() if weight.grad.abs().max() < 1e-12]  # type: ignore[union-attr]
    # Published: added_time_ids of one number, whose waves are none.
    dead = [key for key in dead if key != "net.add_embedding.linear_1.weight"]
    # Added to all keys alike a bias changes nothing.
    assert not [key for key in dead if not key.endswith("bias")], dead
    for way in ("vector_BTD", "tokens_BND", "channels_BCTHW"):
        other = Encoded(**{**vars(encoded), way: getattr(encoded, way).roll(1, 0)})
        assert not torch.allclose(net(noisy, *times, other)[0], output)
    if name != "unet":
        # AdaLN-zero: before training the output is 0.
        fresh = built(name)[0]
        assert float(fresh(noisy, *times, encoded)[0].detach().abs().max()) == 0


@pytest.mark.parametrize("name", ["factorised", "full"])
def test_any_size_and_length(name: str) -> None:
    nothing = Encoded(vector_BTD=None, tokens_BND=None, channels_BCTHW=None)
    free = Transformer(NETWORKS[name], channels=2, extra=0, two_times=False, tokens=False)
    assert free(torch.randn(1, 2, 9, 6, 8), torch.rand(1), torch.zeros(1), nothing)[0].shape == (1, 2, 9, 6, 8)


def test_checkpointing_changes_nothing() -> None:
    outputs = []
    for config in (NETWORKS["factorised"], NETWORKS["factorised"].model_copy(update={"grad_checkpointing": True})):
        torch.manual_seed(0)
        net = trained_a_little(Transformer(config, channels=2, extra=0, two_times=False, tokens=False))
        nothing = Encoded(vector_BTD=None, tokens_BND=None, channels_BCTHW=None)
        noisy = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(2))
        loss = net(noisy, torch.tensor([0.2, 0.7]), torch.zeros(2), nothing)[0].square().sum()
        loss.backward()
        outputs.append(torch.cat([weight.grad.flatten() for weight in net.parameters()]))  # type: ignore[union-attr]
    assert torch.equal(*outputs)


def test_attention_to_several_tokens_has_a_gradient_in_its_keys() -> None:
    """To one token it would be none but rounding: a softmax of one number is 1."""
    torch.manual_seed(0)
    cross = CrossAttention(16, heads=2)
    cross(torch.randn(2, 5, 16), torch.randn(2, 3, 16)).square().sum().backward()
    assert cross.kv.weight.grad is not None and cross.kv.weight.grad[:16].abs().max() > 1e-4
    with pytest.raises(AssertionError, match="constant"):
        cross(torch.randn(2, 5, 16), torch.randn(2, 1, 16))


def test_a_released_unets_folder_loads_and_another_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = unet(unet_config(32, channels=2, extra=1, layers=1, cross=8, frames=4))
    made.save_pretrained(tmp_path / "unet")
    found = load_unet(tmp_path / "unet").state_dict()
    assert found.keys() == made.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in made.state_dict().items())
    with pytest.raises(EchofmError, match="diffusers folder"):
        load_unet(tmp_path / "nothing")
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").rename(tmp_path / "unet" / "weights.bin")
    with pytest.raises(EchofmError, match="diffusers folder"):
        load_unet(tmp_path / "unet")


def test_published_unets_have_the_published_parameters() -> None:
    golden = json.loads((Path(__file__).parent / "golden" / "unet_config.json").read_text())
    for name, cross in (("mcdm_motion", 3072), ("mcdm_motion_ef", 3073), ("echosyn_lvdm_ef", 1)):
        with torch.device("meta"):
            net = unet(unet_config(128, channels=4, extra=4, layers=2, cross=cross))
        assert sum(weight.numel() for weight in net.parameters()) == golden["params"][name]["params"]
    ours = unet_config(128, channels=4, extra=4, layers=2, cross=3072)
    for key, value in golden["mcdm_unet"].items():
        assert key == "sample_size" or json.loads(json.dumps(ours[key])) == value, key


def test_padding_is_the_published_where_it_is_needed() -> None:
    """Published: a side that fits grows by 8."""
    golden = tensors("diffusion_step")
    repeated = golden["reference"][:, :, None].expand(-1, -1, 2, -1, -1)
    shown = torch.cat([golden["noisy"], repeated], 1)
    torch.testing.assert_close(padded(shown).transpose(1, 2), golden["padded_input"])
    torch.testing.assert_close(cropped(golden["pred_padded"].transpose(1, 2), (14, 14)), golden["pred"])
    assert padded(torch.zeros(1, 1, 1, 16, 8)).shape[3:] == (16, 8)


def test_windows_cover_a_clip_each_under_its_own_clips_condition() -> None:
    """Published: with 8 clips of 5 windows 8 of 40 windows had the condition of their clip."""
    assert starts(16, 16) == [0] and starts(40, 16) == [0, 8, 16, 24] and starts(17, 16) == [0, 1]
    clips, frames = 8, 96
    asked_BTD = torch.arange(clips).float()[:, None, None].expand(-1, frames, 1)
    encoded = Encoded(vector_BTD=asked_BTD, tokens_BND=None, channels_BCTHW=None)
    seen: list[torch.Tensor] = []

    def predictor(window: Encoded):  # type: ignore[no-untyped-def]
        def predict(noisy: torch.Tensor, *times: torch.Tensor) -> torch.Tensor:
            assert window.vector_BTD is not None
            seen.append(window.vector_BTD[:, :, 0])
            return torch.ones_like(noisy) * window.vector_BTD[:, None, :, :, None]

        return predict

    noisy = torch.zeros(clips, 1, frames, 2, 2)
    found = across(predictor, encoded, window=32)(noisy, torch.zeros(clips), torch.zeros(clips))
    assert len(seen) == 5
    published = tensors("diffusion_step")["stitch/condition_row_B8_TR5"]
    right = torch.arange(clips)[:, None].expand(-1, 5)
    assert int((published == right).sum()) == 8
    assert torch.equal(torch.stack([window[:, 0] for window in seen], 1).long(), right)
    assert torch.equal(found, torch.ones_like(noisy) * torch.arange(clips).view(-1, 1, 1, 1, 1))
