"""Published EchoFM weights (.pth) to this package's folder format, and back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from echofm.atomic import whole_files
from echofm.errors import EchofmError

if TYPE_CHECKING:
    from echofm.contract import InputContract
    from echofm.hub import Encoder
    from echofm.model.mae import VideoMae
    from echofm.model.vit import VideoEncoder

# Of the published weights; whoever converts others states their own.
PUBLISHED_LICENCE = "CC BY-NC-ND 4.0"
PUBLISHED_AUTHORS = "the authors of EchoFM, arXiv 2410.23413"


def main(argv: list[str]) -> int:
    return tyro.cli(convert, args=argv, prog="echofm convert", description=__doc__)


def convert(
    src: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    /,
    *,
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    frame_rate_hz: Annotated[float | None, tyro.conf.arg(metavar="HZ")] = None,
    colour: Literal["grey_bt601", "rgb"] = "grey_bt601",
    key: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    licence: str = PUBLISHED_LICENCE,
    authors: str = PUBLISHED_AUTHORS,
) -> int:
    """Published EchoFM weights (.pth) to this package's folder format, and back.

    Args:
        src: a published .pth or .safetensors file, whole or of the encoder alone, or a folder with config.json and
            model.safetensors.
        out: the folder to write, or for a folder as source the .pth file.
        config: JSON of the published constructor's arguments; its entries win over those inferred from the shapes.
            Needed where the number of heads is not one of the published models'. Left out, a file of the weights' name
            that ends in .json is taken where there is one; converting back writes it.
        frame_rate_hz: frames per second that the weights were trained at, for the input contract; unknown if left out.
        colour: whether the three channels were repeated grey or colour, for the input contract.
        key: put the state_dict under this key of the .pth file, as some training scripts expect ("model").
        licence: under which the weights are shared, for the model card; that of the published weights if left out.
        authors: whose the weights are, for the model card.
    """
    if src.is_dir():
        _to_official(src, out, key=key)
    else:
        if out.is_file():
            raise EchofmError(f"{out}: is a file; name a folder to write the model into")
        published = _published(src, config_json=config, frame_rate_hz=frame_rate_hz, colour=colour)
        published.save(out, licence=licence, authors=authors)
    print(out)
    return 0


@dataclass(frozen=True, kw_only=True)
class _Published:
    """What a published file holds: the model, or its encoder alone, the clips it takes, and facts for the card."""

    model: VideoMae | VideoEncoder
    contract: InputContract
    card: dict[str, Any]

    def save(self, out: Path, *, licence: str | None, authors: str | None) -> None:
        from echofm.hub import save_model

        save_model(self.model, out, contract=self.contract, card=self.card, licence=licence, authors=authors)


def read_official(src: str | Path, *, untrained: bool = False) -> Encoder:
    """The encoder of a published file, without writing anything; its digest is that of the converted folder.

    A .json file of the same name beside it wins over what the shapes tell. untrained: the same architecture with fresh
    weights, drawn from torch's generator. Raises EchofmError naming the file and what is wrong.
    """
    from echofm.hub import Encoder, config_of
    from echofm.model.vit import VideoEncoder

    found = _published(Path(src), config_json=None, frame_rate_hz=None, colour="grey_bt601")
    encoder = found.model if isinstance(found.model, VideoEncoder) else found.model.encoder
    config = config_of(
        found.model, contract=found.contract, card=found.card, licence=PUBLISHED_LICENCE, authors=PUBLISHED_AUTHORS
    )
    return Encoder(VideoEncoder(encoder.config) if untrained else encoder, config=config)


def _published(
    src: Path, *, config_json: Path | None, frame_rate_hz: float | None, colour: Literal["grey_bt601", "rgb"]
) -> _Published:
    from echofm.contract import InputContract
    from echofm.model.checkpoint import has_decoder, infer_config, read_weights
    from echofm.model.official import encoder_from_official, from_official, unprefixed
    from echofm.saved import file_sha256

    weights = unprefixed(read_weights(src))
    beside = src.with_suffix(".json")
    config_json = config_json or (beside if beside.is_file() else None)
    config = infer_config(weights) | (_read_json(config_json) if config_json else {})
    whole = has_decoder(weights)
    for heads in ("num_heads", "decoder_num_heads")[: 2 if whole else 1]:
        if heads not in config:
            raise EchofmError(
                f"{src}: shapes do not tell {heads}, and its width is none of the published; "
                f'give --config with {{"{heads}": ...}}'
            )
    model = from_official(weights, config) if whole else encoder_from_official(weights, config)
    made = model.config
    contract = InputContract(size=made.size, frames=made.frames, frame_rate_hz=frame_rate_hz, channels=3, colour=colour)
    card = {
        "weights": f"converted from published EchoFM weights (arXiv 2410.23413), file sha256 {file_sha256(src)}",
        "official_config": config,
    }
    if not made.phase_projector:
        card["phase projector"] = "not in the file; phase vectors are the tokens' mean by time"
    return _Published(model=model, contract=contract, card=card)


def _to_official(src: Path, out: Path, *, key: str | None) -> None:
    import torch

    from echofm.hub import load_model
    from echofm.model.mae import VideoMae
    from echofm.model.official import to_official

    if out.is_dir() or out.suffix != ".pth":
        raise EchofmError(f"{out}: name the .pth file to write")
    model = load_model(src)
    if not isinstance(model, VideoMae):
        raise EchofmError(f"{src}: has no decoder, which the published form needs; convert a whole model")
    weights, config = to_official(model)
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
