"""Models on disk and on the Hugging Face hub: config.json + model.safetensors + README.md, no pickle.

A model of any kind in KINDS is saved and loaded so. config.json holds what it is, the clips it takes and the sha256 of
the weights, so that a cut, changed or mixed-up pair of files is refused. Everything read is checked before memory is
taken for it.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch
from torch import nn

from echofm import __version__
from echofm.clip import Clip
from echofm.contract import InputContract, is_traced
from echofm.digest import tensor_digest
from echofm.errors import EchofmError
from echofm.model.config import EncoderConfig, NetworkConfig
from echofm.model.tokens import Grid
from echofm.model.video import as_video
from echofm.model.vit import Encoding, VideoEncoder
from echofm.saveable import Saveable
from echofm.saved import CONFIG, FILES, ModelConfig, open_model, read_tensors, write_model

if TYPE_CHECKING:
    from echofm.embed.table import EmbeddingTable

# Kind: the class that builds it, imported when a model of that kind is loaded.
KINDS = {
    "generator": "synth.generator.model:Generator",
    "mae": "echofm.model.mae:VideoMae",
    "encoder": "echofm.model.vit:VideoEncoder",
    "mafe": "synth.mafe.network:Mafe",
    "autoencoder": "synth.latent.autoencoder:Autoencoder",
    "translator": "synth.translate.translator:Translator",
    "mafe_published": "synth.mafe.published.network:PublishedMafe",
}
# Kind: its configuration, and what its encoder's tensors are called.
_ENCODERS: dict[str, tuple[type[EncoderConfig], str]] = {
    "mae": (NetworkConfig, "encoder."),
    "encoder": (EncoderConfig, ""),
}


class Encoder(nn.Module):
    """A frozen encoder with its input contract; after `requires_grad_(True)` gradients reach its weights.

    contract: what clips it takes; checked at every call.
    digest: sha256 of what decides its token and clip vectors (weights, architecture, contract) and nothing else, so the
        same saved with or without decoder and phase projector: two tables of embeddings compare only if it is equal.
    phase_digest: of what decides its phase vectors beside that.
    config: all that config.json says.
    """

    def __init__(self, net: VideoEncoder, *, config: ModelConfig) -> None:
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        self.config, self.contract = config, _contract_of(config)
        self._repeats_grey = self.contract.repeats_grey
        architecture = {name: value for name, value in net.architecture.items() if not name.startswith("phase")}
        named = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("phase.")}
        self.digest = tensor_digest(named, settings=[architecture, self.contract.model_dump(mode="json")])
        projector = {} if net.phase is None else net.phase.state_dict()
        self.phase_digest = tensor_digest(projector, settings=[net.phase_centre])

    @property
    def sees_time(self) -> bool:
        """True: tokens of different times attend to one another."""
        return True

    @property
    def grid(self) -> Grid:
        """Times, rows and columns of its tokens: `tokens_BND` counts time outermost, then rows, then columns."""
        return self.net.positions.grid

    def train(self, mode: bool = True) -> Encoder:
        """Stays in evaluation mode, as it has no layer that trains otherwise."""
        return super().train(False)

    def encode(self, video_BCTHW: torch.Tensor | npt.NDArray | Clip, frame_rate_hz: float | None = None) -> Encoding:
        """Embed clips that fit the contract; a grey clip is repeated where the contract says so.

        An array is taken as a tensor; of a Clip as read, its windows under the contract, one after another. Keeps what
        a backward pass needs only where a weight takes gradients. Raises EchofmError naming what does not fit.
        """
        if not isinstance(video_BCTHW, torch.Tensor):
            video_BCTHW = as_video(video_BCTHW, self.contract).to(self.net.cls.device)
        if is_traced():
            return self._encode(video_BCTHW, frame_rate_hz)
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(each.requires_grad for each in self.parameters())):
            return self._encode(video_BCTHW, frame_rate_hz)

    def embed(self, source: str | Path | Clip) -> EmbeddingTable:
        """A table of one row of a file (`echofm.read_clip`) or a clip as read: `encoder.embed("file.dcm").video_ND`."""
        from echofm.embed.extract import embed_clips
        from echofm.readers import read_clip

        channels = 1 if self.contract.colour == "grey_bt601" else 3
        clip = source if isinstance(source, Clip) else read_clip(source, channels=channels)
        return embed_clips(self, [clip], device=self.net.cls.device)

    def __repr__(self) -> str:
        config, contract = self.net.config, self.contract
        rate = "native rate" if contract.frame_rate_hz is None else f"{contract.frame_rate_hz:g} Hz"
        return (
            f"Encoder({config.depth} blocks of {config.width}, {contract.frames} frames of {contract.size} x "
            f"{contract.size} at {rate}, {contract.colour}, digest {self.digest[:12]})"
        )

    def _encode(self, video_BCTHW: torch.Tensor, frame_rate_hz: float | None) -> Encoding:
        if self._repeats_grey and video_BCTHW.ndim == 5 and video_BCTHW.shape[1] == 1:
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
        config = self.config
        return save_model(
            self.net,
            folder,
            contract=self.contract,
            card=config.card,
            licence=config.licence,
            authors=config.authors,
        )

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the encoder without a decoder, private unless said otherwise; returns the commit's address."""
        with tempfile.TemporaryDirectory() as folder:
            return push_to_hub(self.save_pretrained(folder), repo_id, private=private, token=token)


def save_model(
    model: Saveable,
    folder: str | Path,
    *,
    card: Mapping[str, Any],
    contract: InputContract | None = None,
    licence: str | None = None,
    authors: str | None = None,
) -> Path:
    """Write a model into `folder`, made if need be; `card` is JSON-like and goes into the model card.

    licence, authors: the user's to state; None: the card says that they are not stated. A full disk leaves an older
    model whole.
    Raises EchofmError where contract and model disagree.
    """
    folder = Path(folder)
    config = config_of(model, card=card, contract=contract, licence=licence, authors=authors)
    write_model(folder, config, model.state_dict(), about=model.about)
    return folder


def config_of(
    model: Saveable, *, card: Mapping[str, Any], contract: InputContract | None, **rights: Any
) -> ModelConfig:
    """What config.json is to say of a model, but for the digest of its weights. rights: licence and authors."""
    return ModelConfig(
        kind=model.kind,
        echofm_version=__version__,
        architecture=model.architecture,
        trained_for=model.trained_for,
        contract=contract,
        weights_sha256="",
        card=dict(card),
        **rights,
    )


def load_model(folder_or_hub_id: str | Path, **download: Any) -> Any:
    """A whole saved model, in training mode: a VideoMae, or what its kind says (KINDS).

    download: passed to huggingface_hub.snapshot_download (revision, token, cache_dir, ...) for a hub id.
    Raises EchofmError naming the file and what is wrong.
    """
    folder, config = open_model(folder_or_hub_id, download)
    with torch.device("meta"):
        model = _built(folder, config)
    model.load_state_dict(read_tensors(folder, config, model.state_dict(), prefix=""), assign=True)
    return model


def load_encoder(folder_or_hub_id: str | Path, **download: Any) -> Encoder:
    """The encoder alone, frozen, with its contract. Raises EchofmError naming the file and what is wrong.

    download: passed to huggingface_hub.snapshot_download (revision, token, cache_dir, ...) for a hub id.
    """
    folder, config = open_model(folder_or_hub_id, download)
    with torch.device("meta"):
        net, prefix = _encoder_of(folder, config)
    net.load_state_dict(read_tensors(folder, config, net.state_dict(), prefix=prefix), assign=True)
    return Encoder(net, config=config)


def untrained_encoder(folder_or_hub_id: str | Path, **download: Any) -> Encoder:
    """The same architecture and contract with fresh weights, drawn from torch's generator; needs config.json alone."""
    folder, config = open_model(folder_or_hub_id, download)
    return Encoder(_encoder_of(folder, config)[0], config=config)


def push_to_hub(folder: str | Path, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
    """Upload a saved model, private unless said otherwise, and return the commit's address.

    The folder is read and checked first. Only the three files of the format are sent.
    """
    from huggingface_hub import HfApi

    load_model(folder)
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    return str(api.upload_folder(repo_id=repo_id, folder_path=str(folder), allow_patterns=list(FILES)))


def _built(folder: Path, config: ModelConfig) -> Any:
    if config.kind not in KINDS:
        raise EchofmError(
            f"{folder / CONFIG}: no kind of model {config.kind!r} here; known are {', '.join(KINDS)}: "
            f"update echofm ({config.echofm_version} wrote it)"
        )
    module, _, name = KINDS[config.kind].partition(":")
    try:
        builder = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise EchofmError(
            f"{folder / CONFIG}: models of kind {config.kind!r} need {error.name or module}, which is not installed"
        ) from None
    try:
        return builder.build(config.architecture, config.trained_for)
    except EchofmError as error:
        raise EchofmError(f"{folder / CONFIG}: {error}") from None


def _encoder_of(folder: Path, config: ModelConfig) -> tuple[VideoEncoder, str]:
    """An encoder without weights, and what precedes the names of its tensors."""
    if config.kind not in _ENCODERS:
        raise EchofmError(f"{folder}: a model of kind {config.kind!r} is no encoder; echofm.load_model reads it")
    schema, prefix = _ENCODERS[config.kind]
    network = schema.checked(config.architecture, where=f"{folder / CONFIG}: architecture")
    return VideoEncoder(network), prefix


def _contract_of(config: ModelConfig) -> InputContract:
    if config.contract is None:
        raise EchofmError(f"{CONFIG}: an encoder needs a contract, the clips that it takes")
    return config.contract
