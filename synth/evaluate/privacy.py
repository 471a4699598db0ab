"""Privacy: the audit of a synthetic set, in one sentence and four figures."""

from __future__ import annotations

from echofm.intervals import Estimate
from synth.audit.audited import Audited
from synth.evaluate.card import Figure, Panel

NULL = "held-out patients"


def privacy(audited: Audited) -> Panel:
    """The panel. It fails where clips are to be removed, or more lie closer to the training patients than new patients
    would; where plain copies are missed nothing can be cleared, and it is not tested."""
    result = audited.result
    found = audited.verdict.splitlines()
    level = {NULL: _exactly(result.alpha)}
    figures = [
        Figure(name="closer to training than new patients", found=result.flagged.fraction, beside=level),
        Figure(name="membership AUC", found=result.attacks.membership_auc, beside={NULL: _exactly(0.5)}),
        Figure(
            name="clips to remove", found=_exactly(result.removed / result.synthetic.clips), beside={NULL: _exactly(0)}
        ),
        *[
            Figure(name=f"planted copies found, {each.kind} {each.strength:g}", found=each.recall)
            for each in result.power
        ],
    ]
    if result.removed or result.flagged.excess_p <= result.alpha:
        remove = f"{result.removed} of {result.synthetic.clips} clips to remove"
        headline = f"Closer to its training patients than new patients are: {remove}."
        return Panel(verdict="fail", headline=headline, figures=figures, notes=found)
    if not result.sees_copies:
        return Panel(verdict="not_tested", headline=found[0], figures=figures, notes=found)
    headline = "No finding by these attacks, which is no proof that there is no risk."
    return Panel(verdict="no_finding", headline=headline, figures=figures, notes=found)


def _exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)
