"""Every arm of a downstream task, learnt and tested on real patients. N frames, S seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pydantic
import torch

from echofm.clip import LEFT_ATRIUM, LEFT_VENTRICLE, MYOCARDIUM
from echofm.errors import EchofmError
from echofm.intervals import Estimate, patient_bootstrap
from echofm.progress import progress_bar
from echofm.schema import FrozenModel
from synth.downstream.frames import Frames
from synth.downstream.learner import Learner, overlap_N
from synth.downstream.settings import DownstreamSettings, Task
from synth.text.prompt import TIME_POINTS

STRUCTURES = {"left ventricle": LEFT_VENTRICLE, "myocardium": MYOCARDIUM, "left atrium": LEFT_ATRIUM}
SYNTHETIC, _AND = "synthetic alone", " and synthetic"


class Result(FrozenModel):
    """One figure of one arm: the mean over seeds, its interval over test patients, and each seed's own."""

    arm: str
    figure: str
    found: Estimate
    seeds: list[float]
    gain: Estimate | None = None
    """Over the same real patients alone, paired by frame."""


class Downstream(FrozenModel):
    """A task, whole."""

    task: Task
    real_patients: int
    synthetic_frames: int
    test_patients: int
    settings: dict[str, object]
    results: list[Result]
    control: list[Result] = pydantic.Field(default_factory=list)
    """What the arm of most real patients finds in synthetic frames: what was asked for, and in another order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sets:
    """Frames of three kinds of patients, apart."""

    real: Frames
    synthetic: Frames
    test: Frames


def downstream(
    task: Task, sets: Sets, settings: DownstreamSettings, *, seed: int = 0, show_progress: bool = True
) -> Downstream:
    """Raises EchofmError where a task cannot be asked of these frames."""
    learner = Learner(task, size=sets.real.image_N1HW.shape[-1], classes=_classes(task, sets))
    arms = _arms(settings)
    scores: dict[str, dict[str, np.ndarray]] = {}
    control: list[dict[str, np.ndarray]] = []
    with progress_bar("trainings", len(arms) * settings.seeds, show=show_progress) as bar:
        for name, percent, mixed in arms:
            found: list[dict[str, np.ndarray]] = []
            for number in range(seed, seed + settings.seeds):
                few = None if percent is None else sets.real.of_patients(percent, seed=number)
                pools = [pool for pool in (few, sets.synthetic if mixed else None) if pool is not None]
                net = learner.fit(pools, settings, seed=number)
                found.append(_scores(learner, learner.predict(net, sets.test), sets.test))
                if percent == max(settings.shares) and not mixed:
                    control.append(_control(learner, learner.predict(net, sets.synthetic), sets.synthetic))
                bar.advance(1, note=name)
            scores[name] = {figure: np.stack([each[figure] for each in found]) for figure in found[0]}
    results = [
        _result(name, figure, score_SN, sets.test, without_SN=scores.get(_alone(name), {}).get(figure), seed=seed)
        for name, figures in scores.items()
        for figure, score_SN in figures.items()
    ]
    stacked = {figure: np.stack([each[figure] for each in control]) for figure in control[0]}
    most = f"{max(settings.shares):g} % of real patients"
    return Downstream(
        task=task,
        real_patients=len(np.unique(sets.real.patient_N)),
        synthetic_frames=len(sets.synthetic),
        test_patients=len(np.unique(sets.test.patient_N)),
        settings=vars(settings) | {"seed": seed},
        results=results,
        control=[_result(most, figure, score_SN, sets.synthetic, seed=seed) for figure, score_SN in stacked.items()],
    )


def _arms(settings: DownstreamSettings) -> list[tuple[str, float | None, bool]]:
    real = [(f"{share:g} % of real patients", share) for share in sorted(settings.shares)]
    both = [(f"{name}{end}", share, mixed) for name, share in real for end, mixed in (("", False), (_AND, True))]
    return [*both, (SYNTHETIC, None, True)]


def _alone(name: str) -> str:
    return name.removesuffix(_AND) if name.endswith(_AND) else ""


def _classes(task: Task, sets: Sets) -> Sequence[str]:
    if task == "segmentation":
        return ()
    classes = TIME_POINTS if task == "phase" else sorted(set(sets.real.view_N))
    parts = (sets.real, sets.synthetic, sets.test)
    if task == "view" and (len(classes) < 2 or any(set(part.view_N) != set(classes) for part in parts)):
        raise EchofmError("the task `view` takes two or more views, the same in real, synthetic and test frames")
    return classes


def _scores(learner: Learner, found: torch.Tensor, frames: Frames) -> dict[str, np.ndarray]:
    """Of each frame: Dice by structure, or 1 where the class is right."""
    if learner.task != "segmentation":
        return {"accuracy": (found == learner.truth(frames)).double().numpy()}
    shown = {name: number for name, number in STRUCTURES.items() if (frames.mask_NHW == number).any()}
    return {f"Dice, {name}": overlap_N(frames.mask_NHW, found, number) for name, number in shown.items()}


def _control(learner: Learner, found: torch.Tensor, frames: Frames) -> dict[str, np.ndarray]:
    """As asked, and by the request of another frame: another heart's map of the same view and time point, or any."""
    order = np.arange(len(frames))
    if learner.task == "segmentation":
        kinds = np.char.add(frames.view_N, frames.time_point_N)
        for kind in np.unique(kinds):
            rows = np.flatnonzero(kinds == kind)
            order[rows] = np.roll(rows, 1)
    else:
        order = np.random.default_rng(0).permutation(order)
    asked = {name: getattr(frames, name)[order] for name in ("mask_NHW", "time_point_N", "view_N")}
    own, wrong = _scores(learner, found, frames), _scores(learner, found, replace(frames, **asked))
    return {f"{name}, asked": own[name] for name in own} | {f"{name}, wrong request": wrong[name] for name in wrong}


def _result(
    arm: str, figure: str, score_SN: np.ndarray, frames: Frames, *, seed: int, without_SN: np.ndarray | None = None
) -> Result:
    mean_N = score_SN.mean(0)
    gain = None if without_SN is None else _mean(mean_N - without_SN.mean(0), frames, seed=seed)
    seeds = [round(float(np.nanmean(each)), 5) for each in score_SN]
    return Result(arm=arm, figure=figure, found=_mean(mean_N, frames, seed=seed), seeds=seeds, gain=gain)


def _mean(values_N: np.ndarray, frames: Frames, *, seed: int) -> Estimate:
    known_N = ~np.isnan(values_N)
    groups = {"values": (values_N[known_N], frames.patient_N[known_N])}
    return patient_bootstrap(lambda values: float(values.mean()), groups, seed=seed)
