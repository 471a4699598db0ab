"""Which numbers of a table a probe reads: a clip's mean features, how they move over the beat, or its tokens.

An ejection fraction lies in how far the heart moves, and a mean over time hides that. Shapes: N clips, D features of a
video, P of a phase token, T tokens, R x C cells of a motion map.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from echofm.embed.phase import PhaseTokens
from echofm.embed.positions import position_means, token_positions, without_position
from echofm.embed.rhythm import first_return_s, repetition
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.result import Kind

Features = Literal["auto", "video", "motion", "both", "phase", "rhythm", "beat", "tokens"]
# A clip of more tokens is read at this many, evenly spaced.
_MOST_TOKENS = 128
# Distances in time at which a rhythm is read, seconds.
_LAGS_S = np.arange(0.2, 1.501, 0.05)


def feature_choices(table: EmbeddingTable, features: Features, *, kind: Kind) -> tuple[str, ...]:
    """What is tried on validation patients: one thing, or for "auto" all that the table offers.

    Linear and knn: "video" (D numbers), "motion" (the logarithm of the table's motion map, R C D), "both" of these, and
    "phase" (mean and standard deviation over time of the phase tokens, 2 P), "rhythm" (how alike phase tokens are that
    lie 0.2 to 1.5 s apart, and the heart rate that this tells; where all frame times are known) and "beat" ("motion"
    and "rhythm"). Attentive: "phase" (the phase tokens themselves) and "tokens" (those of space and time).
    Raises EchofmError where the table lacks what was asked for.
    """
    phase, tokens = table.phase is not None, table.tokens is not None
    if kind == "attentive":
        offered = [name for name, there in (("tokens", tokens), ("phase", phase)) if there]
        if not offered:
            raise EchofmError("an attentive probe reads tokens and the table has none; embed with --tokens, or by time")
    else:
        motion = table.motion_NRCD is not None
        timed = table.phase is not None and bool(np.isfinite(table.phase.time_s_P).all())
        offered = [
            "video",
            *(("motion", "both") if motion else ()),
            *(("phase",) if phase else ()),
            *(("rhythm",) if timed else ()),
            *(("beat",) if motion and timed else ()),
        ]
    if features == "auto":
        return tuple(offered)
    if features not in offered:
        raise EchofmError(f"--features {features}: for a {kind} probe this table offers {', '.join(offered)}")
    return (features,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scales:
    """What reading the features `name` takes from the training clips, so that other clips are read alike.

    sizes: the spread of each part. usual_L: medians where a clip shows no rhythm. position_TD: see
    `echofm.embed.positions`; None where nothing is taken off.
    """

    name: str
    sizes: tuple[float, ...] = ()
    usual_L: npt.NDArray[np.float32] | None = None
    position_TD: npt.NDArray[np.float32] | None = None


def fit_scales(table: EmbeddingTable, name: str, *, train: npt.NDArray[np.int64]) -> Scales:
    """From the rows `train`, for linear and knn probes."""
    scales = Scales(name=name)
    if name in ("rhythm", "beat"):
        if token_positions(table) is not None:
            scales = replace(scales, position_TD=position_means(table.select(train)))
        values = _rhythm(table, scales)[train]
        # A distance that a clip is too short for, or a rate that is not seen, says nothing: the training clips' median.
        seen = np.isfinite(values).any(0)
        usual = np.zeros(values.shape[1], np.float32)
        usual[seen] = np.nanmedian(values[:, seen], axis=0)
        scales = replace(scales, usual_L=usual)
    return replace(scales, sizes=tuple(_size(part[train]) for part in _parts(table, scales)))


def scaled_features(table: EmbeddingTable, scales: Scales) -> npt.NDArray[np.float32]:
    """(N, F) the features of any clips; "video" is the table's own array, not a copy.

    The logarithm of what moves because gain and contrast scale it: it makes their factor an addend.
    """
    if scales.name == "video":
        return table.video_ND
    if scales.name == "rhythm":
        return _parts(table, scales)[0]
    return np.concatenate([part / size for part, size in zip(_parts(table, scales), scales.sizes, strict=True)], 1)


def read_features(table: EmbeddingTable, name: str, *, kind: Kind, train: npt.NDArray[np.int64]) -> Matrix:
    """The features named, a row per clip.

    train: rows whose spread sets the scale of the parts of "phase", "both" and "beat", so that a cosine weighs them
    alike.
    """
    if kind == "attentive" and name != "video":
        return _tokens(table) if name == "tokens" else _phase_tokens(table)
    scales = fit_scales(table, name, train=train)
    return Matrix(values_NF=scaled_features(table, scales), scales=scales)


def _parts(table: EmbeddingTable, scales: Scales) -> list[npt.NDArray[np.float32]]:
    name = scales.name
    if name == "video":
        return []
    parts = [] if name == "rhythm" else _over_time(table) if name == "phase" else _moved(table)
    if name == "both":
        return [table.video_ND, *parts]
    if name in ("rhythm", "beat"):
        values, usual = _rhythm(table, scales), scales.usual_L
        assert usual is not None
        parts = [*parts, np.where(np.isfinite(values), values, usual)]
    return parts


class Matrix(NamedTuple):
    """values_NF: float32; of T tokens a clip, F = T times their width, NaN where a clip has fewer.

    scales: by which other clips are read alike; None of tokens.
    """

    values_NF: npt.NDArray[np.float32]
    tokens: int = 1
    scales: Scales | None = None


def _moved(table: EmbeddingTable) -> list[npt.NDArray[np.float32]]:
    assert table.motion_NRCD is not None
    moved = table.motion_NRCD.reshape(len(table), -1)
    # A feature that stands still in every clip has no logarithm; far below any that moves.
    return [np.log(moved + np.float32(1e-6))]


def _over_time(table: EmbeddingTable) -> list[npt.NDArray[np.float32]]:
    """Mean and standard deviation over time, (N, P) each."""
    phase = _require_phase(table)
    mean = np.empty((len(table), phase.feature_PD.shape[1]), np.float32)
    spread = np.empty_like(mean)
    for clip, (first, last) in enumerate(zip(phase.start_N1[:-1], phase.start_N1[1:])):
        tokens = phase.feature_PD[first:last]
        mean[clip], spread[clip] = tokens.mean(0), tokens.std(0)
    return [mean, spread]


def _rhythm(table: EmbeddingTable, scales: Scales) -> npt.NDArray[np.float32]:
    """(N, L + 1) mean cosine similarity at L distances in time, and beats a minute; NaN where unknown."""
    # Tokens that bear their place in the window repeat with the windows, not with the heart.
    position_TD = scales.position_TD
    phase = _require_phase(table if position_TD is None else without_position(table, position_TD))
    values = np.full((len(table), len(_LAGS_S) + 1), np.nan, np.float32)
    for clip in range(len(phase)):
        one = phase.of(clip)
        found = repetition(one.feature_PD, one.time_s_P)
        if found is None:
            continue
        step_s, mean_L = found
        values[clip, :-1] = np.interp(_LAGS_S, step_s * np.arange(len(mean_L)), mean_L, right=np.nan)
        length_s = first_return_s(step_s, mean_L)
        if length_s is not None:
            values[clip, -1] = 60 / length_s
    return values


def _phase_tokens(table: EmbeddingTable) -> Matrix:
    phase = _require_phase(table)
    most = min(_MOST_TOKENS, int(np.diff(phase.start_N1).max()))
    values = np.full((len(table), most, phase.feature_PD.shape[1]), np.nan, np.float32)
    for clip, (first, last) in enumerate(zip(phase.start_N1[:-1], phase.start_N1[1:])):
        count = min(most, last - first)
        values[clip, :count] = phase.feature_PD[first + np.linspace(0, last - first - 1, count).round().astype(int)]
    return Matrix(values_NF=values.reshape(len(table), -1), tokens=most)


def _tokens(table: EmbeddingTable) -> Matrix:
    assert table.tokens is not None
    feature_NTRCD = table.tokens.feature_NTRCD
    return Matrix(values_NF=feature_NTRCD.reshape(len(table), -1), tokens=int(np.prod(feature_NTRCD.shape[1:4])))


def _require_phase(table: EmbeddingTable) -> PhaseTokens:
    phase = table.phase
    if phase is None:
        raise EchofmError("the table has no phase tokens; embed with an encoder that has time")
    empty = int((np.diff(phase.start_N1) == 0).sum())
    if empty:
        raise EchofmError(f"{empty} clips have no phase tokens; embed them again or leave them out")
    return phase


def _size(part_MF: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(part_MF.var(0, dtype=np.float64).sum())) or 1.0
