"""Feature tables for the audit's tests: patients as points, their clips around them, copies of some."""

from __future__ import annotations

import numpy as np
import pandas as pd

from echofm.embed.table import EmbeddingTable
from synth.audit.sets import KIND, LEFT_OUT, SOURCE, STRENGTH

WIDTH, CLIPS, TIMES = 32, 2, 6
DIGEST = "e" * 64


def table(
    patients: int,
    name: str,
    seed: int,
    *,
    digest: str = DIGEST,
    features: np.ndarray | None = None,
    frames: bool = False,
) -> EmbeddingTable:
    """Patients with CLIPS clips each, or the features given, a patient for every CLIPS rows."""
    rng = np.random.default_rng(seed)
    identity = np.repeat(rng.standard_normal((patients, WIDTH)), CLIPS, 0)
    rows = identity + 0.2 * rng.standard_normal(identity.shape) if features is None else features
    return EmbeddingTable.from_arrays(
        rows,
        clip_id=[f"{name}{i:04d}" for i in range(len(rows))],
        patient_id=[f"{name}p{i // CLIPS:04d}" for i in range(len(rows))],
        encoder_digest=digest,
        phase=rows[:, None] + 0.3 * rng.standard_normal((len(rows), TIMES, WIDTH)) if frames else None,
    )


# 10 % of copies can be flagged only with 199 held-out patients or more: see smallest_detectable_share.
TRAIN, HOLDOUT = table(150, "train-", 0), table(300, "held-", 1)


def synthetic(copied: int, fresh: int, seed: int = 2) -> EmbeddingTable:
    """The first clips of TRAIN, hardly changed, then new patients."""
    rng = np.random.default_rng(seed)
    copies = TRAIN.video_ND[:copied] + 0.02 * rng.standard_normal((copied, WIDTH))
    return table(0, "s", 0, features=np.concatenate([copies, rng.standard_normal((fresh, WIDTH))]))


def planted(kind: str, noise: float, *, seed: int = 7) -> EmbeddingTable:
    """Canaries of every sixth clip of TRAIN with noise on their features."""
    rng = np.random.default_rng(seed)
    source = TRAIN.clip_id[::6].astype(str)
    features = TRAIN.video_ND[::6] + noise * rng.standard_normal((len(source), WIDTH)).astype(np.float32)
    return canary_table(features, kind, noise, source.tolist(), [""] * len(source))


def canary_table(
    features: np.ndarray, kind: str, strength: float, source: list[str], left_out: list[str]
) -> EmbeddingTable:
    """A table of canaries of one kind."""
    ids = [f"{kind}-{each}" for each in source]
    labels = pd.DataFrame({KIND: kind, STRENGTH: float(strength), SOURCE: source, LEFT_OUT: left_out})
    return EmbeddingTable.from_arrays(features, clip_id=ids, patient_id=ids, encoder_digest=DIGEST, labels=labels)


PLANTS = EmbeddingTable.concat([planted("exact", 0.0), planted("re-encoded", 0.01), planted("noise", 5.0)])
