"""Duplicates: synthetic clips that are training recordings by their bytes or their speckle, whatever an encoder sees.

They need no calibration: two recordings never share speckle (echofm.check.fingerprint), so one hit is a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.check.duplicates import Pair, find_copies
from echofm.check.fingerprint import Fingerprint, fingerprint
from echofm.clip import Clip
from echofm.embed.table import EmbeddingTable
from echofm.embed.videos import Videos
from echofm.errors import UnreadableFile
from echofm.progress import progress_bar
from synth.audit.result import DuplicateCount
from synth.audit.sets import text

Prints = tuple[Fingerprint, Fingerprint]


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """exact: synthetic clip id -> training clip id (the same, as ids come from bytes). perceptual: alike, by speckle,
    exact ones among them; None where nobody looked. holdout: synthetic clip id -> held-out clip id, by whatever was
    looked at. train_holdout: pairs of a training and a held-out clip."""

    exact: Mapping[str, str]
    perceptual: Mapping[str, str] | None = None
    holdout: Mapping[str, str] = field(default_factory=dict)
    train_holdout: Sequence[tuple[str, str]] | None = None
    unread: int = field(default=0)

    def of(self, clip_id_S: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
        """Of each synthetic clip the training clip that it copies, else the held-out one, "" for none."""
        known = {**self.holdout, **(self.perceptual or {}), **self.exact}
        return np.array([known.get(each, "") for each in clip_id_S.tolist()], dtype=np.str_)

    def counted(self) -> DuplicateCount:
        """As the result holds it."""
        return DuplicateCount(
            exact=len(self.exact),
            perceptual=None if self.perceptual is None else len(self.perceptual),
            holdout=len(self.holdout),
            train_holdout=None if self.train_holdout is None else len(self.train_holdout),
        )

    def notes(self) -> list[str]:
        """What a reader must know beside the counts."""
        notes = []
        if self.train_holdout:
            first = self.train_holdout[0]
            notes.append(
                f"{len(self.train_holdout)} held-out clips show the same recording as a training clip (first "
                f"{first[1]} and {first[0]}): one patient is in both sets under two names, so the null is too close "
                "and fewer clips are flagged than should be; take these patients out of one set"
            )
        if self.unread:
            notes.append(f"{self.unread} clips could not be read again for the search for duplicates")
        return notes


def exact_copies(train: EmbeddingTable, synthetic: EmbeddingTable) -> dict[str, str]:
    """Synthetic clips whose id, a hash of the file's bytes, is that of a training clip.

    Ids of someone else's features may be no such hash (row numbers, say): clips of one id are one file only where
    their features are the same as well.
    """
    rows = {each: row for row, each in enumerate(text(train.clip_id).tolist())}
    shared = [(row, rows[each], each) for row, each in enumerate(text(synthetic.clip_id).tolist()) if each in rows]
    return {
        each: each
        for row, other, each in shared
        if np.allclose(synthetic.video_ND[row], train.video_ND[other], rtol=1e-3, atol=1e-3 * _size(train, other))
    }


def by_ids(train: EmbeddingTable, holdout: EmbeddingTable, synthetic: EmbeddingTable) -> Duplicates:
    """What the ids tell alone, where no pixels are looked at."""
    return Duplicates(exact=exact_copies(train, synthetic), holdout=exact_copies(holdout, synthetic))


def _size(table: EmbeddingTable, row: int) -> float:
    return float(np.abs(table.video_ND[row]).mean())


def find_duplicates(
    videos: Mapping[str, Videos], tables: Mapping[str, EmbeddingTable], *, processes: int
) -> Duplicates:
    """Read the sets ("training", "synthetic" and, if it is there, "held-out") again and compare their fingerprints.

    A copy of a copy counts as a copy: clips that are linked by pairs share the training clip that one of them shows.
    """
    owners: list[tuple[str, str]] = []
    prints: list[Prints] = []
    unread = 0
    with progress_bar("fingerprints", sum(map(len, tables.values()))) as bar:
        for name, table in tables.items():
            asked = [(clip, None) for clip in text(table.clip_id).tolist()]
            for (clip, _), result in zip(asked, videos[name].read(asked, prints_of)):
                bar.advance()
                if isinstance(result, UnreadableFile):
                    unread += 1
                    continue
                owners.append((name, clip))
                prints.append(result)
    pairs = find_copies([one for one, _ in prints], [other for _, other in prints], processes=processes)
    return Duplicates(
        exact=exact_copies(tables["training"], tables["synthetic"]),
        perceptual=dict(_copied(owners, pairs, "training")),
        holdout=dict(_copied(owners, pairs, "held-out")),
        train_holdout=_across(owners, pairs) if "held-out" in tables else None,
        unread=unread,
    )


def copied(train: Mapping[str, Prints], synthetic: Mapping[str, Prints], *, processes: int) -> dict[str, str]:
    """Synthetic clip id -> id of the training clip that shows the same recording. Of each set: clip id -> prints."""
    owners = [*(("training", each) for each in train), *(("synthetic", each) for each in synthetic)]
    prints = [*train.values(), *synthetic.values()]
    pairs = find_copies([one for one, _ in prints], [other for _, other in prints], processes=processes)
    return dict(_copied(owners, pairs, "training"))


def prints_of(clip: Clip, _: Any = None) -> Prints:
    """Both fingerprints of a clip, of its sector and of the whole picture."""
    return fingerprint(clip), fingerprint(clip, whole_picture=True)


def _copied(owners: Sequence[tuple[str, str]], pairs: Sequence[Pair], real: str) -> Iterator[tuple[str, str]]:
    """(synthetic clip, clip of the real set) where a chain of pairs leads from one to the other; best pair first."""
    linked: dict[int, list[int]] = {}
    for pair in pairs:
        linked.setdefault(pair.first, []).append(pair.second)
        linked.setdefault(pair.second, []).append(pair.first)
    source = {position: position for position in linked if owners[position][0] == real}
    queue = list(source)
    for position in queue:
        for other in linked[position]:
            # A clip of another real set in between is no copy made by the generator.
            if other not in source and owners[other][0] == "synthetic":
                source[other] = source[position]
                queue.append(other)
    for position, original in sorted(source.items()):
        if owners[position][0] == "synthetic":
            yield owners[position][1], owners[original][1]


def _across(owners: Sequence[tuple[str, str]], pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    found = []
    for pair in pairs:
        sides = {owners[pair.first][0]: owners[pair.first][1], owners[pair.second][0]: owners[pair.second][1]}
        if sides.keys() == {"training", "held-out"}:
            found.append((sides["training"], sides["held-out"]))
    return found
