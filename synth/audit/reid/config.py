"""What config.json of a re-identification model holds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from echofm.schema import FrozenModel
from synth.audit.reid.options import Half, Loss, Positives, Role
from synth.audit.reid.samples import Source
from synth.audit.settings import Level

# Far above any use: a hostile config.json must not claim all memory before its weights are looked at.
_Width = Annotated[int, Field(gt=0, le=1 << 24)]
_Inner = Annotated[int, Field(gt=0, le=8192)]


class LevelConfig(FrozenModel):
    """One head."""

    level: Level
    source: Source
    """What of a table it reads: space-time tokens, phase features, or the clip's vector."""
    bins: Annotated[int, Field(gt=0, le=1024)]
    """Phases of a cycle; motion alone."""
    features: _Width
    """Numbers of a sample."""
    components: _Inner
    """Principal components that the head reads."""
    hidden: Annotated[int, Field(ge=0, le=8192)]
    """Width of the network beside the linear map; 0 for none."""
    weight_decay: float
    """Chosen on the validation patients, as are components, hidden and step."""
    step: int
    """After how many steps of training it was best; 0: its begin, which training only made worse."""
    validation_auc: float
    """Across acquisitions where validation patients have several clips, else within one."""


class ReidConfig(FrozenModel):
    """A re-identification model."""

    format: Literal["echofm-reid"] = "echofm-reid"
    format_version: Literal[1] = 1
    echofm_version: str
    base_encoder_digest: str
    """Of the encoder whose features it reads; tables of another are refused."""
    settings: dict[str, Any]
    """How that encoder was applied; tables with other settings are refused."""
    role: Role
    """What it is meant for: filter, judge, or single where there is no other."""
    half: Half
    """Which of the training patients it was fitted on."""
    seed: int
    """Of its weights; filter and judge have different ones."""
    loss: Loss
    """Supervised contrastive, or pairs of equal and different patients."""
    positives: Positives
    """Whether a patient's clips of different views were brought together as well."""
    patients: int
    clips: int
    levels: Annotated[list[LevelConfig], Field(min_length=1, max_length=3)]
    weights_sha256: str
