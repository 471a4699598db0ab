"""report.html of an audit: the verdict and its limits on the first screen, then what they rest on."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from echofm.report.blocks import Block, Picture, Prose, Table
from echofm.report.page import Page
from synth.audit.audit import Audited
from synth.audit.result import AuditResult, CanaryRecall, Estimate

_BINS = 60


def page(audited: Audited) -> Page:
    """The report of one audit. Every id on it is a hash; ids of someone else's table are escaped, not trusted."""
    result = audited.result
    report = Page("Privacy audit of a synthetic set", lead=result.verdict)
    if not result.sees_copies:
        report.warn(result.verdict.partition(".")[0] + ".")
    report.add("What was found", _headline(result), _scores(audited))
    report.add("What this audit would catch and miss", *_power(result))
    report.add(
        "Attacks beyond distance", _attacks(result), *([Prose("\n\n".join(result.notes))] if result.notes else [])
    )
    report.add("Which training patients are exposed", *_exposure(result))
    report.add("Settings", _settings(result))
    return report


def _headline(result: AuditResult) -> Table:
    flagged = result.flagged
    rows = [
        ("closer to training than new patients (p <= alpha)", _shown(flagged.fraction), f"{result.alpha:.1%}"),
        ("the same, null taken as known (Clopper-Pearson)", _shown(flagged.clopper_pearson), f"{result.alpha:.1%}"),
        ("chance of as many with nothing memorised", f"{flagged.excess_p:.2g}", "not small"),
        (f"clips flagged for removal ({result.rule} rule)", str(flagged.decided), "0"),
        ("smallest share of copies that can be flagged", f"{flagged.smallest_detectable_share:.1%}", "-"),
        ("flagged by the published rule (biased, for comparison)", f"{result.published_rule_flags:.1%}", "-"),
    ]
    return Table(
        columns=("measure", "found (95 % interval)", "with nothing memorised"),
        rows=rows,
        caption="Held-out real clips searched in the same training set are the null. p is conformal by patient, "
        "flags for removal are Benjamini-Hochberg at the same alpha.",
    )


def _scores(audited: Audited) -> Picture:
    scores = audited.samples["score"].to_numpy(float)

    def draw() -> Figure:
        figure, axes = _figure((6.4, 3.0))
        low, high = min(scores.min(), audited.null_H.min()), max(scores.max(), audited.null_H.max())
        edges = np.linspace(low, high + 1e-9, _BINS).tolist()
        for values, name in ((audited.null_H, "held-out patients (null)"), (scores, "synthetic clips")):
            axes.hist(values, edges, weights=np.full(len(values), 1 / len(values)), alpha=0.55, label=name)
        axes.set(xlabel=f"{audited.result.metric} similarity to the nearest training clip", ylabel="part of clips")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.legend(loc="upper left")
        return figure

    return Picture(
        draw=draw,
        alt="histograms of the nearest-neighbour similarity of held-out and synthetic clips",
        caption="With nothing memorised both histograms follow one law; copies pile up at the right end.",
    )


def _power(result: AuditResult) -> list[Block]:
    if not result.power:
        return [Prose("No canaries were planted: the audit's power is unknown, and a clean result means nothing yet.")]
    rows = [
        (each.kind, f"{each.strength:g}", each.planted, _shown(each.recall), f"{each.right_patient:.1%}")
        for each in result.power
    ]
    table = Table(
        columns=("kind of copy", "strength", "planted", "caught (95 % interval)", "right patient named"),
        rows=rows,
        caption="Training clips, transformed and put through the same encoder and threshold as the synthetic clips. "
        "Strength: 100 - JPEG quality (re-encoded), grey levels (noise, gain), part of a side (crop), part of the "
        "clip (shift), part of the rate (speed), part of the second patient (in-between).",
    )
    kinds = list(dict.fromkeys(each.kind for each in result.power))
    picture = Picture(
        draw=lambda: _power_figure(result.power, kinds),
        alt="recall of each kind of planted copy against its strength",
        caption="Recall at the audit's threshold from each kind's weakest to its strongest change.",
    )
    return [picture, table]


def _power_figure(recalls: list[CanaryRecall], kinds: list[str]) -> Figure:
    figure, axes = _figure((6.4, 0.5 + 0.36 * len(recalls)))
    labels = [f"{each.kind} {each.strength:g}" for each in recalls]
    for place, each in enumerate(recalls):
        recall = each.recall
        error = [[recall.value - recall.low], [recall.high - recall.value]]
        axes.errorbar(recall.value, place, xerr=error, fmt="o", color=f"C{kinds.index(each.kind) % 6}", capsize=3)
    axes.set(xlabel="caught", xlim=(-0.02, 1.02), ylim=(len(recalls) - 0.5, -0.5))
    axes.set_yticks(range(len(recalls)), labels)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return figure


def _attacks(result: AuditResult) -> Table:
    found = result.attacks
    rows = [
        ("membership inference, AUC", _number(found.membership_auc), "0.5"),
        ("training clips named at 1 % false names", _shown(found.membership_tpr_at_1_percent_fpr), "1 %"),
        ("closer to a training than to a held-out clip", _shown(found.closer_to_train), "50 %"),
        ("distance ratio below the null's", _shown(found.distance_ratio_flagged), f"{result.alpha:.1%}"),
        (
            "nearer to a training clip than other patients are",
            f"{found.inauthentic:.1%}",
            f"{found.inauthentic_holdout:.1%}",
        ),
        ("training patients named rightly (attack)", _shown(found.naming_attack), _shown(found.naming_control)),
    ]
    return Table(
        columns=("attack", "found (95 % interval)", "with nothing memorised"),
        rows=rows,
        caption="Each compares training with held-out patients; intervals redraw patients with all their clips.",
    )


def _exposure(result: AuditResult) -> list[Block]:
    exposure = result.exposure
    text = (
        f"{exposure.patients_nearest} of {result.train.patients} training patients are nearest to some synthetic clip, "
        f"{exposure.patients_flagged} to a flagged one."
    )
    if not exposure.most:
        return [Prose(text)]
    rows = [(patient, clips, f"{score:.4f}") for patient, clips, score in exposure.most]
    return [Prose(text), Table(columns=("patient (hashed)", "flagged clips", "highest similarity"), rows=rows)]


def _settings(result: AuditResult) -> Table:
    sets = {"training": result.train, "held out": result.holdout, "synthetic": result.synthetic}
    rows = [
        (name, f"{each.clips} clips" + (f", {each.patients} patients" if each.patients is not None else ""))
        for name, each in sets.items()
    ]
    rows += [
        ("encoder", result.encoder_digest),
        ("judge", result.judge_digest or "the same encoder"),
        ("alpha, rule, metric, seed", f"{result.alpha:g}, {result.rule}, {result.metric}, {result.seed}"),
    ]
    return Table(columns=("setting", "value"), rows=rows)


def _figure(size_inch: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size_inch, layout="constrained")
    return figure, figure.subplots()


def _shown(estimate: Estimate | None) -> str:
    return "left out" if estimate is None else f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def _number(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
