"""The audit's rule in the loop of sampling: which clips come closer to the training clips than new patients do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from echofm.embed.options import EmbedOptions
from echofm.engine.parallel import exchanged, on_main, processes
from echofm.ids import load_key
from synth.audit.api import audit_sets
from synth.audit.filter.write import clip_ids_of
from synth.audit.inputs import is_head
from synth.audit.settings import AuditSettings
from synth.generator.sample_set import SyntheticSet

Judge = Callable[[Sequence[int]], Sequence[int]]
"""Numbers of clips to those of them that are to be taken out."""


def judge_of(made: SyntheticSet, seer: str, against: Path) -> Judge:
    """Takes out what the audit would remove, and what it cannot see (without a sector, say).

    seer: an encoder or a re-identification head. against: shards with the training clips as train, new patients as val.
    Every process calls it; the first one judges.
    """

    def taken_out(numbers: Sequence[int]) -> Sequence[int]:
        out: list[int] = []
        on_main(lambda: out.extend(_removed(made, numbers, seer, against)))
        messages = exchanged(json.dumps(out).encode() if processes().is_main_process else b"")
        return list(json.loads(messages[0]))

    return taken_out


def _removed(made: SyntheticSet, numbers: Sequence[int], seer: str, against: Path) -> list[int]:
    looked_at = made.out / "judged"
    shutil.rmtree(looked_at, ignore_errors=True)
    looked_at.mkdir()
    for number in numbers:
        shutil.copy(made.path(number), looked_at)
    given: dict[str, Any] = {"reid" if is_head(seer) else "encoder": seer}
    embed = EmbedOptions(patient_from="stem")
    found = audit_sets(
        f"{against}:train",
        f"{against}:val",
        looked_at,
        settings=AuditSettings(canaries=0, strips=0),
        embed=embed,
        **given,
    )
    shutil.rmtree(looked_at)
    removed, key = set(found.removed_ids), load_key()
    seen = set(found.samples["clip_id"])
    ids = {number: set(clip_ids_of(made.path(number), key)) for number in numbers}
    return [number for number in numbers if ids[number] & removed or not ids[number] & seen]
