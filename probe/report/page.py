"""Page and report.json of one or more targets of one encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from echofm.embed.provenance import is_simulated
from echofm.embed.table import EmbeddingTable
from echofm.report.blocks import Block, Commands, Prose
from echofm.report.page import Page
from probe.report.agreement import agreement_blocks
from probe.report.canvas import in_words
from probe.report.classes import class_blocks
from probe.report.clips import FramesOf, overlays, retrieved, worst
from probe.report.decision import decision
from probe.report.embedding import checks, maps
from probe.report.findings import Findings, TargetFindings, card, findings
from probe.report.perturbed import perturbed_table
from probe.report.phase import event_blocks, phase_blocks
from probe.report.results import comparison_table, details, label_efficiency, methods, overview, protocol, subgroups
from probe.result import Probed

HTML, JSON = "report.html", "report.json"


def write_report(
    out: str | Path,
    probes: Sequence[Probed],
    *,
    table: EmbeddingTable | None = None,
    frames_of: FramesOf | None = None,
    tuned: bool = False,
) -> Path:
    """Write report.html and report.json into a folder; returns the page's path. Arguments as of `page`.

    Raises EchofmError where the folder cannot be written.
    """
    found = findings(probes, phantom=table is not None and is_simulated(table))
    found.save(Path(out) / JSON)
    return page(probes, table=table, frames_of=frames_of, found=found, tuned=tuned).save(Path(out) / HTML)


def page(
    probes: Sequence[Probed],
    *,
    table: EmbeddingTable | None = None,
    frames_of: FramesOf | None = None,
    found: Findings | None = None,
    tuned: bool = False,
) -> Page:
    """The report of one or more targets of one encoder. Ids on it are hashes.

    table: the embeddings, for maps of the features and for what the model card says of the data.
    frames_of: frames (T, C, H, W) of a clip by its id, None for one not at hand; for film strips (`ShardFrames`).
    found: what `findings` of the same probes gave; made here if not given. tuned: the encoder was trained further on
        the label, and is not frozen.
    """
    if found is None:
        found = findings(probes, phantom=table is not None and is_simulated(table))
    first = probes[0].result
    title = "What a fine-tuned encoder predicts" if tuned else "What a frozen encoder knows"
    report = Page(title + (" (phantom)" if found.phantom else ""))
    report.decision = decision([each.result for each in probes], problems=found.problems, table=table)
    for problem in found.problems:
        report.warn(problem)
    results = overview([each.result for each in probes])
    if found.phantom:
        report.add("Results on the phantom", results, Prose(_PHANTOM))
    else:
        report.add("Results", results)
    for probed, each in zip(probes, found.targets):
        name = probed.result.target
        outlines = overlays(probed.overlays)
        report.add(in_words(name), *_target(probed, each, frames_of), *outlines)
    drawn = [] if table is None else maps(table, [each.result for each in probes])
    report.add("The embedding itself", *checks(first.sanity), *drawn)
    report.add(
        "Model card", Prose(_CARD), Commands(card(probes, found=found, table=table, tuned=tuned)), on_paper=False
    )
    return report


_PHANTOM = (
    "The clips are simulated hearts with known answers (phantom). Figures on the phantom say nothing about patients."
)
_CARD = "To paste into the encoder's README, as Markdown."


def _target(probed: Probed, found: TargetFindings, frames_of: FramesOf | None) -> list[Block]:
    result = probed.result
    blocks: list[Block] = [protocol(result), *methods(result)]
    if result.comparisons:
        blocks.append(comparison_table(result.comparisons))
    blocks += [*perturbed_table(result), *details(result)]
    if found.agreement is not None:
        blocks += agreement_blocks(probed, found.agreement)
    else:
        blocks += class_blocks(probed, calibrations=found.calibration, matrix=found.confusion)
    blocks += event_blocks(probed.predictions)
    blocks += phase_blocks(probed.predictions, frames_of=frames_of)
    if frames_of is not None:
        blocks += retrieved(probed.predictions, frames_of=frames_of)
    blocks += label_efficiency(result)
    blocks += subgroups(result)
    if found.worst is not None:
        blocks += worst(found.worst, target=result.target, frames_of=frames_of)
    return blocks
