"""Retrieval: do an encoder's nearest neighbours share the patient, the view or the cardiac phase?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.positions import without_positions
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.checks.embedding import check_embedding
from probe.partition import Partition, partition, same_clips
from probe.phase.probe import clips_of_known_phase
from probe.protocol import Answers, Figure, Key, ProbeProtocol, mean_of, require_request
from probe.result import Probed, ProbeResult
from probe.retrieval.gallery import MOST_ROWS, Gallery, Ranked, clip_gallery, drawn, phase_gallery

What = Literal["patient", "view", "phase"]
DEPTHS = (1, 5, 10)
_RESCALINGS = ("as they are", "centred", "standardised", "whitened")
_NOTHING = {
    "patient": "no test patient has two clips; same-patient retrieval needs some",
    "view": "no view is shared by two test patients; same-view retrieval needs the views",
    "phase": "no two test patients' frames share view and phase; same-phase retrieval needs more clips",
}


def probe_retrieval(
    table: EmbeddingTable,
    *,
    what: What = "patient",
    baselines: Mapping[str, EmbeddingTable] | None = None,
    draws: int = 1000,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """Rank the test clips by cosine similarity to each of them, and see which come first.

    what: "patient", relevant is another clip of the query's patient among all test clips; "view", a clip of the same
        view among other patients' clips; "phase", a token within 5 % of a cycle of the query's phase among the
        tokens of other patients' clips of the same view (`table.phase`, without the training clips' mean at the
        token's position and without each clip's own).
    baselines: name -> table of another encoder over the same clips.
    Clip features are taken as they are, centred, standardised or whitened by the training clips, whichever has the best
    mean average precision on validation clips. Queries without a relevant row are not asked. At most 2,000 queries
    against 20,000 rows, rescaled by 20,000 training clips; more are drawn by `seed`.

    Scores of method "probe", the baselines and "chance": map (mean average precision), recall@1, @5, @10 (part of
    queries with a relevant row among the first k). Intervals redraw the queries' patients; the gallery stays.
    predictions: a row per query: clip_id, patient_id, view, time_s (phase alone), average_precision, first (rank of
    the first relevant row), relevant, offered, best_clip_id, best_patient_id.
    Raises EchofmError where nothing can be asked.
    """
    require_request(baselines, seed=seed, draws=draws)
    part = partition(table, _rows(table, what), seed=seed)
    protocol = RetrievalProtocol(table=table, what=what, part=part, draws=draws, seed=seed, advance=advance)
    return protocol.probe(table, baselines)


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalAnswers(Answers):
    """Of the test clips."""

    gallery: Gallery
    ranked: Ranked

    def frame(self) -> pd.DataFrame:
        """A row per query."""
        best = self.gallery.rows.iloc[self.ranked.best_Q]
        return self.gallery.queries.assign(
            average_precision=self.ranked.precision_Q,
            first=self.ranked.first_Q,
            relevant=self.ranked.relevant_Q,
            offered=self.ranked.offered_Q,
            best_clip_id=best["clip_id"].to_numpy(object),
            best_patient_id=best["patient_id"].to_numpy(object),
        )

    def notes(self, what: What) -> list[str]:
        """What was asked."""
        unit = "tokens" if what == "phase" else "clips"
        notes = [
            f"{len(self.gallery.queries_Q)} {unit} asked of {len(self.gallery.rows)}; by the median "
            f"{np.median(self.ranked.relevant_Q):.0f} of {np.median(self.ranked.offered_Q):.0f} listed are relevant."
        ]
        if what == "patient":
            view = self.gallery.rows["view"].fillna("").to_numpy(str)
            same = (self.gallery.relevant_QN & (view[self.gallery.queries_Q][:, None] == view)).any(1).mean()
            notes.append(f"{same:.0%} of the queries have a clip of their patient in their own view.")
        return notes


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalProtocol(ProbeProtocol[EmbeddingTable, RetrievalAnswers]):
    """One partition, on which every table is measured alike."""

    table: EmbeddingTable
    what: What
    part: Partition

    def probed(self, own: RetrievalAnswers, scored: dict[str, Any]) -> Probed:
        """The result, and a row per query."""
        result = ProbeResult(
            target=f"{self.what}-retrieval",
            task="retrieval",
            kind="knn",
            features="phase" if self.what == "phase" else "video",
            **self.part.described(self.table),
            **scored,
            sanity=check_embedding(self.table),
            notes=[*self.part.notes, *own.notes(self.what)],
        )
        return Probed(result=result, predictions=own.frame())

    def answer(self, method: str, source: EmbeddingTable) -> RetrievalAnswers:
        """Choose a rescaling by the validation clips, rank the test clips."""
        table = same_clips(source, self.table, method, phase=self.what == "phase")
        if self.what == "phase":
            cleaned = without_positions(table, train=self.part.train)
            test = (table if cleaned is None else cleaned).select(self.part.test)
            answers = self._answers(phase_gallery(test, seed=self.seed))
        else:
            answers = self._of_clips(table)
        self.advance(method)
        return answers

    def paired(self, own: RetrievalAnswers, other: Answers) -> bool:
        """Tokens of another encoder are other frames: no pairs to compare."""
        assert isinstance(other, RetrievalAnswers)
        return own.gallery.queries.equals(other.gallery.queries)

    def _of_clips(self, table: EmbeddingTable) -> RetrievalAnswers:
        # Mean, spread and directions of so many are those of all; a million would be copied in double precision.
        trained = self.part.train[drawn(len(self.part.train), MOST_ROWS, seed=self.seed)]
        trained_ND = np.asarray(table.video_ND[trained], np.float64)
        val, gallery = (
            clip_gallery(table.select(rows), by=self.what, seed=self.seed) for rows in (self.part.val, self.part.test)
        )
        maps = {
            name: 0.0 if val is None else val.ranked(_rescaled(trained_ND, val.features_ND, name)).precision_Q.mean()
            for name in _RESCALINGS
        }
        best = max(maps, key=lambda name: maps[name])
        features = None if gallery is None else _rescaled(trained_ND, gallery.features_ND, best)
        return self._answers(gallery, features, features=best)

    def _answers(
        self, gallery: Gallery | None, features_ND: npt.NDArray | None = None, **chosen: float | str
    ) -> RetrievalAnswers:
        if gallery is None:
            raise EchofmError(_NOTHING[self.what])
        ranked = gallery.ranked(features_ND)
        own = {"map": ranked.precision_Q} | {f"recall@{k}": ranked.recall_Q(k) for k in DEPTHS}
        chance = {"map": ranked.chance_precision_Q()} | {f"recall@{k}": ranked.chance_recall_Q(k) for k in DEPTHS}
        figures, chances = _figures(own, gallery), _figures(chance, gallery)
        return RetrievalAnswers(figures=figures, chances=chances, chosen=chosen, gallery=gallery, ranked=ranked)


def _figures(values: Mapping[str, npt.NDArray[np.float64]], gallery: Gallery) -> dict[Key, Figure]:
    patients_Q = gallery.queries["patient_id"].to_numpy(str)
    return {Key(name): Figure(of=mean_of(each), patients_N=patients_Q) for name, each in values.items()}


def _rescaled(train_ND: npt.NDArray[np.float64], features_ND: npt.NDArray, how: str) -> npt.NDArray[np.float32]:
    """Features as the training clips' mean and spread suggest; whitening keeps the axes that they span well."""
    x = np.asarray(features_ND, np.float64)
    if how != "as they are":
        x = x - train_ND.mean(0)
    if how == "standardised":
        x = x / np.maximum(train_ND.std(0), 1e-12)
    elif how == "whitened":
        values, vectors = np.linalg.eigh(np.cov(train_ND, rowvar=False))
        good = values > 1e-4 * values[-1]
        x = (x @ vectors[:, good]) / np.sqrt(values[good])
    # A clip at the mean has no direction; a constant feature gives it one.
    return np.concatenate([x, np.full((len(x), 1), 1e-6 * np.abs(x).mean() or 1.0)], 1).astype(np.float32)


def _rows(table: EmbeddingTable, what: What) -> npt.NDArray[np.int64]:
    if what == "view":
        return np.flatnonzero(table.rows["view"].notna().to_numpy(bool))
    return clips_of_known_phase(table) if what == "phase" else np.arange(len(table))
