"""Phase: does an encoder know where in the cycle a moment lies? Retrieval of like moments, and ED/ES frame error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.places import without_places
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.intervals import Estimate, patient_bootstrap
from echofm.metric.circular import circular_distance
from probe.counts import require_counts
from probe.evaluate import sanity_figures
from probe.partition import Partition, partition
from probe.phase_events import Readout, event_errors, fit_readout
from probe.phase_match import COMPARINGS, Comparing, descriptors, in_another_beat, in_other_patients
from probe.phase_notes import phase_notes
from probe.result import Comparison, Probed, ProbeResult, Score
from probe.rivals import require_free_names, same_clips


def probe_phase(
    table: EmbeddingTable,
    *,
    systole: Mapping[str, float] | None = None,
    rivals: Mapping[str, EmbeddingTable] | None = None,
    tolerance: float = 0.05,
    apart_s: float = 0.5,
    draws: int = 1000,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """What the token-time features (`table.phase`) tell about the cardiac phase, on test patients.

    systole: clip_id -> phase of end-systole (`probe.phase_events.systole_phases` reads them off masks);
        without it end-diastole alone is timed.
    rivals: name -> table of another encoder, or of pixels (`probe.moment_tables.pixel_table`), over the same clips.
    tolerance: of a match, part of a cycle. apart_s: how far a match in the same clip must be away.

    Scores, each with method "probe", the rivals and, where it has one, "chance":
      cycle_retrieval: part of tokens whose most similar token of the same clip, `apart_s` away or more, is at the same
        phase; asked only of tokens that have such a partner. match_error_percent: how far the matches are off, % of a
        cycle. same_direction: part of matches on the same side of end-systole, ejecting or filling.
      cycle_retrieval_readout: the same by the two numbers of the linear readout.
      patient_retrieval: part of tokens whose most similar one among other patients' clips of the view is at that phase.
      phase_error_percent: mean absolute error of the linear readout, % of a cycle.
      ed_error_ms, ed_error_frames, es_...: mean absolute error of the moments, in frames of the source.
    How tokens are compared and read is chosen on validation patients (see `chosen`): with the clip's mean or without,
    with the training clips' mean at the token's place in the window or without (`echofm.embed.places`), with their
    changes weighed in or not.

    predictions: a row per test token of known phase: clip_id, patient_id, view, time_s, true_phase, predicted_phase,
    match_time_s, match_phase, hit (NaN where nothing was asked), event ("ed" or "es" at the token nearest an event),
    event_error_ms. Raises EchofmError where the table has no phase tokens of known phase.
    """
    require_free_names(rivals or ())
    require_counts(draws=draws)
    if table.phase is None or not np.isfinite(table.phase.cycle_P).any():
        raise EchofmError("the table has no phase tokens of known phase; embed clips with phase truth, with phase on")
    part = partition(table, _clips_with_truth(table), seed=seed)
    bench = _Bench(part=part, systole=systole, tolerance=tolerance, apart_s=apart_s, draws=draws, seed=seed)
    own = bench.measure(table)
    advance("phase tokens")
    scores, comparisons = bench.scores("probe", own) + bench.chance(own), []
    chosen = {"probe": own.chosen}
    for name, rival in (rivals or {}).items():
        other = bench.measure(same_clips(rival, table, name, phase=True))
        advance(name)
        scores += bench.scores(name, other)
        comparisons += bench.compare(name, own, other)
        chosen[name] = other.chosen
    result = ProbeResult(
        target="phase",
        task="phase",
        kind="linear",
        features="phase",
        classes=[],
        encoder_digest=table.encoder_digest,
        splits_from=part.source,
        clips=part.clips(),
        patients=part.patients(table),
        seeds=1,
        chosen=chosen,
        sanity=sanity_figures(table),
        scores=scores,
        comparisons=comparisons,
        notes=[
            *part.notes,
            *phase_notes(
                table,
                own.test.phase,
                asked=len(own.beats),
                with_systole="es_error_ms" in own.sums,
                tolerance=tolerance,
                apart_s=apart_s,
            ),
        ],
    )
    return Probed(result=result, predictions=own.frame())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Measured:
    """One table's answers on the test clips; sums holds per metric (clips, 2): a clip's sum and count, and chance."""

    test: EmbeddingTable
    sums: dict[str, npt.NDArray[np.float64]]
    chances: dict[str, npt.NDArray[np.float64]]
    beats: pd.DataFrame
    events: pd.DataFrame
    said_P: npt.NDArray[np.complex128]
    chosen: dict[str, float | str]

    @property
    def patients(self) -> npt.NDArray[np.str_]:
        return self.test.patient_id.astype(str)

    def frame(self) -> pd.DataFrame:
        """The tokens of `probe_phase`'s predictions."""
        phase = self.test.phase
        assert phase is not None
        owner = np.repeat(np.arange(len(phase)), np.diff(phase.start_N1))
        tokens = pd.DataFrame(
            {
                "clip_id": self.test.clip_id[owner],
                "patient_id": self.patients[owner],
                "view": self.test.rows["view"].to_numpy(object)[owner],
                "time_s": phase.time_s_P,
                "true_phase": phase.cycle_P.astype(np.float64),
                "predicted_phase": np.angle(self.said_P) / (2 * np.pi) % 1,
            }
        )
        token = self.beats["token"].to_numpy(np.int64)
        for name in ("match_time_s", "match_phase", "hit"):
            tokens[name] = np.nan
            tokens.loc[token, name] = self.beats[name].to_numpy(np.float64)
        event, error = np.full(len(tokens), None, object), np.full(len(tokens), np.nan)
        for each in self.events.itertuples():
            first, last = phase.start_N1[each.clip], phase.start_N1[each.clip + 1]
            place = first + int(np.nanargmin(np.abs(phase.time_s_P[first:last] - each.time_s)))
            event[place], error[place] = each.event, 1000 * each.error_s
        tokens["event"], tokens["event_error_ms"] = event, error
        return tokens[tokens["true_phase"].notna()].reset_index(drop=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bench:
    """One partition, on which every table is measured alike."""

    part: Partition
    systole: Mapping[str, float] | None
    tolerance: float
    apart_s: float
    draws: int
    seed: int

    def measure(self, table: EmbeddingTable) -> _Measured:
        train, val, test = (table.select(getattr(self.part, name)) for name in ("train", "val", "test"))
        variants: dict[str, tuple[EmbeddingTable, ...]] = {"as they are": (train, val, test)}
        cleaned = without_places(table, train=self.part.train)
        if cleaned is not None:
            parts = (self.part.train, self.part.val, self.part.test)
            variants["without their place's mean"] = tuple(cleaned.select(part) for part in parts)
        merits = {name: self._choose(val) for name, (_, val, _) in variants.items()}
        best = max(merits, key=lambda name: merits[name][0])
        comparing, compared = merits[best][1], variants[best][2]
        readouts = {name: fit_readout(train, val) for name, (train, val, _) in variants.items()}
        read = min(readouts, key=lambda name: readouts[name].error)
        readout = readouts[read]
        compared_tokens, read_tokens = compared.phase, variants[read][2].phase
        assert compared_tokens is not None and read_tokens is not None
        features, said = descriptors(compared_tokens, comparing), readout.predict(read_tokens)
        beats = self._beats(test, features, comparing)
        plane = np.stack([said.real, said.imag], 1) / np.maximum(np.abs(said), 1e-12)[:, None]
        others = in_other_patients(test, features, tolerance=self.tolerance, seed=self.seed)
        events = event_errors(test, said, systole=self.systole)
        sums, chances = _sums(test, beats, self._beats(test, plane, comparing), others, events, said)
        return _Measured(
            test=test,
            sums=sums,
            chances=chances,
            beats=beats,
            events=events,
            said_P=said,
            chosen=_chosen(comparing, readout) | {"tokens_compared": best, "tokens_read": read},
        )

    def _beats(self, table: EmbeddingTable, features: npt.NDArray, comparing: Comparing) -> pd.DataFrame:
        return in_another_beat(
            table,
            features,
            tolerance=self.tolerance,
            apart_s=self.apart_s,
            reach_s=comparing.reach_s,
            systole=self.systole,
        )

    def _choose(self, val: EmbeddingTable) -> tuple[float, Comparing]:
        """How to compare, and its part of hits, by the retrieval in another beat of validation clips; where none can
        be asked, across patients."""
        assert val.phase is not None
        merits = []
        features_of: dict[Comparing, npt.NDArray[np.float32]] = {}
        for comparing in COMPARINGS:
            alone = replace(comparing, reach_s=0.0)
            if alone not in features_of:
                features_of[alone] = descriptors(val.phase, alone)
            features = features_of[alone]
            found = self._beats(val, features, comparing)
            if not len(found):
                found = in_other_patients(val, features, tolerance=self.tolerance, seed=self.seed)
            merits.append(found["hit"].mean() if len(found) else 0.0)
        return float(np.max(merits)), COMPARINGS[int(np.argmax(merits))]

    def scores(self, method: str, found: _Measured) -> list[Score]:
        return [
            Score(method=method, metric=name, estimate=self._estimate(sums, found.patients))
            for name, sums in found.sums.items()
        ]

    def chance(self, found: _Measured) -> list[Score]:
        return [
            Score(method="chance", metric=name, estimate=self._estimate(sums, found.patients))
            for name, sums in found.chances.items()
        ]

    def compare(self, name: str, own: _Measured, other: _Measured) -> list[Comparison]:
        return [
            Comparison(
                rival=name,
                metric=metric,
                difference=self._estimate(np.concatenate([sums, other.sums[metric]], 1), own.patients),
            )
            for metric, sums in own.sums.items()
            if metric in other.sums
        ]

    def _estimate(self, sums: npt.NDArray[np.float64], patients: npt.NDArray[np.str_]) -> Estimate:
        asked = sums[:, 1::2].sum(1) > 0
        return patient_bootstrap(_ratio, {"clips": (sums[asked], patients[asked])}, draws=self.draws, seed=self.seed)


def _ratio(clips: npt.NDArray[np.float64]) -> float:
    """Sum over count; with four columns the first such ratio minus the second."""
    total = clips.sum(0)
    means = total[::2] / np.where(total[1::2] > 0, total[1::2], np.nan)
    return float(means[0] if len(means) == 1 else means[0] - means[1])


def _sums(
    test: EmbeddingTable,
    beats: pd.DataFrame,
    plane: pd.DataFrame,
    others: pd.DataFrame,
    events: pd.DataFrame,
    said_P: npt.NDArray[np.complex128],
) -> tuple[dict[str, npt.NDArray[np.float64]], dict[str, npt.NDArray[np.float64]]]:
    """Each metric's sums and counts by clip, and those of its chance level."""
    phase, clips = test.phase, len(test)
    assert phase is not None
    owner = np.repeat(np.arange(clips), np.diff(phase.start_N1))
    error = 100 * circular_distance(np.angle(said_P) / (2 * np.pi), phase.cycle_P)
    sums = {"phase_error_percent": _by_clip(owner, error, clips)}
    chances = {"phase_error_percent": _by_clip(owner, np.where(np.isfinite(error), 25.0, np.nan), clips)}
    for name, found, values in (
        ("cycle_retrieval", beats, beats["hit"]),
        ("match_error_percent", beats, 100 * beats["distance"]),
        ("same_direction", beats, beats["same_direction"]),
        ("cycle_retrieval_readout", plane, plane["hit"]),
        ("patient_retrieval", others, others["hit"]),
    ):
        sums[name] = _by_clip(found["clip"], values, clips)
        if name.endswith(("retrieval", "readout")):
            chances[name] = _by_clip(found["clip"], found["chance"], clips)
    for event in ("ed", "es"):
        some = events[events["event"] == event]
        sums[f"{event}_error_ms"] = _by_clip(some["clip"], 1000 * some["error_s"].abs(), clips)
        sums[f"{event}_error_frames"] = _by_clip(some["clip"], some["error_frames"].abs(), clips)
        chances[f"{event}_error_ms"] = _by_clip(some["clip"], 1000 * some["chance_s"], clips)
    asked = {name for name, each in sums.items() if each[:, 1].sum() > 0}
    return {n: each for n, each in sums.items() if n in asked}, {n: each for n, each in chances.items() if n in asked}


def _by_clip(clip: npt.ArrayLike, values: npt.ArrayLike, clips: int) -> npt.NDArray[np.float64]:
    index, number = np.asarray(clip).astype(np.int64), np.asarray(values, np.float64)
    known = np.isfinite(number)
    sums = np.bincount(index[known], number[known], minlength=clips)
    return np.stack([sums, np.bincount(index[known], minlength=clips)], 1)


def _chosen(comparing: Comparing, readout: Readout) -> dict[str, float | str]:
    return {
        "compared": "without the clip's mean" if comparing.centred else "as they are",
        "motion_weight": comparing.motion_weight,
        "reach_s": comparing.reach_s,
        "alpha": readout.model.alpha,
        "context": float(readout.context),
        "readout_centred": str(readout.centred),
    }


def _clips_with_truth(table: EmbeddingTable) -> npt.NDArray[np.int64]:
    phase = table.phase
    assert phase is not None
    owner = np.repeat(np.arange(len(table)), np.diff(phase.start_N1))
    return np.unique(owner[np.isfinite(phase.cycle_P)])
