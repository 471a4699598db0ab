"""Autoencoders that others released as diffusers folders: EchoFlow's, EchoNet-Synthetic's, Stable Diffusion's."""

from __future__ import annotations

from pathlib import Path

from echofm.errors import EchofmError
from synth.latent.autoencoder import Autoencoder
from synth.latent.config import AutoencoderConfig

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_UNITS = (
    "say how its input is scaled, diffusers:FOLDER?grey_unit=UNIT: it sees grey / UNIT - 1, grey from 0 to 255. "
    "EchoNet-Synthetic's was trained with 127.5 (its own scripts use 128)"
)


def open_released(spec: str, *, size: int) -> Autoencoder:
    """`FOLDER?grey_unit=UNIT`: an AutoencoderKL as diffusers saves it, for grey clips of `size` pixels a side.

    Its latents are shifted and scaled as its config.json says, not by a measurement. Raises EchofmError on a folder
    without safetensors, without a unit, and on a network of another make.
    """
    folder, _, option = spec.partition("?")
    name, _, unit = option.partition("=")
    try:
        grey_unit = float(unit)
    except ValueError:
        grey_unit = 0.0
    if name != "grey_unit" or grey_unit <= 0:
        raise EchofmError(f"diffusers:{folder}: {_UNITS}")
    if not (Path(folder) / _WEIGHTS).is_file():
        raise EchofmError(f"{folder}: no folder with config.json and {_WEIGHTS}; others are not read (pickle)")
    given = _loaded(Path(folder))
    config = _config_of(given, size=size, grey_unit=grey_unit)
    net = Autoencoder(config)
    try:
        net.net.load_state_dict(given.state_dict())
    except RuntimeError:
        raise EchofmError(f"{folder}: not the AutoencoderKL of Stable Diffusion's make, which alone is read") from None
    net.mean_C.fill_(given.config.shift_factor or 0.0)
    net.std_C.fill_(1 / given.config.scaling_factor)
    return net


def _loaded(folder: Path):
    try:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    except ImportError:
        raise EchofmError("diffusers folders need diffusers: pip install 'echofm[synth]'") from None
    try:
        return AutoencoderKL.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise EchofmError(f"{folder}: diffusers cannot load it ({type(error).__name__}); copy it again") from None


def _config_of(given, *, size: int, grey_unit: float) -> AutoencoderConfig:
    known = given.config
    return AutoencoderConfig.checked(
        {
            "size": size,
            "widths": tuple(known.block_out_channels),
            "blocks": known.layers_per_block,
            "latent_channels": known.latent_channels,
            "norm_groups": known.norm_num_groups,
            "middle_attention": known.mid_block_add_attention,
            "grey_as": known.in_channels,
            "grey_unit": grey_unit,
        },
        where="config.json",
    )
