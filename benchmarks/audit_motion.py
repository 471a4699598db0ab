"""What the audit's levels catch of a motion on another heart: swaps, exact copies and new beats, level beside level.

    python -m benchmarks.audit_motion SHARDS --encoder E --motion MAFE

Swaps alone are planted and set beside copies, so that it costs a fraction of `echofm audit --motion MAFE`, whose levels
and thresholds these are. Val and test patients are held out; the held-out hearts that lend the swaps their anatomy are
not those that are the null.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from echofm.embed.cache import embedded
from echofm.embed.inputs import Input
from echofm.embed.options import EmbedOptions
from echofm.embed.rows import tidy_rows
from echofm.embed.source import open_set
from echofm.embed.table import EmbeddingTable
from echofm.encoder import AnyEncoder
from echofm.hub import load_encoder
from synth.audit.assess import audit
from synth.audit.canaries.planting import canary_id, with_new_beats
from synth.audit.canaries.swaps import SwapInput
from synth.audit.motion import MotionLevel, motion_encoder
from synth.audit.sets import KIND, SOURCE, STRENGTH, Sets
from synth.audit.settings import AuditSettings


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Shards with splits, an encoder, and a run of motion features."""

    shards: Annotated[Path, tyro.conf.Positional]
    encoder: str
    motion: Path
    swaps: int = 40
    """Training patients whose motion is copied; as many held-out patients lend their anatomy."""
    cache: Path | None = None


def main(arguments: Arguments) -> None:
    """Print recall of each level, with its interval."""
    options = EmbedOptions(cache=arguments.cache)
    moving = motion_encoder(arguments.motion)
    given = open_set(arguments.shards, name="real", options=options)
    assert given.videos is not None
    contract = load_encoder(arguments.encoder).contract

    def table(encoder: AnyEncoder, source: Input, name: str) -> EmbeddingTable:
        return embedded(options.extractor(encoder), source, name=name, cache=options.cache).table

    encoders: tuple[AnyEncoder, AnyEncoder] = (load_encoder(arguments.encoder), moving)
    looks, motion = (table(each, given.videos.input(each.contract), "real") for each in encoders)
    clips = looks.clip_id.astype(str)
    train_N = looks.split.astype(str) == "train"
    motions = _first_clips(looks, train_N, arguments.swaps)
    lenders = _first_clips(looks, ~train_N, arguments.swaps)
    lent_N = np.isin(looks.patient_id, looks.patient_id[np.isin(clips, lenders)])
    found = []
    for encoder, own in zip(encoders, (looks, motion)):
        videos = open_set(arguments.shards, name="real", options=options).videos
        assert videos is not None
        videos.locate(clips.tolist(), arguments.shards)
        pairs = list(zip(motions, lenders))
        swaps = SwapInput(train=videos, holdout=videos, pairs=pairs, encoder=moving, contract=contract)
        planted = EmbeddingTable.concat([_exact(own, motions), table(encoder, swaps, "swaps")])
        train = own.select(train_N)
        found.append(
            Sets(
                train=train,
                holdout=own.select(~train_N & ~lent_N),
                synthetic=own.select(~train_N & lent_N),
                canaries=with_new_beats(planted, train, wanted=arguments.swaps, seed=0),
            )
        )
    sets, seen = found
    level = MotionLevel.of(seen, None, frames=True)
    result = audit(
        sets.train, sets.holdout, sets.synthetic, canaries=sets.canaries, motion=level, settings=AuditSettings()
    ).result
    print(f"| copy (phantom) | {' | '.join(f'{each.level} level' for each in result.levels)} |")
    print("|---" * (len(result.levels) + 1) + "|")
    for rows in zip(*(each.power for each in result.levels)):
        shown = [f"{each.recall.value:.2f} [{each.recall.low:.2f}, {each.recall.high:.2f}]" for each in rows]
        print(f"| {rows[0].kind}, {rows[0].planted} | {' | '.join(shown)} |")


def _first_clips(table: EmbeddingTable, chosen_N: np.ndarray, most: int) -> list[str]:
    """One clip of each of so many patients, drawn."""
    rows = table.rows[chosen_N].sort_values("clip_id")
    drawn = rows.iloc[np.random.default_rng(0).permutation(len(rows))].drop_duplicates("patient_id")
    return [str(each) for each in drawn["clip_id"].head(most)]


def _exact(table: EmbeddingTable, sources: list[str]) -> EmbeddingTable:
    """The training clips themselves, as canaries."""
    chosen = table.select(np.isin(table.clip_id.astype(str), sources))
    source = chosen.clip_id.astype(str)
    ids = [canary_id(each, "exact", 0.0) for each in source]
    rows = chosen.rows.drop(columns=list(chosen.labels.columns))
    marks = {KIND: "exact", STRENGTH: 0.0, SOURCE: source.astype(object)}
    return replace(chosen, rows=tidy_rows(rows.assign(clip_id=ids, **marks)))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
