"""open_encoder: any encoder by its spec, e.g. `timm:vit_small_patch16_224?frames=8`, and the same one untrained."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from echofm.backbones.frozen import PixelEncoder, seeded
from echofm.contract import InputContract
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError

PREFIXES = ("official", "timm", "hf", "torchhub", "echoprime", "panecho")
# By kind of spec; imported where it is needed.
_LOADERS = {
    "timm": "images:open_timm",
    "hf": "huggingface:open_hf",
    "echoprime": "published:open_echoprime",
    "panecho": "published:open_panecho",
    "torchhub": "own:open_torchhub",
    "own": "own:open_own",
}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """kind: one of PREFIXES, "folder" (an export of ours or its hub id), "own" (module:function) or "pixels".

    name: what follows the prefix. options: what follows "?". random: the same architecture with weights of `seed`.
    trusted: whether code of a repository may run.
    """

    kind: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    random: bool = False
    seed: int = 0
    trusted: bool = False

    def only(self, *known: str) -> Mapping[str, str]:
        """The options. Raises EchofmError on one that this kind of encoder does not have."""
        unknown = sorted(set(self.options) - set(known))
        if unknown:
            offered = ", ".join(known) or "none"
            raise EchofmError(f"encoder {self.name!r}: no option {unknown[0]!r}; options are: {offered}")
        return self.options

    def count(self, name: str, default: int) -> int:
        """A positive whole number among the options."""
        text = self.options.get(name, str(default))
        if not re.fullmatch(r"[1-9]\d{0,3}", text):
            raise EchofmError(f"encoder {self.name!r}: {name}={text!r} is no whole number from 1 to 9999")
        return int(text)

    def numbers(self, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """Numbers with commas between them among the options, as many as in `default`."""
        if name not in self.options:
            return default
        try:
            values = tuple(float(part) for part in self.options[name].split(","))
        except ValueError:
            values = ()
        if len(values) != len(default):
            raise EchofmError(f"encoder {self.name!r}: {name} needs {len(default)} numbers with commas between them")
        return values


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


def parse_spec(text: str) -> Spec:
    """Read a spec. Raises EchofmError where nothing can be meant by it."""
    if text.startswith("random:"):
        return replace(parse_spec(text.removeprefix("random:")), random=True)
    if Path(text).is_dir():
        return Spec(kind="folder", name=text)
    plain, _, tail = text.partition("?")
    pairs = (part.partition("=") for part in tail.split("&") if part)
    options = {name: value for name, _, value in pairs}
    random = options.pop("random", None) is not None
    kind, colon, name = plain.partition(":")
    if plain == "pixels":
        return Spec(kind="pixels", name=plain, options=options)
    if colon and kind in PREFIXES:
        if not name:
            raise EchofmError(f"encoder {text!r}: nothing follows {kind}:")
        return Spec(kind=kind, name=name, options=options, random=random)
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", plain):
        return Spec(kind="own", name=plain, options=options, random=random)
    if colon and "/" not in kind and "\\" not in name:
        raise EchofmError(
            f"encoder {text!r}: unknown kind {kind!r}; give a folder, a hub id, pixels, module:function, or one of "
            + ", ".join(f"{prefix}:" for prefix in PREFIXES)
        )
    return Spec(kind="folder", name=plain, options=options, random=random)
