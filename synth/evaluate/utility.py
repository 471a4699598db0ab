"""Utility: what a regressor trained on synthetic clips knows of real held-out patients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from echofm.embed.table import EmbeddingTable
from echofm.intervals import Estimate, patient_bootstrap
from synth.evaluate.agreement import agreement
from synth.evaluate.card import Figure, Panel
from synth.evaluate.reader import Labelled, fit_reader, labelled, labelled_sets
from synth.evaluate.temporal import Watched
from synth.evaluate.video_network import FRAMES, Filmed, VideoReader

REAL, ALONE = "as many real clips", "synthetic alone"
SHARE, PUBLISHED = "share of the real R2", "share of the real R2, chosen on real clips as published"
BESIDE, WITHOUT = "with the synthetic clips", "without"
_TARGET, _VIEW, _NETWORK = "ef_percent", "view", "video network"
_SHARES = (0.1, 0.3, 1.0)
_LEAST_CLIPS = 20


def utility(
    train: EmbeddingTable,
    holdout: EmbeddingTable,
    synthetic: EmbeddingTable,
    *,
    video: VideoReader | None = None,
    films: Filmed | None = None,
    seed: int,
) -> Panel:
    """The panel: EF read by a ridge on frozen features, trained on synthetic clips alone and tested on real patients.

    All that is chosen is chosen on synthetic clips, and as many real clips are the baseline; beside it the published
    protocol, which chooses on real ones; the same by a video network (video, of the synthetic set's films) and of the
    view; then synthetic clips beside 10, 30 and 100 % of the real patients. It fails where synthetic clips alone tell
    held-out patients no better than their mean does beyond the interval, though as many real ones do.
    """
    parts = labelled_sets(train, holdout, synthetic, _TARGET, least=_LEAST_CLIPS)
    if parts is None:
        return Panel.not_tested(f"{_TARGET} is not known of {_LEAST_CLIPS} clips in each set, or does not vary.")
    real, held, made = parts
    rng = np.random.default_rng(seed)
    made, alike = _alike(made, real, rng)
    order = rng.permutation(np.unique(real.patients))
    alone, published = _read(made, held), _read(made, held, chosen_on=real)
    as_many = _read(alike, held)
    figures = _beside(held, alone, as_many, f"{ALONE}, ", seed=seed)
    r2 = figures[1]
    figures += [
        Figure(name=name, found=_share(held, each[None], as_many[None], seed=seed))
        for name, each in ((SHARE, alone), (PUBLISHED, published))
    ]
    figures += _by_network(video, films, seed=seed) if video and films else []
    views = labelled_sets(train, holdout, synthetic, _VIEW, least=_LEAST_CLIPS)
    if views is not None:
        some, other = _alike(views[2], views[0], np.random.default_rng(seed))
        read = _read(some, views[1]), _read(other, views[1])
        figures += _beside(views[1], *read, f"{_VIEW}, {ALONE}, ", seed=seed)
    for share in _SHARES:
        few = real.some(np.flatnonzero(np.isin(real.patients, order[: max(2, round(share * len(order)))])))
        if not few.varies:
            continue
        with_made, without = _read(few.and_also(made), held), _read(few, held)
        both = [agreement(held.label_N, each, held.patients, seed=seed)["R2"] for each in (with_made, without)]
        figures.append(
            Figure(name=f"{share:.0%} of the real patients {BESIDE}, R2", found=both[0], beside={WITHOUT: both[1]})
        )
    words = f"R2 {r2.found.value:.2f} on real held-out patients, {r2.beside[REAL].value:.2f} from {REAL}"
    if r2.found.low > 0:
        return Panel(verdict="pass", headline=f"Teaches EF: {words}.", figures=figures)
    if not r2.beside[REAL].low > 0:
        return Panel(verdict="not_tested", headline=f"Real clips teach no EF either: {words}.", figures=figures)
    return Panel(verdict="fail", headline=f"Teaches no EF: {words}.", figures=figures)


def filmed(table: EmbeddingTable, seen: Watched | None, *, synthetic: bool = False) -> Filmed | None:
    """The clips of known EF that are long enough; None where they are too few, or all alike."""
    frames = {} if seen is None else {name: each for name, each in seen.frames.items() if len(each) >= FRAMES}
    clips = labelled(table, _TARGET, table.clip_id.astype(str)[:, None], synthetic=synthetic)
    known = None if clips is None else clips.some([name in frames for name in clips.features_ND[:, 0]])
    if known is None or len(known) < _LEAST_CLIPS or not known.varies:
        return None
    return Filmed(known=known, clips=[frames[name] for name in known.features_ND[:, 0]])


def _by_network(video: VideoReader, films: Filmed, *, seed: int) -> list[Figure]:
    many, held = min(len(films), len(video.real)), video.held.known
    alone_SN, as_many_SN = video.read(films.drawn(many, seed)), video.as_many(many)
    own, beside = (_r2(held, each, seed=seed) for each in (alone_SN, as_many_SN))
    return [
        Figure(name=f"{_NETWORK}, {ALONE}, R2", found=own, beside={REAL: beside}),
        Figure(name=f"{_NETWORK}, {SHARE}", found=_share(held, alone_SN, as_many_SN, seed=seed)),
    ]


def _alike(made: Labelled, real: Labelled, rng: np.random.Generator) -> tuple[Labelled, Labelled]:
    """As many of both, drawn."""
    many = min(len(real), len(made))
    some = made.some(np.sort(rng.permutation(len(made))[:many]))
    return some, real.some(np.sort(rng.permutation(len(real))[:many]))


def _beside(held: Labelled, alone: np.ndarray, as_many: np.ndarray, name: str, *, seed: int) -> list[Figure]:
    own, other = (agreement(held.label_N, each, held.patients, seed=seed) for each in (alone, as_many))
    return [Figure(name=f"{name}{each}", found=own[each], beside={REAL: other[each]}) for each in own]


def _read(train: Labelled, held: Labelled, *, chosen_on: Labelled | None = None) -> np.ndarray:
    return np.asarray(fit_reader(train, chosen_on=chosen_on).predict(held.features_ND))


def _explained(held: Labelled, read_SN: np.ndarray, rows: np.ndarray) -> float:
    """The part of some clips' EF that is explained, as a sum of squares, mean over seeds."""
    truth = held.label_N[rows]
    return float(np.square(truth - truth.mean()).sum() - np.square(truth - read_SN[:, rows]).sum(1).mean())


def _r2(held: Labelled, read_SN: np.ndarray, *, seed: int) -> Estimate:
    def r2(rows: np.ndarray) -> float:
        truth = held.label_N[rows.astype(int)]
        return _explained(held, read_SN, rows.astype(int)) / float(np.square(truth - truth.mean()).sum())

    return _over_patients(r2, held, seed=seed)


def _share(held: Labelled, alone_SN: np.ndarray, as_many_SN: np.ndarray, *, seed: int) -> Estimate:
    """R2 from synthetic clips over R2 from real ones, under the same draws; NaN where real ones tell nothing."""

    def share(rows: np.ndarray) -> float:
        alone, as_many = (_explained(held, each, rows.astype(int)) for each in (alone_SN, as_many_SN))
        return alone / as_many if as_many > 0 else float("nan")

    return _over_patients(share, held, seed=seed)


def _over_patients(figure: Callable[[np.ndarray], float], held: Labelled, *, seed: int) -> Estimate:
    rows = np.arange(len(held)).astype(float)
    return patient_bootstrap(figure, {"rows": (rows, held.patients)}, draws=500, seed=seed)
