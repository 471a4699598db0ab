"""Models on disk and on the Hugging Face hub: config.json + model.safetensors + README.md, no pickle.

config.json holds the architecture, the input contract and the sha256 of the weights, so that a cut, changed or mixed-up
pair of files is refused. Everything read is checked before memory is taken for it.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import Field
from torch import nn

from echofm import __version__
from echofm.atomic import whole_files
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.model.card import card_text
from echofm.model.config import EncoderConfig, MaskingConfig, NetworkConfig, ObjectiveConfig
from echofm.model.mae import VideoMae
from echofm.model.tokens import Grid
from echofm.model.vit import Encoding, VideoEncoder
from echofm.schema import FrozenModel

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
_PREFIX = "encoder."
_ENCODER_FIELDS = set(EncoderConfig.model_fields)
_MAXIMUM_CONFIG_BYTES = 1 << 20


class ModelConfig(FrozenModel):
    """What config.json holds."""

    format: Literal["echofm"] = "echofm"
    format_version: Literal[1] = 1
    echofm_version: str
    """The release that wrote the model."""
    architecture: NetworkConfig
    masking: MaskingConfig
    objective: ObjectiveConfig
    contract: InputContract
    weights_sha256: str
    """Of model.safetensors."""
    card: Annotated[dict[str, Any], Field(default_factory=dict)]
    """What the model card says of training data, cost and results."""


class Encoder(nn.Module):
    """A frozen encoder with its input contract.

    contract: what clips it takes; checked at every call.
    digest: sha256 of what decides its embeddings (weights, architecture, contract) and nothing else, so the same
        saved with or without a decoder: two tables of embeddings compare only if it is equal.
    config: all that config.json says.
    """

    def __init__(self, net: VideoEncoder, *, config: ModelConfig) -> None:
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        self.config = config
        self.digest = _digest(net, config)

    @property
    def contract(self) -> InputContract:
        """What clips it takes."""
        return self.config.contract

    @property
    def sees_time(self) -> bool:
        """True: tokens of different times attend to one another."""
        return True

    @property
    def grid(self) -> Grid:
        """Times, rows and columns of its tokens: `tokens_BND` counts time outermost, then rows, then columns."""
        return self.net.positions.grid

    def train(self, mode: bool = True) -> Encoder:
        """Stays in evaluation mode: it is frozen."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, video_BCTHW: torch.Tensor, frame_rate_hz: float | None = None) -> Encoding:
        """Embed clips that fit the contract; a grey clip is repeated where the contract says so.

        Raises EchofmError naming what does not fit, with the fix.
        """
        if self.contract.repeats_grey and video_BCTHW.ndim == 5 and video_BCTHW.shape[1] == 1:
            video_BCTHW = video_BCTHW.expand(-1, 3, -1, -1, -1)
        self.contract.check(video_BCTHW, frame_rate_hz)
        return self.net.encode(video_BCTHW)

    forward = encode

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path, **download: Any) -> Encoder:
        """`load_encoder`; `download` goes to huggingface_hub.snapshot_download (revision, token, cache_dir, ...)."""
        return load_encoder(folder_or_hub_id, **download)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the encoder without a decoder, in the same format, made to be shared; `load_encoder` reads it."""
        tensors = {_PREFIX + name: tensor for name, tensor in self.net.state_dict().items()}
        return _save(tensors, Path(folder), self.config)

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the encoder without a decoder, private unless said otherwise; returns the commit's address."""
        with tempfile.TemporaryDirectory() as folder:
            return push_to_hub(self.save_pretrained(folder), repo_id, private=private, token=token)


def save_model(model: VideoMae, folder: str | Path, *, contract: InputContract, card: Mapping[str, Any]) -> Path:
    """Write a model into `folder`, made if need be; `card` is JSON-like and goes into the model card.

    All three files are on disk before the first takes its name, so that a full disk leaves an older model whole.
    Raises EchofmError where contract and model disagree.
    """
    config = ModelConfig(
        echofm_version=__version__,
        architecture=model.network,
        masking=model.masking,
        objective=model.objective,
        contract=contract,
        weights_sha256="",
        card=dict(card),
    )
    return _save(model.state_dict(), Path(folder), config)


def _save(weights: Mapping[str, torch.Tensor], folder: Path, config: ModelConfig) -> Path:
    """Write the three files; `config` gets the digest of the weights."""
    _check_agreement(config.architecture, config.contract)
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in weights.items()}
    with whole_files([folder / name for name in (WEIGHTS, CARD, CONFIG)]) as (weights_part, card, about):
        safetensors.torch.save_file(tensors, weights_part, metadata={"format": "pt"})
        changes = {"echofm_version": __version__, "weights_sha256": _sha256(weights_part)}
        config = config.model_copy(update=changes)
        card.write_text(card_text(config), encoding="utf-8")
        about.write_text(config.to_json(), encoding="utf-8")
    return folder


def load_model(folder_or_hub_id: str | Path, **download: Any) -> VideoMae:
    """The whole model, decoder included, in training mode. Raises EchofmError naming the file and what is wrong.

    A folder written by `Encoder.save_pretrained` has no decoder and is such an error: `load_encoder` reads it.
    """
    folder, config = _open(folder_or_hub_id, download)
    with torch.device("meta"):
        model = VideoMae(config.architecture, config.masking, config.objective)
    model.load_state_dict(_read_tensors(folder, config, model.state_dict(), prefix=""), assign=True)
    return model


def load_encoder(folder_or_hub_id: str | Path, **download: Any) -> Encoder:
    """The encoder alone, frozen, with its contract. Raises EchofmError naming the file and what is wrong.

    download: passed to huggingface_hub.snapshot_download (revision, token, cache_dir, ...) for a hub id.
    """
    folder, config = _open(folder_or_hub_id, download)
    with torch.device("meta"):
        net = VideoEncoder(config.architecture)
    net.load_state_dict(_read_tensors(folder, config, net.state_dict(), prefix=_PREFIX), assign=True)
    return Encoder(net, config=config)


def untrained_encoder(folder_or_hub_id: str | Path, **download: Any) -> Encoder:
    """The same architecture and contract with fresh weights, drawn from torch's generator; needs config.json alone."""
    _, config = _open(folder_or_hub_id, download)
    return Encoder(VideoEncoder(config.architecture), config=config)


def push_to_hub(folder: str | Path, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
    """Upload a saved model, private unless said otherwise, and return the commit's address.

    The folder is read and checked first. Only the three files of the format are sent.
    """
    from huggingface_hub import HfApi

    load_encoder(folder)
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    return str(api.upload_folder(repo_id=repo_id, folder_path=str(folder), allow_patterns=[CONFIG, WEIGHTS, CARD]))


def _open(folder_or_hub_id: str | Path, download: Mapping[str, Any]) -> tuple[Path, ModelConfig]:
    folder = _fetched(folder_or_hub_id, download)
    path = folder / CONFIG
    if path.is_file() and path.stat().st_size > _MAXIMUM_CONFIG_BYTES:
        raise EchofmError(f"{path}: larger than {_MAXIMUM_CONFIG_BYTES} bytes; this is no echofm configuration")
    config = ModelConfig.from_json(path)
    try:
        _check_agreement(config.architecture, config.contract)
    except EchofmError as error:
        raise EchofmError(f"{path}: {error}") from None
    return folder, config


def _fetched(folder_or_hub_id: str | Path, download: Mapping[str, Any]) -> Path:
    folder = Path(folder_or_hub_id)
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", str(folder_or_hub_id)):
        raise EchofmError(f"{folder_or_hub_id}: no such folder, and no hub id of the form owner/name")
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(str(folder_or_hub_id), allow_patterns=[CONFIG, WEIGHTS, CARD], **download)
        )
    except (OSError, ValueError) as error:
        raise EchofmError(
            f"{folder_or_hub_id}: no such folder, and the hub gave nothing under this id ({type(error).__name__}); "
            "check the name, the network and `hf auth login`"
        ) from None


def _check_agreement(architecture: EncoderConfig, contract: InputContract) -> None:
    for name in ("size", "frames", "channels"):
        ours, theirs = getattr(architecture, name), getattr(contract, name)
        if ours != theirs:
            raise EchofmError(f"the contract says {name} {theirs}, the model has {ours}; make them equal")


def _read_tensors(
    folder: Path, config: ModelConfig, expected: Mapping[str, torch.Tensor], *, prefix: str
) -> dict[str, torch.Tensor]:
    """The tensors `prefix` + name for every name in `expected`, checked against it before they are read."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise EchofmError(f"{path}: no such file")
    if _sha256(path) != config.weights_sha256:
        raise EchofmError(f"{path}: not the weights that {CONFIG} names (sha256 differs); copy the folder again")
    try:
        with safetensors.safe_open(path, framework="pt") as stored:
            names = {name for name in stored.keys() if name.startswith(prefix)}  # noqa: SIM118
            wanted = {prefix + name for name in expected}
            if names != wanted:
                odd = sorted(names ^ wanted)
                raise EchofmError(
                    f"{path}: {odd[0]!r} is {'unknown' if odd[0] in names else 'missing'} ({len(odd)} in all)"
                )
            for name, tensor in expected.items():
                part = stored.get_slice(prefix + name)
                if part.get_shape() != list(tensor.shape) or part.get_dtype() != "F32":
                    raise EchofmError(
                        f"{path}: {prefix + name!r} is {part.get_dtype()} {part.get_shape()}, "
                        f"{CONFIG} needs F32 {list(tensor.shape)}"
                    )
            return {name: stored.get_tensor(prefix + name) for name in expected}
    except safetensors.SafetensorError as error:
        raise EchofmError(f"{path}: not a safetensors file, or cut ({str(error).splitlines()[0]})") from None


def _digest(net: VideoEncoder, config: ModelConfig) -> str:
    architecture = config.architecture.model_dump(mode="json", include=_ENCODER_FIELDS)
    if not architecture["phase_centre"]:
        # Encoders from before there was the choice keep their digests, and the tables made with them their owner.
        del architecture["phase_centre"]
    contract = config.contract.model_dump(mode="json")
    digest = hashlib.sha256(json.dumps([architecture, contract], sort_keys=True).encode())
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"\0{name}\0".encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
