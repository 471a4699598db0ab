"""Is this embedding alive? Told before any figure of a probe, since a dead one probes at chance for no good reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from echofm.embed.table import EmbeddingTable
from echofm.engine.collapse import rankme, spread
from echofm.nearest import nearest, unit_rows

# Far below any encoder that trained well; an untrained transformer has a spread near 0.05.
_DEAD_SPREAD, _DEAD_RANK = 0.005, 1.5
_MOST_ROWS = 5000


@dataclass(frozen=True, kw_only=True)
class Sanity:
    """rankme: effective rank of the clip features. spread: 0 where all clips are embedded alike.

    within_patient, between_patients: mean cosine of centred features, NaN where no patient has two clips.
    repeated: clips of different patients with identical features. problems: what is wrong, in words; empty: nothing.
    """

    rankme: float
    spread: float
    within_patient: float
    between_patients: float
    repeated: int
    problems: tuple[str, ...]


def check_embedding(table: EmbeddingTable, *, seed: int = 0) -> Sanity:
    """Look at up to 5,000 clips of a table."""
    rows = np.random.default_rng(seed).permutation(len(table))[:_MOST_ROWS]
    features = np.asarray(table.video_ND[np.sort(rows)], np.float64)
    patients = table.patient_id[np.sort(rows)].astype(str)
    rank, width = rankme(torch.from_numpy(features)), spread(torch.from_numpy(features))
    problems = []
    if width < _DEAD_SPREAD or rank < _DEAD_RANK:
        problems.append(f"the embedding is collapsed: effective rank {rank:.2f}, spread {width:.4f}")
        return Sanity(
            rankme=rank,
            spread=width,
            within_patient=np.nan,
            between_patients=np.nan,
            repeated=0,
            problems=tuple(problems),
        )
    within, between = _similarities(features, patients)
    found = nearest(features, features, exclude_QN=(patients, patients)) if len(set(patients)) > 1 else None
    repeated = 0 if found is None else int((found.similarity_QK[:, 0] > 1 - 1e-9).sum())
    if repeated:
        problems.append(f"{repeated} clips have exactly the features of another patient's clip; run `echofm check`")
    return Sanity(
        rankme=rank,
        spread=width,
        within_patient=within,
        between_patients=between,
        repeated=repeated,
        problems=tuple(problems),
    )


def _similarities(features_ND: np.ndarray, patients_N: np.ndarray) -> tuple[float, float]:
    unit = unit_rows(features_ND - features_ND.mean(0) + 1e-12).astype(np.float64)
    number = np.unique(patients_N, return_inverse=True)[1]
    sizes = np.bincount(number)
    sums = np.zeros((len(sizes), unit.shape[1]))
    np.add.at(sums, number, unit)
    own = (sums**2).sum(1) - sizes
    pairs = (sizes * (sizes - 1)).sum()
    every, all_pairs = (unit.sum(0) ** 2).sum() - len(unit), len(unit) * (len(unit) - 1)
    within = float(own.sum() / pairs) if pairs else float("nan")
    between = float((every - own.sum()) / (all_pairs - pairs)) if all_pairs > pairs else float("nan")
    return within, between
