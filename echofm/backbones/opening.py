"""open_encoder: any encoder by its spec, and the same one untrained."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import torch

from echofm.backbones.frozen import seeded
from echofm.backbones.pixels import PixelEncoder
from echofm.backbones.spec import Spec, parse_spec
from echofm.contract import InputContract
from echofm.encoder import AnyEncoder

# By kind of spec; imported where it is needed.
_LOADERS = {
    "timm": "images:open_timm",
    "hf": "huggingface:open_hf",
    "echoprime": "published:open_echoprime",
    "panecho": "published:open_panecho",
    "torchhub": "own:open_torchhub",
    "own": "own:open_own",
}


def open_encoder(spec: str | Path, *, seed: int = 0, trust_remote_code: bool = False) -> AnyEncoder:
    """Open a frozen encoder.

    spec: an export of ours or its hub id; `official:PATH` (published EchoFM weights); `timm:NAME`; `hf:ID` or
        `hf:FOLDER`; `echoprime:PATH`; `panecho:PATH`; `torchhub:REPO:MODEL`; `module:function`; `pixels`; and
        `random:SPEC`, the same architecture untrained. docs/backbones.md tells each one's contract and options.
    seed: of untrained weights. trust_remote_code: needed for torchhub, which runs the repository's code.
    Raises EchofmError naming what cannot be had and why.
    """
    opened = _open(replace(parse_spec(str(spec)), seed=seed, trusted=trust_remote_code))
    # What a loader left in training mode or with gradients would cost memory and change features.
    if isinstance(opened, torch.nn.Module):
        opened.eval().requires_grad_(False)
    return opened


def random_spec(spec: str | Path) -> str | None:
    """The spec of the same encoder untrained; None of pixels, and of one that is untrained already."""
    parsed = parse_spec(str(spec))
    return None if parsed.random or parsed.kind == "pixels" else f"random:{spec}"


def _open(spec: Spec) -> AnyEncoder:
    if spec.kind in _LOADERS:
        module, _, function = _LOADERS[spec.kind].partition(":")
        loader = getattr(importlib.import_module(f"echofm.backbones.{module}"), function)
        opened: AnyEncoder = loader(spec)
        return opened
    from echofm.hub import load_encoder, untrained_encoder
    from echofm.model.convert import read_official

    if spec.kind == "pixels":
        spec.only("size", "frames")
        return PixelEncoder(InputContract(size=spec.count("size", 112), frames=spec.count("frames", 32)))
    spec.only()
    with seeded(spec.seed):
        if spec.kind == "official":
            return read_official(spec.name, untrained=spec.random)
        return untrained_encoder(spec.name) if spec.random else load_encoder(spec.name)
