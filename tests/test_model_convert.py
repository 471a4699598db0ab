"""`echofm convert` both ways, and files that it must refuse with one line."""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from echofm.errors import EchofmError
from echofm.hub import load_encoder, load_model
from echofm.model.checkpoint import infer_config, read_weights
from echofm.model.config import SIZES, ClipContrastConfig, LatentConfig, ObjectiveConfig, PriorConfig
from echofm.model.convert import main, read_official
from echofm.model.mae import VideoMae
from echofm.model.official import from_official, to_official

GOLDEN = Path(__file__).parent / "golden" / "official_tiny.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    with np.load(GOLDEN, allow_pickle=False) as data:
        content: dict[str, Any] = {name: torch.from_numpy(data[name]) for name in ("imgs", "full/latent")}
        content["weights"] = {name[2:]: torch.from_numpy(data[name]) for name in data.files if name[:2] == "w/"}
        content["config"] = json.loads(str(data["config"]))
    return content


@pytest.fixture
def pth(golden: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(golden["weights"], path)
    return path


@pytest.fixture
def config(golden: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(golden["config"]))
    return path


def refused(*argv: str | Path) -> str:
    with pytest.raises(EchofmError) as caught:
        main([str(argument) for argument in argv])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("key", [None, "model"])
def test_there_and_back_is_bit_exact(
    golden: dict[str, Any], pth: Path, config: Path, tmp_path: Path, key: str | None
) -> None:
    assert main([str(pth), str(tmp_path / "out"), "--config", str(config)]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert main([str(tmp_path / "out"), str(tmp_path / "back.pth"), *(["--key", key] if key else [])]) == 0
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    back = back[key] if key else back
    assert back.keys() == golden["weights"].keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in golden["weights"].items())
    assert json.loads((tmp_path / "back.json").read_text()) == golden["config"]
    # The configuration beside the weights is found, so the way there needs no --config the second time.
    assert main([str(tmp_path / "back.pth"), str(tmp_path / "again")]) == 0
    assert load_encoder(tmp_path / "again").digest == load_encoder(tmp_path / "out").digest


def test_converted_encoder_embeds_as_published(golden: dict[str, Any], pth: Path, config: Path, tmp_path: Path) -> None:
    main([str(pth), str(tmp_path / "out"), "--config", str(config), "--frame-rate-hz", "30"])
    encoder = load_encoder(tmp_path / "out")
    torch.testing.assert_close(encoder.encode(golden["imgs"]).tokens_BND, golden["full/latent"], rtol=0, atol=1e-5)
    assert encoder.contract.frame_rate_hz == 30 and encoder.contract.frames == 8
    grey = golden["imgs"][:, :1]
    torch.testing.assert_close(encoder.encode(grey).video_BD, encoder.encode(grey.repeat(1, 3, 1, 1, 1)).video_BD)


@pytest.mark.parametrize("wrapper", ["model", "model_state", "model_state_dict", "state_dict", "weights", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_training_checkpoints_are_unwrapped(golden: dict[str, Any], tmp_path: Path, wrapper: str, prefix: str) -> None:
    path = tmp_path / "checkpoint.pth"
    wrapped = {prefix + name: tensor for name, tensor in golden["weights"].items()}
    torch.save({wrapper: wrapped, "epoch": 3, "args": argparse.Namespace(lr=1e-3, device="cuda")}, path)
    assert read_weights(path).keys() == golden["weights"].keys()
    torch.save({"epoch": 3, "model": {wrapper: wrapped}}, path)
    assert read_weights(path).keys() == golden["weights"].keys()


WRAPPINGS: dict[str, Callable[[str], str]] = {
    "compiled blocks": lambda name: re.sub(r"^((?:decoder_)?blocks\.\d+)\.", r"\1._orig_mod.", name),
    "a larger model": lambda name: f"backbone.video.{name}",
    "compiled, parallel": lambda name: f"module._orig_mod.{name}",
    "bare": lambda name: name,
}
_DECODER = (
    "decoder_embed",
    "decoder_pos",
    "decoder_cls",
    "decoder_blocks",
    "decoder_norm",
    "decoder_pred",
    "mask_token",
)
# What the files lack.
PARTS: dict[str, tuple[str, ...]] = {
    "whole": (),
    "encoder and projector": _DECODER,
    "encoder": (*_DECODER, "decoder_prj", "decoder_block.", "prj_norm"),
    # By a filter on names that begin with decoder_.
    "encoder and a part of the projector": ("decoder_", "mask_token"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("part", PARTS)
def test_the_same_encoder_comes_of_every_wrapping(
    golden: dict[str, Any], tmp_path: Path, suffix: str, wrapping: str, part: str
) -> None:
    weights, gone = golden["weights"], PARTS[part]
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(gone)}
    named = {WRAPPINGS[wrapping](name): tensor.clone() for name, tensor in kept.items()}
    path = (tmp_path / "w").with_suffix(suffix)
    if suffix == ".pth":
        torch.save({"model": named}, path)
    else:
        save_file(named, path)
    path.with_suffix(".json").write_text(json.dumps(golden["config"]))
    torch.save(weights, tmp_path / "plain.pth")
    (tmp_path / "plain.json").write_text(json.dumps(golden["config"]))
    for source in (path, tmp_path / "plain.pth"):
        assert main([str(source), str(tmp_path / source.stem)]) == 0
    plain, encoder = load_encoder(tmp_path / "plain"), load_encoder(tmp_path / "w")
    assert encoder.digest == plain.digest == read_official(path).digest
    encoding = encoder.encode(golden["imgs"])
    torch.testing.assert_close(encoding.tokens_BND, golden["full/latent"], rtol=0, atol=1e-5)
    same_phase = part in ("whole", "encoder and projector")
    assert (encoder.phase_digest == plain.phase_digest) is same_phase
    by_time = encoding.tokens_BND.unflatten(1, (encoding.phase_BTD.shape[1], -1)).mean(2)
    expected = plain.encode(golden["imgs"]).phase_BTD if same_phase else by_time
    torch.testing.assert_close(encoding.phase_BTD, expected)
    message = (tmp_path / "w" / "README.md").read_text()
    assert ("phase projector: not in the file" in message) is not same_phase
    if part != "whole":
        assert "has no decoder" in refused(tmp_path / "w", tmp_path / "back.pth")


def test_an_encoder_alone_needs_no_heads_of_a_decoder(golden: dict[str, Any], tmp_path: Path) -> None:
    torch.save({name: w for name, w in golden["weights"].items() if "decoder" not in name}, tmp_path / "w.pth")
    (tmp_path / "w.json").write_text('{"num_heads": 2}')
    with pytest.raises(EchofmError, match="'mask_token' is unknown"):
        main([str(tmp_path / "w.pth"), str(tmp_path / "out")])
    weights = {name: w for name, w in golden["weights"].items() if "decoder" not in name and name != "mask_token"}
    torch.save(weights, tmp_path / "w.pth")
    assert main([str(tmp_path / "w.pth"), str(tmp_path / "out")]) == 0


def test_damaged_safetensors_and_a_tensor_that_stands_twice(golden: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 100)
    assert "not a safetensors file, or cut" in refused(tmp_path / "w.safetensors", tmp_path / "out")
    twice = golden["weights"] | {"module.cls_token": golden["weights"]["cls_token"]}
    torch.save(twice, tmp_path / "w.pth")
    assert "twice" in refused(tmp_path / "w.pth", tmp_path / "out")


def test_the_card_of_converted_weights_says_whose_they_are(pth: Path, config: Path, tmp_path: Path) -> None:
    main([str(pth), str(tmp_path / "out"), "--config", str(config)])
    card = (tmp_path / "out" / "README.md").read_text()
    digest = hashlib.sha256(pth.read_bytes()).hexdigest()
    for fact in ("license: cc-by-nc-nd-4.0", "the authors of EchoFM", "published EchoFM weights", digest):
        assert fact in card
    words = ["--licence", "CC BY 4.0", "--authors", "our lab"]
    main([str(pth), str(tmp_path / "own"), "--config", str(config), *words])
    card = (tmp_path / "own" / "README.md").read_text()
    assert "license: cc-by-4.0" in card and "Authors: our lab." in card and "nc-nd" not in card


@pytest.mark.parametrize("size", ["base", "large"])
def test_published_sizes_are_inferred_from_shapes(size: str) -> None:
    with torch.device("meta"):
        model = VideoMae(SIZES[size])
    weights, config = to_official(model)
    assert config.items() >= infer_config(weights).items()
    assert {"num_heads", "decoder_num_heads"} < infer_config(weights).keys()


def test_a_model_of_other_width_needs_its_heads(pth: Path, tmp_path: Path) -> None:
    assert "--config" in refused(pth, tmp_path / "out")
    (tmp_path / "c.json").write_text('{"num_heads": 2, "decoder_num_heads": 2, "norm_eps": 1e-5}')
    assert main([str(pth), str(tmp_path / "out"), "--config", str(tmp_path / "c.json")]) == 0
    assert load_model(tmp_path / "out").config.predicted_frames == 4


class Runs:
    """Would create a file when unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trap,)


def test_a_pickle_named_pth_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Runs(trap)))
    assert "could run code" in refused(tmp_path / "bare.pth", tmp_path / "out")
    torch.save({"model": {"cls_token": torch.zeros(1)}, "extra": Runs(trap)}, tmp_path / "zip.pth")
    assert "nothing in it was run" in refused(tmp_path / "zip.pth", tmp_path / "out")
    assert not trap.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.999])
def test_cut_files(pth: Path, tmp_path: Path, kept: float) -> None:
    content = pth.read_bytes()
    pth.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    assert str(pth) in refused(pth, tmp_path / "out")


def test_a_flipped_byte(pth: Path, tmp_path: Path) -> None:
    content = bytearray(pth.read_bytes())
    content[len(content) // 2] ^= 1
    pth.write_bytes(content)
    assert "damaged" in refused(pth, tmp_path / "out")


def test_files_that_unpack_to_more_than_they_hold(pth: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1_000_000)
    assert "unpacks to more" in refused(tmp_path / "bomb.pth", tmp_path / "out")
    torch.save({"x": torch.zeros(1).expand(10**12)}, tmp_path / "strides.pth")
    assert "claims 4000000000000 bytes" in refused(tmp_path / "strides.pth", tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("norm.bias"), "'norm.bias' is missing"),
        (lambda w: w.update(more=torch.zeros(1)), "'more' is unknown"),
        (lambda w: w.update({"norm.bias": torch.zeros(3)}), "'norm.bias' has shape (3,)"),
        (lambda w: w.pop("patch_embed.proj.weight"), "no published EchoFM checkpoint"),
        (lambda w: w.update({"pos_embed_temporal": torch.zeros(1, 0, 64)}), "is empty"),
        (lambda w: w.update({"norm.bias": "text"}), "holds no state_dict"),
        (lambda w: w.clear(), "holds no state_dict"),
    ],
)
def test_wrong_weights(golden: dict[str, Any], config: Path, tmp_path: Path, change: Any, message: str) -> None:
    weights = dict(golden["weights"])
    change(weights)
    torch.save(weights, tmp_path / "w.pth")
    assert message in refused(tmp_path / "w.pth", tmp_path / "out", "--config", config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "multiple of its heads"),
        ({"embed_dim": 10**12}, "width"),
        ({"sep_pos_embed": False}, "sep_pos_embed must be True"),
        ({"phase_prior": "other"}, "no phase_prior"),
        ({"colour": 1}, "unknown entry 'colour'"),
    ],
)
def test_wrong_configuration(golden: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(EchofmError, match=message):
        from_official(golden["weights"], golden["config"] | change)


def test_other_mistakes(pth: Path, config: Path, tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nothing.pth", tmp_path / "out")
    assert "is a file" in refused(pth, config)
    (tmp_path / "list.json").write_text("[]")
    assert "no JSON object" in refused(pth, tmp_path / "out", "--config", tmp_path / "list.json")
    (tmp_path / "bad.json").write_text("{")
    assert "JSONDecodeError" in refused(pth, tmp_path / "out", "--config", tmp_path / "bad.json")
    main([str(pth), str(tmp_path / "out"), "--config", str(config)])
    assert "name the .pth file" in refused(tmp_path / "out", tmp_path / "back")


def test_heads_of_our_own_losses_are_left_behind() -> None:
    small = SIZES["tiny"].model_copy(update={"channels": 3, "width": 24, "depth": 1, "decoder_depth": 1})
    objective = ObjectiveConfig(clip_contrast=ClipContrastConfig(weight=1), latent=LatentConfig(weight=1))
    tensors, config = to_official(VideoMae(small, objective=objective))
    back = from_official(tensors, config)
    assert (
        back.clip_head is back.latent_head is None and back.state_dict().keys() == VideoMae(small).state_dict().keys()
    )


def test_what_has_no_published_form() -> None:
    small, changes = SIZES["tiny"], ObjectiveConfig(prior=PriorConfig(kind="pixel+difference"))
    with torch.device("meta"), pytest.raises(EchofmError, match="3 channels"):
        to_official(VideoMae(small))
    with torch.device("meta"), pytest.raises(EchofmError, match=r"pixel\+difference"):
        to_official(VideoMae(small.model_copy(update={"channels": 3}), objective=changes))
