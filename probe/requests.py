"""What is wrong with a request, as far as it can be known before hours of embedding or of other probes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from echofm.embed.rows import COLUMNS
from echofm.errors import EchofmError
from echofm.shards.manifest import MANIFEST, read_manifest
from probe.inputs import ProbeInputs
from probe.labels.evaluate import require_clip_kind
from probe.labels.features import feature_choices
from probe.labels.target import read_target
from probe.partition import partition
from probe.retrieval.probe import What
from probe.targets import LV_AREA, RETRIEVAL, ProbeRequest

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


def check_before_embedding(requests: Sequence[ProbeRequest], *, data: Sequence[Path]) -> None:
    """Raises EchofmError on a target that an encoder's table over the data cannot have.

    data: all that is to be embedded; a second one is another set to test on. The labels of shards are known; those of
    a folder are when it is read.
    """
    known = [set(read_manifest(each).labels) for each in data if (each / MANIFEST).is_file()]
    for request in requests:
        if request.target in ("phase", "mask") or _is_retrieval(request):
            _require_one_set(request, others=len(data) > 1)
            continue
        require_clip_kind(request.kind)
        for labels in known:
            strange = [name for name in request.target.split("+") if name not in labels | set(COLUMNS)]
            if strange:
                raise EchofmError(
                    f"--target {request.target}: the shards have no label {strange[0]!r}; they have: "
                    f"{', '.join(sorted(labels)) or 'none'}"
                )


def check_before_probing(requests: Sequence[ProbeRequest], inputs: ProbeInputs) -> None:
    """Raises EchofmError on a clip's label that the table cannot answer, before the first probe of any target."""
    table = inputs.table
    for request in requests:
        if request.target not in table.rows.columns and (request.target in ("phase", "mask") or _is_retrieval(request)):
            _require_one_set(request, others=inputs.test_clips is not None)
            continue
        require_clip_kind(request.kind)
        goal = read_target(table, request.target, task=request.task, order=request.order)
        try:
            part = partition(table, goal.rows_M, seed=request.seed, test_clips=inputs.test_clips)
        except EchofmError as error:
            # It speaks of "this label", and several may be asked for.
            raise EchofmError(f"--target {request.target}: {error}") from None
        if inputs.test_clips is not None:
            goal.require_shared(train=part.train, test=part.test)
        goal.require_known(training=part.train, validation=part.val)
        feature_choices(table, request.features, kind=request.kind)


def _require_one_set(request: ProbeRequest, *, others: bool) -> None:
    if others and request.target != LV_AREA:
        raise EchofmError(f"--test-on is for labels of clips; ask for {request.target} on the other set by itself")


def _is_retrieval(request: ProbeRequest) -> bool:
    """Raises EchofmError where it is, but of what there is none of."""
    what = request.target.removeprefix(RETRIEVAL)
    if what == request.target:
        return False
    if request.target != LV_AREA and what not in get_args(What):
        raise EchofmError(f"--target {request.target}: retrieval is of {', '.join(get_args(What))}, lv_area")
    return True
