"""Phase: does an encoder know where in the cycle a frame lies? Retrieval of like frames, and ED/ES timing errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.embed.positions import without_positions
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.estimators.phase import PhaseReader, fit_phase_reader
from probe.checks.embedding import check_embedding
from probe.partition import Partition, partition, same_clips
from probe.phase.answers import Matched, density_notes, event_errors, phase_of
from probe.phase.match import COMPARINGS, Comparing, descriptors, in_another_beat, in_other_patients
from probe.protocol import Answers, Chosen, Key, ProbeProtocol, require_request
from probe.result import Probed, ProbeResult


def probe_phase(
    table: EmbeddingTable,
    *,
    systole: Mapping[str, float] | None = None,
    baselines: Mapping[str, EmbeddingTable] | None = None,
    perturbed: Mapping[str, Mapping[str, EmbeddingTable]] | None = None,
    draws: int = 1000,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """What the token-time features (`table.phase`) tell about the cardiac phase, on test patients.

    systole: clip_id -> phase of end-systole (`probe.phase.answers.systole_phases` reads them off masks);
        without it end-diastole alone is timed.
    baselines: name -> table of another encoder, or of pixels (`probe.baselines.pixel_table`), over the same clips.

    perturbed: by name of a perturbation and method, tables whose test clips are perturbed.

    Scores, each with method "probe", the baselines and, where it has one, "chance":
      cycle_retrieval: part of tokens whose most similar token of the same clip, 0.5 s away or more, is within 5 % of a
        cycle of their phase; asked only of tokens that have such a partner. match_error_percent: how far the matches
        are off, % of a cycle. same_direction: part of matches on the same side of end-systole, ejecting or filling.
      cycle_retrieval_readout: the same by the two numbers of the linear reader.
      patient_retrieval: part of tokens whose most similar one among other patients' clips of the view is at that phase.
      phase_error_percent: mean absolute error of the linear reader, % of a cycle.
      ed_error_ms, ed_error_frames, es_...: mean absolute error of the times, in frames of the source.
    How tokens are compared and read is chosen on validation patients (see `chosen`): with the clip's mean or without,
    with the training clips' mean at the token's position in the window or without (`echofm.embed.positions`), with
    their changes weighed in or not.

    predictions: see `probe.phase.answers.Matched.frame`.
    Raises EchofmError where the table has no phase tokens of known phase.
    """
    require_request(baselines, seed=seed, draws=draws)
    part = partition(table, clips_of_known_phase(table), seed=seed)
    protocol = PhaseProtocol(table=table, part=part, systole=systole or {}, draws=draws, seed=seed, advance=advance)
    return protocol.probe(table, baselines, perturbed)


@dataclass(frozen=True, kw_only=True, eq=False)
class PhaseAnswers(Answers):
    """Of the test clips."""

    matched: Matched


@dataclass(frozen=True, kw_only=True, eq=False)
class PhaseProtocol(ProbeProtocol[EmbeddingTable, PhaseAnswers]):
    """One partition, on which every table is measured alike."""

    table: EmbeddingTable
    part: Partition
    systole: Mapping[str, float]

    def probed(self, own: PhaseAnswers, scored: dict[str, Any]) -> Probed:
        """The result, and a row per test token."""
        found = own.matched
        notes = [*found.notes(with_systole=Key("es_error_ms") in own.figures), *density_notes(self.table)]
        result = ProbeResult(
            target="phase",
            task="phase",
            features="phase",
            **self.part.described(self.table),
            **scored,
            sanity=check_embedding(self.table),
            notes=[*self.part.notes, *notes],
        )
        return Probed(result=result, predictions=found.frame())

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
        readers = {name: fit_phase_reader(phase_of(train), phase_of(val)) for name, (train, val, _) in variants.items()}
        read = min(readers, key=lambda name: readers[name].error)
        predicted = readers[read].predict(phase_of(variants[read][2]))
        test = variants["as they are"][2]
        features = descriptors(phase_of(compared), comparing)
        plane = np.stack([predicted.real, predicted.imag], 1) / np.maximum(np.abs(predicted), 1e-12)[:, None]
        matched = Matched(
            test=test,
            beats=self._beats(test, features, comparing),
            plane=self._beats(test, plane, comparing),
            others=in_other_patients(test, features, seed=self.seed),
            events=event_errors(test, predicted, systole=self.systole),
            predicted_P=predicted,
        )
        self.advance(method)
        figures, chances = matched.figures()
        chosen = _chosen(comparing, readers[read]) | {"tokens_compared": best, "tokens_read": read}
        return PhaseAnswers(figures=figures, chosen=chosen, matched=matched, chances=chances)

    def _beats(self, table: EmbeddingTable, features: npt.NDArray, comparing: Comparing) -> Any:
        return in_another_beat(table, features, reach_s=comparing.reach_s, systole=self.systole)

    def _choose(self, val: EmbeddingTable) -> tuple[float, Comparing]:
        """How to compare, and its part of hits, by the retrieval in another beat of validation clips; where none can
        be asked, across patients."""
        merits = []
        features_of: dict[Comparing, npt.NDArray[np.float32]] = {}
        for comparing in COMPARINGS:
            alone = replace(comparing, reach_s=0.0)
            if alone not in features_of:
                features_of[alone] = descriptors(phase_of(val), alone)
            found = self._beats(val, features_of[alone], comparing)
            if not len(found):
                found = in_other_patients(val, features_of[alone], seed=self.seed)
            merits.append(found["hit"].mean() if len(found) else 0.0)
        return float(np.max(merits)), COMPARINGS[int(np.argmax(merits))]


def clips_of_known_phase(table: EmbeddingTable) -> npt.NDArray[np.int64]:
    """Rows of the table. Raises EchofmError where there are none."""
    phase = table.phase
    if phase is None or not np.isfinite(phase.cycle_P).any():
        raise EchofmError("the table has no phase tokens of known phase; embed clips with phase truth, with phase on")
    return np.unique(phase.clip_P[np.isfinite(phase.cycle_P)])


def _chosen(comparing: Comparing, reader: PhaseReader) -> Chosen:
    return {
        "compared": "without the clip's mean" if comparing.centred else "as they are",
        "motion_weight": comparing.motion_weight,
        "reach_s": comparing.reach_s,
        "alpha": reader.model.alpha,
        "context": float(reader.context),
        "readout_centred": str(reader.centred),
    }
