"""Weights in the published format into the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from echofm.errors import EchofmError
from synth.mafe.published.config import PublishedConfig
from synth.mafe.published.network import PublishedMafe

# Before every name where the trainer wrapped the network; and what it kept of the last map's shape.
_PREFIX, _CACHES = "module.", (".attn_mask", ".HW")


def load_published(state_dict: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> PublishedMafe:
    """The network with these weights, in evaluation mode.

    state_dict: as EMA-VFI and MAFE publish it, with or without `module.` and cached buffers. config: the fields of
    `PublishedConfig`, others are not looked at. Raises EchofmError naming the first tensor that is missing, unknown or
    of another shape, or the field that is wrong.
    """
    weights = {name.removeprefix(_PREFIX): tensor for name, tensor in state_dict.items() if not name.endswith(_CACHES)}
    with torch.device("meta"):
        network = PublishedMafe(PublishedConfig.of(config))
    expected = network.state_dict()
    odd = sorted(expected.keys() ^ weights.keys())
    if odd:
        kind = "missing" if odd[0] in expected else "unknown"
        raise EchofmError(f"published weights: {odd[0]!r} is {kind} ({len(odd)} in all); are they of this config?")
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise EchofmError(
                f"published weights: {name!r} is {tuple(weights[name].shape)}, the config needs {tuple(tensor.shape)}"
            )
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=True, assign=True)
    return network.eval()
