"""Every random choice of the phantom comes from here: (seed, what for, patient, clip) and nothing else."""

from __future__ import annotations

import numpy as np

_PURPOSES = ("patient", "acquisition", "texture", "noise", "beats", "split", "tags", "doppler", "varied")


def generator(seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """An independent stream per purpose, so that a new draw in one never moves another."""
    return np.random.default_rng([seed, _PURPOSES.index(purpose), *keys])
