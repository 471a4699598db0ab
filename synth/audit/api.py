"""audit_sets: the whole audit in Python, from videos, shards or tables; `echofm audit` calls the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from echofm.embed.options import EmbedOptions
from echofm.embed.provenance import is_simulated
from echofm.progress import console
from synth.audit.assess import audit
from synth.audit.audited import Audited
from synth.audit.duplicates import Duplicates, find_duplicates
from synth.audit.inputs import Given, Inputs, Request, open_inputs
from synth.audit.report.strips import Strip, pairs, strips
from synth.audit.sets import set_name, text
from synth.audit.settings import AuditSettings, Level

if TYPE_CHECKING:
    from echofm.encoder import AnyEncoder
    from synth.audit.reid import Reid

_MOST_FOR_DUPLICATES = 20_000


def audit_sets(
    train: Given,
    holdout: Given,
    synthetic: Given,
    *,
    encoder: str | Path | AnyEncoder | None = None,
    reid: str | Path | Reid | None = None,
    judge: str | Path | Reid | AnyEncoder | None = None,
    motion: str | Path | None = None,
    canary_table: Given | None = None,
    settings: AuditSettings | None = None,
    embed: EmbedOptions | None = None,
) -> Audited:
    """How much closer a synthetic set comes to its training patients than new patients do, and what would be missed.

    train, holdout, synthetic: each a folder of videos, a public set, shards, `SET:split,split`, an .npz, an
        EmbeddingTable or its folder.
    encoder: what embeds videos and shards; a name as in `echofm embed`, or an encoder.
    reid: a re-identification head that the features go through. judge: a second head or encoder for the same question.
    motion: a run of `echofm synth train mafe echofm`, whose features are the motion level; swaps are planted then.
    canary_table: canaries embedded elsewhere, for sets that are tables.
    settings, embed: how clips are compared and embedded; features are kept in the cache that all commands share.
    Raises EchofmError where the sets cannot be had or do not fit.
    """
    request = Request(
        train=train,
        holdout=holdout,
        synthetic=synthetic,
        encoder=encoder,
        reid=reid,
        judge=judge,
        canary_table=canary_table,
        motion=motion,
        settings=settings or AuditSettings(),
        embed=embed or EmbedOptions(),
    )
    return audited(request, open_inputs(request))


def audited(request: Request, inputs: Inputs) -> Audited:
    """The audit of what was opened; in one process."""
    found = audit(
        inputs.sets.train,
        inputs.sets.holdout,
        inputs.sets.synthetic,
        canaries=inputs.sets.canaries,
        head=inputs.head,
        motion=inputs.motion,
        judge=inputs.judge,
        duplicates=_duplicates(request, inputs),
        set_aside=inputs.set_aside,
        names=(set_name(request.train), set_name(request.holdout), set_name(request.synthetic)),
        settings=request.settings,
    )
    return replace(found, simulated=is_simulated(inputs.sets.train), strips=_strips(request, inputs, found))


def _duplicates(request: Request, inputs: Inputs) -> Duplicates | None:
    """None: only what the ids tell."""
    sets, videos = inputs.sets, inputs.videos
    tables = {"training": sets.train, "held-out": sets.holdout, "synthetic": sets.synthetic}
    there = {name: table for name, table in tables.items() if name in videos}
    if request.settings.duplicates == "off" or not {"training", "synthetic"} <= there.keys():
        return None
    clips = sum(map(len, there.values()))
    if request.settings.duplicates == "auto" and clips > _MOST_FOR_DUPLICATES:
        console.print(f"{clips} clips are too many to be read again for duplicates; --duplicates on does it", style="")
        return None
    return find_duplicates(videos, there, processes=request.embed.processes)


def _strips(request: Request, inputs: Inputs, found: Audited) -> Callable[[], Sequence[Strip]]:
    """Reads every clip to be removed beside its source, and the closest of the others, where sets have pixels."""
    if not {"training", "synthetic"} <= inputs.videos.keys() or request.settings.strips <= 0:
        return tuple
    decide = request.settings.decide
    level: Level = found.result.levels[0].level if decide == "any" else decide
    held_out = text(inputs.sets.holdout.clip_id).tolist()
    wanted = pairs(found.samples, level, kept=request.settings.strips, holdout=held_out)
    return partial(strips, wanted, inputs.videos)
