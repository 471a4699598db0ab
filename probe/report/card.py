"""The model card's section on what an encoder knows, as Markdown ready to paste."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from echofm.embed.provenance import datasets
from echofm.embed.table import EmbeddingTable
from probe.report.canvas import in_words
from probe.report.findings import Findings
from probe.report.results import by_line, method_name, origin, shown, verdict
from probe.result import Probed, ProbeResult

_FEW_PATIENTS = 50
_WIDTH = 100
_RULE = (
    "No patient is in two splits. Hyper-parameters were chosen on validation patients; test patients were looked at "
    "once. Intervals are 95 %, by redrawing test patients with all their clips."
)


def card(probes: Sequence[Probed], *, found: Findings, table: EmbeddingTable | None = None) -> str:
    """Data, protocol, figures with intervals, limits; says "phantom" where the clips are simulated."""
    lines = ["## What its frozen features know" + (" (phantom)" if found.phantom else ""), ""]
    lines += [f"Encoder digest `{found.encoder_digest}`.", ""]
    if found.problems:
        lines += ["**Failed checks:** " + "; ".join(map(_plain, found.problems)) + ".", ""]
    lines += ["### Data and protocol", ""]
    lines += map(_bullet, [*_data(found, table), *(_protocol(each.result) for each in probes)])
    lines += [_bullet(_RULE), "", "### Figures", ""]
    for each in probes:
        lines += [*_figures(each.result), ""]
    lines += ["### Limits", "", *map(_bullet, _limits(probes, found)), ""]
    return "\n".join(lines)


def _data(found: Findings, table: EmbeddingTable | None) -> list[str]:
    if table is None:
        return ["Data: not stated in the probe's input."]
    sets = ", ".join(map(_plain, datasets(table))) or "not named"
    views = ", ".join(_plain(str(view)) for view in table.rows["view"].value_counts().index) or "not named"
    kind = "Simulated clips (phantom), in the layout of: " if found.phantom else "Data sets: "
    patients = len(set(table.patient_id))
    return [f"{kind}{sets}. {len(table)} clips of {patients} patients; views: {views}."]


def _protocol(result: ProbeResult) -> str:
    counts = ", ".join(
        f"{name} {clips} clips of {result.patients[name]} patients" for name, clips in result.clips.items()
    )
    return f"{_plain(in_words(result.target))}: {result.kind} probe, {result.task}; {counts}; {origin(result)}."


def _figures(result: ProbeResult) -> list[str]:
    metrics, found = by_line(result.main_scores, lambda each: each.method)
    lines = [
        f"| {_plain(in_words(result.target))} | " + " | ".join(map(in_words, metrics)) + " |",
        "|---" * (len(metrics) + 1) + "|",
    ]
    for method, own in found.items():
        cells = " | ".join(shown(own.get(metric)).replace("\N{NO-BREAK SPACE}", " ") for metric in metrics)
        lines.append(f"| {_plain(method_name(method))} | {cells} |")
    return lines


def _limits(probes: Sequence[Probed], found: Findings) -> list[str]:
    limits = [
        "Research software, no medical device. A probe shows what features hold, not what a clinician may rely on."
    ]
    if found.phantom:
        limits.append("Measured on a phantom: these figures say nothing about patients.")
    few = [each.result for each in probes if each.result.patients["test"] < _FEW_PATIENTS]
    if few:
        counts = ", ".join(f"{_plain(in_words(each.target))} {each.patients['test']}" for each in few)
        limits.append(f"Few test patients ({counts}); the intervals are as wide as that makes them.")
    for each in probes:
        name = _plain(in_words(each.result.target))
        limits += [f"{name}: {note}" for note in each.result.notes]
        limits += _not_beaten(each.result, name)
    for target in found.targets:
        if target.agreement is not None and target.agreement.slope.high < 1:
            limits.append(
                f"{_plain(in_words(target.target))}: high values are said too low and low ones too high (slope on true "
                f"{target.agreement.slope.value:.2f})."
            )
    return limits


def _not_beaten(result: ProbeResult, name: str) -> list[str]:
    """Baselines that the encoder does not beat beyond the interval of the paired difference, in the first metric."""
    metric = result.scores[0].metric if result.scores else ""
    lost = [
        method_name(each.baseline)
        for each in result.comparisons
        if each.metric == metric and each.level == "clip" and verdict(metric, each.difference) != "better"
    ]
    return [f"{name}: not better than {_plain(', '.join(lost))} beyond chance, by {in_words(metric)}."] if lost else []


def _bullet(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False)


def _plain(text: str) -> str:
    """Text that stays text in a Markdown table and in HTML made from it."""
    for mark in ("\\", "`", "*", "_", "|", "[", "]", "#"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
