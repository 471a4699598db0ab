"""Where a head begins: the directions in which patients differ most for how much their own recordings differ.

M samples, K components, L directions, G groups.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg

Doubles = npt.NDArray[np.float64]


def discriminants(
    component_MK: npt.NDArray[np.floating], group_M: npt.NDArray[np.int64], *, shrink: float, directions: int
) -> tuple[Doubles, Doubles]:
    """Fisher's linear discriminants: map_LK and the mean_K to take off first.

    Samples of one group should meet; a group's scatter about its own mean is what to ignore. shrink: in (0, 1], how far
    that scatter is drawn towards a round one (the fewer groups, the more is needed). At most `directions`, and no more
    than there are components or groups less one. Equal to whitening the scatter within (WCCN, Hatch 2006,
    doi:10.21437/Interspeech.2006-183) and taking the principal components of the group means.
    """
    assert 0 < shrink <= 1
    sizes = np.bincount(group_M)
    kept = sizes[group_M] >= 2
    samples = np.asarray(component_MK, np.float64)[kept]
    number = np.unique(group_M[kept], return_inverse=True)[1]
    sizes = np.bincount(number)
    mean_GK = np.stack([np.bincount(number, column) for column in samples.T], 1) / sizes[:, None]
    off = samples - mean_GK[number]
    within = off.T @ off / max(1, len(samples) - len(sizes))
    within = (1 - shrink) * within + shrink * np.trace(within) / len(within) * np.eye(len(within))
    mean_K = mean_GK.mean(0)
    between = (mean_GK - mean_K).T @ (mean_GK - mean_K)
    # Ascending; scaled by scipy so that the scatter within is the unit matrix along every direction.
    values, vectors = scipy.linalg.eigh(between, within)
    count = min(directions, len(values), max(1, len(sizes) - 1))
    leading = vectors[:, ::-1][:, :count].T
    largest = np.abs(leading).argmax(1)
    return leading * np.sign(leading[np.arange(count), largest])[:, None], mean_K
