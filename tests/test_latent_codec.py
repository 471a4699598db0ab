"""Codecs: what a generator works in, the same surface for pixels and for latents."""

from __future__ import annotations

import pytest
import torch

from echofm.errors import EchofmError
from synth.latent.codec import Codec, build_codec, open_codec


@pytest.fixture(params=["pixels"])
def codec(request: pytest.FixtureRequest) -> Codec:
    return open_codec(request.param, size=32)


def test_clips_come_back_in_their_range(codec: Codec) -> None:
    video_BCTHW = torch.rand(2, 1, 3, 32, 32)
    latents_BCTHW = codec.encode(video_BCTHW)
    assert tuple(latents_BCTHW.shape[1:]) == codec.latent_shape(3)
    back_BCTHW = codec.decode(latents_BCTHW)
    assert back_BCTHW.shape == video_BCTHW.shape and 0 <= back_BCTHW.min() and back_BCTHW.max() <= 1
    wild = codec.decode(50 * torch.randn_like(latents_BCTHW))
    assert 0 <= wild.min() and wild.max() <= 1


def test_pixels_are_mapped_to_minus_one_to_one_and_back() -> None:
    codec, video_BCTHW = open_codec("pixels", size=8), torch.rand(2, 1, 3, 8, 8)
    latents_BCTHW = codec.encode(video_BCTHW)
    assert torch.equal(latents_BCTHW, 2 * video_BCTHW - 1) and codec.latent_shape(3) == (1, 3, 8, 8)
    assert torch.allclose(codec.decode(latents_BCTHW), video_BCTHW, atol=1e-7)


def test_what_does_not_fit_is_refused_by_name(codec: Codec) -> None:
    video = torch.rand(1, 1, 2, 32, 32)
    for wrong, reason in (
        (video[..., :16, :16], "2 frames of 16x16"),
        (255 * video, "divide by 255"),
        (2 * video - 1, "undo the mean"),
        (video.expand(-1, 3, -1, -1, -1), "3 channels"),
    ):
        with pytest.raises(EchofmError, match=reason):
            codec.encode(wrong)
    with pytest.raises(EchofmError, match="take the codec that made them"):
        codec.decode(torch.zeros(1, codec.channels + 1, 2, 8, 8))


def test_digest_is_that_of_what_is_computed(codec: Codec) -> None:
    again = build_codec(codec.architecture)
    again.load_state_dict(codec.state_dict())
    assert again.digest == codec.digest and not again.train().training
    assert open_codec("pixels", size=64).digest != codec.digest
    with pytest.raises(EchofmError, match="update echofm"):
        build_codec({"codec": "wavelets"})
    with pytest.raises(EchofmError, match="no codec 'pixel'"):
        open_codec("pixel", size=32)
