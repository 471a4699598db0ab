"""The frame rates that a model knows, where its clips came out of shards at another rate than they were recorded at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from echofm.readers.datasets.labels import number
from echofm.shards.manifest import MANIFEST, read_manifest
from probe.predict.model import LabelModel


def with_rates_as_read(model: LabelModel, data: Path | None) -> LabelModel:
    """The model, taking besides the shards' one rate the rates at which their files were recorded (all splits').

    `echofm shards` writes 50 frames a second of whatever it reads: without this, the very files would be refused.
    """
    known = model.facts.frame_rate_hz
    if known is None or data is None or not (data / MANIFEST).is_file():
        return model
    manifest = read_manifest(data)
    found = [number(rate) for rate in manifest.frame_rate_hz_histogram]
    rates = [*known, *(rate for rate in found if rate is not None)]
    if manifest.settings.frame_rate_hz is None:
        return model
    return replace(model, facts=model.facts.model_copy(update={"frame_rate_hz": (min(rates), max(rates))}))
