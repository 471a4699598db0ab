"""Faults of the image laid over test clips: what is asked for, and the tables that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from echofm.acoustic import KINDS, Kind, parsed_strength
from echofm.backbones import PixelEncoder
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.labels.target import read_goal
from probe.names import PIXEL_PCA
from probe.partition import partition
from probe.phase.probe import clips_of_known_phase

if TYPE_CHECKING:
    from probe.inputs import ProbeInputs
    from probe.targets import ProbeRequest

_EVERY, PHASE = "all", "phase"
Strengths = Mapping[str, Mapping[Kind, float]]
# By perturbation and method.
Tables = dict[str, dict[str, EmbeddingTable]]


def parsed(words: Sequence[str]) -> Strengths:
    """{"haze:0.5": {"haze": 0.5}} of ["haze:0.5"]; `all:0.5` is each kind by itself. Raises as `parsed_strength`."""
    single = [
        f"{kind}:{strength}"
        for name, _, strength in (word.partition(":") for word in words)
        for kind in (KINDS if name == _EVERY else (name,))
    ]
    return {word: parsed_strength([word]) for word in single}


def require_perturbable(requests: Sequence[ProbeRequest], *, encoder: bool) -> None:
    """Raises EchofmError on what has no answer to perturbed test clips. encoder: whether one is probed, on data."""
    if not encoder:
        raise EchofmError("--perturb changes pixels, which a table has not; give an encoder and --data SRC")
    for request in requests:
        if not request.is_label() and request.target != PHASE:
            raise EchofmError(f"--perturb is for labels of clips and phase; ask for {request.target} by itself")
        if request.cross_validate is not None:
            raise EchofmError("--perturb changes test clips, which --cross-validate also fits on; leave out one")


def with_perturbed(
    requests: Sequence[ProbeRequest], inputs: ProbeInputs, strengths: Strengths
) -> Sequence[ProbeRequest]:
    """Each with its test clips, perturbed, as the probed encoder, those beside it and pixels embed them."""
    if not strengths:
        return requests
    tested = [_tested(request, inputs) for request in requests]
    every = sorted(set().union(*tested))
    encoders = {"probe": inputs.encoder, **inputs.baseline_encoders}
    if inputs.pixels is not None and inputs.encoder is not None:
        encoders[PIXEL_PCA] = PixelEncoder(inputs.encoder.contract)
    found: Tables = {}
    for name, strength in strengths.items():
        found[name] = {}
        for method, encoder in encoders.items():
            assert inputs.embed_some is not None and encoder is not None
            found[name][method] = inputs.embed_some(encoder, f"{method}, {name}", every, strength)
    return [
        replace(request, perturbed={name: _only(tables, clips) for name, tables in found.items()})
        for request, clips in zip(requests, tested)
    ]


def _tested(request: ProbeRequest, inputs: ProbeInputs) -> set[str]:
    """Ids of a target's test clips, which may be training clips of another's."""
    table = inputs.table
    if request.is_label(table.rows.columns):
        asked = request.asked("task", "order")
        part = read_goal(table, request.target, test_clips=inputs.test_clips, **asked)[1]
    else:
        part = partition(table, clips_of_known_phase(table), seed=request.seed)
    return set(table.clip_id[part.test].tolist())


def _only(tables: Mapping[str, EmbeddingTable], clips: set[str]) -> dict[str, EmbeddingTable]:
    return {name: each.select(np.isin(each.clip_id.astype(str), list(clips))) for name, each in tables.items()}


def replaced(clean: Mapping[str, EmbeddingTable], perturbed: Mapping[str, EmbeddingTable]) -> dict[str, EmbeddingTable]:
    """By method the clean tables, with the perturbed clips in place of themselves at the end."""
    found = {}
    for name, table in perturbed.items():
        if name in clean:
            rest = ~np.isin(clean[name].clip_id.astype(str), table.clip_id.astype(str))
            # On purpose not embedded alike.
            unlike = replace(table, settings=clean[name].settings)
            found[name] = EmbeddingTable.concat([clean[name].select(rest), unlike])
    return found
