"""Utility: what a regressor trained on synthetic clips knows of real held-out patients."""

from __future__ import annotations

import numpy as np

from echofm.embed.table import EmbeddingTable
from echofm.intervals import Estimate, patient_bootstrap
from synth.evaluate.agreement import agreement
from synth.evaluate.card import Figure, Panel
from synth.evaluate.reader import Labelled, fit_reader, labelled_sets

REAL = "as many real clips"
SHARE, PUBLISHED = "share of the real R2", "share of the real R2, chosen on real clips as published"
BESIDE, WITHOUT = "with the synthetic clips", "without"
_TARGET = "ef_percent"
_SHARES = (0.1, 0.3, 1.0)
_LEAST_CLIPS = 20


def utility(train: EmbeddingTable, holdout: EmbeddingTable, synthetic: EmbeddingTable, *, seed: int) -> Panel:
    """The panel: EF read by a ridge on frozen features, trained on synthetic clips alone and tested on real patients.

    All that is chosen is chosen on synthetic clips, and as many real clips are the baseline; beside it the published
    protocol, which chooses on real ones; then synthetic clips beside 10, 30 and 100 % of the real patients. It fails
    where synthetic clips alone tell held-out patients no better than their mean does beyond the interval, though as
    many real ones do.
    """
    parts = labelled_sets(train, holdout, synthetic, _TARGET, least=_LEAST_CLIPS)
    if parts is None:
        return Panel.not_tested(f"{_TARGET} is not known of {_LEAST_CLIPS} clips in each set, or does not vary.")
    real, held, made = parts
    rng = np.random.default_rng(seed)
    many = min(len(real), len(made))
    made = made.some(np.sort(rng.permutation(len(made))[:many]))
    order = rng.permutation(np.unique(real.patients))
    alone, published = _read(made, held), _read(made, held, chosen_on=real)
    as_many = _read(real.some(np.sort(rng.permutation(len(real))[:many])), held)
    figures = [
        Figure(name=f"synthetic alone, {name}", found=own, beside={REAL: other})
        for (name, own), other in zip(
            agreement(held.label_N, alone, held.patients, seed=seed).items(),
            agreement(held.label_N, as_many, held.patients, seed=seed).values(),
        )
    ]
    figures += [
        Figure(name=name, found=_share(held, each, as_many, seed=seed))
        for name, each in ((SHARE, alone), (PUBLISHED, published))
    ]
    for share in _SHARES:
        few = real.some(np.flatnonzero(np.isin(real.patients, order[: max(2, round(share * len(order)))])))
        if not few.varies:
            continue
        with_made, without = _read(few.and_also(made), held), _read(few, held)
        both = [agreement(held.label_N, each, held.patients, seed=seed)["R2"] for each in (with_made, without)]
        figures.append(
            Figure(name=f"{share:.0%} of the real patients {BESIDE}, R2", found=both[0], beside={WITHOUT: both[1]})
        )
    r2 = figures[1]
    words = f"R2 {r2.found.value:.2f} on real held-out patients, {r2.beside[REAL].value:.2f} from {REAL}"
    if r2.found.low > 0:
        return Panel(verdict="pass", headline=f"Teaches EF: {words}.", figures=figures)
    if not r2.beside[REAL].low > 0:
        return Panel(verdict="not_tested", headline=f"Real clips teach no EF either: {words}.", figures=figures)
    return Panel(verdict="fail", headline=f"Teaches no EF: {words}.", figures=figures)


def _read(train: Labelled, held: Labelled, *, chosen_on: Labelled | None = None) -> np.ndarray:
    return np.asarray(fit_reader(train, chosen_on=chosen_on).predict(held.features_ND))


def _share(held: Labelled, alone: np.ndarray, as_many: np.ndarray, *, seed: int) -> Estimate:
    """R2 from synthetic clips over R2 from real ones, under the same draws; NaN where real ones tell nothing."""
    rows = np.arange(len(held)).astype(float)

    def share(rows: np.ndarray) -> float:
        index = rows.astype(int)
        truth = held.label_N[index]
        spread = np.square(truth - truth.mean()).sum()
        left = [np.square(truth - read[index]).sum() for read in (alone, as_many)]
        return float((spread - left[0]) / (spread - left[1])) if spread > left[1] else float("nan")

    return patient_bootstrap(share, {"rows": (rows, held.patients)}, draws=500, seed=seed)
