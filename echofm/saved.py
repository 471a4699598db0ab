"""The three files of a saved model, config.json, weights and the card written from it: written as one, read checked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import Field

from echofm.atomic import whole_files
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.schema import FrozenModel

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FILES = (CONFIG, WEIGHTS, CARD)
_MAXIMUM_CONFIG_BYTES = 1 << 20

# Those that the Hugging Face hub knows by this name; any other is "other", with a name of its own.
_HUB_LICENCES = re.compile(
    r"apache-2\.0|mit|bsd(-[23]-clause)?|cc0-1\.0|cc-by(-nc)?(-nd|-sa)?-[234]\.0|[al]?gpl-[23]\.[01]|mpl-2\.0|openrail"
)


def write_model(folder: Path, config: ModelConfig, weights: Mapping[str, torch.Tensor], *, about: str) -> None:
    """Write the three files; config gets the digest of the weights. Raises EchofmError where its parts disagree.

    All are on disk before the first takes its name, so that a full disk leaves an older model whole.
    """
    _check_agreement(config)
    tensors = apart({name: tensor.float().cpu() for name, tensor in weights.items()})
    with whole_files([folder / name for name in (WEIGHTS, CARD, CONFIG)]) as (stored, card, described):
        safetensors.torch.save_file(tensors, stored, metadata={"format": "pt"})
        config = config.model_copy(update={"weights_sha256": file_sha256(stored)})
        card.write_text(card_text(config, about=about), encoding="utf-8")
        described.write_text(config.to_json(), encoding="utf-8")


def open_model(folder_or_hub_id: str | Path, download: Mapping[str, Any]) -> tuple[Path, ModelConfig]:
    """Folder and configuration of a saved model, fetched where an id of the hub is given.

    download: passed to huggingface_hub.snapshot_download. Raises EchofmError naming the file and what is wrong.
    """
    folder = _fetched(folder_or_hub_id, download)
    path = folder / CONFIG
    if path.is_file() and path.stat().st_size > _MAXIMUM_CONFIG_BYTES:
        raise EchofmError(f"{path}: larger than {_MAXIMUM_CONFIG_BYTES} bytes; this is no echofm configuration")
    config = ModelConfig.from_json(path)
    try:
        _check_agreement(config)
    except EchofmError as error:
        raise EchofmError(f"{path}: {error}") from None
    return folder, config


def read_tensors(
    folder: Path, config: ModelConfig, expected: Mapping[str, torch.Tensor], *, prefix: str
) -> dict[str, torch.Tensor]:
    """The tensors `prefix` + name for every name in `expected`, checked against it before they are read.

    Raises EchofmError naming the file and the tensor.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise EchofmError(f"{path}: no such file")
    if file_sha256(path) != config.weights_sha256:
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


def _fetched(folder_or_hub_id: str | Path, download: Mapping[str, Any]) -> Path:
    folder = Path(folder_or_hub_id)
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", str(folder_or_hub_id)):
        raise EchofmError(f"{folder_or_hub_id}: no such folder, and no hub id of the form owner/name")
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(str(folder_or_hub_id), allow_patterns=list(FILES), **download))
    except (OSError, ValueError) as error:
        raise EchofmError(
            f"{folder_or_hub_id}: no such folder, and the hub gave nothing under this id ({type(error).__name__}); "
            "check the name, the network and `hf auth login`"
        ) from None


def _check_agreement(config: ModelConfig) -> None:
    for name in ("size", "frames", "channels"):
        ours, theirs = config.architecture.get(name), getattr(config.contract, name, None)
        if ours is not None and theirs is not None and ours != theirs:
            raise EchofmError(f"the contract says {name} {theirs}, the model has {ours}; make them equal")


def apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As safetensors takes them: detached, contiguous, none in the memory of another (tied weights twice)."""
    found: dict[str, torch.Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in taken else tensor
        taken.add(place)
    return found


def file_sha256(path: Path) -> str:
    """Of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class ModelConfig(FrozenModel):
    """What config.json holds."""

    format: Literal["echofm"] = "echofm"
    format_version: Literal[2] = 2
    kind: str
    """What the model is, one of `echofm.hub.KINDS`."""
    echofm_version: str
    """The release that wrote the model."""
    architecture: dict[str, Any]
    """What decides the names and shapes of its tensors, and what it computes."""
    trained_for: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Its training's own settings, where going on needs them."""
    contract: InputContract | None = None
    """The clips that it takes, where it takes any."""
    licence: str | None = None
    """Under which the weights are shared; None: not stated."""
    authors: str | None = None
    """Whose the weights are; None: not stated."""
    weights_sha256: str
    """Of model.safetensors."""
    card: Annotated[dict[str, Any], Field(default_factory=dict)]
    """What the model card says of training data, cost and results."""


def card_text(config: ModelConfig, *, about: str) -> str:
    """The card: what the model is (`about`), what goes in, whose it is, and the facts given when it was saved."""
    sections = [
        _front_matter(config),
        about,
        "Not a medical device; for research only.",
        *([f"## Input\n\n{_input(config.contract)}"] if config.contract else []),
        f"## Licence\n\n{_rights(config)}",
        f"## Model\n\nKind `{config.kind}`.\n\n{_facts(config.architecture | config.trained_for)}",
        f"## Training and results\n\n{_facts(config.card) or 'Nothing was recorded.'}",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(config: ModelConfig) -> str:
    lines = ["library_name: echofm", "tags:", "- echocardiography", f"- {config.kind}"]
    if config.licence:
        name = re.sub(r"[^a-z0-9.]+", "-", config.licence.lower()).strip("-")
        known = _HUB_LICENCES.fullmatch(name) is not None
        lines[1:1] = [f"license: {name}"] if known else ["license: other", f"license_name: {name}"]
    return "\n".join(["---", *lines, "---"])


def _input(contract: InputContract) -> str:
    low, high = contract.value_range
    rate = "consecutive frames" if contract.frame_rate_hz is None else f"{contract.frame_rate_hz:g} frames per second"
    return (
        f"Clips (B, {contract.channels}, {contract.frames}, {contract.size}, {contract.size}), floats from {low:g} to "
        f"{high:g}, colour rule `{contract.colour}`, {rate}. Every call checks this."
    )


def _rights(config: ModelConfig) -> str:
    stated = config.licence or (
        "not stated. Whoever shares these weights states it: `licence` in config.json, or `--licence` of the command "
        "that writes the model"
    )
    return f"Licence: {stated}.\n\nAuthors: {config.authors or 'not stated'}."


def _facts(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {_shown(value)}" for name, value in facts.items())


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
