"""Published EchoFM weights (.pth) to this package's folder format, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from echofm.atomic import whole_files
from echofm.errors import EchofmError

if TYPE_CHECKING:
    from echofm.contract import InputContract
    from echofm.hub import Encoder
    from echofm.model.mae import VideoMae


def main(argv: list[str]) -> int:
    """Run `echofm convert`; returns the exit code."""
    return tyro.cli(convert, args=argv, prog="echofm convert", description=__doc__)


def convert(
    src: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    /,
    *,
    config: Path | None = None,
    frame_rate_hz: float | None = None,
    colour: Literal["grey_bt601", "rgb"] = "grey_bt601",
    key: str | None = None,
) -> int:
    """Published EchoFM weights (.pth) to this package's folder format, and back.

    Args:
        src: a published .pth file, or a folder with config.json and model.safetensors.
        out: the folder to write, or for a folder as source the .pth file.
        config: JSON of the published constructor's arguments; its entries win over those inferred from the shapes.
            Needed where the number of heads is not one of the published models'. Left out, a file of the weights' name
            that ends in .json is taken where there is one; converting back writes it.
        frame_rate_hz: frames per second that the weights were trained at, for the input contract; unknown if left out.
        colour: whether the three channels were repeated grey or colour, for the input contract.
        key: put the state_dict under this key of the .pth file, as some training scripts expect ("model").
    """
    if src.is_dir():
        _to_official(src, out, key=key)
    else:
        _from_official(src, out, config_json=config, frame_rate_hz=frame_rate_hz, colour=colour)
    print(out)
    return 0


def _from_official(
    src: Path, out: Path, *, config_json: Path | None, frame_rate_hz: float | None, colour: Literal["grey_bt601", "rgb"]
) -> None:
    from echofm.hub import save_model

    if out.is_file():
        raise EchofmError(f"{out}: is a file; name a folder to write the model into")
    model, contract, card = _published(src, config_json=config_json, frame_rate_hz=frame_rate_hz, colour=colour)
    save_model(model, out, contract=contract, card=card)


def read_official(src: str | Path, *, untrained: bool = False) -> Encoder:
    """The encoder of a published .pth file, without writing anything; its digest is that of the converted folder.

    A .json file of the same name beside it wins over what the shapes tell. untrained: the same architecture with fresh
    weights, drawn from torch's generator. Raises EchofmError naming the file and what is wrong.
    """
    from echofm import __version__
    from echofm.hub import Encoder, ModelConfig
    from echofm.model.vit import VideoEncoder

    model, contract, card = _published(Path(src), config_json=None, frame_rate_hz=None, colour="grey_bt601")
    config = ModelConfig(
        echofm_version=__version__,
        architecture=model.network,
        masking=model.masking,
        objective=model.objective,
        contract=contract,
        weights_sha256="",
        card=card,
    )
    return Encoder(VideoEncoder(model.network) if untrained else model.encoder, config=config)


def _published(
    src: Path, *, config_json: Path | None, frame_rate_hz: float | None, colour: Literal["grey_bt601", "rgb"]
) -> tuple[VideoMae, InputContract, dict[str, Any]]:
    """Model, contract and card of a published file."""
    from echofm.contract import InputContract
    from echofm.model.checkpoint import infer_config, read_weights
    from echofm.model.official import from_official

    weights = read_weights(src)
    beside = src.with_suffix(".json")
    config_json = config_json or (beside if beside.is_file() else None)
    config = infer_config(weights) | (_read_json(config_json) if config_json else {})
    for heads in ("num_heads", "decoder_num_heads"):
        if heads not in config:
            raise EchofmError(
                f"{src}: shapes do not tell {heads}, and its width is none of the published; "
                f'give --config with {{"{heads}": ...}}'
            )
    model = from_official(weights, config)
    contract = InputContract(
        size=model.network.size,
        frames=model.network.frames,
        frame_rate_hz=frame_rate_hz,
        channels=3,
        colour=colour,
    )
    return (
        model,
        contract,
        {"weights": "converted from published EchoFM weights (arXiv 2410.23413)", "official_config": config},
    )


def _to_official(src: Path, out: Path, *, key: str | None) -> None:
    import torch

    from echofm.hub import load_model
    from echofm.model.official import to_official

    if out.is_dir() or out.suffix != ".pth":
        raise EchofmError(f"{out}: name the .pth file to write")
    weights, config = to_official(load_model(src))
    # Two files: the published code loads a bare state_dict.
    with whole_files([out, out.with_suffix(".json")]) as (tensors, beside):
        torch.save({key: weights} if key else weights, tensors)
        beside.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EchofmError(f"{path}: not a readable JSON file ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise EchofmError(f"{path}: holds no JSON object")
    return content
