"""Published checkpoints (.pth): read without running anything in them, and the configuration that their shapes tell."""

from __future__ import annotations

import argparse
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from echofm.errors import EchofmError

# Where training scripts put the weights beside optimizer state and arguments.
_WRAPPERS = ("model", "model_state", "model_state_dict", "state_dict", "weights", "net", "encoder", "module")
# What DistributedDataParallel and torch.compile put before a name or into it.
_ADDED = re.compile(r"^(?:module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")
# Shapes do not tell the number of heads: these are the published encoders' and decoders', by width.
_HEADS = {768: 12, 1024: 16, 1280: 16}
_DECODER_HEADS = {512: 16}


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The state_dict of a .safetensors or .pth file, bare or under the usual keys, without the prefixes of wrappers.

    Of .pth files only torch's zip format is read, with `weights_only`: a pickle that would run code is refused, and so
    is a file that claims more bytes than it has. Raises EchofmError naming the file and the reason.
    """
    path = Path(path)
    weights = _unwrapped(_read_safetensors(path) if path.suffix == ".safetensors" else _read_pth(path))
    if not weights or not all(isinstance(name, str) and _is_plain(tensor) for name, tensor in weights.items()):
        raise EchofmError(f"{path}: holds no state_dict; expected one, bare or under {', '.join(_WRAPPERS)}")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    if claimed > path.stat().st_size:
        raise EchofmError(f"{path}: claims {claimed} bytes of weights, the file is smaller; it is damaged or hostile")
    plain = {_ADDED.sub("", name): tensor for name, tensor in weights.items()}
    if len(plain) < len(weights):
        raise EchofmError(f"{path}: holds a tensor twice, with and without a wrapper's prefix; keep one of them")
    return plain


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise EchofmError(f"{path}: no such file")
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise EchofmError(f"{path}: not a safetensors file, or cut ({str(error).splitlines()[0]})") from None


def _read_pth(path: Path) -> Any:
    _check_container(path)
    try:
        # Training scripts store their parsed arguments; a Namespace is a plain record.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        KeyError,
        IndexError,
    ):
        raise EchofmError(
            f"{path}: holds more than tensors and plain values, or is damaged; nothing in it was run. "
            "Where you trust its source, save its state_dict alone and convert that"
        ) from None


def infer_config(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The published constructor's arguments as far as shapes tell them; the factories' values for the rest.

    Those of the decoder are left out where there is none. Heads come from a table of the published widths and are left
    out for others. Raises EchofmError where a tensor that tells something is missing or has another number of axes.
    """
    width, channels, tubelet, patch, _ = _shape(weights, "patch_embed.proj.weight", axes=5)
    positions = _shape(weights, "pos_embed_spatial", axes=3)[1]
    times = _shape(weights, "pos_embed_temporal", axes=3)[1]
    hidden = _shape(weights, "blocks.0.mlp.fc1.weight", axes=2)[0]
    if not all((width, channels, tubelet, patch, positions, times, hidden)):
        raise EchofmError("weights: a tensor that tells the model's size is empty")
    config: dict[str, Any] = {
        "img_size": math.isqrt(positions) * patch,
        "num_frames": times * tubelet,
        "in_chans": channels,
        "patch_size": patch,
        "t_patch_size": tubelet,
        "embed_dim": width,
        "depth": _blocks(weights, "blocks"),
        "mlp_ratio": hidden / width,
        "norm_eps": 1e-6,
    }
    if width in _HEADS:
        config["num_heads"] = _HEADS[width]
    if has_decoder(weights):
        values, decoder_width = _shape(weights, "decoder_pred.weight", axes=2)
        if not all((values, decoder_width)):
            raise EchofmError("weights: a tensor that tells the model's size is empty")
        config["decoder_embed_dim"] = decoder_width
        config["decoder_depth"] = _blocks(weights, "decoder_blocks")
        config["pred_t_dim"] = values * times // (patch**2 * channels)
        if decoder_width in _DECODER_HEADS:
            config["decoder_num_heads"] = _DECODER_HEADS[decoder_width]
    return config


def has_decoder(weights: Mapping[str, torch.Tensor]) -> bool:
    """False for the weights of an encoder alone."""
    return "decoder_pred.weight" in weights


def _check_container(path: Path) -> None:
    if not path.is_file():
        raise EchofmError(f"{path}: no such file")
    try:
        _check_members(path)
    except EchofmError:
        raise
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, OSError, EOFError, struct.error):
        raise EchofmError(f"{path}: a damaged zip file; fetch it again") from None


def _check_members(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise EchofmError(
            f"{path}: not a torch checkpoint in zip format: cut, or a bare pickle, which could run code and is not read"
        )
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > path.stat().st_size:
            raise EchofmError(f"{path}: unpacks to more than it holds, which no torch checkpoint does; it is not read")
        # torch itself does not look at the checksums of what it maps.
        if archive.testzip() is not None:
            raise EchofmError(f"{path}: a damaged zip file; fetch it again")


def _unwrapped(content: Any) -> dict[Any, Any]:
    """The innermost state_dict, which may lie under several keys (`{"model": {"state_dict": ...}}`)."""
    while isinstance(content, dict):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
        if inner is None:
            return content
        content = inner
    return {}


def _is_plain(tensor: object) -> bool:
    return isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.layout == torch.strided


def _shape(weights: Mapping[str, torch.Tensor], name: str, *, axes: int) -> tuple[int, ...]:
    if name not in weights or weights[name].ndim != axes:
        raise EchofmError(
            f"weights: {name!r} is missing or has not {axes} axes; this is no published EchoFM checkpoint"
        )
    return tuple(weights[name].shape)


def _blocks(weights: Mapping[str, torch.Tensor], prefix: str) -> int:
    found = (re.match(rf"{prefix}\.(\d{{1,4}})\.", name) for name in weights)
    return 1 + max((int(match[1]) for match in found if match), default=-1)
