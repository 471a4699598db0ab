"""Codecs: what a generator works in, the same surface for pixels, our latents and released ones; latents as shards."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from shardfolder import write_hearts
from tiny_latent import SIZE, tiny_autoencoder, tiny_config

from echofm.cli import main as command
from echofm.errors import EchofmError
from echofm.hub import load_model, save_model
from echofm.shards.loader import window_batches
from echofm.shards.read import ShardSet
from synth.latent.codec import Codec, LatentCodec, build_codec, open_codec
from synth.latent.standardise import latents_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves behind, without one."""
    net, folder = tiny_autoencoder(), tmp_path_factory.mktemp("run")
    save_model(net, folder / "export", contract=net.config.contract, card={})
    return folder


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as diffusers writes it, colour over three channels, 8x."""
    net, folder = (
        tiny_autoencoder(patch=1, widths=(4, 8, 8, 8), grey_as=3, middle_attention=True),
        tmp_path_factory.mktemp("r"),
    )
    net.net.save_pretrained(folder)
    return folder


@pytest.fixture(params=["pixels", "run", "released"])
def codec(request: pytest.FixtureRequest, run: Path, released: Path) -> Codec:
    specs = {"pixels": "pixels", "run": str(run), "released": f"diffusers:{released}?grey_unit=127.5"}
    return open_codec(specs[request.param], size=SIZE)


def test_clips_come_back_in_their_range(codec: Codec) -> None:
    video_BCTHW = torch.rand(2, 1, 3, SIZE, SIZE)
    latents_BCTHW = codec.encode(video_BCTHW)
    assert tuple(latents_BCTHW.shape[1:]) == codec.latent_shape(3) and torch.equal(
        codec.encode(video_BCTHW), latents_BCTHW
    )
    back_BCTHW = codec.decode(latents_BCTHW)
    assert back_BCTHW.shape == video_BCTHW.shape and back_BCTHW.min() >= 0 and back_BCTHW.max() <= 1
    wild = codec.decode(50 * torch.randn_like(latents_BCTHW))
    assert wild.min() >= 0 and wild.max() <= 1


def test_frames_do_not_depend_on_the_others(codec: Codec) -> None:
    video_BCTHW = torch.rand(2, 1, 70, SIZE, SIZE)
    latents_BCTHW = codec.encode(video_BCTHW)
    alone = codec.encode(video_BCTHW[1:, :, 66:68])
    assert torch.allclose(latents_BCTHW[1:, :, 66:68], alone, atol=1e-5)
    assert torch.allclose(codec.decode(latents_BCTHW)[1:, :, 66:68], codec.decode(alone), atol=1e-5)


def test_pixels_are_mapped_to_minus_one_to_one_and_back() -> None:
    codec, video_BCTHW = open_codec("pixels", size=8), torch.rand(2, 1, 3, 8, 8)
    latents_BCTHW = codec.encode(video_BCTHW)
    assert torch.equal(latents_BCTHW, 2 * video_BCTHW - 1) and codec.latent_shape(3) == (1, 3, 8, 8)
    assert torch.allclose(codec.decode(latents_BCTHW), video_BCTHW, atol=1e-7)


def test_latents_are_the_mean_standardised_and_no_sample(run: Path) -> None:
    """Published latents are one stored sample of the posterior (facts2, section 2)."""
    codec, net = open_codec(run), load_model(run / "export").eval()
    video_BCTHW = torch.rand(1, 1, 2, SIZE, SIZE)
    with torch.no_grad():
        mean, logvar = net.posterior(net.seen(video_BCTHW[0].transpose(0, 1)))
    wanted = (mean - net.mean_C[:, None, None]) / net.std_C[:, None, None]
    assert torch.allclose(codec.encode(video_BCTHW)[0].transpose(0, 1), wanted, atol=1e-6)
    assert logvar.exp().mean() > 1e-3, "a sample would be another"


def test_what_does_not_fit_is_refused_by_name(codec: Codec) -> None:
    video = torch.rand(1, 1, 2, SIZE, SIZE)
    for wrong, reason in (
        (video[..., :8, :8], "2 frames of 8x8"),
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
    assert not any(weight.requires_grad for weight in again.parameters())
    with pytest.raises(EchofmError, match="update echofm"):
        build_codec({"codec": "wavelets"})


def test_digests_tell_codecs_apart(run: Path, released: Path) -> None:
    moved = tiny_autoencoder()
    moved.mean_C[0] += 1e-3
    codecs = [open_codec(run), LatentCodec(moved), LatentCodec(tiny_autoencoder(seed=1)), open_codec("pixels", size=8)]
    codecs += [open_codec(f"diffusers:{released}?grey_unit={unit}", size=SIZE) for unit in (127.5, 128)]
    assert len({codec.digest for codec in codecs}) == len(codecs)


def test_a_released_network_sees_what_it_was_trained_on(released: Path) -> None:
    """EchoNet-Synthetic's was trained on x / 127.5 - 1 and is used with x / 128 - 1 (facts2, section 3)."""
    codec, video_BCTHW = open_codec(f"diffusers:{released}?grey_unit=127.5", size=SIZE), torch.rand(1, 1, 2, SIZE, SIZE)
    assert isinstance(codec, LatentCodec) and codec.scale == 8
    theirs = codec.net.net
    with torch.no_grad():
        grey = (255 * video_BCTHW[0].transpose(0, 1)).expand(-1, 3, -1, -1)
        wanted = theirs.encode(grey / 127.5 - 1).latent_dist.mean * theirs.config.scaling_factor
        other = theirs.encode(grey / 128 - 1).latent_dist.mean * theirs.config.scaling_factor
        back = (theirs.decode(wanted / theirs.config.scaling_factor).sample.mean(1, keepdim=True) + 1) * 127.5 / 255
    found = codec.encode(video_BCTHW)[0].transpose(0, 1)
    assert torch.allclose(found, wanted, atol=1e-5) and not torch.allclose(found, other, atol=1e-5)
    assert torch.allclose(codec.decode(codec.encode(video_BCTHW))[0].transpose(0, 1), back.clamp(0, 1), atol=1e-5)
    for unit in (127.5, 128.0):
        net = tiny_autoencoder(grey_unit=unit)
        frames = video_BCTHW[0].transpose(0, 1)
        assert torch.allclose(net.shown(net.seen(frames)), frames, atol=1e-6), "in and out by one unit"


def test_codecs_that_are_none_are_refused(run: Path, released: Path, tmp_path: Path) -> None:
    for spec, size, reason in (
        ("pixel", 8, "no such folder"),
        ("pixels", None, "give the size"),
        (str(run), 32, "takes clips of 16 pixels a side, these have 32"),
        (f"diffusers:{released}", SIZE, "trained with 127.5"),
        (f"diffusers:{released}?grey_unit=one", SIZE, "trained with 127.5"),
        (f"diffusers:{tmp_path}?grey_unit=128", SIZE, "are not read"),
        (f"diffusers:{released}?grey_unit=128", 20, "do not divide into latents of 8"),
    ):
        with pytest.raises(EchofmError, match=reason):
            open_codec(spec, size=size)


def test_without_diffusers_the_rest_works(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "diffusers"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert open_codec("pixels", size=SIZE).channels == 1
    assert command(["synth", "--help"]) == 0 and command(["synth", "train", "latent", "--help"]) == 0
    capsys.readouterr()
    with pytest.raises(EchofmError, match=r"pip install 'echofm\[synth\]'"):
        open_codec(run)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("pixels") / "shards"
    write_hearts(folder, 12, size=SIZE, fractions=(0.5, 0.25, 0.25))
    return ShardSet.open(folder)


def test_latents_are_written_once_as_shards(run: Path, shards: ShardSet, tmp_path: Path) -> None:
    for out in ("one", "two"):
        assert command(["synth", "latents", str(run), str(shards.folder), str(tmp_path / out)]) == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    codec, written = open_codec(run), ShardSet.open(tmp_path / "one", latents=True)
    known = written.manifest.latents
    assert known is not None and known.codec_digest == codec.digest and known.scale == codec.scale == 4
    wanted = {"frames": 6, "frame_rate_hz": None, "batch": 3, "carry": ["labels", "view", "phase"]}
    for pixels, latents in zip(window_batches(shards, **wanted), window_batches(written, **wanted)):  # type: ignore[arg-type]
        assert latents.clip_ids == pixels.clip_ids and latents.labels == pixels.labels and latents.views == pixels.views
        found, video_BCTHW = latents.to("cpu").video_BCTHW, pixels.to("cpu").video_BCTHW
        assert tuple(found.shape[1:]) == codec.latent_shape(6)
        assert torch.allclose(found, codec.encode(video_BCTHW), atol=1e-3, rtol=1e-3)
        assert torch.allclose(codec.decode(found), codec.decode(codec.encode(video_BCTHW)), atol=2e-3)


def test_latents_that_do_not_fit_are_refused_before_work(
    run: Path, shards: ShardSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hearts(tmp_path / "large", 4, size=32)
    write_hearts(tmp_path / "colour", 4, size=SIZE, channels=3)
    assert command(["synth", "latents", str(run), str(shards.folder), str(tmp_path / "latents")]) == 0
    for codec, source, reason in (
        (str(run), tmp_path / "large", "takes clips of 16 pixels a side, these have 32"),
        (str(run), tmp_path / "colour", "16 pixels a side with 3 channel"),
        ("pixels", shards.folder, "pixels are their own latents"),
        (str(run), tmp_path / "latents", "hold latents of codec"),
    ):
        assert command(["synth", "latents", codec, str(source), str(tmp_path / "out")]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert reason in line and not (tmp_path / "out").exists()


def test_a_clip_of_any_length_is_encoded_by_parts(shards: ShardSet) -> None:
    net, clip = tiny_autoencoder().eval(), shards.clip(0)
    long = clip.replace(
        frames_TCHW=np.concatenate([clip.frames_TCHW] * 4), frame_time_s=None, phase_T=None, mask_THW=None
    )
    once, often = latents_of(net, clip), latents_of(net, long)
    assert often.shape == (len(long.frames_TCHW), 4, 4, 4)
    assert often[-len(once) :] == pytest.approx(once, abs=1e-5)


def test_scale_counts_patch_and_levels() -> None:
    for patch, widths, scale in ((1, (8, 8, 8), 4), (2, (8, 8), 4), (4, (8,), 4), (2, (8, 8, 8), 8)):
        config = tiny_config(patch=patch, widths=widths)
        assert config.scale == scale and LatentCodec(tiny_autoencoder(patch=patch, widths=widths)).scale == scale
