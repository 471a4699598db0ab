"""What is wrong with the targets asked for, as far as it can be known before hours of embedding or of other probes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from echofm.embed.table import COLUMNS
from echofm.errors import EchofmError
from echofm.shards.manifest import MANIFEST, read_manifest
from probe.labels.evaluate import require_clip_kind
from probe.labels.features import feature_choices
from probe.labels.target import read_target
from probe.maker import Gathered
from probe.partition import partition
from probe.retrieval.probe import What
from probe.targets import RETRIEVAL, Ask

# File systems take 255 bytes a name; of a longer one so many characters and a hash are kept.
_LONGEST_BYTES, _KEPT = 200, 48


def target_folder(out: Path, target: str) -> Path:
    """The folder of a target's result, made. Raises EchofmError where it cannot be."""
    name = target.replace(":", "-")
    if len(name.encode()) > _LONGEST_BYTES:
        name = f"{name[:_KEPT]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    try:
        (out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EchofmError(f"--out {out}: no folder can be made there ({error.strerror}); name another") from None
    return out / name


def check_before_embedding(asks: Sequence[Ask], *, data: Sequence[Path]) -> None:
    """Raises EchofmError on a target that an encoder's table over the data cannot have.

    data: all that is to be embedded; a second one is another set to test on. The labels of shards are known; those of
    a folder are when it is read.
    """
    known = [set(read_manifest(each).labels) for each in data if (each / MANIFEST).is_file()]
    for ask in asks:
        if ask.target in ("phase", "mask") or _is_retrieval(ask):
            _require_one_set(ask, others=len(data) > 1)
            continue
        require_clip_kind(ask.kind)
        for labels in known:
            strange = [name for name in ask.target.split("+") if name not in labels | set(COLUMNS)]
            if strange:
                raise EchofmError(
                    f"--target {ask.target}: the shards have no label {strange[0]!r}; they have: "
                    f"{', '.join(sorted(labels)) or 'none'}"
                )


def check_before_probing(asks: Sequence[Ask], gathered: Gathered) -> None:
    """Raises EchofmError on a clip's label that the table cannot answer, before the first probe of any target."""
    table = gathered.table
    for ask in asks:
        if ask.target not in table.rows.columns and (ask.target in ("phase", "mask") or _is_retrieval(ask)):
            _require_one_set(ask, others=gathered.test_clips is not None)
            continue
        require_clip_kind(ask.kind)
        goal = read_target(table, ask.target, task=ask.task, order=ask.order)
        try:
            part = partition(table, goal.rows_M, seed=ask.seed, test_clips=gathered.test_clips)
        except EchofmError as error:
            # It speaks of "this label", and several may be asked for.
            raise EchofmError(f"--target {ask.target}: {error}") from None
        if gathered.test_clips is not None:
            goal.require_shared(train=part.train, test=part.test)
        goal.require_known(training=part.train, validation=part.val)
        feature_choices(table, ask.features, kind=ask.kind)


def _require_one_set(ask: Ask, *, others: bool) -> None:
    if others:
        raise EchofmError(f"--test-on is for labels of clips; ask for {ask.target} on the other set by itself")


def _is_retrieval(ask: Ask) -> bool:
    """Raises EchofmError where it is, but of what there is none of."""
    what = ask.target.removeprefix(RETRIEVAL)
    if what == ask.target:
        return False
    if what not in get_args(What):
        raise EchofmError(f"--target {ask.target}: retrieval is of {', '.join(get_args(What))}")
    return True
