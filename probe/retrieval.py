"""Retrieval: do an encoder's nearest neighbours share the patient, the view or the cardiac phase?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.places import without_places
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.intervals import patient_bootstrap
from echofm.metric.circular import circular_distance
from probe.counts import require_counts
from probe.evaluate import sanity_figures
from probe.partition import Partition, partition
from probe.phase_match import Comparing, descriptors
from probe.rankings import Ranked, rank
from probe.result import Comparison, Probed, ProbeResult, Score
from probe.rivals import require_free_names, same_clips

What = Literal["patient", "view", "phase"]
DEPTHS = (1, 5, 10)
_RESCALINGS = ("as they are", "centred", "standardised", "whitened")
# Queries times gallery is held whole: 2,000 x 20,000 similarities are 320 MB.
_MOST_QUERIES, _MOST_ROWS = 2_000, 20_000


def probe_retrieval(
    table: EmbeddingTable,
    *,
    what: What = "patient",
    rivals: Mapping[str, EmbeddingTable] | None = None,
    tolerance: float = 0.05,
    draws: int = 1000,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """Rank the test clips by cosine similarity to each of them, and see which come first.

    what: "patient", relevant is another clip of the query's patient among all test clips; "view", a clip of the same
        view among other patients' clips; "phase", a moment within `tolerance` of a cycle of the query's phase among the
        moments of other patients' clips of the same view (`table.phase`, without the training clips' mean at the
        token's place and without each clip's own).
    rivals: name -> table of another encoder over the same clips.
    Clip features are taken as they are, centred, standardised or whitened by the training clips, whichever has the best
    mean average precision on validation clips. Queries without a relevant row are not asked. At most 2,000 queries
    against 20,000 rows, rescaled by 20,000 training clips; more are drawn by `seed`.

    Scores of method "probe", the rivals and "chance": map (mean average precision), recall@1, @5, @10 (part of queries
    with a relevant row among the first k). Intervals redraw the queries' patients; the gallery stays.
    predictions: a row per query: clip_id, patient_id, view, time_s (phase alone), average_precision, first (place of
    the first relevant row), relevant, offered, best_clip_id, best_patient_id.
    Raises EchofmError where nothing can be asked.
    """
    require_free_names(rivals or ())
    require_counts(draws=draws)
    part = partition(table, _rows(table, what), seed=seed)
    bench = _Bench(what=what, part=part, tolerance=tolerance, draws=draws, seed=seed)
    own = bench.measure(table)
    advance(f"{what} retrieval")
    scores, comparisons, chosen = bench.scores("probe", own) + bench.chance(own), [], {"probe": own.chosen}
    for name, rival in (rivals or {}).items():
        other = bench.measure(same_clips(rival, table, name, phase=what == "phase"))
        advance(name)
        scores += bench.scores(name, other)
        # Moments of another encoder's tokens are other moments: no pairs to compare.
        if own.asked_alike(other):
            comparisons += bench.compare(name, own, other)
        chosen[name] = other.chosen
    result = ProbeResult(
        target=f"{what}-retrieval",
        task="retrieval",
        kind="knn",
        features="phase" if what == "phase" else "video",
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
        notes=[*part.notes, *own.notes(what)],
    )
    return Probed(result=result, predictions=own.frame())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Gallery:
    """What is ranked: a row per clip or moment. relevant_QN, hidden_QN: see `probe.rankings.rank`."""

    features_ND: npt.NDArray[np.floating]
    rows: pd.DataFrame
    queries_Q: npt.NDArray[np.int64]
    relevant_QN: npt.NDArray[np.bool_]
    hidden_QN: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Measured:
    gallery: _Gallery
    ranked: Ranked
    chosen: dict[str, float | str]

    @property
    def patients(self) -> npt.NDArray[np.str_]:
        return self.gallery.rows["patient_id"].to_numpy(str)[self.gallery.queries_Q]

    def asked_alike(self, other: _Measured) -> bool:
        """Whether both were asked the same queries."""
        mine, theirs = (each.gallery.rows.iloc[each.gallery.queries_Q].reset_index(drop=True) for each in (self, other))
        return mine.equals(theirs)

    def values(self) -> dict[str, npt.NDArray[np.float64]]:
        return {"map": self.ranked.precision_Q} | {f"recall@{k}": self.ranked.recall_Q(k) for k in DEPTHS}

    def chances(self) -> dict[str, npt.NDArray[np.float64]]:
        return {"map": self.ranked.chance_precision_Q()} | {
            f"recall@{k}": self.ranked.chance_recall_Q(k) for k in DEPTHS
        }

    def frame(self) -> pd.DataFrame:
        rows, ranked = self.gallery.rows, self.ranked
        best = rows.iloc[ranked.best_Q]
        return (
            rows.iloc[self.gallery.queries_Q]
            .reset_index(drop=True)
            .assign(
                average_precision=ranked.precision_Q,
                first=ranked.first_Q,
                relevant=ranked.relevant_Q,
                offered=ranked.offered_Q,
                best_clip_id=best["clip_id"].to_numpy(object),
                best_patient_id=best["patient_id"].to_numpy(object),
            )
        )

    def notes(self, what: What) -> list[str]:
        unit = "moments" if what == "phase" else "clips"
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
class _Bench:
    """One partition, on which every table is measured alike."""

    what: What
    part: Partition
    tolerance: float
    draws: int
    seed: int

    def measure(self, table: EmbeddingTable) -> _Measured:
        test = table.select(self.part.test)
        if self.what == "phase":
            cleaned = without_places(table, train=self.part.train)
            gallery = self._moments(test if cleaned is None else cleaned.select(self.part.test))
            if gallery is None:
                raise EchofmError(_NOTHING[self.what])
            return _Measured(gallery=gallery, ranked=_ranked(gallery, gallery.features_ND), chosen={})
        # Mean, spread and directions of so many are those of all; a million would be copied in double precision.
        trained = self.part.train[self._drawn(len(self.part.train), _MOST_ROWS)]
        trained_ND = np.asarray(table.video_ND[trained], np.float64)
        val, gallery = self._clips(table.select(self.part.val)), self._clips(test)
        if gallery is None:
            raise EchofmError(_NOTHING[self.what])
        maps = {
            name: 0.0 if val is None else _ranked(val, _rescaled(trained_ND, val.features_ND, name)).precision_Q.mean()
            for name in _RESCALINGS
        }
        best = max(maps, key=lambda name: maps[name])
        return _Measured(
            gallery=gallery,
            ranked=_ranked(gallery, _rescaled(trained_ND, gallery.features_ND, best)),
            chosen={"features": best},
        )

    def _clips(self, table: EmbeddingTable) -> _Gallery | None:
        table = table.select(self._drawn(len(table), _MOST_ROWS))
        rows = table.rows[["clip_id", "patient_id", "view"]].reset_index(drop=True)
        groups = {name: np.unique(rows[name].fillna("").to_numpy(str), return_inverse=True)[1] for name in rows}
        own, view = groups["patient_id"], groups["view"]
        queries = self._drawn(len(table), _MOST_QUERIES)
        itself = queries[:, None] == np.arange(len(table))
        patient_QN = own[queries][:, None] == own
        relevant, hidden = (
            (patient_QN, itself) if self.what == "patient" else (view[queries][:, None] == view, patient_QN)
        )
        return self._asked(np.asarray(table.video_ND), rows, queries, relevant, hidden)

    def _moments(self, table: EmbeddingTable) -> _Gallery | None:
        phase = table.phase
        assert phase is not None
        features = descriptors(phase, Comparing())
        known = np.flatnonzero(np.isfinite(phase.cycle_P) & (np.linalg.norm(features, axis=1) > 0))
        known = known[self._drawn(len(known), _MOST_ROWS)]
        owner = np.repeat(np.arange(len(table)), np.diff(phase.start_N1))[known]
        rows = table.rows[["clip_id", "patient_id", "view"]].iloc[owner].reset_index(drop=True)
        cycle = phase.cycle_P[known]
        patient, view = (np.unique(rows[c].fillna("").to_numpy(str), return_inverse=True)[1] for c in rows.columns[1:])
        queries = self._drawn(len(known), _MOST_QUERIES)
        relevant = circular_distance(cycle[queries][:, None], cycle) <= self.tolerance + 1e-6
        hidden = (patient[queries][:, None] == patient) | (view[queries][:, None] != view)
        rows["time_s"] = phase.time_s_P[known]
        return self._asked(features[known], rows, queries, relevant, hidden)

    def _asked(
        self,
        features_ND: npt.NDArray,
        rows: pd.DataFrame,
        queries: npt.NDArray[np.int64],
        relevant: npt.NDArray[np.bool_],
        hidden: npt.NDArray[np.bool_],
    ) -> _Gallery | None:
        """The queries that have a relevant row; None where there are none."""
        able = (relevant & ~hidden).any(1)
        if not able.any():
            return None
        return _Gallery(
            features_ND=features_ND,
            rows=rows,
            queries_Q=queries[able],
            relevant_QN=(relevant & ~hidden)[able],
            hidden_QN=hidden[able],
        )

    def _drawn(self, count: int, at_most: int) -> npt.NDArray[np.int64]:
        return np.sort(np.random.default_rng(self.seed).permutation(count)[:at_most])

    def scores(self, method: str, found: _Measured) -> list[Score]:
        return self._scores(method, found.values(), found.patients)

    def chance(self, found: _Measured) -> list[Score]:
        return self._scores("chance", found.chances(), found.patients)

    def _scores(
        self, method: str, values: Mapping[str, npt.NDArray[np.float64]], patients: npt.NDArray[np.str_]
    ) -> list[Score]:
        return [
            Score(
                method=method,
                metric=name,
                estimate=patient_bootstrap(_mean, {"queries": (each, patients)}, draws=self.draws, seed=self.seed),
            )
            for name, each in values.items()
        ]

    def compare(self, name: str, own: _Measured, other: _Measured) -> list[Comparison]:
        """Paired by query: both tables are asked the same ones."""
        theirs = other.values()
        return [
            Comparison(
                rival=name,
                metric=metric,
                difference=patient_bootstrap(
                    _mean, {"queries": (each - theirs[metric], own.patients)}, draws=self.draws, seed=self.seed
                ),
            )
            for metric, each in own.values().items()
        ]


_NOTHING = {
    "patient": "no test patient has two clips; same-patient retrieval needs some",
    "view": "no view is shared by two test patients; same-view retrieval needs the views",
    "phase": "no two test patients' moments share view and phase; same-phase retrieval needs more clips",
}


def _mean(queries: npt.NDArray[np.float64]) -> float:
    return float(queries.mean())


def _ranked(gallery: _Gallery, features_ND: npt.NDArray) -> Ranked:
    return rank(features_ND, gallery.queries_Q, gallery.relevant_QN, gallery.hidden_QN)


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
    if what == "phase":
        if table.phase is None or not np.isfinite(table.phase.cycle_P).any():
            raise EchofmError("the table has no phase tokens of known phase; embed clips with phase truth, phase on")
        owner = np.repeat(np.arange(len(table)), np.diff(table.phase.start_N1))
        return np.unique(owner[np.isfinite(table.phase.cycle_P)])
    return np.arange(len(table))
