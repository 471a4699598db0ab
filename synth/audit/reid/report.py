"""report.html of a re-identification model: what it recognises on held-out patients, and what it does not."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from echofm.report.blocks import Block, Panels, Picture, Prose, Table
from echofm.report.page import Page
from synth.audit.reid.measure import Measured, hardest_setting
from synth.audit.reid.model import Reid
from synth.audit.report.blocks import number
from synth.audit.settings import Level

# A judge that ranks fewer pairs rightly than this on patients it knows two clips of will miss most copies.
REQUIRED_AUC = 0.9
_BINS = 40
_WHAT: dict[Level, str] = {
    "frame": "How the heart looks at single moments. A whole clip is the mean over its moments; within an "
    "acquisition one moment of the first half meets one of the second.",
    "clip": "How the heart looks over the clip.",
    "motion": "How the heart moves: one cycle, its mean taken out, so that nothing of its looks is left.",
}


def page(reid: Reid, measured: list[Measured], *, phantom: bool = False) -> Page:
    """One page; ids on it are hashes as they stand in the table. phantom: says that all patients are simulated."""
    config = reid.config
    report = Page(
        "Whom does this model recognise?" + (" (phantom patients)" if phantom else ""),
        lead=f"Re-identification heads on encoder {config.base_encoder_digest[:16]}, fitted on {_half(reid)} "
        f"({config.patients} patients, {config.clips} clips), measured on patients of the split test.",
    )
    for level in reid.levels:
        hardest = hardest_setting(measured, level)
        if hardest.found.auc.low < REQUIRED_AUC:
            report.warn(
                f"At the {level} level this model does not recognise patients {hardest.found.setting} reliably "
                f"(AUC {number(hardest.found.auc)}): an audit that relies on it misses what it cannot see."
            )
    report.add("Verification on held-out patients", Prose(_PROTOCOL), _figures(measured))
    for level in reid.levels:
        report.add(f"The {level} level", *_level(level, [each for each in measured if each.level == level]))
    report.add("How it was made", _settings(reid))
    return report


_PROTOCOL = """AUC: chance that two recordings of one patient are more alike than two of different patients. EER: error
rate at the threshold where both kinds of error are equally frequent. Rank 1: part of the recordings whose most similar
one of another acquisition or part is of the same patient. Intervals: 95 %, patients redrawn with all their clips.
Pairs of different patients are of one view (across views: of two), so that recognising the view gains nothing.

Within acquisition: two parts of one clip, which share gain, depth and speckle. Across acquisitions: two clips of one
patient in one view. Raw cosine: the same features without a head."""


def _half(reid: Reid) -> str:
    half = reid.config.half
    return "all training patients" if half == "all" else f"half {half} of the training patients"


def _figures(measured: list[Measured]) -> Table:
    rows = [
        (
            each.level,
            each.found.setting,
            each.space,
            number(each.found.auc),
            number(each.found.eer),
            number(each.found.rank1),
            number(each.found.mean_average_precision),
            each.found.patients,
        )
        for each in measured
    ]
    columns = ("level", "setting", "space", "AUC", "EER", "rank 1", "mAP", "patients")
    return Table(columns=columns, rows=rows)


def _level(level: Level, measured: list[Measured]) -> list[Block]:
    heads = [each for each in measured if each.space == "head"]
    pictures = [
        Picture(draw=lambda: roc_figure(measured), alt="receiver operating characteristic of every setting"),
        *map(_scores, heads),
    ]
    blocks: list[Block] = [
        Prose(_WHAT[level]),
        Panels(pictures, caption="Left: dashed without a head. Right: cosine of pairs of one and of two patients."),
    ]
    hardest = hardest_setting(measured, level).found
    rows = [
        ("one patient, least alike" if genuine else "two patients, most alike", one, other, f"{score:.3f}")
        for genuine, one, other, score in hardest.hardest
    ]
    caption = f"The pairs that the head gets most wrong {hardest.setting}."
    return [*blocks, Table(columns=("pair", "clip (hashed)", "clip (hashed)", "cosine"), rows=rows, caption=caption)]


def _scores(measured: Measured) -> Picture:
    return Picture(draw=lambda: score_figure(measured), alt=f"similarities of pairs {measured.found.setting}")


def roc_figure(measured: list[Measured]) -> Figure:
    """True against false acceptance of each setting, on a logarithmic axis where an audit works."""
    figure = Figure(figsize=(3.9, 3.4), layout="constrained")
    axes = figure.subplots()
    settings = list(dict.fromkeys(each.found.setting for each in measured))
    for each in measured:
        found = each.found
        threshold = np.sort(found.impostor)[::-1]
        false = np.arange(1, len(threshold) + 1) / len(threshold)
        true = 1 - np.searchsorted(np.sort(found.genuine), threshold, side="left") / len(found.genuine)
        shown = np.unique(np.geomspace(1, len(threshold), 400).astype(int)) - 1
        head = each.space == "head"
        axes.plot(
            false[shown],
            true[shown],
            color=f"C{settings.index(found.setting)}",
            linestyle="-" if head else "--",
            linewidth=1.6 if head else 1.0,
            label=found.setting if head else None,
        )
    axes.set(xscale="log", xlabel="pairs of two patients accepted", ylabel="pairs of one patient accepted")
    axes.set_ylim(-0.02, 1.02)
    # Powers of ten as matplotlib writes them need its maths, which reports leave off.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda part, _: f"{100 * part:g} %"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(ncols=1, loc="outside upper left")
    return figure


def score_figure(measured: Measured) -> Figure:
    """Histograms of the cosine of genuine and impostor pairs."""
    found = measured.found
    figure = Figure(figsize=(3.9, 3.4), layout="constrained")
    axes = figure.subplots()
    low, high = min(found.genuine.min(), found.impostor.min()), max(found.genuine.max(), found.impostor.max())
    edges = np.linspace(low, high + 1e-9, _BINS).tolist()
    for values, name in ((found.impostor, "two patients"), (found.genuine, "one patient")):
        axes.hist(values, edges, weights=np.full(len(values), 1 / len(values)), alpha=0.55, label=name)
    axes.set(title=found.setting, xlabel="cosine similarity", ylabel="part of pairs")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(loc="upper left")
    return figure


def _settings(reid: Reid) -> Table:
    config = reid.config
    rows = [
        ("encoder", config.base_encoder_digest),
        ("embedded with", ", ".join(f"{name} {value}" for name, value in config.settings.items()) or "unknown"),
        ("role, half, seed", f"{config.role}, {config.half}, {config.seed}"),
        ("loss", f"{config.loss}; a patient's clips meet within a {config.positives}"),
        *(
            (
                f"{each.level} head",
                f"reads {each.source}; {each.components} of {each.features} components, hidden {each.hidden}, weight "
                f"decay {each.weight_decay:g}, step {each.step}; validation AUC {each.validation_auc:.4f}",
            )
            for each in config.levels
        ),
    ]
    return Table(columns=("setting", "value"), rows=rows)
