"""fit_reid: from an embedding table to a re-identification model, patients of each split and half kept apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

import echofm
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.reid.config import ReidConfig
from synth.audit.reid.fit import fit_head
from synth.audit.reid.folder import weights_bytes
from synth.audit.reid.model import Reid
from synth.audit.reid.options import HALF_OF, FitOptions, Half, Role, half_of, seed_of
from synth.audit.reid.samples import available_levels
from synth.audit.settings import Level


def fit_reid(
    table: EmbeddingTable,
    *,
    role: Role = "single",
    half: Half | None = None,
    levels: Sequence[Level] | None = None,
    options: FitOptions | None = None,
    advance: Callable[[str], None] = lambda note: None,
) -> Reid:
    """Fit one head per level on the split "train", each chosen on the split "val"; "test" is not looked at.

    role: decides the half of the training patients and the seed. half: another than the role's own.
    levels: None: all that the table has features for. options: seed is the one that filter and judge share.
    Raises EchofmError where splits are missing or share patients, or where nothing can be learned.
    """
    table.check_finite()
    require_splits(table, ("train", "val"))
    asked = tuple(levels) if levels else available_levels(table)
    half = half or HALF_OF[role]
    options = options or FitOptions()
    own = replace(options, seed=seed_of(role, options.seed))
    train = table.select(split="train")
    if half != "all":
        train = train.select(np.array([half_of(str(patient)) == half for patient in train.patient_id], bool))
    if len(set(train.patient_id)) < 2:
        raise EchofmError(f"half {half} of the training patients holds fewer than two; give more, or --half all")
    validation = table.select(split="val")
    models = {level: fit_head(train, validation, level, options=own, advance=advance) for level in asked}
    config = ReidConfig(
        echofm_version=echofm.__version__,
        base_encoder_digest=table.encoder_digest,
        settings=dict(table.settings),
        role=role,
        half=half,
        seed=own.seed,
        loss=options.loss,
        positives=options.positives,
        patients=len(set(train.patient_id)),
        clips=len(train),
        levels=[model.config for model in models.values()],
        weights_sha256=hashlib.sha256(weights_bytes(models)).hexdigest(),
    )
    return Reid(config=config, levels=models)


def require_splits(table: EmbeddingTable, wanted: Sequence[str]) -> None:
    """Raises EchofmError where a split is empty or a patient is in two."""
    split, patients = table.split, table.patient_id
    missing = [name for name in wanted if not (split == name).any()]
    if missing:
        raise EchofmError(
            f"the table has no clips of the split {missing[0]!r}; re-identification is fitted on train, chosen on val "
            "and measured on test: give a data set with these splits"
        )
    members = {name: set(patients[split == name]) for name in ("train", "val", "test")}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = sorted(members[one] & members[other])
        if shared:
            raise EchofmError(
                f"{len(shared)} patient(s) are in the splits {one} and {other} (first {shared[0]}); "
                "a patient belongs to one: mend the splits and embed again"
            )
