"""Planting: canaries of a seeded sample of training clips, as an input that `echofm embed` reads like any other.

They pass through the same reading, conforming and embedding as the synthetic clips, in as many processes.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.inputs import Item, conformed
from echofm.embed.rows import tidy_rows
from echofm.embed.table import EmbeddingTable
from echofm.embed.videos import Videos
from echofm.errors import UnreadableFile
from synth.audit.canaries.transforms import IN_BETWEEN, NEW_BEAT, in_between, plan, transformed
from synth.audit.sets import KIND, LEFT_OUT, MARKS, SOURCE, STRENGTH

LEAST_SOURCES = 20


def sources(train: EmbeddingTable, *, wanted: int, budget: int, seed: int) -> list[str]:
    """Training clips to plant, one of each of `wanted` patients drawn at random, or of all where there are fewer.

    budget: canaries to embed at most, so that planting never costs more than the audit; LEAST_SOURCES are kept.
    """
    count = max(min(wanted, budget // len(plan())), min(wanted, LEAST_SOURCES))
    first_clip = _shuffled(train, [seed, 1]).drop_duplicates("patient_id")
    return [str(each) for each in first_clip["clip_id"].head(count)]


def _shuffled(table: EmbeddingTable, seed: Sequence[int]) -> pd.DataFrame:
    """The rows in an order drawn from seed and clip ids alone; files that lie elsewhere change no draw. The column
    "row" is each one's place in the table."""
    rows = table.rows.assign(row=np.arange(len(table))).sort_values("clip_id", kind="stable")
    return rows.iloc[np.random.default_rng(seed).permutation(len(rows))]


def swap_pairs(source_ids: Sequence[str], holdout: EmbeddingTable, *, seed: int) -> list[tuple[str, str]]:
    """Each source's motion with the anatomy of a held-out clip, of as many patients as there are."""
    first_clip = _shuffled(holdout, [seed, 3]).drop_duplicates("patient_id")["clip_id"].astype(str).tolist()
    return list(zip(source_ids, itertools.cycle(first_clip)))


@dataclass(frozen=True, kw_only=True)
class CanaryInput:
    """Canaries by index: source by source, in the order of `plan`. An `echofm.embed.inputs.Input`.

    videos: the training clips. source_ids: what to plant; each one's partner for mixtures is the next.
    """

    videos: Videos
    source_ids: Sequence[str]
    contract: InputContract
    seed: int

    def __len__(self) -> int:
        return len(self.source_ids) * len(plan())

    @property
    def _channels(self) -> int:
        """As the training clips themselves are read (echofm.embed.inputs)."""
        return 3 if self.contract.colour == "rgb" else 1

    def fingerprint(self) -> str:
        """Of the training set, the sample and what is planted."""
        parts = [self.videos.fingerprint(), *self.source_ids, str(self.seed), repr(plan())]
        # Only where there is colour, so that canaries of before hold for all other encoders.
        parts += ["in colour"] if self._channels == 3 else []
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def read(self, indices: Sequence[int]) -> Iterator[Item | UnreadableFile]:
        """The canaries asked for; a source that can no longer be read gives its reason."""
        planned = plan()
        by_source = [
            (position, [planned[index % len(planned)] for index in group])
            for position, group in itertools.groupby(indices, lambda index: index // len(planned))
        ]
        asked: list[tuple[str, tuple[tuple[str, float], ...]]] = []
        for position, wanted in by_source:
            asked.append((self.source_ids[position], tuple(wanted)))
            if any(kind == IN_BETWEEN for kind, _ in wanted):
                asked.append((self.source_ids[(position + 1) % len(self.source_ids)], ()))
        task = functools.partial(_planted, contract=self.contract, seed=self.seed)
        made = self.videos.read(asked, task, channels=self._channels)
        for position, wanted in by_source:
            own = next(made)
            other = next(made) if any(kind == IN_BETWEEN for kind, _ in wanted) else {}
            failed = next((each for each in (own, other) if isinstance(each, UnreadableFile)), None)
            for kind, strength in wanted:
                yield failed or self._item(self.source_ids[position], kind, strength, own, other)

    def _item(
        self,
        source: str,
        kind: str,
        strength: float,
        own: Mapping[tuple[str, float], Clip] | UnreadableFile,
        other: Mapping[tuple[str, float], Clip] | UnreadableFile,
    ) -> Item:
        assert not isinstance(own, UnreadableFile) and not isinstance(other, UnreadableFile)
        clip = in_between(own[_AS_IT_IS], other[_AS_IT_IS], strength) if kind == IN_BETWEEN else own[kind, strength]
        labels = {KIND: kind, STRENGTH: strength, SOURCE: source}
        clip = clip.replace(
            clip_id=canary_id(source, kind, strength), labels=labels, view=None, phase_T=None, mask_THW=None
        )
        return Item(clip=clip, file_id=clip.clip_id, dataset="canary", frame_rate_hz=clip.frame_rate_hz)


_AS_IT_IS = ("as it is", 0.0)


def _planted(
    clip: Clip, wanted: tuple[tuple[str, float], ...], *, contract: InputContract, seed: int
) -> dict[tuple[str, float], Clip]:
    """Each canary of one clip that needs no other clip, under the encoder's contract, and the clip itself."""
    made = {
        (kind, strength): conformed(transformed(clip, kind, strength, seed=seed), contract)
        for kind, strength in wanted
        if kind != IN_BETWEEN
    }
    return made | {_AS_IT_IS: conformed(clip, contract)}


def canary_id(source: str, kind: str, strength: float) -> str:
    """An id for a canary, in the form of all ids."""
    return hashlib.sha256(f"canary\0{source}\0{kind}\0{strength}".encode()).hexdigest()[:20]


def with_new_beats(planted: EmbeddingTable, train: EmbeddingTable, *, wanted: int, seed: int) -> EmbeddingTable:
    """The canaries and, where patients have several training clips, new beats: a clip whose patient's others remain.

    A new beat is itself a training clip, so it is left out when its own neighbour is sought. Of the same view where
    the patient has two clips of one view.
    """
    shuffled = _shuffled(train, [seed, 2])
    shuffled = shuffled.assign(view=shuffled["view"].fillna(""))
    alike = ["patient_id", "view"]
    if not shuffled.duplicated(alike).any():
        alike = ["patient_id"]
    position = shuffled.groupby(alike, sort=False).cumcount()
    beats = shuffled[position == 1].drop_duplicates("patient_id").head(wanted)
    if beats.empty:
        return _only_marks(planted)
    pairs = beats.merge(shuffled[position == 0], on=alike, suffixes=("", "_source"), validate="one_to_one")
    chosen = train.select(pairs["row"].to_numpy())
    marks = {
        KIND: NEW_BEAT,
        STRENGTH: 1.0,
        SOURCE: pairs["clip_id_source"].to_numpy(object),
        LEFT_OUT: pairs["clip_id"].to_numpy(object),
    }
    ids = [canary_id(str(each), NEW_BEAT, 1.0) for each in pairs["clip_id"]]
    rows = chosen.rows.drop(columns=list(chosen.labels.columns)).assign(clip_id=ids, **marks)
    return EmbeddingTable.concat([_only_marks(planted), replace(chosen, rows=tidy_rows(rows))])


def _only_marks(table: EmbeddingTable) -> EmbeddingTable:
    extra = [name for name in table.labels.columns if name not in MARKS]
    return replace(table, rows=table.rows.drop(columns=extra))
