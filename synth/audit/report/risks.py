"""The three risks of the European opinion on anonymisation (WP 216, 05/2014), and which attack stands for which."""

from __future__ import annotations

from echofm.report.blocks import Block, Prose, Table
from synth.audit.report.blocks import number, shown
from synth.audit.result import AuditResult

_COLUMNS = ("attack", "found (95 % interval)", "with nothing memorised")


def singling_out(result: AuditResult) -> list[Block]:
    """Can one patient's recording be told in the set?"""
    flagged, duplicates, attacks = result.flagged, result.duplicates, result.attacks
    looked = duplicates.perceptual is not None
    rows = [
        (
            "clips that show a training recording itself",
            f"{duplicates.perceptual if looked else duplicates.exact}" + ("" if looked else " (by their bytes alone)"),
            "0",
        ),
        ("clips that show a held-out recording itself", f"{duplicates.holdout}", "0"),
        (f"clips flagged ({result.rule} rule)", f"{flagged.decided} of {result.synthetic.clips}", "0"),
        ("closer to training than new patients (p <= alpha)", shown(flagged.fraction), f"{result.alpha:.1%}"),
        ("chance of as many with nothing memorised", f"{flagged.excess_p:.2g}", "not small"),
        ("distance ratio below the null's", shown(attacks.distance_ratio_flagged), f"{result.alpha:.1%}"),
        (
            "nearer to a training clip than other patients are",
            f"{attacks.inauthentic:.1%}",
            f"{attacks.inauthentic_holdout:.1%}",
        ),
        ("clips to remove", f"{result.removed} of {result.synthetic.clips}", "0"),
        ("smallest share of copies that can be flagged", f"{flagged.smallest_detectable_share:.1%}", "–"),
    ]
    text = (
        "Does a synthetic clip show one training patient? Attacks: the recording itself, by bytes and speckle; and "
        "closeness to the nearest training clip, beside held-out patients searched in the same set."
    )
    caption = f"Decided at {_decided(result)}. p is conformal by patient, flags are " + (
        "Benjamini-Hochberg at the same alpha." if result.rule == "conformal" else "the published rule's."
    )
    return [Prose(text), Table(columns=_COLUMNS, rows=rows, caption=caption)]


def linkability(result: AuditResult) -> list[Block]:
    """Can a person's recordings elsewhere be tied to the set?"""
    found, exposure = result.attacks, result.exposure
    text = (
        "Can somebody who holds a person's recording tie it to the set? Attack: of training and new patients, name "
        "those whom the set comes closest to (Anonymeter)."
        + ("" if found.naming_attack is not None else " Left out: it needs 40 patients.")
        + ("" if found.naming_informative is not False else " Here it is weaker than guessing and says nothing.")
    )
    beat = [each for each in result.power if each.kind == "new beat"]
    rows = [
        ("training patients named rightly", shown(found.naming_attack), shown(found.naming_control)),
        ("risk beyond the control", "left out" if found.naming_risk is None else f"{found.naming_risk:.1%}", "0 %"),
        ("patients nearest to a clip to be removed", f"{exposure.patients_flagged} of {result.train.patients}", "0"),
        *(("another recording of the same patient, planted: caught", shown(each.recall), "–") for each in beat),
    ]
    return [Prose(text), Table(columns=_COLUMNS, rows=rows)]


def inference(result: AuditResult) -> list[Block]:
    """Can something be learnt about a person?"""
    found = result.attacks
    text = (
        "Can it be learnt that a person was a training patient, and so has what these patients have? Attack: "
        "membership by distance to the set. Guessing a patient's findings or measurements from the set is not tested."
    )
    rows = [
        ("membership inference, AUC", number(found.membership_auc), "0.5"),
        ("training clips named at 1 % false names", shown(found.membership_tpr_at_1_percent_fpr), "1 %"),
        ("closer to a training than to a held-out clip", shown(found.closer_to_train), "50 %"),
    ]
    caption = "Each compares training with held-out patients; intervals are over patients, not over clips."
    return [Prose(text), Table(columns=_COLUMNS, rows=rows, caption=caption)]


def _decided(result: AuditResult) -> str:
    if result.decide == "any":
        return f"any of {len(result.levels)} levels, Bonferroni-corrected"
    return f"{result.decide} level"
