"""card.html: five panels, each begun by its verdict in words; several sets as columns."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure as Drawing

from echofm.intervals import Estimate
from echofm.report.blocks import Commands, Notice, Picture, Prose, Table
from echofm.report.page import Page
from synth.evaluate.card import PANELS, Card, Figure, SetCard

TITLE = "What a synthetic set is worth"
_WORDS = {"pass": "pass", "fail": "FAIL", "not_tested": "not tested", "no_finding": "no finding"}
_QUESTIONS = {
    "fidelity": "Are the clips told from those of held-out patients?",
    "diversity": "How many different clips are they?",
    "control": "Do they show what was asked for?",
    "utility": "Do they teach a regressor what real clips teach?",
    "privacy": "Do they give away training patients?",
}


def page(card: Card, *, simulated: bool = False) -> Page:
    """The card as a page. simulated: says beside the title that the real patients are the phantom's."""
    real = card.real
    lead = (
        f"{real.train_clips} training clips of {real.train_patients} patients, {real.holdout_clips} held-out clips of "
        f"{real.holdout_patients}; intervals are 95 %, over patients."
    )
    report = Page(TITLE + (" (phantom patients)" if simulated else ""), lead=lead)
    report.add("Verdicts", _overview(card.sets))
    for name in PANELS:
        blocks = [Prose("\n\n".join(f"{each.name}: {each.panels[name].headline}" for each in card.sets))]
        report.add(
            f"{name.capitalize()}: {_QUESTIONS[name]}", *blocks, *_figures(card.sets, name), *_notes(card.sets, name)
        )
    report.add("For a model card", Commands(model_card(card)))
    digests = [(name, digest) for name, digest in card.encoders.items()]
    report.add("Digests", Table(columns=("features of", "sha256"), rows=digests))
    return report


def _overview(sets: Sequence[SetCard]) -> Table:
    return Table(
        columns=("question", *(each.name for each in sets)),
        rows=[(name, *(_WORDS[each.panels[name].verdict] for each in sets)) for name in PANELS]
        + [("clips", *(each.clips for each in sets))],
    )


def _figures(sets: Sequence[SetCard], panel: str) -> list[Table | Picture]:
    names = list(dict.fromkeys(figure.name for each in sets for figure in each.panels[panel].figures))
    if not names:
        return []
    found = {(each.name, figure.name): figure for each in sets for figure in each.panels[panel].figures}
    rows = []
    for name in names:
        own = [found.get((each.name, name)) for each in sets]
        rows.append((name, *("–" if each is None else shown(each.found) for each in own)))
        for baseline in dict.fromkeys(key for each in own if each is not None for key in each.beside):
            beside = [None if each is None else each.beside.get(baseline) for each in own]
            rows.append((f"beside: {baseline}", *("–" if each is None else shown(each) for each in beside)))
    table = Table(columns=("figure", *(each.name for each in sets)), rows=rows)
    if panel != "fidelity" or not any(map(_above, sets)):
        return [table]
    return [Picture(functools.partial(_excess, sets), alt="Distance above the real one, by space and set."), table]


def _excess(sets: Sequence[SetCard]) -> Drawing:
    """Kernel distance above the real training set's, by space and set."""
    figure, axes = pyplot.subplots(figsize=(6, 0.6 + 0.3 * sum(len(_above(each)) for each in sets)))
    labels: list[str] = []
    for each in sets:
        for one in _above(each):
            space = one.name.partition(", ")[2]
            place = len(labels)
            # Signed cube root: distances of different spaces span orders of magnitude.
            low, value, high = (np.cbrt(number) for number in (one.found.low, one.found.value, one.found.high))
            axes.plot([low, high], [place, place], lw=2)
            axes.plot([value], [place], "o", ms=4)
            labels.append(f"{each.name}: {space}" if len(sets) > 1 else space)
    axes.axvline(0, lw=0.8, color="grey")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("kernel distance above the real one (cube root); 0: as near as real clips")
    figure.tight_layout()
    return figure


def _above(each: SetCard) -> list[Figure]:
    return [figure for figure in each.panels["fidelity"].figures if figure.name.startswith("kernel distance above")]


def _notes(sets: Sequence[SetCard], panel: str) -> list[Notice]:
    return [Notice(f"{each.name}: {note}") for each in sets for note in each.panels[panel].notes]


def shown(estimate: Estimate) -> str:
    """A figure and its interval."""
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"


def model_card(card: Card) -> str:
    """Markdown for the card of the model that made the sets."""
    lines = ["## Evaluation of synthetic sets", "", f"echofm {card.echofm_version}, seed {card.seed}.", ""]
    for each in card.sets:
        lines += [f"### {each.name} ({each.clips} clips)", ""]
        lines += [f"- {name}: {_WORDS[panel.verdict]}. {panel.headline}" for name, panel in each.panels.items()]
        lines.append("")
    return "\n".join(lines)
