"""card.html: five panels, each begun by its verdict in words; several sets as columns."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from echofm.intervals import Estimate
from echofm.report.blocks import Commands, Notice, Picture, Prose, Table
from echofm.report.page import Page
from synth.evaluate.card import PANELS, Card, Figure, SetCard
from synth.evaluate.pictures import above, excess, learned, learning, scatters

TITLE = "What a synthetic set is worth"
_WORDS = {"pass": "pass", "fail": "FAIL", "not_tested": "not tested", "no_finding": "no finding"}
_QUESTIONS = {
    "fidelity": "Are the clips told from those of held-out patients?",
    "diversity": "How many different clips are they?",
    "control": "Do they show what was asked for?",
    "utility": "Do they teach a regressor what real clips teach?",
    "privacy": "Do they give away training patients?",
}

_ABOVE = "0: as near to held-out patients as real clips are."
_ASKED = "Line: read as asked for."
_LEARNING = "R2 on real held-out patients, intervals over them."


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
        + [("clips", *(str(each.clips) for each in sets))],
    )


def _figures(sets: Sequence[SetCard], panel: str) -> list[Table | Picture]:
    found = {(each.name, figure.name): figure for each in sets for figure in each.panels[panel].figures}
    names = list(dict.fromkeys(name for _, name in found))
    if not names:
        return []
    return [*_pictures(sets, panel), _beside(found, names) if len(sets) == 1 else _columns(sets, found, names)]


def _beside(found: Mapping[tuple[str, str], Figure], names: Sequence[str]) -> Table:
    """Of one set: each baseline is a column."""
    figures = list(found.values())
    baselines = list(dict.fromkeys(key for figure in figures for key in figure.beside))
    rows = [
        (figure.name, shown(figure.found), *(shown(figure.beside.get(key)) for key in baselines)) for figure in figures
    ]
    return Table(columns=("figure", "found (95 % interval)", *baselines), rows=rows)


def _columns(sets: Sequence[SetCard], found: Mapping[tuple[str, str], Figure], names: Sequence[str]) -> Table:
    """Of several sets: a column each, each baseline a row below."""
    rows = []
    for name in names:
        own = [found.get((each.name, name)) for each in sets]
        rows.append((name, *(shown(None if each is None else each.found) for each in own)))
        baselines = dict.fromkeys(key for each in own if each is not None for key in each.beside)
        rows += [
            (f"beside: {key}", *(shown(None if each is None else each.beside.get(key)) for each in own))
            for key in baselines
        ]
    return Table(columns=("figure", *(each.name for each in sets)), rows=rows)


def _pictures(sets: Sequence[SetCard], panel: str) -> list[Picture]:
    if panel == "fidelity" and any(map(above, sets)):
        alt = "By space and set, how far the kernel distance lies above the real one."
        return [Picture(functools.partial(excess, sets), alt=alt, caption=_ABOVE)]
    if panel == "control":
        labels = dict.fromkeys(label for each in sets for label in each.panels[panel].points)
        alt = "What was asked for against what is read, clip by clip."
        return [Picture(functools.partial(scatters, sets, label), alt=alt, caption=_ASKED) for label in labels]
    if panel == "utility" and any(map(learned, sets)):
        alt = "R2 of the ejection fraction against the part of the real patients that taught it."
        return [Picture(functools.partial(learning, sets), alt=alt, caption=_LEARNING)]
    return []


def _notes(sets: Sequence[SetCard], panel: str) -> list[Notice]:
    return [Notice(f"{each.name}: {note}") for each in sets for note in each.panels[panel].notes]


def shown(estimate: Estimate | None) -> str:
    """A figure and its interval; a dash where there is none."""
    if estimate is None:
        return "–"
    if estimate.low == estimate.high:
        return f"{estimate.value:.3g}"
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"


def model_card(card: Card) -> str:
    """Markdown for the card of the model that made the sets."""
    lines = ["## Evaluation of synthetic sets", "", f"echofm {card.echofm_version}, seed {card.seed}.", ""]
    for each in card.sets:
        lines += [f"### {each.name} ({each.clips} clips)", ""]
        lines += [f"- {name}: {_WORDS[panel.verdict]}. {panel.headline}" for name, panel in each.panels.items()]
        lines.append("")
    return "\n".join(lines)
