"""Control: does a synthetic clip show what was asked for? Read by a regressor that knows real patients alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from echofm.embed.table import EmbeddingTable
from synth.evaluate.agreement import agreement, chance
from synth.evaluate.card import Figure, Panel
from synth.evaluate.reader import CLASSES, NUMBERS, Labelled, fit_reader, labelled_sets

SHUFFLED, CEILING = "labels shuffled", "real held-out clips"
_LEAST_CLIPS = 10
# As many points as a scatter shows.
_SHOWN = 200


def control(train: EmbeddingTable, holdout: EmbeddingTable, synthetic: EmbeddingTable, *, seed: int) -> Panel:
    """The panel: requested against read EF, heart rate and view.

    Beside each the same with the requests in 200 other orders (what the condition does is the difference; the interval
    holds 95 % of them), and the reader's own figure on real held-out clips (the ceiling). It fails where a request
    agrees no better than in other orders, though the reader can read it.
    """
    figures: list[Figure] = []
    notes: list[str] = []
    points: dict[str, list[tuple[float, float]]] = {}
    failed: list[tuple[str, Figure]] = []
    passed: list[tuple[str, Figure]] = []
    for target in (*NUMBERS, *CLASSES):
        parts = labelled_sets(train, holdout, synthetic, target, least=_LEAST_CLIPS)
        if parts is None:
            notes.append(f"{target}: not of {_LEAST_CLIPS} clips in each of the three sets, or it does not vary.")
            continue
        found, shown = _target(target, parts, seed=seed)
        figures += found
        points |= shown
        decides = found[0]
        by_chance = decides.beside[SHUFFLED].high
        if not decides.beside[CEILING].low > by_chance:
            notes.append(f"{target}: the reader cannot read it from real held-out clips; nothing follows.")
        else:
            (passed if decides.found.value > by_chance else failed).append((target, decides))
    if not failed and not passed:
        headline = f"None of {', '.join((*NUMBERS, *CLASSES))} is known of all sets and can be read from real clips."
        return Panel(verdict="not_tested", headline=headline, figures=figures, notes=notes, points=points)
    words = ", ".join(_words(target, figure) for target, figure in failed or passed)
    headline = f"Does not follow its labels: {words}." if failed else f"Follows its labels: {words}."
    return Panel(verdict="fail" if failed else "pass", headline=headline, figures=figures, notes=notes, points=points)


def _target(
    target: str, parts: Sequence[Labelled], *, seed: int
) -> tuple[list[Figure], dict[str, list[tuple[float, float]]]]:
    train, holdout, synthetic = parts
    reader = fit_reader(train)
    read = reader.predict(synthetic.features_ND)
    own = agreement(synthetic.label_N, read, synthetic.patients, seed=seed)
    shuffled = chance(synthetic.label_N, read, seed=seed)
    ceiling = agreement(holdout.label_N, reader.predict(holdout.features_ND), holdout.patients, seed=seed)
    figures = [
        Figure(name=f"{target}, {name}", found=own[name], beside={SHUFFLED: shuffled[name], CEILING: ceiling[name]})
        for name in own
    ]
    if synthetic.label_N.dtype.kind != "f":
        return figures, {}
    some = np.random.default_rng(seed).permutation(len(synthetic))[:_SHOWN]
    return figures, {target: list(zip(synthetic.label_N[some].tolist(), read[some].tolist()))}


def _words(target: str, figure: Figure) -> str:
    name = figure.name.partition(", ")[2].replace("_", " ")
    ceiling = figure.beside[CEILING].value
    return f"{target} {name} {figure.found.value:.2f} (real clips {ceiling:.2f})"
