"""Published architectures from their files: Hugging Face video models, EchoPrime, PanEcho, the published EchoFM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from echofm.backbones import open_encoder
from echofm.backbones.published import EchoPrimeVideo, PanEchoVideo, published_name
from echofm.errors import EchofmError
from echofm.hub import load_encoder
from echofm.model.config import NetworkConfig
from echofm.model.convert import convert
from echofm.model.mae import VideoMae
from echofm.model.official import to_official

transformers = pytest.importorskip("transformers")
MEAN, STD = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]


def videomae(folder: Path) -> Path:
    torch.manual_seed(11)
    config = transformers.VideoMAEConfig(
        image_size=32, patch_size=16, num_frames=4, tubelet_size=2, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=64, use_mean_pooling=False,
    )  # fmt: skip
    transformers.VideoMAEModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return folder


def vjepa2(folder: Path) -> Path:
    torch.manual_seed(11)
    config = transformers.VJEPA2Config(
        crop_size=32, patch_size=16, frames_per_clip=8, tubelet_size=2, hidden_size=48, num_hidden_layers=2,
        num_attention_heads=2, pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1,
        num_pooler_layers=1,
    )  # fmt: skip
    transformers.VJEPA2Model(config).save_pretrained(folder)
    return folder


def clips(*, frames: int, size: int) -> torch.Tensor:
    return torch.rand((2, 3, frames, size, size), generator=torch.Generator().manual_seed(1))


def test_videomae_with_its_processors_normalisation(tmp_path: Path) -> None:
    folder = videomae(tmp_path)
    encoder = open_encoder(f"hf:{folder}")
    assert (encoder.contract.size, encoder.contract.frames, encoder.contract.channels) == (32, 4, 3)
    assert encoder.grid == (2, 2, 2) and encoder.sees_time
    video_BCTHW = clips(frames=4, size=32)
    model = transformers.VideoMAEModel.from_pretrained(folder).eval()
    normalised = (video_BCTHW - torch.tensor(MEAN).view(3, 1, 1, 1)) / torch.tensor(STD).view(3, 1, 1, 1)
    with torch.no_grad():
        expected_BND = model(normalised.transpose(1, 2)).last_hidden_state
    found = encoder.encode(video_BCTHW)
    torch.testing.assert_close(found.tokens_BND, expected_BND, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.phase_BTD[:, 1], expected_BND[:, 4:].mean(1), atol=1e-5, rtol=1e-4)
    untrained = open_encoder(f"random:hf:{folder}")
    assert untrained.contract == encoder.contract and untrained.digest != encoder.digest
    assert open_encoder(f"hf:{folder}?random").digest == untrained.digest


def test_vjepa2_without_its_predictor_at_any_length(tmp_path: Path) -> None:
    folder = vjepa2(tmp_path)
    encoder = open_encoder(f"hf:{folder}?frames=4")
    assert encoder.contract.frames == 4 and encoder.grid == (2, 2, 2)
    assert open_encoder(f"hf:{folder}").grid == (4, 2, 2)
    video_BCTHW = clips(frames=4, size=32)
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    model = transformers.VJEPA2Model.from_pretrained(folder).eval()
    with torch.no_grad():
        expected_BND = model.get_vision_features(((video_BCTHW - mean) / std).transpose(1, 2))
    torch.testing.assert_close(encoder.encode(video_BCTHW).tokens_BND, expected_BND, atol=1e-5, rtol=1e-4)
    assert not any("predictor" in name for name in encoder.state_dict())
    with pytest.raises(EchofmError, match="not a multiple"):
        open_encoder(f"hf:{folder}?frames=5")


def test_hub_folders_that_are_refused(tmp_path: Path) -> None:
    folder = videomae(tmp_path / "pickled")
    weights = transformers.VideoMAEModel.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(EchofmError, match="no safetensors model"):
        open_encoder(f"hf:{folder}")
    other = tmp_path / "bert"
    transformers.BertConfig().save_pretrained(other)
    with pytest.raises(EchofmError, match="supported are VideoMAE"):
        open_encoder(f"hf:{other}")
    remote = tmp_path / "remote"
    remote.mkdir()
    (remote / "evil.py").write_text("raise SystemExit('it ran')")
    (remote / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}))
    with pytest.raises(EchofmError, match="hub gave no"):
        open_encoder(f"hf:{remote}")


def test_missing_weights_are_not_left_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = videomae(tmp_path)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "layer" in name and name.endswith("weight"))
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EchofmError, match="lack"):
        open_encoder(f"hf:{folder}")


def test_the_published_echofm_has_the_digest_of_its_conversion(tmp_path: Path) -> None:
    torch.manual_seed(11)
    model = VideoMae(NetworkConfig(
        size=32, frames=8, channels=3, patch=16, tubelet=2, width=48, depth=1, heads=2,
        decoder_width=32, decoder_depth=1, decoder_heads=2, predicted_frames=4,
    ))  # fmt: skip
    weights, config = to_official(model)
    torch.save(weights, tmp_path / "weights.pth")
    (tmp_path / "weights.json").write_text(json.dumps(config))
    convert(tmp_path / "weights.pth", tmp_path / "folder")
    encoder = open_encoder(f"official:{tmp_path / 'weights.pth'}")
    assert encoder.digest == load_encoder(tmp_path / "folder").digest
    assert open_encoder(f"random:official:{tmp_path / 'weights.pth'}").digest != encoder.digest


class Published(nn.Module):
    """PanEcho's backbone with the names of its published state_dict, composed from torch's own parts."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import convnext_tiny

        self.encoder = nn.Module()
        self.encoder.model = convnext_tiny()
        self.encoder.model.classifier[-1] = nn.Identity()
        layer = nn.TransformerEncoderLayer(768, 8, 768, 0.0, "relu", batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.time_encoder = nn.Module()
        position = torch.arange(16)[:, None] / 10_000 ** (torch.arange(0, 768, 2) / 768)
        pe = torch.zeros(1, 16, 768)
        pe[0, :, 0::2], pe[0, :, 1::2] = position.sin(), position.cos()
        self.time_encoder.pe = nn.Parameter(pe)

    def forward(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        frames = self.encoder.model(video_BCTHW.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, 16))
        return self.transformer(frames + self.time_encoder.pe).mean(1)


def test_panecho_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        published, ours = Published().state_dict(), PanEchoVideo().state_dict()
    assert {published_name(name): tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in published.items()
    }


@pytest.mark.slow
def test_panecho_from_its_whole_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(11)
    published = Published().eval()
    weights = {f"encoder.{name}": tensor for name, tensor in published.state_dict().items()}
    weights |= {"EF_head.1.weight": torch.rand(1, 768), "EF_head.1.bias": torch.rand(1)}
    torch.save({"weights": weights, "epoch": 3}, tmp_path / "panecho.pt")
    encoder = open_encoder(f"panecho:{tmp_path / 'panecho.pt'}")
    assert (encoder.contract.size, encoder.contract.frames, encoder.contract.colour) == (112, 16, "rgb")
    video_BCTHW = clips(frames=16, size=112)[:1]
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected_BD = published((video_BCTHW - mean) / std)
    found = encoder.encode(video_BCTHW)
    torch.testing.assert_close(found.video_BD, expected_BD, atol=1e-4, rtol=1e-3)
    assert found.tokens_BND.shape[1] == encoder.grid.tokens
    torch.testing.assert_close(PanEchoVideo().positions, published.time_encoder.pe, atol=1e-5, rtol=1e-4)


def test_other_files_are_no_panecho(tmp_path: Path) -> None:
    torch.save({"weights": {"encoder.encoder.model.features.0.0.weight": torch.rand(2)}}, tmp_path / "cut.pt")
    with pytest.raises(EchofmError, match="missing"):
        open_encoder(f"panecho:{tmp_path / 'cut.pt'}")
    torch.save({"backbone.weight": torch.rand(2)}, tmp_path / "other.pt")
    with pytest.raises(EchofmError, match="no PanEcho checkpoint"):
        open_encoder(f"panecho:{tmp_path / 'other.pt'}")


def test_other_files_are_no_echoprime(tmp_path: Path) -> None:
    torch.save({"head.1.weight": torch.rand(2)}, tmp_path / "cut.pt")
    with pytest.raises(EchofmError, match="missing"):
        open_encoder(f"echoprime:{tmp_path / 'cut.pt'}")


@pytest.mark.slow
def test_echoprime_with_its_published_preprocessing(tmp_path: Path) -> None:
    from torchvision.models.video import mvit_v2_s

    torch.manual_seed(11)
    published = mvit_v2_s()
    published.head[-1] = nn.Linear(768, 512)
    torch.save(published.eval().state_dict(), tmp_path / "echo_prime_encoder.pt")
    encoder = open_encoder(f"echoprime:{tmp_path / 'echo_prime_encoder.pt'}")
    assert (encoder.contract.size, encoder.contract.frames) == (224, 32)
    video_BCTHW = clips(frames=32, size=224)[:1]
    mean, std = ([29.110628, 28.076836, 29.096405], [47.989223, 46.456997, 47.20083])
    pixels = (video_BCTHW * 255 - torch.tensor(mean).view(3, 1, 1, 1)) / torch.tensor(std).view(3, 1, 1, 1)
    with torch.no_grad():
        expected_BD = published(pixels[:, :, 0:32:2])
    found = encoder.encode(video_BCTHW)
    torch.testing.assert_close(found.video_BD, expected_BD, atol=1e-4, rtol=1e-3)
    assert found.tokens_BND.shape == (1, 8 * 7 * 7, 768) and isinstance(encoder.net, EchoPrimeVideo)
