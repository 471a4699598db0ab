"""Two probes of one target: is the difference more than chance? Reads probe.json and predictions.parquet of both."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.errors import EchofmError
from echofm.intervals import Estimate
from echofm.schema import FrozenModel
from probe.bootstrap import redraw
from probe.labels.answers import Truth
from probe.labels.metrics import METRICS, Metric
from probe.protocol import require_request
from probe.result import ProbeResult

PREDICTIONS = "predictions.parquet"


class ComparedMetric(FrozenModel):
    """One metric of both probes, by clip, with all labels."""

    metric: str
    first: Estimate
    second: Estimate
    difference: Estimate | None
    """First minus second, patients redrawn together; null where only the two intervals are known."""


class Compared(FrozenModel):
    """Two probes of one target."""

    schema_version: Literal[1] = 1
    target: str
    task: str
    first_encoder: str
    second_encoder: str
    paired: bool
    clips: int
    """Test clips that the figures are of."""
    patients: int
    metrics: list[ComparedMetric]
    notes: list[str]
    """What a reader must know, in words."""


def compare(first: str | Path, second: str | Path, *, draws: int = 1000, seed: int = 0) -> Compared:
    """Two probe.json of one target. With predictions beside both, on the test clips that they share, in pairs.

    Raises EchofmError where targets, tasks, classes, true values or test sets are unlike.
    """
    require_request(seed=seed, draws=draws)
    files = [_probe_json(path) for path in (first, second)]
    ours, theirs = map(ProbeResult.from_json, files)
    _require_alike(ours, theirs)
    rows = [_predictions(file.with_name(PREDICTIONS)) for file in files]
    metrics = _metrics(ours, rows)
    notes = [] if ours.kind == theirs.kind else [f"of A the probe is {ours.kind}, of B {theirs.kind}"]
    if metrics and rows[0] is not None and rows[1] is not None:
        return _paired(ours, theirs, rows[0], rows[1], metrics=metrics, notes=notes, draws=draws, seed=seed)
    if (ours.clips["test"], ours.patients["test"]) != (theirs.clips["test"], theirs.patients["test"]):
        raise EchofmError(
            f"A was tested on {ours.clips['test']} clips of {ours.patients['test']} patients, B on "
            f"{theirs.clips['test']} of {theirs.patients['test']}: figures on unlike test sets do not compare; probe "
            f"both on one set, and keep {PREDICTIONS} beside probe.json"
        )
    missing = any(each is None for each in rows)
    why = f"{PREDICTIONS} is not beside both" if missing else f"a {ours.task} probe has no single prediction per clip"
    notes.append(f"{why}: only the interval of each is shown; that two intervals overlap does not mean no difference")
    return _assembled(ours, theirs, _unpaired(ours, theirs), paired=False, notes=notes)


def _paired(
    ours: ProbeResult,
    theirs: ProbeResult,
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    metrics: dict[str, Metric],
    notes: list[str],
    draws: int,
    seed: int,
) -> Compared:
    shared = first.merge(second, on="clip_id", suffixes=("_a", "_b"), validate="one_to_one")
    if shared.empty:
        raise EchofmError(
            "the two were tested on different clips: none is in both; use one set, one split and one id key for both"
        )
    if not (shared["patient_id_a"] == shared["patient_id_b"]).all() or not _same_truth(shared, ours):
        raise EchofmError(
            "a clip that both were tested on has another patient or another true value in each; embed one version of "
            "the set with both encoders"
        )
    notes = [*notes, *_pair_notes((ours, first), (theirs, second), shared=len(shared))]
    # One array of patients, so that both meet the same redrawn ones.
    patients = shared["patient_id_a"].to_numpy(str)
    index = pd.Index(shared["clip_id"])
    keyed = {(name, ""): metric for name, metric in metrics.items()}
    truth = _arrays(first.set_index("clip_id").loc[index], ours)[0]
    measured = []
    for own in (first, second):
        _, predicted = _arrays(own.set_index("clip_id").loc[index], ours)
        of = Truth(values_N=truth, patients_N=patients, metrics=keyed)
        measured.append(redraw(of.figures(predicted[:, None]), draws=draws, seed=seed))
    found = [
        ComparedMetric(
            metric=key.metric,
            first=measured[0][key].estimate,
            second=measured[1][key].estimate,
            difference=measured[0][key].minus(measured[1][key]),
        )
        for key in measured[0]
    ]
    compared = _assembled(ours, theirs, found, paired=True, notes=notes)
    return compared.model_copy(update={"clips": len(shared), "patients": len(set(patients))})


def _pair_notes(*sides: tuple[ProbeResult, pd.DataFrame], shared: int) -> list[str]:
    notes = []
    for name, (result, own) in zip("AB", sides):
        if result.kind == "attentive" and result.seeds > 1:
            notes.append(
                f"{name} is judged by its predictions averaged over {result.seeds} seeds, which are better than one "
                "seed's; its probe.json has the mean of the seeds' own figures"
            )
        if len(own) > shared:
            notes.append(f"{len(own) - shared} of {len(own)} test clips of {name} are not in the other; left out")
    return notes


def _unpaired(ours: ProbeResult, theirs: ProbeResult) -> list[ComparedMetric]:
    found = []
    for each in ours.scores:
        if (each.method, each.label_fraction, each.level, each.of) == ("probe", 1.0, "clip", ""):
            try:
                other = theirs.score(each.metric)
            except KeyError:
                continue
            found.append(ComparedMetric(metric=each.metric, first=each.estimate, second=other, difference=None))
    return found


def _assembled(
    ours: ProbeResult, theirs: ProbeResult, found: list[ComparedMetric], *, paired: bool, notes: list[str]
) -> Compared:
    return Compared(
        target=ours.target,
        task=ours.task,
        first_encoder=ours.encoder_digest,
        second_encoder=theirs.encoder_digest,
        paired=paired,
        clips=ours.clips["test"],
        patients=ours.patients["test"],
        metrics=found,
        notes=notes,
    )


def _require_alike(ours: ProbeResult, theirs: ProbeResult) -> None:
    for what, a, b in (
        ("target", ours.target, theirs.target),
        ("task", ours.task, theirs.task),
        ("classes", ", ".join(ours.classes), ", ".join(theirs.classes)),
    ):
        if a != b:
            raise EchofmError(f"A has the {what} {a!r}, B {b!r}: they do not compare; probe both for one target")


def _metrics(result: ProbeResult, rows: list[pd.DataFrame | None]) -> dict[str, Metric]:
    """What can be computed from predictions; nothing for tasks without one prediction per clip."""
    needed = {"clip_id", "patient_id"} | set(_true(result)) | set(_predicted(result))
    if any(each is None or not needed <= set(each.columns) or each["clip_id"].duplicated().any() for each in rows):
        return {}
    return METRICS.get(result.task, {})


def _true(result: ProbeResult) -> list[str]:
    return [f"true_{name}" for name in result.classes] if result.task == "multilabel" else ["true"]


def _predicted(result: ProbeResult) -> list[str]:
    return ["predicted"] if result.task == "regression" else [f"probability_{name}" for name in result.classes]


def _arrays(rows: pd.DataFrame, result: ProbeResult) -> tuple[npt.NDArray, npt.NDArray]:
    """True and said, as the task's metrics take them."""
    if result.task == "regression":
        return rows["true"].to_numpy(float), rows["predicted"].to_numpy(float)
    predicted = rows[_predicted(result)].to_numpy(float)
    if result.task == "multilabel":
        return rows[_true(result)].to_numpy(float), predicted
    number_of = {name: number for number, name in enumerate(result.classes)}
    return rows["true"].astype(str).map(number_of).to_numpy(np.int64), predicted


def _same_truth(shared: pd.DataFrame, result: ProbeResult) -> bool:
    for name in _true(result):
        first, second = shared[f"{name}_a"], shared[f"{name}_b"]
        if pd.api.types.is_numeric_dtype(first.dtype) and pd.api.types.is_numeric_dtype(second.dtype):
            if not np.allclose(first, second, rtol=1e-6, atol=1e-9, equal_nan=True):
                return False
        elif not (first.astype(str) == second.astype(str)).all():
            return False
    return True


def _probe_json(path: str | Path) -> Path:
    """The file itself, the one in a target's folder, or the only one of a run; a run has a folder per target."""
    path = Path(path)
    folder = path.parent if path.name == "report.json" else path
    if not folder.is_dir():
        if not path.is_file():
            raise EchofmError(f"{path}: there is no such file or folder; name a target's probe.json")
        return path
    if (folder / "probe.json").is_file():
        return folder / "probe.json"
    inside = sorted(folder.glob("*/probe.json"))
    if len(inside) != 1:
        found = ", ".join(str(each.parent) for each in inside) or "nothing"
        raise EchofmError(f"{path}: holds no probe.json of one target; its folders hold {found}: name one of them")
    return inside[0]


def _predictions(file: Path) -> pd.DataFrame | None:
    if not file.is_file():
        return None
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise EchofmError(f"{file}: no predictions can be read ({type(error).__name__}); probe again") from None
