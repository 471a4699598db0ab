"""Models on disk: saved, read back, refused when cut, changed or hostile; the input contract at every call."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import echofm
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.hub import KINDS, Encoder, load_encoder, load_model, push_to_hub, save_model
from echofm.model.config import NetworkConfig
from echofm.model.mae import VideoMae

TINY: dict[str, Any] = {
    "size": 16, "frames": 8, "channels": 1, "patch": 8, "tubelet": 2, "width": 16, "depth": 2, "heads": 2,
    "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2, "predicted_frames": 4,
}  # fmt: skip
CONTRACT = InputContract(size=16, frames=8, frame_rate_hz=50.0, channels=1)


@pytest.fixture
def model() -> VideoMae:
    torch.manual_seed(0)
    return VideoMae(NetworkConfig(**TINY))


@pytest.fixture
def folder(model: VideoMae, tmp_path: Path) -> Path:
    return save_model(model, tmp_path / "export", contract=CONTRACT, card={"steps": 3, "data": "generated hearts"})


def clips(channels: int = 1) -> torch.Tensor:
    return torch.rand(2, channels, 8, 16, 16, generator=torch.Generator().manual_seed(1))


def test_exact_file_set(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_card_tells_input_and_training(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    for fact in ("library_name: echofm", "(B, 1, 8, 16, 16)", "50 frames per second", "generated hearts", "steps: 3"):
        assert fact in card


def test_model_comes_back_bit_for_bit(model: VideoMae, folder: Path) -> None:
    again = load_model(folder)
    assert (again.config, again.masking, again.objective) == (model.config, model.masking, model.objective)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in again.parameters())


def test_encoder_gives_the_model_s_embeddings(model: VideoMae, folder: Path) -> None:
    encoder = echofm.load_encoder(folder)
    ours, theirs = encoder.encode(clips(), frame_rate_hz=50.0), model.encode(clips())
    for name in ("tokens_BND", "phase_BTD", "video_BD"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name).detach())
    assert encoder.contract == CONTRACT
    assert not encoder.train().training and not any(p.requires_grad for p in encoder.parameters())


def test_digest_follows_weights_and_contract(model: VideoMae, folder: Path, tmp_path: Path) -> None:
    first = load_encoder(folder).digest
    same = save_model(model, tmp_path / "same", contract=CONTRACT, card={})
    other_rate = CONTRACT.model_copy(update={"frame_rate_hz": 25.0})
    other = save_model(model, tmp_path / "rate", contract=other_rate, card={})
    with torch.no_grad():
        model.encoder.norm.bias[0] += 1
    changed = save_model(model, tmp_path / "changed", contract=CONTRACT, card={})
    assert load_encoder(same).digest == first
    assert len({first, load_encoder(other).digest, load_encoder(changed).digest}) == 3


def test_the_phase_projector_has_a_digest_of_its_own(model: VideoMae, folder: Path, tmp_path: Path) -> None:
    whole = load_encoder(folder)
    with torch.no_grad():
        model.encoder.phase.norm.bias[0] += 1
    changed = load_encoder(save_model(model, tmp_path / "changed", contract=CONTRACT, card={}))
    config = json.loads((folder / "config.json").read_text())
    config["architecture"]["phase_centre"] = 0.9
    (folder / "config.json").write_text(json.dumps(config))
    centred = load_encoder(folder)
    assert whole.digest == changed.digest == centred.digest
    assert len({whole.phase_digest, changed.phase_digest, centred.phase_digest}) == 3


def test_an_encoder_shared_without_its_decoder(model: VideoMae, folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder(folder)
    alone = encoder.save_pretrained(tmp_path / "alone")
    again = load_encoder(alone)
    assert again.digest == encoder.digest and again.config.card == encoder.config.card
    assert torch.equal(again.encode(clips()).tokens_BND, encoder.encode(clips()).tokens_BND)
    names = safetensors.torch.load_file(alone / "model.safetensors")
    assert names.keys() == model.encoder.state_dict().keys()
    # In training mode and with gradients it is a network to train further.
    assert torch.equal(load_model(alone).encode(clips()).video_BD, encoder.encode(clips()).video_BD)


def test_saving_over_an_older_model(model: VideoMae, folder: Path) -> None:
    with torch.no_grad():
        model.encoder.cls += 1
    save_model(model, folder, contract=CONTRACT, card={})
    assert torch.equal(load_model(folder).encoder.cls, model.encoder.cls)
    assert len(list(folder.iterdir())) == 3


def test_a_full_disk_leaves_the_older_model(model: VideoMae, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError):
        save_model(model, folder, contract=CONTRACT, card={})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_contract_must_fit_the_model(model: VideoMae, tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match="frames 16, the model has 8"):
        save_model(model, tmp_path / "x", contract=InputContract(size=16, frames=16), card={})
    assert not (tmp_path / "x").exists()


def one_line_error(folder: Path) -> str:
    with pytest.raises(EchofmError) as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_cut_weights(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "sha256 differs" in one_line_error(folder)


def with_weights(folder: Path, content: bytes) -> None:
    """Weights whose digest config.json vouches for, as a hostile sender would."""

    (folder / "model.safetensors").write_bytes(content)
    config = json.loads((folder / "config.json").read_text())
    config["weights_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 8, b"\xff" * 64, (2**60).to_bytes(8, "little") + b"{}", b"\x80\x04\x95pickle"],
    ids=["empty", "zeros", "ones", "huge-header", "pickle"],
)
def test_hostile_weights(folder: Path, content: bytes) -> None:
    with_weights(folder, content)
    assert "not a safetensors file" in one_line_error(folder)


def test_wrong_tensors(model: VideoMae, folder: Path) -> None:
    tensors = dict(model.state_dict())
    del tensors["encoder.cls"]
    with_weights(folder, safetensors.torch.save(tensors))
    assert "'encoder.cls' is missing" in one_line_error(folder)
    with_weights(folder, safetensors.torch.save(tensors | {"encoder.cls": torch.zeros(1, 1, 17)}))
    assert "'encoder.cls' is F32 [1, 1, 17]" in one_line_error(folder)
    with_weights(folder, safetensors.torch.save(dict(model.state_dict()) | {"encoder.more": torch.zeros(1)}))
    assert "'encoder.more' is unknown" in one_line_error(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format"),
        ({"more": 1}, "more"),
        ({"architecture": {"width": 10**9}}, "architecture: width"),
        ({"architecture": {"width": 17, "heads": 2}}, "multiple of its heads"),
        ({"contract": {"size": 16, "frames": 16}}, "the contract says frames 16"),
    ],
)
def test_wrong_configuration(folder: Path, change: dict[str, Any], message: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    assert message in one_line_error(folder)


def test_configuration_that_is_no_json(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe")
    assert "config.json" in one_line_error(folder)
    (folder / "config.json").write_bytes(b" " * (1 << 21))
    assert "no echofm configuration" in one_line_error(folder)
    (folder / "config.json").unlink()
    assert "no such configuration" in one_line_error(folder)


def test_no_such_model(tmp_path: Path) -> None:
    assert "no such folder" in one_line_error(tmp_path / "nothing")


def test_hub_id_is_downloaded_without_pickles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def snapshot_download(repo_id: str, **options: Any) -> str:
        asked.update(repo_id=repo_id, **options)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    encoder = Encoder.from_pretrained("lab/echo", revision="v1")
    assert encoder.digest == load_encoder(folder).digest
    assert asked == {
        "repo_id": "lab/echo",
        "revision": "v1",
        "allow_patterns": ["config.json", "model.safetensors", "README.md"],
    }


def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route; token hf_secret")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(EchofmError, match=r"lab/echo.*ConnectionError") as caught:
        load_encoder("lab/echo")
    assert "hf_secret" not in str(caught.value)


def test_push_sends_three_files_privately(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, Any] = {}

    class Repository:
        repo_id = "lab/echo"

    class Api:
        def __init__(self, token: str | None) -> None: ...

        def create_repo(self, repo_id: str, **options: Any) -> Repository:
            calls["create"] = (repo_id, options)
            return Repository()

        def upload_folder(self, **options: Any) -> str:
            calls["upload"] = options
            return "https://hub/commit"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert push_to_hub(folder, "lab/echo") == "https://hub/commit"
    assert calls["create"] == ("lab/echo", {"private": True, "exist_ok": True})
    assert calls["upload"]["allow_patterns"] == ["config.json", "model.safetensors", "README.md"]
    assert load_encoder(folder).push_to_hub("lab/echo", private=False) == "https://hub/commit"
    assert calls["create"] == ("lab/echo", {"private": False, "exist_ok": True})


@pytest.mark.parametrize(
    ("licence", "front", "stated"),
    [
        (None, [], "Licence: not stated."),
        ("CC BY-NC-ND 4.0", ["license: cc-by-nc-nd-4.0"], "Licence: CC BY-NC-ND 4.0."),
        ("Apache-2.0", ["license: apache-2.0"], "Licence: Apache-2.0."),
        ("our: own\nterms", ["license: other", "license_name: our-own-terms"], "Licence: our: own\nterms."),
    ],
)
def test_the_card_states_the_licence_that_the_user_states(
    licence: str | None, front: list[str], stated: str, model: VideoMae, tmp_path: Path
) -> None:
    folder = save_model(model, tmp_path, contract=CONTRACT, card={}, licence=licence, authors="the lab")
    card = (folder / "README.md").read_text()
    assert [line for line in card.splitlines() if line.startswith("license")] == front
    assert stated.removesuffix(".") in card and "Authors: the lab." in card
    assert json.loads((folder / "config.json").read_text())["licence"] == licence
    # Who shares the encoder alone shares it under the same.
    alone = json.loads((load_encoder(folder).save_pretrained(tmp_path / "alone") / "config.json").read_text())
    assert (alone["licence"], alone["authors"], alone["kind"]) == (licence, "the lab", "encoder")


class Doubler(torch.nn.Module):
    """A model of another kind, without clips."""

    kind, about = "doubler", "# A doubler"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.full((width,), 2.0))

    @property
    def architecture(self) -> dict[str, Any]:
        return {"width": len(self.factor)}

    @property
    def trained_for(self) -> dict[str, Any]:
        return {}

    @classmethod
    def build(cls, architecture: dict[str, Any], trained_for: dict[str, Any]) -> Doubler:
        return cls(**architecture)


def test_a_kind_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "doubler", "test_hub:Doubler")
    folder = save_model(Doubler(3), tmp_path / "d", card={})
    again = echofm.load_model(folder)
    assert again.factor.tolist() == [2.0] * 3 and "# A doubler" in (folder / "README.md").read_text()
    with pytest.raises(EchofmError, match=r"kind 'doubler' is no encoder; echofm\.load_model"):
        load_encoder(folder)
    monkeypatch.setitem(KINDS, "doubler", "no_such_package.models:Doubler")
    with pytest.raises(EchofmError, match="kind 'doubler' need no_such_package, which is not installed") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    monkeypatch.delitem(KINDS, "doubler")
    with pytest.raises(
        EchofmError, match=r"no kind of model 'doubler' here; known are .*mae, encoder.*: update echofm"
    ):
        load_model(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_class_of_that_kind(kind: str) -> None:
    module, _, name = KINDS[kind].partition(":")
    assert getattr(importlib.import_module(module), name).kind == kind
