"""Words that a table of one's own may hold unasked: under `diagnosis` or `rhythm` somebody may have typed a name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from echofm.readers.datasets.labels import ORDERS, word

_RHYTHMS = """
    regular, irregular, respiratory, normal, other, sinus, sr, nsr, sinus rhythm, normal sinus rhythm, sinus
    tachycardia, sinus bradycardia, sinus arrhythmia, tachycardia, bradycardia, af, afib, atrial fibrillation, flutter,
    atrial flutter, svt, vt, paced, paced rhythm, pacemaker, ventricular paced, atrial paced, junctional, ectopic,
    extrasystole, extrasystoles, pvc, pac, bigeminy, heart block, av block, lbbb, rbbb, arrhythmia
"""
_DIAGNOSES = """
    normal, healthy, control, none, no finding, no findings, abnormal, disease, other, cardiomyopathy, hcm, hocm, dcm,
    rcm, icm, nicm, arvc, lvnc, hypertrophic cardiomyopathy, dilated cardiomyopathy, restrictive cardiomyopathy,
    ischemic cardiomyopathy, ischaemic cardiomyopathy, non ischemic cardiomyopathy, takotsubo, amyloidosis, amyloid,
    cardiac amyloidosis, attr, al amyloidosis, fabry, sarcoidosis, myocarditis, heart failure, hf, chf, hfref, hfmref,
    hfpef, mi, ami, stemi, nstemi, myocardial infarction, cad, coronary artery disease, ischemia, hypertension, htn,
    hypertensive heart disease, lvh, ph, pah, pulmonary hypertension, pulmonary embolism, as, aortic stenosis, ar, ai,
    aortic regurgitation, aortic insufficiency, ms, mitral stenosis, mr, mitral regurgitation, mvp, mitral valve
    prolapse, tr, tricuspid regurgitation, valve disease, valvular disease, valvular heart disease, endocarditis, asd,
    vsd, avsd, pfo, pda, tof, tga, hlhs, atrial septal defect, ventricular septal defect, tetralogy of fallot,
    congenital heart disease, chd, coarctation, pericarditis, pericardial effusion, tamponade, rheumatic heart disease,
    rhd, transplant, heart transplant, cardiotoxicity, af, atrial fibrillation, stroke, athlete, sepsis
"""


def _folded(text: str) -> str:
    return re.sub(r"[\s_/-]+", " ", text).strip()


def _listed(text: str) -> frozenset[str]:
    return frozenset(_folded(each) for each in text.split(","))


_KNOWN: Mapping[str, frozenset[str]] = {
    "rhythm": _listed(_RHYTHMS),
    "diagnosis": _listed(_DIAGNOSES),
    "ef_method": frozenset(("biplane", "3d", "middle of range", "one value")),
    **{name: frozenset(map(_folded, words)) for name, words in ORDERS.items()},
}


def known_word(label: str, cell: str) -> str | None:
    """The cell as the label's value where it is one of the words that are known of it, else None."""
    value = word(cell)
    return value if value is not None and _folded(value) in _KNOWN.get(label, ()) else None
