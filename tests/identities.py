"""Tables with planted identities: what a patient is like lies in few directions, what a recording is like in many."""

from __future__ import annotations

import numpy as np

from echofm.embed.phase import PhaseTokens
from echofm.embed.table import EmbeddingTable
from echofm.embed.tokens import SpaceTimeTokens

DIGEST = "b" * 64
GRID, WIDTH = (4, 2, 2), 12
TIMES = 32
STEP_S = 0.08


def planted(
    patients: int = 90, clips: int = 3, *, seed: int = 0, nuisance: float = 4.0, digest: str = DIGEST
) -> EmbeddingTable:
    """Space-time tokens and phase features of `clips` clips of each patient, the last of them in another view.

    Identity: 6 directions of 48. Nuisance: 20 others, drawn for every clip, `nuisance` times as strong; then noise of
    every moment. The motion: a cycle whose first harmonics are the patient's own; its begin and length are the clip's.
    """
    world, own = np.random.default_rng(99), np.random.default_rng([7, seed])
    size = GRID[1] * GRID[2] * WIDTH
    who, how = world.standard_normal((6, size)), world.standard_normal((20, size))
    beat_HD = world.standard_normal((4, WIDTH))
    identity = np.repeat(own.standard_normal((patients, 6)), clips, 0)
    recording = nuisance * own.standard_normal((patients * clips, 20)) / 20**0.5
    base = identity @ who + recording @ how
    tokens = base[:, None] + 0.5 * own.standard_normal((len(base), GRID[0], size))
    harmonics = np.repeat(own.standard_normal((patients, 4, WIDTH)), clips, 0)
    phase = [_beating(beat_HD + 0.7 * each, own) for each in harmonics]
    split = np.repeat(np.array(["train"] * 3 + ["val", "test"])[np.arange(patients) % 5], clips)
    return EmbeddingTable.from_arrays(
        tokens.mean(1) @ np.eye(size)[:, :WIDTH],
        clip_id=[f"c{seed}{i:05d}" for i in range(len(base))],
        patient_id=[f"p{seed}{i // clips:05d}" for i in range(len(base))],
        split=split.tolist(),
        view=["A4C" if i % clips < max(1, clips - 1) else "PLAX" for i in range(len(base))],
        encoder_digest=digest,
        phase=PhaseTokens.from_arrays(phase, time_s=[np.arange(TIMES) * STEP_S] * len(base)),
        tokens=tokens.reshape(len(base), *GRID, WIDTH).astype(np.float32),
        settings={"windows": 1, "precision": "fp32", "tokens": "4,2,2"},
    )


def _beating(harmonic_HD: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(T, D) moments of a heart of these harmonics, at a length and a begin of the recording's own."""
    angle = 2 * np.pi * (np.arange(TIMES) * STEP_S / rng.uniform(0.7, 1.0) + rng.uniform())
    waves = np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], 1)
    clean = waves @ harmonic_HD + 3 * rng.standard_normal(harmonic_HD.shape[1])
    return clean + 0.1 * rng.standard_normal(clean.shape)


def without_tokens(table: EmbeddingTable) -> EmbeddingTable:
    """The same table, phase features alone."""
    return EmbeddingTable(
        video_ND=table.video_ND,
        rows=table.rows,
        encoder_digest=table.encoder_digest,
        phase=table.phase,
        settings=table.settings,
    )


def with_tokens(table: EmbeddingTable, feature_NTRCD: np.ndarray) -> EmbeddingTable:
    """The same table, other tokens."""
    return EmbeddingTable(
        video_ND=table.video_ND,
        rows=table.rows,
        encoder_digest=table.encoder_digest,
        phase=table.phase,
        tokens=SpaceTimeTokens(feature_NTRCD=feature_NTRCD.astype(np.float32)),
        settings=table.settings,
    )
