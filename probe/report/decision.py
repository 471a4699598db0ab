"""The probe's first screen: what the features know beside their baselines, of which encoder, on what."""

from __future__ import annotations

from collections.abc import Sequence

from echofm.embed.provenance import datasets
from echofm.embed.table import EmbeddingTable
from echofm.report.blocks import Decision
from echofm.report.page import today
from probe.report.canvas import in_words
from probe.report.results import origin, shown, verdict
from probe.result import ProbeResult

_MOST_IN_TITLE = 2


def decision(results: Sequence[ProbeResult], *, problems: Sequence[str], table: EmbeddingTable | None) -> Decision:
    """What the page comes to. problems: failed checks, in view of which no figure stands."""
    lines = [in_one_line(each) for each in results]
    text = "; ".join(lines[:_MOST_IN_TITLE]) + ("" if len(lines) <= _MOST_IN_TITLE else "; more below")
    if problems:
        text = f"Checks failed, see below: no figure stands until they pass. {text}"
    first = results[0]
    facts = [
        ("Encoder", f"{first.encoder + ', ' if first.encoder else ''}digest `{first.encoder_digest[:12]}`"),
        ("Data", _data(first, table)),
        ("Tested on", "; ".join(dict.fromkeys(_tested(each) for each in results))),
        ("Beside it", ", ".join(dict.fromkeys(name for each in results for name in _others(each)))),
        *((in_words(each.target), line) for each, line in zip(results, lines) if len(lines) > _MOST_IN_TITLE),
        ("Date", today()),
    ]
    return Decision(f"{text}.", level="act" if problems else "none", facts=[each for each in facts if each[1]])


def in_one_line(result: ProbeResult) -> str:
    """The first metric and what it beats, in one line."""
    metric = result.scores[0].metric if result.scores else ""
    own = next((each for each in result.main_scores if (each.method, each.metric) == ("probe", metric)), None)
    figure = f"{in_words(result.target)}: {in_words(metric)} {shown(None if own is None else own.estimate)}"
    found: dict[str, list[str]] = {}
    for each in result.comparisons:
        if each.metric == metric and each.level == "clip":
            found.setdefault(verdict(metric, each.difference), []).append(each.baseline)
    words = {"better": "better than", "worse": "worse than", "not told apart": "not told apart from"}
    beside = [f"{start} {', '.join(found[kind])}" for kind, start in words.items() if kind in found]
    return ", ".join([figure, *beside]).replace("\N{NO-BREAK SPACE}", " ")


def _others(result: ProbeResult) -> list[str]:
    return [name for name in dict.fromkeys(each.method for each in result.scores) if name != "probe"]


def _tested(result: ProbeResult) -> str:
    return f"n = {result.clips['test']} clips of {result.patients['test']} patients ({origin(result)})"


def _data(result: ProbeResult, table: EmbeddingTable | None) -> str:
    parts = [result.data]
    if table is not None:
        named = ", ".join(datasets(table))
        parts.append(f"{named + ', ' if named else ''}{len(table)} clips of {len(set(table.patient_id))} patients")
    return ": ".join(each for each in parts if each)
