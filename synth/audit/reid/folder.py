"""A re-identification model on disk: config.json, model.safetensors and a card, no pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from echofm.atomic import whole_files
from echofm.errors import EchofmError, os_errors_as
from synth.audit.reid.config import LevelConfig, ReidConfig
from synth.audit.reid.head import Components, Head
from synth.audit.reid.model import LevelModel, Reid
from synth.audit.reid.samples import Sampling
from synth.audit.settings import Level

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
_MAXIMUM_CONFIG_BYTES = 1 << 20

_CARD = """# A re-identification model

Brings recordings of one patient together and parts those of different patients, on the frozen features of encoder
`{base}`. For the privacy audit of synthetic sets alone: it recognises patients whom it has never seen, so keep it where
the data are kept, and publish neither it nor features made by it.

```python
from synth.audit.reid import load_reid

reid = load_reid("THIS FOLDER")
table = reid.project(table, level="{level}")
```

Role {role}: fitted on {half} ({patients} patients, {clips} clips), seed {seed}, loss {loss}.

{levels}

verification.json and report.html say what it recognises, if `echofm audit fit-reid` wrote them.
"""


def weights_bytes(levels: Mapping[Level, LevelModel]) -> bytes:
    """model.safetensors of some heads: the same heads give the same bytes."""
    tensors = {f"{level}.{name}": tensor for level, model in levels.items() for name, tensor in model.tensors().items()}
    return safetensors.torch.save(tensors, metadata={"format": "pt"})


def save_reid(reid: Reid, folder: str | Path) -> Path:
    """Write a model; the folder is made if need be. Raises EchofmError where it cannot be written."""
    folder = Path(folder)
    contents = {
        WEIGHTS: weights_bytes(reid.levels),
        CARD: _card(reid.config).encode(),
        CONFIG: reid.config.to_json().encode(),
    }
    files = [folder / name for name in contents]
    with (
        os_errors_as(f"the model cannot be written to {folder} ({{reason}}); check --out"),
        whole_files(files) as parts,
    ):
        for part, content in zip(parts, contents.values(), strict=True):
            part.write_bytes(content)
    return folder


def load_reid(folder: str | Path) -> Reid:
    """Read a model back. Raises EchofmError naming the file and what is wrong with it."""
    folder = Path(folder)
    path = folder / CONFIG
    if path.is_file() and path.stat().st_size > _MAXIMUM_CONFIG_BYTES:
        raise EchofmError(f"{path}: larger than {_MAXIMUM_CONFIG_BYTES} bytes; this is no configuration of ours")
    config = ReidConfig.from_json(path)
    if len({each.level for each in config.levels}) < len(config.levels):
        raise EchofmError(f"{path}: one level occurs twice; copy the folder again")
    weights = folder / WEIGHTS
    with os_errors_as(f"{weights}: cannot be read ({{reason}}); copy the folder again"):
        content = weights.read_bytes()
    if hashlib.sha256(content).hexdigest() != config.weights_sha256:
        raise EchofmError(f"{weights}: not the weights that {CONFIG} names (sha256 differs); copy the folder again")
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError):
        raise EchofmError(f"{weights}: not a safetensors file, or cut; copy the folder again") from None
    return Reid(config=config, levels={each.level: _level(each, tensors, weights) for each in config.levels})


def _level(config: LevelConfig, tensors: dict[str, torch.Tensor], path: Path) -> LevelModel:
    prefix = f"{config.level}."
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    template, position = own.pop("template_KD", None), own.pop("position_TD", None)
    head = Head(Components(config.features, config.components), hidden=config.hidden)
    expected = {name: tensor.shape for name, tensor in head.state_dict().items()}
    found = {name: tensor.shape for name, tensor in own.items()}
    cycle = (config.bins, config.features // config.bins)
    fits = template is None and position is None
    if config.level == "motion":
        fits = template is not None and tuple(template.shape) == cycle
        fits = fits and (
            position is None or (position.ndim == 2 and len(position) > 0 and position.shape[1] == cycle[1])
        )
    if expected != found or not fits or not all(torch.isfinite(tensor).all() for tensor in own.values()):
        raise EchofmError(f"{path}: the {config.level} head is not what {CONFIG} describes; fit it again")
    head.load_state_dict(own)
    template_KD, position_TD = (None if each is None else each.float().numpy() for each in (template, position))
    sampling = Sampling(
        level=config.level, source=config.source, bins=config.bins, template_KD=template_KD, position_TD=position_TD
    )
    return LevelModel(config=config, head=head.eval(), sampling=sampling)


def _card(config: ReidConfig) -> str:
    half = "all training patients" if config.half == "all" else f"half {config.half} of the training patients"
    lines = [
        f"- {each.level}: reads {each.source}, {each.components} components, validation AUC {each.validation_auc:.4f}"
        for each in config.levels
    ]
    return _CARD.format(
        base=config.base_encoder_digest[:16],
        level=config.levels[0].level,
        role=config.role,
        half=half,
        patients=config.patients,
        clips=config.clips,
        seed=config.seed,
        loss=config.loss,
        levels="\n".join(lines),
    )
