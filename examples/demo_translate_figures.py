"""Pixels, texture and flicker of translated clips beside simple fill-ins. T frames, H rows, W columns, P patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from demo_translate_clips import FILL, INPAINT, STRUCTURE, TEXTURE, Frames, Pair
from skimage.metrics import structural_similarity

from echofm.intervals import LEAST_PATIENTS, Estimate, patient_bootstrap
from echofm.metric.kernel_distance import kernel_distances

Floats = npt.NDArray[np.float64]
_EVERY, _PATCH, _PATCHES = 4, 8, 24


def mean(values_N: npt.ArrayLike, patient_N: Sequence[str]) -> Estimate:
    """Over clips, with the interval of redrawn patients; clips without a value are left out."""
    values, patients = np.asarray(values_N, float), np.array(patient_N)
    known = ~np.isnan(values)
    return patient_bootstrap(lambda values: float(values.mean()), {"values": (values[known], patients[known])})


def pixel_figures(pairs: Sequence[Pair]) -> dict[str, Estimate]:
    """SSIM and absolute error (grey, 0 to 255) by method, under the mask and in the sector, and paired differences."""
    figures: dict[str, Estimate] = {}
    patients = [pair.clip.patient_id for pair in pairs]
    for target in ("noisy", "noise-free"):
        rows = [_errors(pair, pair.true_THW if target == "noisy" else pair.clean_THW) for pair in pairs]
        for name in rows[0]:
            if not (target == "noise-free" and name.startswith("whole")):
                figures[f"{name}, {target} target"] = mean([row[name] for row in rows], patients)
        for other in (FILL, INPAINT):
            for kind in ("MAE", "SSIM"):
                first, second = (f"inside, {kind}: {method}" for method in (STRUCTURE, other))
                apart = [row[first] - row[second] for row in rows]
                figures[f"inside, {kind}: {STRUCTURE} less {other}, {target} target"] = mean(apart, patients)
    return figures


def _errors(pair: Pair, true_THW: Frames) -> dict[str, float]:
    chosen = np.flatnonzero(pair.mask_THW.any((1, 2)))[::_EVERY]
    mask, sector, true = pair.mask_THW[chosen], pair.clip.sector_HW, true_THW[chosen]
    row = {}
    for method, frames in pair.found.items():
        found = frames[chosen]
        error = np.abs(found.astype(float) - true)
        maps = [structural_similarity(one, two, data_range=255, full=True)[1] for one, two in zip(found, true)]
        row[f"inside, MAE: {method}"] = error[mask].mean()
        row[f"inside, SSIM: {method}"] = np.stack(maps)[mask].mean()
        row[f"whole, MAE: {method}"] = error[:, sector].mean()
        row[f"whole, SSIM: {method}"] = np.stack(maps)[:, sector].mean()
    return row


def texture_figures(pairs: Sequence[Pair]) -> dict[str, Estimate]:
    """How far the spectrum of speckle and patches under the mask are from the true ones; 0: alike.

    Spectrum: |log mean power - log mean true power|, the mean over four rings of frequencies, of patches of 8 x 8 less
    their mean. Kernel distance: of these patches, over the true ones' deviation.
    """
    patches = [_patches(pair, seed=number) for number, pair in enumerate(pairs)]
    kept = [(pair.clip.patient_id, each) for pair, each in zip(pairs, patches) if len(each["true"])]
    if len(kept) < LEAST_PATIENTS:
        return {}
    owner_P = np.concatenate([[patient] * len(each["true"]) for patient, each in kept])
    figures, methods = {}, (FILL, INPAINT, STRUCTURE, TEXTURE)
    power = {name: np.stack([_rings(each[name]).mean(0) for _, each in kept]) for name in ("true", *methods)}
    names = np.array([patient for patient, _ in kept])
    for method in methods:
        both = np.stack([power[method], power["true"]], 1)
        figures[f"speckle spectrum, distance: {method}"] = patient_bootstrap(_apart, {"powers": (both, names)})
    three = np.stack([power[TEXTURE], power[STRUCTURE], power["true"]], 1)
    figures[f"speckle spectrum, distance: {TEXTURE} less {STRUCTURE}"] = patient_bootstrap(
        lambda powers: _apart(powers[:, [0, 2]]) - _apart(powers[:, [1, 2]]), {"powers": (three, names)}
    )
    deviation = np.concatenate([each["true"] for _, each in kept]).std()
    rows = {name: np.concatenate([each[name] for _, each in kept]) / deviation for name in ("true", *methods)}
    sets = [(rows[method], owner_P) for method in (STRUCTURE, TEXTURE, FILL, INPAINT)]
    found = kernel_distances(rows["true"], sets, patients=owner_P, draws=400)
    for method, each in zip((STRUCTURE, TEXTURE, FILL, INPAINT), found):
        figures[f"kernel distance to true patches: {method}"] = each
    figures[f"kernel distance to true patches: {TEXTURE} less {STRUCTURE}"] = found[4]
    return figures


def _patches(pair: Pair, *, seed: int) -> Mapping[str, Floats]:
    """(P, 64) by method, at the same places wholly under the mask, each less its mean."""
    windows = np.lib.stride_tricks.sliding_window_view(pair.mask_THW, (_PATCH, _PATCH), axis=(1, 2))
    places = np.argwhere(windows.all((-1, -2)))
    places = np.random.default_rng(seed).permutation(places)[:_PATCHES]

    def cut(frames_THW: Frames) -> Floats:
        found = [frames_THW[t, y : y + _PATCH, x : x + _PATCH].astype(float).ravel() for t, y, x in places]
        return np.array([each - each.mean() for each in found]).reshape(-1, _PATCH**2)

    return {"true": cut(pair.true_THW)} | {method: cut(frames) for method, frames in pair.found.items()}


def _rings(patches_PV: Floats) -> Floats:
    """(P, 4) mean power by ring."""
    window = np.hanning(_PATCH + 2)[1:-1]
    squares = patches_PV.reshape(-1, _PATCH, _PATCH) * window[:, None] * window
    power = np.abs(np.fft.fft2(squares)) ** 2
    turns = np.abs(np.fft.fftfreq(_PATCH) * _PATCH)
    ring = np.hypot(turns[:, None], turns).round().clip(1, 4)
    ring[0, 0] = 0
    return np.stack([power[:, ring == number].mean(1) for number in (1, 2, 3, 4)], 1)


def _apart(powers: Floats) -> float:
    found, true = powers.mean(0)
    return float(np.abs(np.log(found + 1) - np.log(true + 1)).mean())


def flicker_figures(pairs: Sequence[Pair]) -> dict[str, Estimate]:
    """Mean absolute change to the next frame under both masks, grey; its share of the true one's; and its error."""
    figures, patients = {}, [pair.clip.patient_id for pair in pairs]
    rows = [_changes(pair) for pair in pairs]
    for name in rows[0]:
        figures[f"flicker, {name}"] = mean([row[name] for row in rows], patients)
    return figures


def _changes(pair: Pair) -> dict[str, float]:
    both = pair.mask_THW[1:] & pair.mask_THW[:-1]
    if not both.any():
        return dict.fromkeys(_names(pair), float("nan"))
    true = np.diff(pair.true_THW.astype(float), axis=0)[both]
    changes = {method: np.diff(frames.astype(float), axis=0)[both] for method, frames in pair.found.items()}
    sizes = [np.abs(each).mean() for each in (true, *changes.values())]
    shares = [np.abs(each).mean() / np.abs(true).mean() for each in changes.values()]
    return dict(zip(_names(pair), [*sizes, *shares, *(np.abs(each - true).mean() for each in changes.values())]))


def _names(pair: Pair) -> list[str]:
    return [
        "change: true clip",
        *(f"change: {method}" for method in pair.found),
        *(f"change over the true clip's: {method}" for method in pair.found),
        *(f"error of the change: {method}" for method in pair.found),
    ]
