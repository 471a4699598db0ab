"""The audit's first screen: what to do, with what it rests on; and the same for a reader without statistics."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Literal

import pandas as pd

from echofm.report.blocks import Decision
from echofm.report.page import today
from synth.audit.canaries.transforms import FAITHFUL
from synth.audit.result import AuditResult, SetSummary


def counted(samples: pd.DataFrame, result: AuditResult) -> tuple[int, int, int]:
    """Clips to remove by reason: show a training recording, show a held-out one, are too close to a training clip."""
    found = result.duplicates
    copies = int((samples["duplicate_of"] != "").sum())
    training = min(copies, max(found.exact, found.perceptual or 0))
    return training, copies - training, result.removed - copies


def decision(result: AuditResult, samples: pd.DataFrame, *, fail_above: float, audit: str) -> Decision:
    """What the page comes to. fail_above: above which the exit code is 1. audit: name of the audit's folder."""
    text, level = _decided(result, samples)
    synthetic = result.synthetic.name or "SYNTHETIC"
    command = (
        f"echofm audit filter --audit {shlex.quote(audit or 'AUDIT')} --synthetic {shlex.quote(synthetic)} --out KEPT"
        if result.removed
        else ""
    )
    facts = [
        ("Synthetic", _set(result.synthetic)),
        ("Made from", _set(result.train)),
        ("Yardstick", f"{_set(result.holdout)}, never seen by the generator"),
        ("Date", f"{today()}, echofm {result.echofm_version}"),
        ("Tested", ", ".join(_tested(result))),
        ("Not tested", ", ".join(_untested(result))),
        ("Power", _power(result)),
        ("Exit code", _exit(result, fail_above)),
    ]
    return Decision(text, level=level, facts=facts, command=command)


def _decided(result: AuditResult, samples: pd.DataFrame) -> tuple[str, Literal["act", "open", "none"]]:
    of = result.synthetic.clips
    if result.removed:
        training, held_out, close = counted(samples, result)
        reasons = [
            f"{training} show{'s' * (training == 1)} the very recording of a training clip" if training else "",
            f"{held_out} that of a held-out clip" if held_out else "",
            f"{close} come{'s' * (close == 1)} closer to a training clip than new patients do" if close else "",
        ]
        return f"Remove {result.removed} of {of}: {', '.join(each for each in reasons if each)}.", "act"
    if result.sees_copies is False:
        return f"Not cleared: this encoder misses plain copies, so {of} clips without a finding say nothing.", "act"
    if result.exceeds(0):
        part = (
            f"{result.flagged.fraction.value:.0%} of {of} clips lie closer to the training set than 5% of new patients"
        )
        part = part.replace("5%", f"{100 * result.alpha:.4g}%")
        return f"Not cleared: {part} would, though no single clip can be named.", "act"
    if result.sees_copies is None:
        return f"Not decided: nothing to remove among {of} clips, but nobody knows what was missed.", "open"
    return f"Nothing to remove was found among {of} clips, by the attacks below and with their power.", "none"


def _set(each: SetSummary) -> str:
    patients = f" of {each.patients} patients" if each.patients is not None else ""
    aside = f" ({each.set_aside} more not compared)" if each.set_aside else ""
    return f"{each.name + ': ' if each.name else ''}n = {each.clips} clips{patients}{aside}"


def _tested(result: AuditResult) -> Iterator[str]:
    looked = result.duplicates.perceptual is not None
    yield "copies by their bytes and their speckle" if looked else "copies by their bytes"
    yield f"closeness to training clips ({', '.join(each.level for each in result.levels)} level)"
    yield "membership in the training set"
    if result.attacks.naming_attack is not None:
        yield "naming of training patients"
    if result.judge is not None:
        yield "a second judge"


def _untested(result: AuditResult) -> Iterator[str]:
    if result.duplicates.perceptual is None:
        yield "copies by their speckle"
    if not any(each.level == "motion" for each in result.levels):
        yield "likeness of the motion alone"
    if result.attacks.naming_attack is None:
        yield "naming of training patients (too few)"
    yield "guessing a patient's findings from the set"
    yield "text drawn inside the sector"
    yield "attackers with other means"


def _power(result: AuditResult) -> str:
    if result.sees_copies is None:
        return "unknown: no copies were planted, so a clean result means nothing yet"
    worst = min((each for each in result.power if each.kind in FAITHFUL), key=lambda each: each.recall.low)
    caught = (
        f"{worst.recall.value:.0%} of {worst.planted} plain copies caught at worst ({worst.recall.low:.0%} or more)"
    )
    missed = sorted({each.kind for each in result.power if each.recall.value < 0.5})
    least = f"copies under {result.flagged.smallest_detectable_share:.1%} of the set cannot be flagged by closeness"
    return f"{caught}; " + (f"misses most copies changed by {', '.join(missed)}; " if missed else "") + least


def _exit(result: AuditResult, fail_above: float) -> str:
    if not result.exceeds(fail_above):
        return f"0 (no more than --fail-above {fail_above:g} of the set is to be removed or too close)"
    why = []
    if result.removed > fail_above * result.synthetic.clips:
        why.append("clips are to be removed")
    if result.sees_copies is False:
        why.append("plain copies are missed")
    return f"1 ({' and '.join(why) or 'more of the set is too close than new patients would be'})"


def plain_words(result: AuditResult, samples: pd.DataFrame) -> str:
    """The audit for a reader without statistics: what was asked, found, and how far it can be trusted."""
    return "\n\n".join(
        [
            f"A generator learnt from recordings of {result.train.patients} patients and made {result.synthetic.clips} "
            "clips. They are meant to show hearts that nobody has. The question is whether some show, or nearly show, "
            f"a heart that it learnt from. The yardstick are {result.holdout.patients} patients whom it never saw: a "
            "synthetic clip should be no closer to the training patients than these are.",
            _found_in_words(result, samples),
            _trust_in_words(result),
            "Whether the set may be given away is for you to decide, with your ethics board or data protection "
            "officer. No measurement of this kind proves that a set gives nobody away.",
        ]
    )


def _found_in_words(result: AuditResult, samples: pd.DataFrame) -> str:
    if not result.removed:
        return "No single clip was found that has to be taken out."
    training, held_out, close = counted(samples, result)
    parts = []
    if training:
        parts.append(f"{training} synthetic clip(s) are recordings of training patients, handed out again")
    if held_out:
        parts.append(f"{held_out} are recordings of patients whom the generator should never have seen")
    if close:
        parts.append(
            f"{close} look so much like a training patient's heart that new patients almost never would; about "
            f"{100 * result.alpha:.4g} in 100 of such clips are named wrongly"
        )
    return f"{'; '.join(parts)}. These {result.removed} have to be taken out before the set is given to anybody."


def _trust_in_words(result: AuditResult) -> str:
    if result.sees_copies is None:
        return "It was not tried out how many copies this audit would have found, so finding few means little."
    if not result.sees_copies:
        return (
            "To try itself out, the audit hid copies of training clips among others and missed some that were not "
            "even changed. What it did not find can therefore be there."
        )
    missed = sorted({each.kind for each in result.power if each.recall.value < 0.5})
    return (
        "To try itself out, the audit hid copies of training clips among others, and found those left as they were. "
        + (
            f"Of copies changed by {', '.join(missed)} it found fewer than half: such could be in the set."
            if missed
            else "It found at least half of the changed ones of every kind, too."
        )
    )
