"""The audit's rule in the loop of sampling: which clips come closer to the training clips than new patients do."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from echofm.embed.inputs import ShardInput
from echofm.embed.options import EmbedOptions
from echofm.encoder import AnyEncoder
from echofm.engine.parallel import exchanged, on_main, processes
from echofm.errors import EchofmError
from echofm.ids import load_key
from echofm.shards.read import ShardSet
from synth.audit.api import audit_sets
from synth.audit.filter.write import clip_ids_of
from synth.audit.inputs import encoder_of, is_head
from synth.audit.settings import AuditSettings
from synth.audit.statistics.calibrate import require_holdout

_EMBED, _AUDIT = EmbedOptions(patient_from="stem"), AuditSettings(canaries=0, strips=0)


@dataclass(frozen=True)
class Judge:
    """Takes out what the audit would remove, and what it cannot see (without a sector, say).

    against: shards with the training clips as train, new patients as val. fingerprint: of encoder and shards.
    """

    encoder: AnyEncoder
    against: Path
    fingerprint: str

    @classmethod
    def open(cls, encoder: str, against: Path) -> Judge:
        """Raises EchofmError, before anything is sampled, where these cannot judge."""
        if is_head(encoder):
            raise EchofmError(
                "--filter takes an encoder, not a re-identification head: `echofm audit --reid` takes one"
            )
        shards, opened = ShardSet.open(against), encoder_of(encoder, _EMBED)
        for split in ("train", "val"):
            if not len(shards.split(split)):
                raise EchofmError(f"--against: the split {split!r} has no clip")
        require_holdout(len({each.meta.patient_id for each in shards.split("val").records}), alpha=_AUDIT.alpha)
        known = ShardInput(shards, contract=opened.contract).fingerprint()
        return cls(opened, against, f"{opened.digest} {known}")

    def __call__(self, files: Mapping[int, Path]) -> Sequence[int]:
        """Numbers of those of these clips that are to be taken out. Every process calls it; the first one judges."""
        out: list[int] = []
        on_main(lambda: out.extend(self._removed(files)))
        messages = exchanged(json.dumps(out).encode() if processes().is_main_process else b"")
        return list(json.loads(messages[0]))

    def _removed(self, files: Mapping[int, Path]) -> list[int]:
        with tempfile.TemporaryDirectory() as looked_at:
            for file in files.values():
                shutil.copy(file, looked_at)
            sets = f"{self.against}:train", f"{self.against}:val", looked_at
            found = audit_sets(*sets, encoder=self.encoder, settings=_AUDIT, embed=_EMBED)
        removed, seen, key = set(found.removed_ids), set(found.samples["clip_id"]), load_key()
        ids = {number: set(clip_ids_of(file, key)) for number, file in files.items()}
        return [number for number in files if ids[number] & removed or not ids[number] & seen]
