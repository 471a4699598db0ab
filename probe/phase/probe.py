"""Phase: does an encoder know where in the cycle a frame lies? Retrieval of like frames, and ED/ES timing errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.phase import PhaseTokens
from echofm.embed.positions import without_positions
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.estimators.phase import PhaseReader, fit_phase_reader
from echofm.metric.circular import circular_distance
from probe.bootstrap import Array, Figure, Key, ratio
from probe.checks.embedding import check_embedding
from probe.partition import Partition, partition
from probe.phase.events import event_errors
from probe.phase.match import COMPARINGS, Comparing, descriptors, in_another_beat, in_other_patients
from probe.phase.notes import phase_notes
from probe.phase.predictions import phase_predictions
from probe.protocol import Answers, Chosen, Entry, ProbeProtocol, require_request, same_clips
from probe.result import Probed, ProbeResult


def probe_phase(
    table: EmbeddingTable,
    *,
    systole: Mapping[str, float] | None = None,
    baselines: Mapping[str, EmbeddingTable] | None = None,
    tolerance: float = 0.05,
    apart_s: float = 0.5,
    draws: int = 1000,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """What the token-time features (`table.phase`) tell about the cardiac phase, on test patients.

    systole: clip_id -> phase of end-systole (`probe.phase.events.systole_phases` reads them off masks);
        without it end-diastole alone is timed.
    baselines: name -> table of another encoder, or of pixels (`probe.phase.pixels.pixel_table`), over the same clips.
    tolerance: of a match, part of a cycle. apart_s: how far a match in the same clip must be away.

    Scores, each with method "probe", the baselines and, where it has one, "chance":
      cycle_retrieval: part of tokens whose most similar token of the same clip, `apart_s` away or more, is at the same
        phase; asked only of tokens that have such a partner. match_error_percent: how far the matches are off, % of a
        cycle. same_direction: part of matches on the same side of end-systole, ejecting or filling.
      cycle_retrieval_readout: the same by the two numbers of the linear reader.
      patient_retrieval: part of tokens whose most similar one among other patients' clips of the view is at that phase.
      phase_error_percent: mean absolute error of the linear reader, % of a cycle.
      ed_error_ms, ed_error_frames, es_...: mean absolute error of the times, in frames of the source.
    How tokens are compared and read is chosen on validation patients (see `chosen`): with the clip's mean or without,
    with the training clips' mean at the token's position in the window or without (`echofm.embed.positions`), with
    their changes weighed in or not.

    predictions: see `probe.phase.predictions.phase_predictions`.
    Raises EchofmError where the table has no phase tokens of known phase.
    """
    require_request(baselines, draws=draws)
    part = partition(table, clips_of_known_phase(table), seed=seed)
    protocol = PhaseProtocol(
        table=table,
        part=part,
        systole=systole or {},
        tolerance=tolerance,
        apart_s=apart_s,
        draws=draws,
        seed=seed,
        advance=advance,
    )
    return protocol.probe(baselines or {})


@dataclass(frozen=True, kw_only=True, eq=False)
class PhaseAnswers(Answers):
    """Of the test clips. chances: figures of the chance level."""

    test: EmbeddingTable
    beats: pd.DataFrame
    events: pd.DataFrame
    predicted_P: npt.NDArray[np.complex128]
    chances: Mapping[Key, Figure]


@dataclass(frozen=True, kw_only=True, eq=False)
class PhaseProtocol(ProbeProtocol[EmbeddingTable, PhaseAnswers]):
    """One partition, on which every table is measured alike."""

    table: EmbeddingTable
    part: Partition
    systole: Mapping[str, float]
    tolerance: float
    apart_s: float

    def probe(self, baselines: Mapping[str, EmbeddingTable]) -> Probed:
        """The result, and a row per test token."""
        found = self.measure(self.table, baselines)
        own = found.own
        notes = phase_notes(
            self.table,
            own.test.phase,
            queries=len(own.beats),
            with_systole=Key("es_error_ms") in own.figures,
            tolerance=self.tolerance,
            apart_s=self.apart_s,
        )
        result = ProbeResult(
            target="phase",
            task="phase",
            kind="linear",
            features="phase",
            classes=[],
            **self.part.described(self.table),
            seeds=1,
            **found.scored,
            sanity=check_embedding(self.table),
            notes=[*self.part.notes, *notes],
        )
        return Probed(result=result, predictions=phase_predictions(own.test, own.predicted_P, own.beats, own.events))

    def answer(self, method: str, source: EmbeddingTable) -> PhaseAnswers:
        """Choose how tokens are compared and read; match and time those of the test clips."""
        table = same_clips(source, self.table, method, phase=True)
        parts = (self.part.train, self.part.val, self.part.test)
        variants = {"as they are": tuple(table.select(rows) for rows in parts)}
        cleaned = without_positions(table, train=self.part.train)
        if cleaned is not None:
            variants["without their position's mean"] = tuple(cleaned.select(rows) for rows in parts)
        merits = {name: self._choose(val) for name, (_, val, _) in variants.items()}
        best = max(merits, key=lambda name: merits[name][0])
        comparing, compared = merits[best][1], variants[best][2]
        readers = {name: fit_phase_reader(_phase(train), _phase(val)) for name, (train, val, _) in variants.items()}
        read = min(readers, key=lambda name: readers[name].error)
        predicted = readers[read].predict(_phase(variants[read][2]))
        test = variants["as they are"][2]
        features = descriptors(_phase(compared), comparing)
        beats = self._beats(test, features, comparing)
        plane = np.stack([predicted.real, predicted.imag], 1) / np.maximum(np.abs(predicted), 1e-12)[:, None]
        others = in_other_patients(test, features, tolerance=self.tolerance, seed=self.seed)
        events = event_errors(test, predicted, systole=self.systole)
        sums, chances = _sums(test, beats, self._beats(test, plane, comparing), others, events, predicted)
        self.advance(method)
        return PhaseAnswers(
            figures=_figures(sums, test),
            chances=_figures(chances, test),
            chosen=_chosen(comparing, readers[read]) | {"tokens_compared": best, "tokens_read": read},
            test=test,
            beats=beats,
            events=events,
            predicted_P=predicted,
        )

    def beside(self, own: PhaseAnswers) -> Iterator[Entry]:
        """Chance, which stands for itself."""
        yield Entry(method="chance", answers=Answers(figures=own.chances), compared=False)

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
        merits = []
        features_of: dict[Comparing, npt.NDArray[np.float32]] = {}
        for comparing in COMPARINGS:
            alone = replace(comparing, reach_s=0.0)
            if alone not in features_of:
                features_of[alone] = descriptors(_phase(val), alone)
            features = features_of[alone]
            found = self._beats(val, features, comparing)
            if not len(found):
                found = in_other_patients(val, features, tolerance=self.tolerance, seed=self.seed)
            merits.append(found["hit"].mean() if len(found) else 0.0)
        return float(np.max(merits)), COMPARINGS[int(np.argmax(merits))]


def clips_of_known_phase(table: EmbeddingTable) -> npt.NDArray[np.int64]:
    """Rows of the table. Raises EchofmError where there are none."""
    phase = table.phase
    if phase is None or not np.isfinite(phase.cycle_P).any():
        raise EchofmError("the table has no phase tokens of known phase; embed clips with phase truth, with phase on")
    owner = np.repeat(np.arange(len(table)), np.diff(phase.start_N1))
    return np.unique(owner[np.isfinite(phase.cycle_P)])


def _sums(
    test: EmbeddingTable,
    beats: pd.DataFrame,
    plane: pd.DataFrame,
    others: pd.DataFrame,
    events: pd.DataFrame,
    predicted_P: npt.NDArray[np.complex128],
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Each metric's sums and counts by clip, and those of its chance level."""
    phase, clips = _phase(test), len(test)
    owner = np.repeat(np.arange(clips), np.diff(phase.start_N1))
    error = 100 * circular_distance(np.angle(predicted_P) / (2 * np.pi), phase.cycle_P)
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


def _by_clip(clip: npt.ArrayLike, values: npt.ArrayLike, clips: int) -> Array:
    index, number = np.asarray(clip).astype(np.int64), np.asarray(values, np.float64)
    known = np.isfinite(number)
    sums = np.bincount(index[known], number[known], minlength=clips)
    return np.stack([sums, np.bincount(index[known], minlength=clips)], 1)


def _figures(sums: Mapping[str, Array], test: EmbeddingTable) -> dict[Key, Figure]:
    """Sum over count, of the clips that anything was asked of."""
    patients_N = test.patient_id.astype(str)

    def of(sums_N2: Array) -> Callable[[Array], Array]:
        return lambda weights_WN: ratio(weights_WN @ sums_N2[:, 0], weights_WN @ sums_N2[:, 1])

    return {Key(name): Figure(of=of(each), patients_N=patients_N, rows_N=each[:, 1] > 0) for name, each in sums.items()}


def _chosen(comparing: Comparing, reader: PhaseReader) -> Chosen:
    return {
        "compared": "without the clip's mean" if comparing.centred else "as they are",
        "motion_weight": comparing.motion_weight,
        "reach_s": comparing.reach_s,
        "alpha": reader.model.alpha,
        "context": float(reader.context),
        "readout_centred": str(reader.centred),
    }


def _phase(table: EmbeddingTable) -> PhaseTokens:
    assert table.phase is not None
    return table.phase
