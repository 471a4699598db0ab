"""measure: what a re-identification model recognises on held-out patients, beside the same features without a head.

M samples, N clips, E features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from echofm.atomic import write_whole
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError, os_errors_as
from echofm.intervals import Estimate
from echofm.schema import FrozenModel
from synth.audit.reid.model import Reid
from synth.audit.reid.samples import FIRST, SECOND, WHOLE, Samples
from synth.audit.reid.verify import SETTINGS, Recordings, Setting, Verification, fewer_patients, verifiable, verify
from synth.audit.sets import text
from synth.audit.settings import Level

Space = Literal["head", "raw cosine"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One verification: at a level, in the head's space or by the plain cosine of what the head reads."""

    level: Level
    space: Space
    found: Verification


class Figure(FrozenModel):
    """One line of verification.json."""

    level: Level
    space: Space
    setting: Setting
    auc: Estimate
    eer: Estimate
    rank1: Estimate
    mean_average_precision: Estimate
    patients: int
    genuine_pairs: int
    impostor_pairs: int


_FOUND = ("setting", "auc", "eer", "rank1", "mean_average_precision", "patients")


class VerificationReport(FrozenModel):
    """verification.json: on patients of the split "test", 95 % intervals over redrawn patients."""

    schema_version: Literal[1] = 1
    base_encoder_digest: str
    role: str
    half: str
    seed: int
    weights_sha256: str
    test_patients: int
    test_clips: int
    without_cycle: int
    """Test clips that have no features at the motion level."""
    figures: list[Figure]

    def save(self, path: Path) -> None:
        """Write it. Raises EchofmError where that cannot be done."""
        with os_errors_as(f"{path.name} cannot be written ({{reason}}); check --out"):
            write_whole(path, self.to_json())


def measure(
    reid: Reid,
    test: EmbeddingTable,
    *,
    draws: int = 1000,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> list[Measured]:
    """Verification within one acquisition, across acquisitions and across views, as far as the clips allow each.

    The plain cosine of the samples that the head reads stands beside it. Of very many clips a drawn part of the
    patients is taken. Raises EchofmError where nothing can be verified at all.
    """
    test = test.select(np.flatnonzero(fewer_patients(text(test.patient_id), seed=seed)))
    results = []
    for level, model in reid.levels.items():
        found = model.samples(test)
        raw_ME = _unit(found.feature_MD)
        spaces: tuple[tuple[Space, npt.NDArray[np.float32]], ...] = (
            ("raw cosine", raw_ME),
            ("head", model.head.project(found.feature_MD)),
        )
        for space, feature_ME in spaces:
            for queries, gallery, setting in _settings(test, found, feature_ME):
                result = verify(queries, gallery, setting=setting, draws=draws, seed=seed)
                results.append(Measured(level=level, space=space, found=result))
        advance(f"{level}: measured")
    if not results:
        raise EchofmError(
            "the test patients offer no pair of clips or of parts of a clip; nothing can be verified: "
            "give more test patients or embed with --tokens 4,7,7"
        )
    return results


def summary(reid: Reid, test: EmbeddingTable, measured: list[Measured]) -> VerificationReport:
    """What was measured, for verification.json."""
    without = len(test) - int(reid.usable(test, level="motion").sum()) if "motion" in reid.levels else 0
    return VerificationReport(
        base_encoder_digest=reid.config.base_encoder_digest,
        role=reid.config.role,
        half=reid.config.half,
        seed=reid.config.seed,
        weights_sha256=reid.config.weights_sha256,
        test_patients=len(set(test.patient_id)),
        test_clips=len(test),
        without_cycle=without,
        figures=[
            Figure(
                level=each.level,
                space=each.space,
                **{name: getattr(each.found, name) for name in _FOUND},
                genuine_pairs=len(each.found.genuine),
                impostor_pairs=len(each.found.impostor),
            )
            for each in measured
        ],
    )


def hardest_setting(measured: list[Measured], level: Level) -> Measured:
    """What the head of a level does across acquisitions; within one where no test patient has two clips of a view."""
    own = [each for each in measured if each.level == level and each.space == "head"]
    wanted: tuple[Setting, ...] = ("across acquisitions", "within acquisition", "across views")
    return min(own, key=lambda each: wanted.index(each.found.setting))


def _settings(
    test: EmbeddingTable, found: Samples, feature_ME: npt.NDArray[np.float32]
) -> Iterator[tuple[Recordings, Recordings, Setting]]:
    first, second, whole = (found.recordings(test, feature_ME, part) for part in (FIRST, SECOND, WHOLE))
    for setting in SETTINGS:
        pair = (first, second) if setting == "within acquisition" else (whole, whole)
        if verifiable(*pair, setting=setting):
            yield *pair, setting


def _unit(feature_MD: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    length = np.linalg.norm(feature_MD, axis=1, keepdims=True)
    return feature_MD / np.maximum(length, np.finfo(np.float32).tiny)
