"""report.html of an audit: the verdict and its limits on the first screen, then what they rest on."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.intervals import Estimate
from echofm.report.blocks import Block, FilmStrip, Notice, Panels, Picture, Prose, Table
from echofm.report.page import Page
from synth.audit.canaries.transforms import FAITHFUL
from synth.audit.report.blocks import exposure_curve, number, power_blocks, score_histogram, shown
from synth.audit.report.strips import Strip
from synth.audit.result import AuditResult, FlaggedPart, JudgeResult, LevelResult
from synth.audit.settings import Level

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
) -> Page:
    """The report of one audit, from what `Audited` holds. Ids are keyed hashes; film strips show de-identified pixels
    of training clips.

    simulated: says beside the title that all patients are the phantom's.
    """
    report = Page(TITLE + (" (phantom patients)" if simulated else ""), lead=result.verdict)
    if not result.sees_copies:
        report.warn(result.verdict.partition(": ")[0].partition(". ")[0] + ".")
    report.add("What was found", _headline(result), Notice(_LIMITS), *_notes(result), *_scores(result, samples, nulls))
    report.add("What this audit would catch and miss", *power_blocks(result))
    report.add("Attacks beyond distance", *_attacks(result))
    if result.judge is not None:
        report.add("A second judge", *_judge(result.judge, result))
    if strips:
        report.add("The closest pairs", *_strips(strips))
    report.add("Which training patients are exposed", *_exposure(result))
    report.add("Settings and digests", _settings(result), Prose(_rules(result)))
    return report


def _headline(result: AuditResult) -> Table:
    flagged, duplicates = result.flagged, result.duplicates
    looked = duplicates.perceptual is not None
    rows = [
        ("closer to training than new patients (p <= alpha)", shown(flagged.fraction), f"{result.alpha:.1%}"),
        ("chance of as many with nothing memorised", f"{flagged.excess_p:.2g}", "not small"),
        (f"clips flagged ({result.rule} rule)", f"{flagged.decided} of {result.synthetic.clips}", "0"),
        (
            "clips that show a training recording itself",
            f"{duplicates.perceptual if looked else duplicates.exact}" + ("" if looked else " (by their bytes alone)"),
            "0",
        ),
        ("clips that show a held-out recording itself", f"{duplicates.holdout}", "0"),
        ("clips to remove", f"{result.removed} of {result.synthetic.clips}", "0"),
        ("smallest share of copies that can be flagged", f"{flagged.smallest_detectable_share:.1%}", "–"),
    ]
    return Table(
        columns=("measure", "found (95 % interval)", "with nothing memorised"),
        rows=rows,
        caption=f"Decided at {_decided(result)}. Held-out real clips searched in the same training set are the null; "
        "p is conformal by patient, flags are "
        + ("Benjamini-Hochberg at the same alpha." if result.rule == "conformal" else "the published rule's."),
    )


def _notes(result: AuditResult) -> list[Block]:
    return [Notice(f"{note[0].upper()}{note[1:]}.") for note in result.notes]


def _decided(result: AuditResult) -> str:
    if result.decide == "any":
        return f"any of {len(result.levels)} levels, Bonferroni-corrected"
    return f"{result.decide} level"


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


def _attacks(result: AuditResult) -> list[Block]:
    found = result.attacks
    rows = [
        ("membership inference, AUC", number(found.membership_auc), "0.5"),
        ("training clips named at 1 % false names", shown(found.membership_tpr_at_1_percent_fpr), "1 %"),
        ("closer to a training than to a held-out clip", shown(found.closer_to_train), "50 %"),
        ("distance ratio below the null's", shown(found.distance_ratio_flagged), f"{result.alpha:.1%}"),
        (
            "nearer to a training clip than other patients are",
            f"{found.inauthentic:.1%}",
            f"{found.inauthentic_holdout:.1%}",
        ),
        ("training patients named rightly (attack)", shown(found.naming_attack), shown(found.naming_control)),
    ]
    table = Table(
        columns=("attack", "found (95 % interval)", "with nothing memorised"),
        rows=rows,
        caption="Each compares training with held-out patients; intervals are over patients, not over clips.",
    )
    return [table]


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


def _strips(strips: Sequence[Strip]) -> list[Block]:
    warning = Notice(
        "These are pixels of training clips, with all outside the sector set to zero. Handle this file as you "
        "handle the training set.",
        "warning",
    )
    shown = [
        FilmStrip(
            {"synthetic": each.synthetic_KHW, "training": each.training_KHW},
            alt="frames of a synthetic clip above the same frames of its nearest training clip",
            caption=each.caption,
        )
        for each in strips
    ]
    return [warning, *shown]


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
