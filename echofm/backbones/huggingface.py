"""Video models of the transformers library: VideoMAE and V-JEPA 2, from a hub id or a local folder.

Only safetensors are read, and no code that comes with a model is run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from echofm.backbones.frozen import IMAGENET_MEAN, IMAGENET_STD, FrozenEncoder, encoding_of_tokens, seeded
from echofm.backbones.opening import Spec
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.model.tokens import Grid
from echofm.model.vit import Encoding

# V-JEPA 2 keeps its own beside or instead of the image processor's.
_PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")
_SUPPORTED = {"videomae": "VideoMAE", "vjepa2": "V-JEPA 2"}


class HubVideo(nn.Module):
    """A transformers video model: (B, T, C, H, W) in, tokens out, time outermost."""

    def __init__(self, model: nn.Module, *, grid: Grid) -> None:
        super().__init__()
        self.model, self.grid = model, grid

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        """Last hidden state; by time its mean over space, the clip its mean."""
        tokens_BND = self.model(video_BCTHW.transpose(1, 2)).last_hidden_state
        return encoding_of_tokens(tokens_BND, self.grid)


def open_hf(spec: Spec) -> FrozenEncoder:
    """`hf:ID` or `hf:FOLDER`: option frames (V-JEPA 2 takes any even number), random."""
    spec.only("frames")
    try:
        import transformers
    except ImportError:
        raise EchofmError("hf: encoders need the transformers library; pip install 'echofm[synth]'") from None
    transformers.utils.logging.set_verbosity_error()
    try:
        config = transformers.AutoConfig.from_pretrained(spec.name, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise EchofmError(_unreachable(spec, error)) from None
    if config.model_type not in _SUPPORTED:
        raise EchofmError(
            f"hf:{spec.name}: a {config.model_type!r} model; supported are {', '.join(_SUPPORTED.values())}. "
            "Others work as module:function"
        )
    model, missing = _model(transformers, spec, config)
    if missing:
        raise EchofmError(
            f"hf:{spec.name}: its weights lack {missing[0]!r} ({len(missing)} in all), which would be random"
        )
    contract, grid = _shape(spec, config)
    mean, std = _normalisation(spec)
    return FrozenEncoder(
        HubVideo(model, grid=grid),
        contract=contract,
        grid=grid,
        sees_time=True,
        settings={"encoder": "transformers", "config": _plain(config)},
        mean=mean,
        std=std,
    )


def _model(transformers: Any, spec: Spec, config: Any) -> tuple[nn.Module, list[str]]:
    """The encoder alone, and the names of weights of it that the files lack."""
    kind = transformers.VideoMAEModel if config.model_type == "videomae" else transformers.VJEPA2Model
    missing: list[str] = []
    if spec.random:
        with seeded(spec.seed):
            model = kind(config)
    else:
        try:
            model, info = kind.from_pretrained(
                spec.name, config=config, use_safetensors=True, output_loading_info=True, trust_remote_code=False
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise EchofmError(_unreachable(spec, error)) from None
        missing = sorted(name for name in info["missing_keys"] if not name.startswith("predictor."))
    # The predictor of V-JEPA 2 guesses what is masked; it is no part of the encoder.
    return (model if config.model_type == "videomae" else model.encoder), missing


def _shape(spec: Spec, config: Any) -> tuple[InputContract, Grid]:
    patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    if config.model_type == "videomae":
        size = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
        frames = config.num_frames
        if spec.count("frames", frames) != frames:
            raise EchofmError(f"hf:{spec.name}: this VideoMAE has positions for {frames} frames and takes no others")
    else:
        size, frames = config.crop_size, spec.count("frames", config.frames_per_clip)
    if frames % config.tubelet_size:
        raise EchofmError(f"hf:{spec.name}: frames={frames} is not a multiple of its {config.tubelet_size} per token")
    channels = getattr(config, "num_channels", None) or config.in_chans
    if channels != 3:
        raise EchofmError(f"hf:{spec.name}: it takes {channels} channels; only 3 are supported")
    grid = Grid(frames // config.tubelet_size, size // patch, size // patch)
    return InputContract(size=size, frames=frames, channels=3), grid


def _normalisation(spec: Spec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation as its processor says; ImageNet's where it has none, as both models' authors use."""
    for name in _PROCESSORS:
        content = _processor(spec.name, name)
        if content is None:
            continue
        if not content.get("do_normalize", True):
            return (0.0,) * 3, (1.0,) * 3
        mean, std = content.get("image_mean", IMAGENET_MEAN), content.get("image_std", IMAGENET_STD)
        if not all(isinstance(v, list | tuple) and len(v) == 3 for v in (mean, std)) or min(std) <= 0:
            raise EchofmError(f"hf:{spec.name}: {name} holds no mean and standard deviation of three channels")
        # Pixels are in [0, 1] under the contract; a processor that does not rescale means 0 to 255.
        scale = 1.0 if content.get("do_rescale", True) else 255.0
        return tuple(float(v) / scale for v in mean), tuple(float(v) / scale for v in std)
    return IMAGENET_MEAN, IMAGENET_STD


def _processor(name: str, file: str) -> dict[str, Any] | None:
    path = Path(name) / file
    if not Path(name).is_dir():
        import huggingface_hub

        try:
            path = Path(huggingface_hub.hf_hub_download(name, file))
        except (OSError, ValueError):
            return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise EchofmError(f"hf:{name}: {file} is not a readable JSON file") from None
    return content if isinstance(content, dict) else None


def _plain(config: Any) -> dict[str, Any]:
    """What of a configuration decides the features: not where it lay, nor which release wrote it."""
    known = config.to_dict()
    left_out = {
        "_name_or_path",
        "transformers_version",
        "architectures",
        "dtype",
        "torch_dtype",
        "id2label",
        "label2id",
    }
    return {name: json.loads(json.dumps(value, default=str)) for name, value in known.items() if name not in left_out}


def _unreachable(spec: Spec, error: Exception) -> str:
    return (
        f"hf:{spec.name}: no such folder, or the hub gave no {'configuration' if spec.random else 'safetensors model'} "
        f"under this id ({type(error).__name__}); check the name, the network and `hf auth login`"
    )
