"""Is this embedding alive, and is its data what the encoder's contract asks for? Stated before any figure of a probe.

A dead or leaking embedding probes well or badly for no good reason. Shapes: N clips, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from echofm.embed.table import EmbeddingTable
from echofm.metric.collapse import embedding_std, rankme
from echofm.nearest import nearest, unit_rows
from probe.partition import Partition
from probe.result import Check, SanityFigures

# Far below any encoder that trained well; an untrained transformer has an embedding std near 0.05.
_DEAD_STD, _DEAD_RANK = 0.005, 1.5
# One direction that holds nearly all the variance is a collapse that rank alone may miss.
_DEAD_SHARE = 0.99
_MOST_ROWS = 5000
# Of a vector's length: the same clip embedded in another batch differs by round-off.
_SAME = 1e-6
# Of the distance of two clips' features to their length, both from the mean: copies and re-encodings of one clip lie
# far below, two clips of one patient above.
_ALIKE = 0.005
NEAR_COPIES = "near-duplicates between training and test"
_MOST_TEST_CLIPS, _BLOCK_ROWS = 2000, 65_536


def check_embedding(table: EmbeddingTable, *, seed: int = 0) -> SanityFigures:
    """Look at up to 5,000 clips of a table."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(table))[:_MOST_ROWS])
    features = np.asarray(table.video_ND[rows], np.float64)
    patients = table.patient_id[rows].astype(str)
    checks = [_collapse(features), _spectrum(features), _frame_rate(table), _length(table)]
    within = between = None
    # Among features that are all alike everything is a copy of everything.
    if checks[0].passed:
        within, between = _similarities(features, patients)
        checks += [_identity(within, between), _copies(features, patients, table.split[rows])]
    return SanityFigures(
        rankme=checks[0].figures["rankme"],
        embedding_std=checks[0].figures["embedding_std"],
        within_patient=within,
        between_patients=between,
        problems=problems_of(checks),
        checks=checks,
    )


def problems_of(checks: Sequence[Check]) -> list[str]:
    """What the failed ones say."""
    return [check.says for check in checks if check.passed is False]


def with_checks(found: SanityFigures, checks: Sequence[Check]) -> SanityFigures:
    """A result's sanity with what else was looked at before it, of the encoder (`probe.checks.encoder`) or the table.

    These come first; what is there already is not said twice.
    """
    names = {check.name for check in checks}
    return found.model_copy(
        update={
            "problems": list(dict.fromkeys([*problems_of(checks), *found.problems])),
            "checks": [*checks, *(check for check in found.checks if check.name not in names)],
        }
    )


def check_split(table: EmbeddingTable, part: Partition, *, seed: int = 0) -> Check:
    """Test clips whose features all but equal a training or validation clip's, of up to 2,000 test clips."""
    name = NEAR_COPIES
    others = np.sort(np.concatenate([part.train, part.val]))
    test = np.random.default_rng(seed).permutation(part.test)[:_MOST_TEST_CLIPS]
    centre = table.video_ND[others[:: max(1, len(others) // _MOST_TEST_CLIPS)]].mean(0, dtype=np.float64)
    own = table.video_ND[test] - centre.astype(np.float32)
    length = np.linalg.norm(own.astype(np.float64), axis=1)
    apart, partner = np.full(len(test), np.inf), np.zeros(len(test), np.int64)
    for first in range(0, len(others), _BLOCK_ROWS):
        rows = others[first : first + _BLOCK_ROWS]
        known = table.video_ND[rows] - centre.astype(np.float32)
        if not (length > 0).all() or not np.abs(known).sum(1).all():
            return Check(name=name, passed=None, says="some clips have no features of their own")
        place = nearest(own, known).index_QK[:, 0]
        distance = np.linalg.norm(own.astype(np.float64) - known[place], axis=1)
        closer = distance < apart
        apart[closer], partner[closer] = distance[closer], rows[place[closer]]
    alike = apart < _ALIKE * length
    count = int(alike.sum())
    if not count:
        return Check(name=name, passed=True, says="none", figures={"clips": 0})
    says = (
        f"{count} of {len(test)} test clips have all but the features of a training or validation clip; first "
        f"{table.clip_id[test[alike.argmax()]]} and {table.clip_id[partner[alike.argmax()]]} "
        "(hashed); run `echofm check`"
    )
    return Check(name=name, passed=False, says=says, figures={"clips": count})


def _collapse(features: npt.NDArray[np.float64]) -> Check:
    rank, width = rankme(torch.from_numpy(features)), embedding_std(torch.from_numpy(features))
    dead = width < _DEAD_STD or rank < _DEAD_RANK
    stated = f"effective rank {rank:.2f}, embedding std {width:.4f}"
    return Check(
        name="collapse",
        passed=not dead,
        says=f"the embedding is collapsed: {stated}" if dead else f"the clips are told apart: {stated}",
        figures={"rankme": rank, "embedding_std": width},
    )


def _spectrum(features: npt.NDArray[np.float64]) -> Check:
    """Variance by principal direction."""
    centred = features - features.mean(0)
    # The smaller of the two Gram matrices has the same eigenvalues.
    gram = centred.T @ centred if centred.shape[1] <= len(centred) else centred @ centred.T
    values = np.clip(np.linalg.eigvalsh(gram)[::-1], 0, None)
    if values.sum() <= 0:
        return Check(name="variance spectrum", passed=False, says="the features do not vary at all")
    share = np.cumsum(values) / values.sum()
    first, nine_tenths = float(share[0]), int(np.searchsorted(share, 0.9) + 1)
    dead = first > _DEAD_SHARE and len(features) > 2
    stated = f"{first:.1%} of the variance lies in one direction, 90 % in {nine_tenths}"
    return Check(
        name="variance spectrum",
        passed=not dead,
        says=f"the embedding is nearly one number: {stated}" if dead else stated,
        figures={"first_share": first, "directions_of_90_percent": nine_tenths},
    )


def _identity(within: float | None, between: float | None) -> Check:
    if within is None:
        return Check(name="patients", passed=None, says="no patient has two clips: identity cannot be looked at")
    known = {"within_patient": within} | ({} if between is None else {"between_patients": between})
    apart = "" if between is None else f", {between:.3f} between patients"
    says = f"cosine of centred features {within:.3f} within a patient{apart}"
    return Check(name="patients", passed=True, says=says, figures=known)


def _copies(
    features: npt.NDArray[np.float64], patients: npt.NDArray[np.str_], splits: npt.NDArray[np.object_]
) -> Check:
    """Clips of different patients with the same features, those across training and test among them."""
    if len(set(patients)) < 2:
        return Check(name="copies", passed=None, says="all clips are of one patient")
    # A clip of zeros has no direction of its own, from the mean of all it has.
    centred = features - features.mean(0) + 1e-12
    found = nearest(centred, centred, exclude_QN=(patients, patients))
    apart = np.linalg.norm(features - features[found.index_QK[:, 0]], axis=1)
    same = apart <= _SAME * np.linalg.norm(features, axis=1)
    repeated = int(same.sum())
    beside = splits[found.index_QK[:, 0]]
    across = int((same & (splits == "test") & (beside == "train")).sum())
    says = f"{repeated} clips have exactly the features of another patient's clip; run `echofm check`"
    if across:
        says = f"{across} test clips have exactly the features of a training clip of another patient; {says}"
    return Check(
        name="copies",
        passed=repeated == 0,
        says=says if repeated else "no two patients share a clip's features",
        figures={"repeated": repeated, "between_train_and_test": across},
    )


def _frame_rate(table: EmbeddingTable) -> Check:
    wanted: Any = (table.contract or {}).get("frame_rate_hz")
    rates = table.rows["frame_rate_hz"].to_numpy(np.float64)
    unknown = int(np.isnan(rates).sum())
    name, figures = "frame rate", {"unknown": float(unknown)}
    if table.contract is None:
        return Check(name=name, passed=None, says="the table does not tell its encoder's contract")
    if wanted is None:
        says = "the encoder takes consecutive frames of any rate"
        return Check(name=name, passed=True, says=says, figures=figures)
    slower = int((rates < 0.98 * wanted).sum())
    figures["slower"] = float(slower)
    says = f"brought to {wanted:g} Hz; {slower} clips are slower (frames repeated), {unknown} unknown"
    if many := unknown > len(rates) / 2:
        says = (
            f"{unknown} of {len(rates)} clips do not tell their frame rate and the encoder was trained at {wanted:g} "
        )
        says += "Hz: their frames were taken one after another"
    return Check(name=name, passed=not many, says=says, figures=figures)


def _length(table: EmbeddingTable) -> Check:
    frames = table.rows["frames"].to_numpy(np.float64)
    wanted = (table.contract or {}).get("frames")
    if not isinstance(wanted, int | float) or np.isnan(frames).all():
        return Check(name="length", passed=None, says="the table does not tell how long its clips are")
    short, half = (int((frames < least).sum()) for least in (wanted, wanted / 2))
    says = f"{short} of {len(frames)} clips are shorter than the encoder's {wanted:g} frames and were looped"
    if many := half > len(frames) / 2:
        says += f"; {half} have less than half of them"
    return Check(name="length", passed=not many, says=says, figures={"short": short, "less_than_half": half})


def _similarities(features_ND: npt.NDArray, patients_N: npt.NDArray) -> tuple[float | None, float | None]:
    unit = unit_rows(features_ND - features_ND.mean(0) + 1e-12).astype(np.float64)
    number = np.unique(patients_N, return_inverse=True)[1]
    sizes = np.bincount(number)
    sums = np.zeros((len(sizes), unit.shape[1]))
    np.add.at(sums, number, unit)
    own = (sums**2).sum(1) - sizes
    pairs = (sizes * (sizes - 1)).sum()
    every, all_pairs = (unit.sum(0) ** 2).sum() - len(unit), len(unit) * (len(unit) - 1)
    within = float(own.sum() / pairs) if pairs else None
    between = float((every - own.sum()) / (all_pairs - pairs)) if all_pairs > pairs else None
    return within, between
