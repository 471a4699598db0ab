"""Spec: how an encoder is named on the command line, e.g. `timm:vit_small_patch16_224?frames=8`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from echofm.errors import EchofmError

PREFIXES = ("official", "timm", "hf", "torchhub", "echoprime", "panecho")


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
