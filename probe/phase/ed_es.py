"""ED and ES from two traced frames a clip: the commonest truth there is (EchoNet, CAMUS).

The larger of two traced ventricles is end-diastole, the smaller end-systole. Between them the phase is taken to run
evenly from 0 to 1/2 (or on to 1 where systole comes first); a linear reader of it then times both events.
N test clips, P tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.clip import LEFT_VENTRICLE, NOT_ANNOTATED, Clip
from echofm.embed.phase import PhaseTokens
from echofm.embed.positions import without_positions
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.estimators.phase import fit_phase_reader
from probe.checks.embedding import check_embedding
from probe.partition import Partition, few_patients, partition, same_clips
from probe.phase.answers import phase_of, predicted_time_s
from probe.protocol import Answers, Figure, Key, ProbeProtocol, mean_of, require_request
from probe.result import Probed, ProbeResult

EVENTS = {"ed": 0.0, "es": 0.5}
# The ventricle grows and shrinks a little beyond the traced frames, too; of the time between them.
_BEYOND = 0.25
_GRID_S = 0.002
# Two frames of one beat, and smaller by so much at end-systole.
_MOST_APART_S, _LEAST_S, _MOST_OF_AREA = 1.0, 0.08, 0.97
_FEWEST_CLIPS = 10


@dataclass(frozen=True, kw_only=True)
class Traced:
    """Seconds of the two frames since the clip's first."""

    ed_s: float
    es_s: float


def traced(clip: Clip, _: Any = None) -> Traced | None:
    """The two frames of a clip; None without times or two unlike tracings of one beat.

    Of more traced frames the largest ventricle, and the smallest one within a second of it.
    """
    if clip.mask_THW is None or clip.frame_time_s is None:
        return None
    seen = np.flatnonzero((clip.mask_THW != NOT_ANNOTATED).any((1, 2)))
    area = (clip.mask_THW[seen] == LEFT_VENTRICLE).sum((1, 2)).astype(np.float64)
    time_s = clip.frame_time_s[seen] - clip.frame_time_s[0]
    if len(seen) < 2 or area.min() <= 0:
        return None
    largest = int(area.argmax())
    apart_s = np.abs(time_s - time_s[largest])
    near = np.flatnonzero((apart_s <= _MOST_APART_S) & (apart_s >= _LEAST_S))
    if not len(near):
        return None
    smallest = near[int(area[near].argmin())]
    if area[smallest] > _MOST_OF_AREA * area[largest]:
        return None
    return Traced(ed_s=float(time_s[largest]), es_s=float(time_s[smallest]))


def probe_ed_es(
    table: EmbeddingTable,
    found: Mapping[str, Traced],
    *,
    baselines: Mapping[str, EmbeddingTable] | None = None,
    test_clips: Collection[str] | None = None,
    draws: int = 1000,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """How far a linear reader of the phase tokens is off in timing the traced frames of test patients.

    found: clip_id -> its traced frames. baselines: as for `probe.phase.probe.probe_phase`. test_clips: another set's.
    Scores: ed_error_ms, ed_error_frames (of the source), es_...: mean absolute errors. A time is sought within the time
    between the two frames on either side of the true one; "chance" is a time drawn from there.
    Raises EchofmError where too few clips have two traced frames and phase tokens.
    """
    require_request(baselines, seed=seed, draws=draws)
    rows = _usable(table, found)
    part = partition(table, rows, seed=seed, test_clips=test_clips)
    protocol = EdEsProtocol(table=table, found=found, part=part, rows=rows, draws=draws, seed=seed, advance=advance)
    return protocol.probe(table, baselines)


def _usable(table: EmbeddingTable, found: Mapping[str, Traced]) -> npt.NDArray[np.int64]:
    if table.phase is None or not np.isfinite(table.phase.time_s_P).any():
        raise EchofmError("--target ed_es: the table has no phase tokens of known time; embed the clips with phase on")
    known = [row for row, clip in enumerate(table.clip_id.astype(str)) if clip in found]
    rows = [row for row in known if np.isfinite(_timed(table.phase.of(row), found[str(table.clip_id[row])])).sum() > 1]
    if len(rows) < _FEWEST_CLIPS:
        raise EchofmError(
            f"--target ed_es: {len(rows)} clips have two traced frames of one beat and known times; {_FEWEST_CLIPS} or "
            "more are needed"
        )
    return np.array(rows, np.int64)


def _timed(phase: PhaseTokens, truth: Traced) -> npt.NDArray[np.float32]:
    """(P,) phase of one clip's tokens between its traced frames and a little beyond; NaN elsewhere."""
    part = (phase.time_s_P - truth.ed_s) / (truth.es_s - truth.ed_s)
    # Systole first: from end-systole on, the phase goes on from 1/2 to 1.
    cycle = 0.5 * part if truth.es_s > truth.ed_s else 1 - 0.5 * part
    inside = (part >= -_BEYOND) & (part <= 1 + _BEYOND)
    return np.where(inside, cycle % 1, np.nan).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class EdEsAnswers(Answers):
    """rows: a row per test clip."""

    rows: pd.DataFrame


@dataclass(frozen=True, kw_only=True, eq=False)
class EdEsProtocol(ProbeProtocol[EmbeddingTable, EdEsAnswers]):
    """One partition, on which every table is read alike. rows: all clips with traced frames."""

    table: EmbeddingTable
    found: Mapping[str, Traced]
    part: Partition
    rows: npt.NDArray[np.int64]

    def probed(self, own: EdEsAnswers, scored: dict[str, Any]) -> Probed:
        """The result, and a row per test clip: true, predicted and error of both events."""
        left_out = len(self.table) - len(self.rows)
        notes = [f"{left_out} clips without two traced frames of one beat are left out"] if left_out else []
        result = ProbeResult(
            target="ed_es",
            task="phase",
            features="phase",
            **self.part.described(self.table),
            **scored,
            sanity=check_embedding(self.table),
            notes=[*self.part.notes, *few_patients(self.table, self.rows, self.part, folds=False), *notes],
        )
        return Probed(result=result, predictions=own.rows)

    def answer(self, method: str, source: EmbeddingTable) -> EdEsAnswers:
        """Read the phase as validation patients have it best, and time both events of the test clips."""
        table = same_clips(source, self.table, method, phase=True)
        variants = {"as they are": table}
        if (cleaned := without_positions(table, train=self.part.train)) is not None:
            variants["without their position's mean"] = cleaned
        readers = {
            name: fit_phase_reader(*(self._tokens(each, rows) for rows in (self.part.train, self.part.val)))
            for name, each in variants.items()
        }
        read = min(readers, key=lambda name: readers[name].error)
        reader, by = readers[read], {}
        for way in (_extreme_s, predicted_time_s):
            val = self._times(variants[read], self.part.val, reader, way)
            by[way] = float(np.nanmean(val[[f"{event}_error_ms" for event in EVENTS]].abs().to_numpy()))
        way = min(by, key=lambda each: by[each])
        rows = self._times(variants[read], self.part.test, reader, way)
        self.advance(method)
        chosen: dict[str, float | str] = {
            "alpha": reader.model.alpha,
            "context": float(reader.context),
            "readout_centred": str(reader.centred),
            "tokens_read": read,
            "timed_by": "the extreme" if way is _extreme_s else "the passage",
        }
        own, chances = self._figures(rows)
        return EdEsAnswers(figures=own, chances=chances, chosen=chosen, rows=rows)

    def _tokens(self, table: EmbeddingTable, rows: npt.NDArray[np.int64]) -> PhaseTokens:
        """The tokens of some clips, with the phase that the traced frames tell."""
        phase = phase_of(table).take(rows)
        cycles = [_timed(phase.of(n), self.found[str(table.clip_id[row])]) for n, row in enumerate(rows)]
        return replace(phase, cycle_P=np.concatenate(cycles))

    def _times(self, table: EmbeddingTable, rows: npt.NDArray[np.int64], reader: Any, way: Any) -> pd.DataFrame:
        phase = phase_of(table).take(rows)
        curve_P, rates = reader.predict(phase), self.table.rows["frame_rate_hz"].to_numpy(float)
        found = []
        for number, row in enumerate(rows):
            part = slice(int(phase.start_N1[number]), int(phase.start_N1[number + 1]))
            truth = self.found[str(table.clip_id[row])]
            line: dict[str, Any] = {name: self.table.rows[name].iloc[row] for name in ("clip_id", "patient_id", "view")}
            for event, phase_at in EVENTS.items():
                true_s = truth.ed_s if event == "ed" else truth.es_s
                reach_s = abs(truth.es_s - truth.ed_s)
                predicted_s, chance_s = _sought(phase.time_s_P[part], curve_P[part], true_s, reach_s, phase_at, way)
                error_s = predicted_s - true_s
                line |= {
                    f"true_{event}_s": true_s,
                    f"predicted_{event}_s": predicted_s,
                    f"{event}_error_ms": 1000 * error_s,
                    f"{event}_error_frames": error_s * rates[row],
                    f"{event}_chance_ms": 1000 * chance_s,
                }
            found.append(line)
        return pd.DataFrame(found)

    def _figures(self, rows: pd.DataFrame) -> tuple[dict[Key, Figure], dict[Key, Figure]]:
        patients_N = rows["patient_id"].to_numpy(str)

        def figure(values: pd.Series) -> Figure:
            known = values.notna().to_numpy()
            return Figure(of=mean_of(values.abs().fillna(0).to_numpy()), patients_N=patients_N, rows_N=known)

        names = [f"{event}_error_{unit}" for event in EVENTS for unit in ("ms", "frames")]
        own = {Key(name): figure(rows[name]) for name in names if rows[name].notna().any()}
        chances = {}
        for event in EVENTS:
            chance_ms = rows[f"{event}_chance_ms"]
            chances[Key(f"{event}_error_ms")] = figure(chance_ms)
            rate = rows[f"{event}_error_frames"] / rows[f"{event}_error_ms"].replace(0, np.nan)
            if rate.notna().any():
                chances[Key(f"{event}_error_frames")] = figure(chance_ms * rate.abs())
        return own, chances


def _sought(
    time_s: npt.NDArray, curve: npt.NDArray, true_s: float, reach_s: float, phase_at: float, way: Any
) -> tuple[float, float]:
    """The time predicted within `reach_s` of the true one, and the mean distance of the times there; NaN where the
    tokens do not reach."""
    known = np.isfinite(time_s)
    if known.sum() < 2:
        return float("nan"), float("nan")
    first, last = max(time_s[known][0], true_s - reach_s), min(time_s[known][-1], true_s + reach_s)
    grid_s = np.arange(first, last, _GRID_S)
    if len(grid_s) < 2:
        return float("nan"), float("nan")
    real, imag = (np.interp(grid_s, time_s[known], part[known]) for part in (curve.real, curve.imag))
    return float(way(grid_s, real + 1j * imag, phase_at)), float(np.abs(grid_s - true_s).mean())


def _extreme_s(grid_s: npt.NDArray, curve: npt.NDArray[np.complex128], phase_at: float) -> float:
    """Where the reader's curve is most at that phase."""
    return float(grid_s[(curve * np.exp(-2j * np.pi * phase_at)).real.argmax()])
