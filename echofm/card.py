"""What a saved model says of itself: config.json, and the model card that is written from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from echofm.contract import InputContract
from echofm.schema import FrozenModel

# Those that the Hugging Face hub knows by this name; any other is "other", with a name of its own.
_HUB_LICENCES = re.compile(
    r"apache-2\.0|mit|bsd(-[23]-clause)?|cc0-1\.0|cc-by(-nc)?(-nd|-sa)?-[234]\.0|[al]?gpl-[23]\.[01]|mpl-2\.0|openrail"
)


class ModelConfig(FrozenModel):
    """What config.json holds."""

    format: Literal["echofm"] = "echofm"
    format_version: Literal[2] = 2
    kind: str
    """What the model is, one of `echofm.hub.KINDS`."""
    echofm_version: str
    """The release that wrote the model."""
    architecture: dict[str, Any]
    """What decides the names and shapes of its tensors, and what it computes."""
    trained_for: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Its training's own settings, where going on needs them."""
    contract: InputContract | None = None
    """The clips that it takes, where it takes any."""
    licence: str | None = None
    """Under which the weights are shared; None: not stated."""
    authors: str | None = None
    """Whose the weights are; None: not stated."""
    weights_sha256: str
    """Of model.safetensors."""
    card: Annotated[dict[str, Any], Field(default_factory=dict)]
    """What the model card says of training data, cost and results."""


def card_text(config: ModelConfig, *, about: str) -> str:
    """The card: what the model is (`about`), what goes in, whose it is, and the facts given when it was saved."""
    sections = [
        _front_matter(config),
        about,
        "Not a medical device; for research only.",
        *([f"## Input\n\n{_input(config.contract)}"] if config.contract else []),
        f"## Licence\n\n{_rights(config)}",
        f"## Model\n\nKind `{config.kind}`.\n\n{_facts(config.architecture | config.trained_for)}",
        f"## Training and results\n\n{_facts(config.card) or 'Nothing was recorded.'}",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(config: ModelConfig) -> str:
    lines = ["library_name: echofm", "tags:", "- echocardiography", f"- {config.kind}"]
    if config.licence:
        name = re.sub(r"[^a-z0-9.]+", "-", config.licence.lower()).strip("-")
        known = _HUB_LICENCES.fullmatch(name) is not None
        lines[1:1] = [f"license: {name}"] if known else ["license: other", f"license_name: {name}"]
    return "\n".join(["---", *lines, "---"])


def _input(contract: InputContract) -> str:
    low, high = contract.value_range
    rate = "consecutive frames" if contract.frame_rate_hz is None else f"{contract.frame_rate_hz:g} frames per second"
    return (
        f"Clips (B, {contract.channels}, {contract.frames}, {contract.size}, {contract.size}), floats from {low:g} to "
        f"{high:g}, colour rule `{contract.colour}`, {rate}. Every call checks this."
    )


def _rights(config: ModelConfig) -> str:
    stated = config.licence or (
        "not stated. Whoever shares these weights states it: `licence` in config.json, or `--licence` of the command "
        "that writes the model"
    )
    return f"Licence: {stated}.\n\nAuthors: {config.authors or 'not stated'}."


def _facts(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {_shown(value)}" for name, value in facts.items())


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
