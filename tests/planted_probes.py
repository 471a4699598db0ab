"""Probes of planted features, for tests of what is made of their results."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from hearts import beating_heart

from echofm.embed.table import EmbeddingTable
from echofm.intervals import Estimate, patient_bootstrap
from probe.labels.evaluate import evaluate
from probe.result import Check, Probed, ProbeResult, Score, Subgroup

VIEWS = ("A2C", "A4C", "PLAX", "PSAX")
VALVES = ("aortic", "mitral", "tricuspid")
GRADES = ("none", "mild", "moderate", "severe")
CLIPS = 2


def planted_table(
    patients: int = 80, *, noise: float = 1.0, width: int = 24, seed: int = 0, encoder: str = "trained"
) -> EmbeddingTable:
    """Features that carry the EF of a patient and the view of a clip, blurred by noise."""
    world = np.random.default_rng(seed)
    ef = np.repeat(world.uniform(15, 80, patients), CLIPS)
    view = world.integers(0, 4, patients * CLIPS)
    grade = np.repeat(world.integers(0, 4, patients), CLIPS)
    hidden = np.concatenate([(ef[:, None] - 47) / 19, 1.2 * np.eye(4)[view], (grade[:, None] - 1.5) / 1.1], 1)
    own = np.random.default_rng([seed, *encoder.encode()])
    mixed = hidden @ own.standard_normal((hidden.shape[1], width))
    split = np.repeat(world.choice(["train", "val", "test"], patients, p=[0.5, 0.2, 0.3]), CLIPS)
    return EmbeddingTable.from_arrays(
        mixed + noise * 2.2 * own.standard_normal((len(ef), width)),
        clip_id=[f"{number:020x}" for number in range(len(ef))],
        patient_id=[f"{1000 + number // CLIPS:020x}" for number in range(len(ef))],
        view=[VIEWS[number] for number in view],
        split=split.tolist(),
        dataset=["hearts"] * len(ef),
        frame_rate_hz=world.uniform(25, 80, len(ef)),
        labels={"ef_percent": ef, "severity": [GRADES[number] for number in grade], "reduced": (ef < 40).astype(float)},
        encoder_digest=encoder.ljust(64, "0"),
    )


def planted_probe(table: EmbeddingTable, target: str, *, draws: int = 100, **options: object) -> Probed:
    """`evaluate`, beside an encoder of noise."""
    noise = planted_table(len(table) // CLIPS, noise=20.0, encoder="noise")
    return evaluate(table, target=target, baselines={"random init": noise}, draws=draws, **options)  # type: ignore[arg-type]


def with_subgroups(probed: Probed, groups: dict[str, Sequence[str]]) -> Probed:
    """The probe of a number, with its error by subgroup: column -> the group of each test clip."""
    rows, found = probed.predictions, []
    error, patients = (rows["predicted"] - rows["true"]).abs().to_numpy(float), rows["patient_id"].to_numpy(str)
    for column, values in groups.items():
        for value in sorted(set(values)):
            chosen = np.asarray(values) == value
            test = {"test": (error[chosen], patients[chosen])}
            mae = patient_bootstrap(lambda test: float(test.mean()), test, draws=100)
            clips, count = int(chosen.sum()), len(set(patients[chosen]))
            found.append(Subgroup(column=column, value=value, clips=clips, patients=count, scores={"mae": mae}))
    return Probed(result=probed.result.model_copy(update={"subgroups": found}), predictions=rows)


def multilabel_probe(clips: int = 120, *, seed: int = 0) -> Probed:
    """Three valves that leak or not, told rather well; not every valve was looked at in every clip."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((clips, 3)) < [0.2, 0.4, 0.3]).astype(float)
    predicted = 1 / (1 + np.exp(-(2.5 * (truth - 0.5) + rng.standard_normal((clips, 3)))))
    truth[rng.random((clips, 3)) < 0.1] = np.nan
    columns: dict[str, object] = {
        "clip_id": [f"{number:020x}" for number in range(clips)],
        "patient_id": [f"{1000 + number // 2:020x}" for number in range(clips)],
    }
    for number, name in enumerate(VALVES):
        columns |= {f"true_{name}": truth[:, number], f"probability_{name}": predicted[:, number]}
    scores = [
        Score(method=method, metric="auroc", of=of, estimate=Estimate(value=value, low=value - 0.05, high=value + 0.04))
        for of in ("", *VALVES)
        for method, value in (("probe", 0.9), ("prevalence", 0.5))
    ]
    return Probed(
        result=bare_result("valve_regurgitation", "multilabel", VALVES, scores), predictions=pd.DataFrame(columns)
    )


@functools.cache
def _base() -> ProbeResult:
    return planted_probe(planted_table(), "view", draws=20).result


def bare_result(target: str, task: str, classes: Sequence[str], scores: Sequence[Score]) -> ProbeResult:
    """A result of a task, with a failed, a passed and an open check."""
    base = _base()
    checks = [
        Check(name="value range", passed=True, says="0 to 1, as the contract asks"),
        Check(name="frames in another order", passed=False, says="shuffled frames leave the features as they are"),
        Check(name="speckle", passed=None, says="no clips at hand"),
    ]
    sanity = base.sanity.model_copy(update={"checks": checks})
    return base.model_copy(
        update={
            "target": target,
            "task": task,
            "classes": list(classes),
            "scores": list(scores),
            "comparisons": [],
            "sanity": sanity,
        }
    )


def heart_frames(clip_id: str) -> npt.NDArray[np.uint8] | None:
    """Frames of a clip by its id; every seventh is not at hand."""
    number = int(clip_id, 16)
    if number % 7 == 0:
        return None
    return beating_heart(frames=20, size=96, seed=number)[0][:, None]


class HeartFrames:
    """`heart_frames` that know their times."""

    def __call__(self, clip_id: str) -> npt.NDArray[np.uint8] | None:
        return heart_frames(clip_id)

    def time_s(self, clip_id: str) -> npt.NDArray[np.float64] | None:
        return np.arange(20) / 20


def phase_probe(clips: int = 9, *, seed: int = 0) -> Probed:
    """Phases told within a few percent of a beat, the later the clip the worse; matches half a second away."""
    rng, parts = np.random.default_rng(seed), []
    for number in range(clips):
        time_s = np.arange(40) / 20
        true = (time_s * 1.3 + rng.uniform()) % 1
        event = np.where(np.diff(true, prepend=true[0]) < 0, "ed", None)
        parts.append(
            pd.DataFrame(
                {
                    "clip_id": f"{number + 1:020x}",
                    "patient_id": f"{1000 + number:020x}",
                    "time_s": time_s,
                    "true_phase": true,
                    "predicted_phase": (true + 0.02 * (1 + number) * rng.standard_normal(40)) % 1,
                    "match_time_s": np.where(time_s < 1, time_s + 1 / 1.3, np.nan),
                    "hit": np.where(time_s < 1, 1.0, np.nan),
                    "event": event,
                    "event_error_ms": np.where(event == "ed", 20 * rng.standard_normal(40), np.nan),
                }
            )
        )
    estimate = Estimate(value=4.2, low=3.1, high=5.6)
    score = Score(method="probe", metric="phase_error_percent", estimate=estimate)
    chance = Score(method="chance", metric="phase_error_percent", estimate=Estimate(value=25, low=25, high=25))
    return Probed(
        result=bare_result("phase", "phase", (), [score, chance]), predictions=pd.concat(parts, ignore_index=True)
    )
