"""Intervals that know that clips of one patient resemble one another: the bootstrap over patients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pydantic
import scipy.special

from echofm.schema import FrozenModel

Names = npt.NDArray[np.str_]
_WEIGHTS_AT_ONCE = 4_000_000
# A quarter of them still has a pair.
LEAST_PATIENTS = 8
# JSON has no NaN: it is written as null, and read back as what it was.
Figure = Annotated[float, pydantic.BeforeValidator(lambda value: float("nan") if value is None else value)]


class Estimate(FrozenModel):
    """A figure and its interval, 95 % unless told otherwise, both ends included; NaN where it is not defined."""

    value: Figure
    low: Figure
    high: Figure


def patient_bootstrap(
    statistic: Callable[..., float],
    groups: Mapping[str, tuple[npt.NDArray, Names]],
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Percentile interval of a statistic under redrawn patients, each with all its clips.

    groups: name -> (values, patients), both with one row per clip; each group's patients are redrawn apart, and
    `statistic` gets the values of every group under its name. Draws without a value (NaN) are left out; the interval is
    widened for the number of patients (`estimate`), those of the smallest group.
    """
    rng = np.random.default_rng(seed)
    clips_of = {name: rows_by_group(patients) for name, (_, patients) in groups.items()}
    redrawn = np.empty(draws)
    for draw in range(draws):
        chosen = {}
        for name, (values, _) in groups.items():
            own = clips_of[name]
            chosen[name] = values[np.concatenate([own[i] for i in rng.integers(len(own), size=len(own))])]
        redrawn[draw] = statistic(**chosen)
    value = statistic(**{name: values for name, (values, _) in groups.items()})
    return estimate(value, redrawn, level=level, patients=min(map(len, clips_of.values())))


def rows_by_group(names: Names) -> list[npt.NDArray[np.int64]]:
    """The row numbers of each name (a patient's, a study's), in the order of the names."""
    numbers = np.unique(names, return_inverse=True)[1]
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.cumsum(np.bincount(numbers))[:-1])


def patient_weights(patients: Names, *, draws: int, seed: int = 0) -> Iterator[npt.NDArray[np.float64]]:
    """How often each clip counts under redrawn patients, (some draws, clips) at a time, `draws` in all.

    The same draws as weights: a metric that takes weights is then found for many draws in a few array operations. Two
    methods measured under one seed are measured on the same draws, so that their differences are paired.
    """
    number = np.unique(patients, return_inverse=True)[1]
    count = int(number.max()) + 1
    at_once = max(1, min(draws, _WEIGHTS_AT_ONCE // len(number)))
    rng = np.random.default_rng(seed)
    for first in range(0, draws, at_once):
        chosen = [rng.integers(count, size=count) for _ in range(min(at_once, draws - first))]
        yield np.stack([np.bincount(each, minlength=count) for each in chosen])[:, number].astype(np.float64)


def estimate(
    value: float, redrawn: npt.NDArray[np.float64], *, level: float = 0.95, patients: int | None = None
) -> Estimate:
    """A figure with the percentile interval of its redrawn values; draws without a value (NaN) are left out.

    patients: how many were redrawn. The bootstrap's spread is too small by sqrt((n - 1) / n) and has the normal's
    tails, not Student's; the percentiles are taken further out for it (Hesterberg, https://arxiv.org/abs/1411.5279,
    "expanded percentile interval"). With many patients it changes nothing. One patient tells nothing of others: every
    draw is the same, and the interval is NaN.
    """
    known = redrawn[~np.isnan(redrawn)] if patients != 1 else redrawn[:0]
    tail = (1 - level) / 2
    if patients is not None and patients > 1:
        widened = np.sqrt(patients / (patients - 1)) * scipy.special.stdtrit(patients - 1, tail)
        tail = float(scipy.special.ndtr(widened))
    low, high = np.quantile(known, [tail, 1 - tail]) if len(known) else (np.nan, np.nan)
    return Estimate(value=float(value), low=float(low), high=float(high))


def half_samples(
    statistics: Callable[..., npt.NDArray[np.float64]],
    patients: Sequence[int],
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> list[Estimate]:
    """Intervals of statistics of one or more sets from random halves of their patients, no patient drawn twice.

    For what a redrawn patient's second copy would spoil: distances between all pairs, numbers of neighbours. A half
    sample of an asymptotically linear statistic varies about the whole as the whole about the truth (delete-half
    jackknife, Shao and Wu, https://doi.org/10.1214/aos/1176347263); one of pairs whose linear part vanishes, as where
    two sets are drawn alike, three times as much in variance. Quarter samples tell which: V = 2 V_half - V_quarter / 3
    is the variance of both. Deviations are taken from the halves' own mean, so that a bias that falls with the number
    of patients moves the figure and not the interval's width.

    patients: their number in each set. statistics: gets a set's chosen patients as 0 and 1, (draws, patients), for each
    set, and gives (draws, statistics). Raises ValueError where a set has fewer than LEAST_PATIENTS.
    """
    if min(patients) < LEAST_PATIENTS:
        raise ValueError(f"{min(patients)} patients are too few for an interval; {LEAST_PATIENTS} or more are needed")
    rng = np.random.default_rng(seed)
    whole_S = statistics(*[np.ones((1, count)) for count in patients])[0]
    quarter_RS, half_RS = (statistics(*[_subsets(count, part, draws, rng) for count in patients]) for part in (4, 2))
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        # A statistic without a value in any draw has no interval either.
        warnings.simplefilter("ignore", RuntimeWarning)
        ratio_S = 2 - np.nanvar(quarter_RS, axis=0) / (3 * np.nanvar(half_RS, axis=0))
        deviation_RS = (half_RS - np.nanmean(half_RS, axis=0)) * np.sqrt(np.clip(ratio_S, 1 / 3, 1))
    redrawn = (whole_S + np.where(np.isnan(ratio_S), 0, deviation_RS)).T
    return [estimate(*each, level=level, patients=min(patients)) for each in zip(whole_S, redrawn)]


def _subsets(count: int, part: int, draws: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(draws, count) of 0 and 1: in each draw one of `part` equal parts, drawn at random."""
    order = rng.permuted(np.tile(np.arange(count), (draws, 1)), axis=1)
    return (order < count // part).astype(np.float64)
