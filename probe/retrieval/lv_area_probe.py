"""Like frames of one clip, measured by the ventricle's area: on any clips traced in every frame, real ones too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.clip import Clip
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.estimators.left_ventricle import AreaCurve, mask_area
from probe.checks.embedding import check_embedding
from probe.protocol import Answers, Chosen, Figure, Key, ProbeProtocol, mean_of, require_request
from probe.result import Probed, ProbeResult
from probe.retrieval.frames import Reading, encode_windows, sources_of
from probe.retrieval.lv_area import (
    APART_S,
    READINGS,
    AreaMatch,
    chance_of_matches,
    encoder_similarity,
    match_frames,
    prior_similarity,
    rate_readings,
)

if TYPE_CHECKING:
    from echofm.hub import Encoder
    from echofm.shards.read import ShardSet

# A window is encoded from every frame: more clips would cost hours.
MOST_VAL, MOST_TEST = 24, 100
# Twice the gap between a frame and its match, and a little.
_SHORTEST_S = 1.1
# (F, F) similarity of a clip's frames.
Similarity = Callable[[Clip], npt.NDArray]


class TracedClip(NamedTuple):
    """A clip whose every frame has a left ventricle, and its area."""

    clip: Clip
    curve: AreaCurve


def probe_lv_area(
    encoder: Encoder,
    shards: ShardSet,
    table: EmbeddingTable,
    *,
    test_on: ShardSet | None = None,
    baselines: Mapping[str, Encoder] | None = None,
    batch: int = 16,
    device: str = "cpu",
    draws: int = 1000,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """For every frame of a test clip the most similar one half a second away or more: are the ventricle's areas alike?

    shards: clips with a mask on every frame (the phantom, traced cines); how frames are read is chosen on up to 24 of
        its validation clips (`Reading`). test_on: other shards to test on, whole; else the test clips are the shards'.
    table: of the encoder, for the checks of the embedding.

    Scores of method "probe", the baselines, the frames' own pixels ("pixels", and "pixels and change") and "chance":
    area_error_percent, how far the areas of a frame and its match are apart, % of the clip's range; same_direction,
    part of matches in which both frames fill or both eject. Means over clips; intervals redraw patients. The notes
    hold a permutation test, for sets of too few patients.
    predictions: a row per frame: clip_id, patient_id, view, time_s, area, match_time_s, match_area, same_direction.
    Raises EchofmError where no test clip is traced in every frame and longer than a second.
    """
    require_request(baselines, seed=seed, draws=draws)
    test = list(traced_clips(shards.split("test") if test_on is None else test_on, most=MOST_TEST))
    if not test:
        raise EchofmError("no test clip has a left-ventricle mask on every frame and lasts longer than a second")
    protocol = LvAreaProtocol(
        table=table,
        encoder_digest=encoder.digest,
        splits_from="table" if test_on is None else "test clips",
        test=test,
        val=list(traced_clips(shards.split("val"), most=MOST_VAL, views={each.clip.view for each in test})),
        batch=batch,
        device=device,
        draws=draws,
        seed=seed,
        advance=advance,
    )
    pixels = {"pixels": prior_similarity, "pixels and change": partial(prior_similarity, motion=True)}
    return protocol.probe(encoder, {**(baselines or {}), **pixels})


def traced_clips(shards: ShardSet, *, most: int, views: set[str | None] | None = None) -> Iterator[TracedClip]:
    """The first clips traced in every frame, of these views."""
    found = 0
    for index, record in enumerate(shards.records):
        if found == most:
            return
        if not record.n_masks or (views is not None and record.meta.view not in views):
            continue
        clip = shards.clip(index)
        curve = mask_area(clip)
        if curve is not None and curve.time_s_F[-1] >= _SHORTEST_S and np.ptp(curve.area_F) > 0:
            found += 1
            yield TracedClip(clip, curve)


@dataclass(frozen=True, kw_only=True, eq=False)
class LvAreaAnswers(Answers):
    """Of the test clips, one by one."""

    matches: Sequence[AreaMatch]


@dataclass(frozen=True, kw_only=True, eq=False)
class LvAreaProtocol(ProbeProtocol[Any, LvAreaAnswers]):
    """Clips on which every method is measured alike. A source is an encoder, or a similarity of frames."""

    table: EmbeddingTable
    encoder_digest: str
    splits_from: str
    test: Sequence[TracedClip]
    val: Sequence[TracedClip]
    batch: int
    device: str

    def probed(self, own: LvAreaAnswers, scored: dict[str, Any]) -> Probed:
        """The result, and a row per frame."""
        parts = {"val": self.val, "test": self.test}
        result = ProbeResult(
            target="lv_area-retrieval",
            task="retrieval",
            kind="knn",
            features=str(own.chosen["source"]),
            encoder_digest=self.encoder_digest,
            splits_from=self.splits_from,
            clips={name: len(part) for name, part in parts.items()},
            patients={name: len({each.clip.patient_id for each in part}) for name, part in parts.items()},
            **scored,
            sanity=check_embedding(self.table),
            notes=self._notes(own),
        )
        return Probed(result=result, predictions=self._frame(own))

    def answer(self, method: str, source: Any) -> LvAreaAnswers:
        """Choose how an encoder's frames are read; match the frames of the test clips."""
        similarity, chosen = self._similarity(source)
        matches = [match_frames(similarity(each.clip), each.curve) for each in self.test]
        self.advance(method)
        own = {
            "area_error_percent": [100 * each.difference_F.mean() for each in matches],
            "same_direction": [each.same_F.mean() for each in matches],
        }
        # All pairs of frames far enough apart.
        chance = {
            "area_error_percent": [100 * each.chance_difference for each in matches],
            "same_direction": [each.chance_same for each in matches],
        }
        figures, chances = self._figures(own), self._figures(chance)
        return LvAreaAnswers(figures=figures, chances=chances, chosen=chosen, matches=matches)

    def _figures(self, values: Mapping[str, Sequence[float]]) -> dict[Key, Figure]:
        patients_N = np.array([each.clip.patient_id for each in self.test])
        return {Key(name): Figure(of=mean_of(np.array(each)), patients_N=patients_N) for name, each in values.items()}

    def _similarity(self, source: Any) -> tuple[Similarity, Chosen]:
        """Of an encoder the reading that matches validation clips best; the plain one without such clips."""
        if not hasattr(source, "contract"):
            return source, {}
        sources = sources_of(source)

        def encoded(clip: Clip, *names: str) -> Any:
            return encode_windows(source, clip, batch=self.batch, sources=names or sources, device=self.device)

        reading = Reading()
        if self.val:
            readings = [each for each in READINGS if each.source in sources]
            rated = rate_readings(((encoded(each.clip), each.curve) for each in self.val), readings=readings)
            reading = rated["reading"][0]
        names = ("source", "windows", "centre_positions", "motion_weight", "along_s")
        chosen: Chosen = {name: getattr(reading, name) for name in names}
        chosen["centre_positions"] = str(reading.centre_positions)
        return (lambda clip: encoder_similarity(encoded(clip, reading.source), reading)), chosen

    def _notes(self, own: LvAreaAnswers) -> list[str]:
        area, direction = chance_of_matches(own.matches, seed=self.seed)
        frames = sum(len(each.match_F) for each in own.matches)
        notes = [
            f"{len(own.matches)} test clips with {frames} traced frames; a match lies {APART_S:g} s away or more.",
            f"Of matches moved on together at random, a share of {area:.4f} is at least as good by area and "
            f"{direction:.4f} by direction (a rough figure where clips are few).",
        ]
        if not self.val:
            notes.append("No validation clip is traced in every frame: how frames are read was not chosen.")
        return notes

    def _frame(self, own: LvAreaAnswers) -> pd.DataFrame:
        """A row per frame of the test clips."""
        frames = []
        for each, match in zip(self.test, own.matches):
            time_s, area = each.curve.time_s_F, each.curve.area_F
            ids = {"clip_id": each.clip.clip_id, "patient_id": each.clip.patient_id, "view": each.clip.view}
            matched = {"match_time_s": time_s[match.match_F], "match_area": area[match.match_F]}
            same = {"same_direction": match.same_F.astype(float)}
            frames.append(pd.DataFrame({**ids, "time_s": time_s, "area": area, **matched, **same}))
        return pd.concat(frames, ignore_index=True)
