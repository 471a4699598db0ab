"""The published EchoFM weights, both ways: the same numbers under this project's names, and back, bit for bit.

The published layout is described in tests/golden and arXiv 2410.23413; its q, k and v are three matrices, ours one,
and its tubelet embedding is a Conv3d, ours the Linear over the same values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from echofm.errors import EchofmError
from echofm.model.config import EncoderConfig, NetworkConfig, ObjectiveConfig
from echofm.model.mae import VideoMae
from echofm.model.vit import VideoEncoder

# Ours: theirs. A trailing dot renames all that follows.
_NAMES = {
    "encoder.embed.proj.": "patch_embed.proj.",
    "encoder.positions.space": "pos_embed_spatial",
    "encoder.positions.time": "pos_embed_temporal",
    "encoder.positions.cls": "pos_embed_class",
    "encoder.cls": "cls_token",
    "encoder.blocks.": "blocks.",
    "encoder.norm.": "norm.",
    "encoder.phase.cls": "decoder_prj_cls_token",
    "encoder.phase.block.": "decoder_block.",
    "encoder.phase.norm.": "prj_norm.",
    "decoder.embed.": "decoder_embed.",
    "decoder.positions.space": "decoder_pos_embed_spatial",
    "decoder.positions.time": "decoder_pos_embed_temporal",
    "decoder.positions.cls": "decoder_pos_embed_class",
    "decoder.cls": "decoder_cls_token",
    "decoder.mask": "mask_token",
    "decoder.blocks.": "decoder_blocks.",
    "decoder.norm.": "decoder_norm.",
    "decoder.pred.": "decoder_pred.",
}
# Their constructor argument: ours, of the network.
_NETWORK = {
    "img_size": "size",
    "num_frames": "frames",
    "in_chans": "channels",
    "patch_size": "patch",
    "t_patch_size": "tubelet",
    "embed_dim": "width",
    "depth": "depth",
    "num_heads": "heads",
    "mlp_ratio": "mlp_ratio",
    "norm_eps": "norm_eps",
    "decoder_embed_dim": "decoder_width",
    "decoder_depth": "decoder_depth",
    "decoder_num_heads": "decoder_heads",
    "pred_t_dim": "predicted_frames",
}
# Theirs: ours, of the objective.
_OBJECTIVE = {
    "norm_pix_loss": ("reconstruction", "normalised_target"),
    "triplet_weight": ("triplet", "weight"),
    "triplet_margin": ("triplet", "margin"),
    "cycle_weight": ("cycle", "weight"),
    "cycle_tau": ("cycle", "temperature"),
    "prior_center_alpha": ("prior", "centre"),
}
_FIRST = "patch_embed.proj.weight"
_PRIORS = {"pixel": "pixel", "embed": "embedding"}
# The published checkpoints are all of this kind; another would be another model.
_FIXED = {"sep_pos_embed": True, "cls_embed": True, "no_qkv_bias": False}


def configs_from_official(config: Mapping[str, Any]) -> tuple[NetworkConfig, ObjectiveConfig]:
    """Network and objective of the published constructor's arguments. Raises EchofmError on one not understood."""
    known = {*_NETWORK, *_OBJECTIVE, *_FIXED, "phase_prior", "trunc_init"}
    if unknown := sorted(set(config) - known):
        raise EchofmError(f"official configuration: unknown entry {unknown[0]!r}; known are {', '.join(sorted(known))}")
    for name, value in _FIXED.items():
        if config.get(name, value) != value:
            raise EchofmError(f"official configuration: {name} must be {value}; no other kind was published")
    prior = config.get("phase_prior", "pixel")
    if prior not in _PRIORS:
        raise EchofmError(f"official configuration: no phase_prior {prior!r}; choose one of {', '.join(_PRIORS)}")
    network = {ours: config[theirs] for theirs, ours in _NETWORK.items() if theirs in config}
    objective: dict[str, dict[str, Any]] = {"prior": {"kind": _PRIORS[prior]}}
    for theirs, (loss, field) in _OBJECTIVE.items():
        if theirs in config:
            objective.setdefault(loss, {})[field] = config[theirs]
    where = "official configuration"
    return NetworkConfig.checked(network, where=where), ObjectiveConfig.checked(objective, where=where)


def from_official(state_dict: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> VideoMae:
    """The model of a published state_dict; `config` holds the published constructor's arguments and `norm_eps`.

    Raises EchofmError naming the first tensor that is missing, unknown or of another shape.
    """
    network, objective = configs_from_official(config)
    with torch.device("meta"):
        model = VideoMae(network, objective=objective)
    _load(model, state_dict, network, prefix="")
    return model


def encoder_from_official(state_dict: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> VideoEncoder:
    """The encoder of a published state_dict without its decoder.

    The phase projector may be missing as a whole: much code counts it to the decoder. Raises EchofmError as above.
    """
    projector = tuple(theirs for ours, theirs in _NAMES.items() if ours.startswith("encoder.phase."))
    own = {name for name in state_dict if name.startswith(projector)}
    whole = all(any(name.startswith(each) for name in own) for each in projector)
    network, _ = configs_from_official(config)
    with torch.device("meta"):
        model = VideoEncoder(network.model_copy(update={"phase_projector": whole}))
    given = state_dict if whole else {name: state_dict[name] for name in state_dict if name not in own}
    _load(model, given, network, prefix="encoder.")
    return model


def _load(
    model: VideoMae | VideoEncoder, state_dict: Mapping[str, torch.Tensor], network: EncoderConfig, *, prefix: str
) -> None:
    """Fill a model. prefix: of its tensors' names in a VideoMae."""
    own = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    expected = official_names(own, patch=network.patch, tubelet=network.tubelet)
    check_tensors(state_dict, {name: tensor.shape for name, tensor in expected.items()})
    loaded = {}
    for name, tensor in own.items():
        parts = [state_dict[part] for part in _split_names(_their_name(name))]
        loaded[name.removeprefix(prefix)] = torch.cat(parts).reshape(tensor.shape).float()
    model.load_state_dict(loaded, assign=True)


def unprefixed(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without what a larger model puts before every name (`encoder.patch_embed...`)."""
    prefix = next((name.removesuffix(_FIRST) for name in weights if name.endswith(_FIRST)), "")
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items()}


def to_official(model: VideoMae) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The published state_dict and configuration of a model.

    Raises EchofmError where the published code has no such model: other than 3 channels, or another prior.
    """
    network, objective = model.config, model.objective
    if network.channels != 3:
        raise EchofmError(
            f"the published code takes 3 channels, this model {network.channels}: it has no official form"
        )
    priors = {ours: theirs for theirs, ours in _PRIORS.items()}
    prior = objective.prior.kind
    if prior not in priors:
        raise EchofmError(f"the published code has no prior {prior!r}; train with 'pixel' or 'embedding'")
    config = {theirs: getattr(network, ours) for theirs, ours in _NETWORK.items()}
    config |= {theirs: getattr(getattr(objective, loss), field) for theirs, (loss, field) in _OBJECTIVE.items()}
    config |= _FIXED | {"phase_prior": priors[prior], "trunc_init": False}
    # Heads of losses that are not theirs are for training alone.
    own = ("clip_head.", "latent_head.")
    shared = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(own)}
    tensors = official_names(shared, patch=network.patch, tubelet=network.tubelet)
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}, config


def official_names(named: Mapping[str, torch.Tensor], *, patch: int, tubelet: int) -> dict[str, torch.Tensor]:
    """Parameters (or their gradients) of a VideoMae under the published names and shapes, as views."""
    out: dict[str, torch.Tensor] = {}
    for name, tensor in named.items():
        theirs = _their_name(name)
        if theirs == _FIRST:
            tensor = tensor.unflatten(1, (-1, tubelet, patch, patch))
        parts = _split_names(theirs)
        out.update(zip(parts, tensor.chunk(len(parts))))
    return out


def check_tensors(tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, torch.Size]) -> None:
    """Raise EchofmError naming the first tensor that is missing, unknown or of another shape."""
    if missing := sorted(set(shapes) - set(tensors)):
        raise EchofmError(
            f"weights: {missing[0]!r} is missing ({len(missing)} in all); is the configuration this model's?"
        )
    if unknown := sorted(set(tensors) - set(shapes)):
        raise EchofmError(
            f"weights: {unknown[0]!r} is unknown ({len(unknown)} in all); is the configuration this model's?"
        )
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise EchofmError(
                f"weights: {name!r} has shape {tuple(tensors[name].shape)}, the model needs {tuple(shape)}"
            )


def _their_name(name: str) -> str:
    for ours, theirs in _NAMES.items():
        if name == ours or (ours.endswith(".") and name.startswith(ours)):
            return theirs + name[len(ours) :]
    raise AssertionError(name)


def _split_names(theirs: str) -> list[str]:
    """["....attn.q.weight", k, v] for a fused "....attn.qkv.weight", else the name alone."""
    if not re.search(r"\.attn\.qkv\.", theirs):
        return [theirs]
    return [theirs.replace(".qkv.", f".{part}.") for part in "qkv"]
