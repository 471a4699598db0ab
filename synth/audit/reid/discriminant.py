"""Where a head begins: the directions in which patients differ most for how much their own recordings differ.

M samples, K components, L directions, G groups, N clips.
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


def weights_L(
    direction_ML: npt.NDArray[np.floating], clip_M: npt.NDArray[np.int64], group_M: npt.NDArray[np.int64]
) -> Doubles:
    """What each direction should weigh: the part of its variance between clips that is the patient's, over its
    deviation within patients.

    That part is the intraclass correlation ICC(1) of clip means. A cosine in directions so scaled orders pairs nearly
    as probabilistic discriminant analysis does (Ioffe 2006, doi:10.1007/11744085_41): a direction that tells patients
    apart only now and then counts little, where whitening alone counts all alike. Where no group has two clips, its
    samples stand for clips.
    """
    unit_M = clip_M if _any_in_two(clip_M, group_M) else np.arange(len(group_M))
    _, first, clip_of_M = np.unique(unit_M, return_index=True, return_inverse=True)
    mean_NL = np.stack([np.bincount(clip_of_M, column) for column in direction_ML.T], 1, dtype=np.float64)
    mean_NL /= np.bincount(clip_of_M)[:, None]
    sizes = np.bincount(group_M[first], minlength=group_M.max() + 1)
    kept_N = sizes[group_M[first]] >= 2
    number_N = np.unique(group_M[first][kept_N], return_inverse=True)[1]
    size_G = np.bincount(number_N)
    mean_GL = np.stack([np.bincount(number_N, column) for column in mean_NL[kept_N].T], 1) / size_G[:, None]
    within_L = ((mean_NL[kept_N] - mean_GL[number_N]) ** 2).sum(0) / (size_G - 1).sum()
    # Discriminants come with a scatter of about one; recordings that are all equal must not make a weight infinite.
    within_L = np.maximum(within_L, np.finfo(np.float32).eps)
    between_L = np.maximum(mean_GL.var(0) - within_L * (1 / size_G).mean(), 0)
    return between_L / (between_L + within_L) / np.sqrt(within_L)


def _any_in_two(clip_M: npt.NDArray[np.int64], group_M: npt.NDArray[np.int64]) -> bool:
    """Whether some group has samples of two clips."""
    pairs = np.unique(np.stack([group_M, clip_M], 1), axis=0)
    return bool((np.bincount(pairs[:, 0]) >= 2).any())
