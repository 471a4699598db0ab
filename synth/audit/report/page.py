"""report.html of an audit: the decision on the first screen, in plain words, by risk, then what it rests on."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.intervals import Estimate
from echofm.report.blocks import Block, Facts, FilmStrip, Notice, Panels, Picture, Prose, Strips, Table
from echofm.report.page import Page
from synth.audit.canaries.transforms import FAITHFUL
from synth.audit.report.blocks import exposure_curve, number, power_pictures, power_table, score_histogram, shown
from synth.audit.report.decision import decision, plain_words
from synth.audit.report.risks import inference, linkability, singling_out
from synth.audit.report.strips import Strip
from synth.audit.result import AuditResult, FlaggedPart, JudgeResult, LevelResult
from synth.audit.settings import Level

# Pairs that a print of four pages has room for.
ON_PAPER = 6
TITLE = "Privacy audit of a synthetic set"
_LIMITS = (
    "What this page says holds for these attacks, with this encoder, these held-out patients and the copies that were "
    "planted. Another attack may find more. It is a measurement of risk, and no proof that there is none."
)


def page(
    result: AuditResult,
    samples: pd.DataFrame,
    nulls: Mapping[Level, npt.NDArray[np.float64]],
    strips: Sequence[Strip] = (),
    *,
    simulated: bool = False,
    fail_above: float = 0.0,
    audit: str = "",
) -> Page:
    """The report of one audit, from what `Audited` holds. Ids are keyed hashes; film strips show de-identified pixels
    of training clips.

    simulated: says beside the title that all patients are the phantom's. fail_above: above which the exit code is 1.
    audit: name of the folder that the report lies in.
    """
    report = Page(TITLE + (" (phantom patients)" if simulated else ""))
    report.decision = decision(result, samples, fail_above=fail_above, audit=audit)
    if not result.sees_copies:
        report.warn(result.verdict.partition(": ")[0].partition(". ")[0] + ".")
    report.add("In plain words", Prose(plain_words(result, samples)))
    report.add("Clips beside their sources", *_strips(strips, result))
    findings = Prose(result.verdict.replace("\n", "\n\n"))
    report.add("What was found", findings, Notice(_LIMITS), *_notes(result))
    report.add("Singling out", *singling_out(result))
    report.add("Linkability", *linkability(result))
    report.add("Inference", *inference(result))
    if result.judge is not None:
        report.add("A second judge", *_judge(result.judge, result))
    report.add("What this audit would catch and miss", *power_table(result))
    if result.power:
        report.add("Caught by strength", *power_pictures(result), on_paper=False)
    report.add("How close the clips come", *_scores(result, samples, nulls), on_paper=False)
    report.add("Which training patients are exposed", *_exposure(result), on_paper=False)
    report.add("Settings and digests", _settings(result), Prose(_rules(result)))
    report.add("For the record", Facts([(each, "") for each in ("Decision", "Name and function", "Date, signature")]))
    return report


def _notes(result: AuditResult) -> list[Block]:
    return [Notice(f"{note[0].upper()}{note[1:]}.") for note in result.notes]


def _scores(result: AuditResult, samples: pd.DataFrame, nulls: Mapping[Level, npt.NDArray[np.float64]]) -> list[Block]:
    removed = samples["removed"].to_numpy(bool)
    pictures = [
        Picture(
            draw=functools.partial(
                score_histogram,
                samples[f"{level.level}_score"].to_numpy(float),
                nulls[level.level],
                removed,
                title=f"{level.level} level",
                x_label=f"{result.metric} similarity to the nearest training clip",
            ),
            alt=f"histograms of the similarity of held-out and synthetic clips at {level.level} level",
        )
        for level in result.levels
    ]
    caption = "With nothing memorised both histograms follow one law; copies pile up at the right end."
    shown: Block = Panels(pictures, caption=caption) if len(pictures) > 1 else replace(pictures[0], caption=caption)
    return [shown, _levels(result)]


def _levels(result: AuditResult) -> Table:
    rows = [
        (
            each.level,
            shown(each.flagged.fraction),
            each.flagged.decided,
            f"{each.flagged.excess_p:.2g}",
            _worst(each),
            f"{each.published_rule_flags:.1%}",
            "exact" if each.search_recall == 1 else f"{each.search_recall:.2%}",
        )
        for each in result.levels
    ]
    return Table(
        columns=(
            "level",
            "p <= alpha (95 % interval)",
            "flagged",
            "chance",
            "plain copies caught",
            "published rule flags",
            "search recall",
        ),
        rows=rows,
        caption="Each level alone. The published rule takes its threshold from training clips searched in the held-out "
        "set, which is smaller; it flags too many and is shown for comparison.",
    )


def _worst(level: LevelResult) -> str:
    plain = [each.recall.value for each in level.power if each.kind in FAITHFUL]
    return f"{min(plain):.0%}" if plain else "unknown"


def _judge(judge: JudgeResult, result: AuditResult) -> list[Block]:
    names = (
        "closer than new patients (p <= alpha)",
        "chance of as many with nothing memorised",
        "flagged by the judge",
        "membership inference, AUC",
    )
    before = _answer(judge.before, judge.membership_auc_before)
    rows = list(zip(names, before, _answer(judge.after, judge.membership_auc_after)))
    blocks: list[Block] = [
        Prose(
            "A set that was filtered by one model looks clean to that model. The judge is another one; it sees all "
            f"{result.synthetic.clips} clips, and the {result.synthetic.clips - result.removed} that stay."
        ),
        Table(columns=("measure", "all clips", "after the removal"), rows=rows, caption=f"Judge `{judge.digest}`."),
    ]
    if not judge.separate:
        text = "Filter and judge were fitted on the same patients: what one misses the other may miss, too."
        blocks.insert(0, Notice(text, "warning"))
    if judge.sees_copies is False:
        blocks.insert(0, Notice("The judge misses plain copies: its silence clears nothing.", "warning"))
    return blocks


def _answer(part: FlaggedPart | None, auc: Estimate | None) -> tuple[str, ...]:
    """A column of the judge's table; dashes where nothing is left."""
    if part is None or auc is None:
        return ("–",) * 4
    return shown(part.fraction), f"{part.excess_p:.2g}", str(part.decided), number(auc)


def _strips(strips: Sequence[Strip], result: AuditResult) -> list[Block]:
    if not strips:
        return [Prose("No pixels are shown: they were not asked for, or the sets are tables.")]
    warning = Notice(
        "These are pixels of training clips, with all outside the sector set to zero. Handle this file as you "
        "handle the training set.",
        "warning",
    )
    shown = [
        FilmStrip(
            {"synthetic": each.synthetic_KHW, each.of: each.real_KHW},
            alt=f"frames of a synthetic clip above the same frames of its nearest {each.of} clip",
            caption=each.caption,
        )
        for each in strips
    ]
    removed = sum(each.removed for each in strips)
    caption = "" if len(strips) <= ON_PAPER else f"A print shows the first {ON_PAPER}; report.html shows all."
    text = f"{removed} of the {result.removed} clips to be removed, each above the real clip that it shows or is near"
    more = f", then the {len(strips) - removed} closest of those that stay" if len(strips) > removed else ""
    left = "; the others are in samples.parquet" if removed < result.removed else ""
    return [warning, Prose(f"{text}{more}{left}."), Strips(shown, ON_PAPER, caption=caption)]


def _exposure(result: AuditResult) -> list[Block]:
    exposure = result.exposure
    text = (
        f"{exposure.patients_nearest} of {result.train.patients} training patients are nearest to some synthetic clip, "
        f"{exposure.patients_flagged} to one that is to be removed."
    )
    picture = Picture(
        draw=functools.partial(exposure_curve, exposure.clips_per_patient, patients=result.train.patients or 0),
        alt="number of synthetic clips nearest to each training patient, falling",
    )
    if not exposure.most:
        return [Prose(text), picture]
    rows = [(patient, clips, f"{score:.4f}") for patient, clips, score in exposure.most]
    return [
        Prose(text),
        picture,
        Table(
            columns=("patient (hashed)", "clips to remove", "highest similarity"),
            rows=rows,
            caption="The most exposed, twenty at most.",
        ),
    ]


def _settings(result: AuditResult) -> Table:
    sets = {"training": result.train, "held out": result.holdout, "synthetic": result.synthetic}
    rows = [
        (
            name,
            f"{each.clips} clips"
            + (f" of {each.patients} patients" if each.patients is not None else "")
            + (f", {each.set_aside} files set aside" if each.set_aside else "")
            + f"; digest `{each.digest[:16]}`",
        )
        for name, each in sets.items()
    ]
    rows += [
        ("encoder", f"`{result.encoder_digest}`"),
        ("re-identification head", "none" if result.reid_digest is None else f"`{result.reid_digest}`"),
        ("motion features", "none" if result.motion_digest is None else f"`{result.motion_digest}`"),
        ("judge", "none" if result.judge is None else f"`{result.judge.digest}`"),
        ("alpha, rule, deciding level", f"{result.alpha:g}, {result.rule}, {result.decide}"),
        ("metric, seed", f"{result.metric}, {result.seed}"),
        ("audit.json", f"schema {result.schema_version}, echofm {result.echofm_version}"),
    ]
    return Table(columns=("setting", "value"), rows=rows)


def _rules(result: AuditResult) -> str:
    if result.rule == "published":
        return (
            "The published rule flags what exceeds the 95th percentile of the training clips' similarities to the "
            "held-out set. That set is smaller than the training set, in which synthetic clips are searched, so the "
            "threshold is too low and more than 5 % are flagged with nothing memorised. Take the conformal rule."
        )
    return (
        "The rule: a clip is flagged where its Benjamini-Hochberg q is at most alpha, so that on average at most this "
        "part of the flagged clips is flagged wrongly."
    )
