"""Many probes of one target as a ranked table: each one's figures, and its paired difference to the best."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Literal

import pandas as pd

from echofm.errors import EchofmError
from echofm.intervals import Estimate
from echofm.schema import FrozenModel
from probe.comparison import (
    Side,
    arrays,
    averaged,
    metrics_of,
    names_of,
    read_side,
    require_alike,
    same_truth,
    unlike_splits,
)
from probe.labels.answers import Truth
from probe.labels.metrics import METRICS, better
from probe.protocol import Key, Redrawn, redraw, require_request


class Ranked(FrozenModel):
    """One probe. scores: by metric, at clip level, with all labels."""

    rank: int
    name: str
    encoder_digest: str
    kind: str
    scores: dict[str, Estimate]
    to_best: Estimate | None
    """The first metric minus the best one's, patients redrawn together; null of the best itself."""


class Ranking(FrozenModel):
    """Probes of one target on the test clips that all share, the best in the first metric first."""

    schema_version: Literal[1] = 1
    target: str
    task: str
    metric: str
    """That ranks."""
    clips: int
    patients: int
    ranked: list[Ranked]
    notes: list[str]


def rank(paths: Sequence[str | Path], *, draws: int = 1000, seed: int = 0) -> Ranking:
    """Rank probe.json files, with the predictions.parquet beside each.

    Raises EchofmError where targets, classes or true values are unlike, or predictions are missing.
    """
    require_request(seed=seed, draws=draws)
    sides = [read_side(path) for path in paths]
    names = names_of(paths, sides)
    for name, side in zip(names[1:], sides[1:]):
        require_alike(sides[0].result, side.result, names=(names[0], name))
    found = metrics_of(sides[0].result, [side.rows for side in sides])
    if not found:
        raise EchofmError(
            "several probes are ranked by the clips that all were tested on: every probe.json needs its "
            f"predictions.parquet beside it, and a {sides[0].result.task} probe one prediction a clip"
        )
    clips = _shared(sides, names)
    first = _of(sides[0], clips)
    # One array of patients, so that all meet the same redrawn ones.
    patients = first["patient_id"].to_numpy(str)
    result = sides[0].result
    truth = Truth(
        values_N=arrays(first, result)[0],
        patients_N=patients,
        metrics={(name, ""): each for name, each in found.items()},
    )
    redrawn = [
        redraw(truth.figures(arrays(_of(side, clips), result)[1][:, None]), draws=draws, seed=seed) for side in sides
    ]
    metric = next(iter(METRICS[result.task]))
    return Ranking(
        target=result.target,
        task=result.task,
        metric=metric,
        clips=len(clips),
        patients=len(set(patients)),
        ranked=_ranked(names, sides, redrawn, metric),
        notes=_notes(sides, names, len(clips)),
    )


def _shared(sides: Sequence[Side], names: Sequence[str]) -> list[str]:
    """Clips in all, in the first one's order. Raises EchofmError where there are none, or their truth is unlike."""
    tables = [side.rows for side in sides if side.rows is not None]
    common = reduce(set.intersection, (set(rows["clip_id"]) for rows in tables))
    clips = [clip for clip in tables[0]["clip_id"] if clip in common]
    if not clips:
        raise EchofmError("no clip was tested by all of them; use one set, one split and one id key for all")
    first = _of(sides[0], clips).reset_index()
    for name, side in zip(names[1:], sides[1:]):
        both = first.merge(_of(side, clips).reset_index(), on="clip_id", suffixes=("_a", "_b"), validate="one_to_one")
        if not (both["patient_id_a"] == both["patient_id_b"]).all() or not same_truth(both, side.result):
            raise EchofmError(
                f"a clip has another patient or another true value in {name} than in {names[0]}; embed one version of "
                "the set with all encoders"
            )
    return clips


def _of(side: Side, clips: Sequence[str]) -> pd.DataFrame:
    assert side.rows is not None
    return side.rows.set_index("clip_id").loc[list(clips)]


def _ranked(
    names: Sequence[str], sides: Sequence[Side], redrawn: Sequence[dict[Key, Redrawn]], metric: str
) -> list[Ranked]:
    key = Key(metric)
    order: list[int] = []
    for place in range(len(sides)):
        value = redrawn[place][key].value
        before = [each for each in order if not better(metric, value, redrawn[each][key].value)]
        order.insert(len(before), place)
    best = redrawn[order[0]][key]
    return [
        Ranked(
            rank=number,
            name=names[place],
            encoder_digest=sides[place].result.encoder_digest,
            kind=sides[place].result.kind,
            scores={each.metric: found.estimate for each, found in redrawn[place].items()},
            to_best=None if number == 1 else redrawn[place][key].minus(best),
        )
        for number, place in enumerate(order, 1)
    ]


def _notes(sides: Sequence[Side], names: Sequence[str], clips: int) -> list[str]:
    notes = [
        f"{len(side.rows) - clips} of {len(side.rows)} test clips of {name} are not in all others; left out"
        for name, side in zip(names, sides)
        if side.rows is not None and len(side.rows) > clips
    ]
    if len({side.result.kind for side in sides}) > 1:
        notes.append("the probes are of several kinds: a difference may be the probe's, not the encoder's")
    for name, side in zip(names, sides):
        notes += averaged(name, side.result)
    return notes + unlike_splits([side.result for side in sides])
