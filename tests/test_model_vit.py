"""The encoder: tokens as a Conv3d would cut them, positions at other sizes, features per block, timm's registry."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F

import echofm.model.registry
from echofm.errors import EchofmError
from echofm.model.attention import Attention, Block
from echofm.model.config import EncoderConfig
from echofm.model.tokens import Grid, SpaceTimePositions, TubeletEmbedding, cut
from echofm.model.vit import VideoEncoder

TINY: dict[str, Any] = {
    "size": 16, "frames": 8, "channels": 3, "patch": 8, "tubelet": 2, "width": 16, "depth": 3, "heads": 2
}  # fmt: skip


def encoder(**changes: Any) -> VideoEncoder:
    torch.manual_seed(0)
    return VideoEncoder(EncoderConfig(**TINY, **changes))


def clips(*, frames: int = 8, size: int = 16, channels: int = 3) -> torch.Tensor:
    return torch.rand(2, channels, frames, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_embedding_is_a_conv3d(channels: int) -> None:
    embed = TubeletEmbedding(channels=channels, tubelet=2, patch=4, width=5)
    video = clips(channels=channels)
    kernel = embed.proj.weight.view(5, channels, 2, 4, 4)
    expected = F.conv3d(video, kernel, embed.proj.bias, stride=(2, 4, 4)).flatten(2).mT
    torch.testing.assert_close(embed(video), expected)


@pytest.mark.parametrize("channels_last", [False, True])
def test_cut_of_some_is_some_of_the_cut(channels_last: bool) -> None:
    ids = torch.tensor([[0, 3, 17, 63], [63, 5, 5, 1]])
    everything = cut(clips(), tubelet=2, patch=4, channels_last=channels_last)
    some = cut(clips(), ids, tubelet=2, patch=4, channels_last=channels_last)
    assert torch.equal(some, everything.gather(1, ids[..., None].expand(-1, -1, 96)))


def test_cut_puts_time_outermost() -> None:
    video = torch.arange(4 * 4 * 4).view(1, 1, 4, 4, 4).float()
    tokens = cut(video, tubelet=2, patch=2)[0]
    assert tokens[0].tolist() == [0, 1, 4, 5, 16, 17, 20, 21]
    assert tokens[1, 0] == 2 and tokens[2, 0] == 8 and tokens[4, 0] == 32


def positions() -> SpaceTimePositions:
    torch.manual_seed(0)
    return SpaceTimePositions(grid=Grid(4, 3, 3), width=6)


def test_positions_add_space_and_time() -> None:
    table = positions()
    every = table(Grid(4, 3, 3))
    torch.testing.assert_close(every[0, 2 * 9 + 5], table.space[0, 5] + table.time[0, 2])
    ids = torch.tensor([[0, 35, 7], [1, 9, 20]])
    torch.testing.assert_close(table(Grid(4, 3, 3), ids), every[0][ids])


def test_positions_at_their_own_size_are_not_touched() -> None:
    space, time = positions().tables(Grid(4, 3, 3))
    assert torch.equal(space, positions().space[0]) and torch.equal(time, positions().time[0])


def test_constant_and_linear_positions_stay_so_at_other_sizes() -> None:
    table = positions()
    with torch.no_grad():
        table.space.fill_(3.0)
        table.time.copy_(torch.arange(4.0)[None, :, None].expand(1, 4, 6))
    space, time = table.tables(Grid(8, 7, 5))
    torch.testing.assert_close(space, torch.full((35, 6), 3.0))
    # Time indices of half the length lie at quarter points between the old centres, and hold at the ends.
    torch.testing.assert_close(time[:, 0], torch.tensor([0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]))


def test_positions_follow_the_picture() -> None:
    # A table that grows along columns alone grows along columns alone at any size.
    table = positions()
    with torch.no_grad():
        table.space.copy_(torch.arange(3.0).repeat(3)[None, :, None].expand(1, 9, 6))
    space = table.tables(Grid(4, 6, 6))[0][:, 0].view(6, 6)
    assert (space.diff(dim=1) > 0).all()
    torch.testing.assert_close(space, space[:1].expand(6, -1))


def test_positions_keep_learning_at_other_sizes() -> None:
    table = positions()
    table(Grid(2, 5, 5)).square().sum().backward()
    for parameter in (table.space, table.time):
        assert parameter.grad is not None and (parameter.grad != 0).all()


def test_other_sizes_and_lengths() -> None:
    encoding = encoder().encode(clips(frames=12, size=32))
    assert encoding.tokens_BND.shape == (2, 6 * 16, 16)
    assert encoding.phase_BTD.shape == (2, 6, 16) and encoding.video_BD.shape == (2, 16)


def test_queries_of_some_rows_give_these_rows() -> None:
    torch.manual_seed(0)
    block = Block(16, heads=4, mlp_ratio=2.0, norm_eps=1e-6)
    x = torch.randn(2, 7, 16)
    torch.testing.assert_close(block(x, x[:, 2:5]), block(x)[:, 2:5])


def test_attention_is_softmax_of_products() -> None:
    torch.manual_seed(0)
    attention, x = Attention(6, heads=2), torch.randn(1, 5, 6)
    q, k, v = attention.qkv(x)[0].view(5, 3, 2, 3).unbind(1)
    mixed = [(q[:, h] @ k[:, h].T / 3**0.5).softmax(-1) @ v[:, h] for h in range(2)]
    torch.testing.assert_close(attention(x)[0], attention.proj(torch.cat(mixed, dim=-1)))


def test_phase_of_a_time_index_sees_that_index_alone() -> None:
    net, tokens = encoder(), torch.randn(2, 16, 16)
    changed = tokens.clone()
    changed[:, 8:12] += 1
    before, after = net.summarise(tokens, times=4), net.summarise(changed, times=4)
    assert (before != after).any(-1).tolist() == [[False, False, True, False]] * 2


def test_phase_centre_leaves_out_a_share_of_each_clip_s_mean() -> None:
    plain, centred = encoder(), encoder(phase_centre=0.9)
    phase_BTD = plain.encode(clips()).phase_BTD
    found_BTD = centred.encode(clips()).phase_BTD
    torch.testing.assert_close(found_BTD, phase_BTD - 0.9 * phase_BTD.mean(1, keepdim=True))
    assert torch.equal(centred.encode(clips()).tokens_BND, plain.encode(clips()).tokens_BND)
    torch.testing.assert_close(centred.encode(clips()[1:]).phase_BTD, found_BTD[1:])


@pytest.mark.parametrize(("indices", "count"), [(None, 3), (2, 2), ([0, -1], 2)])
def test_features_per_block(indices: int | list[int] | None, count: int) -> None:
    net = encoder()
    final, features = net.forward_intermediates(clips(), indices, norm=True)
    assert len(features) == count and all(feature.shape == (2, 16, 4, 2, 2) for feature in features)
    assert torch.equal(final, net(clips()))
    assert torch.equal(features[-1].flatten(2).mT, final)


def test_features_per_block_as_timm_gives_them() -> None:
    net = encoder()
    (first, cls), *_ = net.forward_intermediates(
        clips(), [0], output_fmt="NLC", return_prefix_tokens=True, stop_early=True, intermediates_only=True
    )
    seen: list[torch.Tensor] = []
    net.blocks[0].register_forward_hook(lambda *call: seen.append(call[2]))
    net(clips())
    assert torch.equal(torch.cat([cls, first], dim=1), seen[0])
    with pytest.raises(EchofmError, match="NCTHW"):
        net.forward_intermediates(clips(), output_fmt="NCHW")


def test_every_registered_name_builds() -> None:
    names = timm.list_models("echofm_*")
    assert names == [
        "echofm_base_patch16_224",
        "echofm_large_patch16_224",
        "echofm_small_patch8_112",
        "echofm_tiny_patch8_112",
    ]
    for name in names:
        with torch.device("meta"):
            net = timm.create_model(name)
        assert isinstance(net, VideoEncoder) and net.num_features == net.embed_dim
        assert name.endswith(f"patch{net.patch}_{net.positions.grid.rows * net.patch}")


def test_registered_names_take_changes() -> None:
    net = timm.create_model("echofm_tiny_patch8_112", in_chans=3, depth=1, frames=8)
    assert net.channels == 3 and len(net.blocks) == 1
    assert net.forward_features(clips(size=112)).shape == (2, 2 * 196, 192)
    with pytest.raises(EchofmError, match="load_encoder"):
        timm.create_model("echofm_tiny_patch8_112", pretrained=True)
    with pytest.raises(EchofmError, match="classifier"):
        timm.create_model("echofm_tiny_patch8_112", num_classes=5)


def test_xformers_is_asked_for_by_name() -> None:
    net = encoder()
    with pytest.raises(EchofmError, match="no attention backend"):
        net.set_attention("flash")
    net.set_attention("sdpa")
    assert echofm.model.registry is not None


def test_xformers_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EchofmError, match=r"pip install echofm\[gpu\]"):
        encoder().set_attention("xformers")


@pytest.mark.gpu
def test_xformers_gives_what_sdpa_gives() -> None:
    pytest.importorskip("xformers")
    net = VideoEncoder(EncoderConfig(**TINY | {"width": 64})).cuda().bfloat16()
    video = clips().cuda().bfloat16()
    expected = net.encode(video)
    net.set_attention("xformers")
    actual = net.encode(video)
    torch.testing.assert_close(actual.tokens_BND, expected.tokens_BND, rtol=0.02, atol=0.02)
    torch.testing.assert_close(actual.phase_BTD, expected.phase_BTD, rtol=0.02, atol=0.02)


def test_importing_the_package_registers_nothing_heavy() -> None:
    code = "import sys, echofm, echofm.contract; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
