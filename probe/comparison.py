"""Two probes of one target: is the difference more than chance? Reads probe.json and predictions.parquet of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.errors import EchofmError
from echofm.intervals import Estimate
from echofm.schema import FrozenModel
from probe.labels.answers import Truth
from probe.labels.metrics import METRICS, Metric
from probe.protocol import redraw, require_request
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
    first_name: str
    second_name: str
    paired: bool
    clips: int
    """Test clips that the figures are of."""
    patients: int
    metrics: list[ComparedMetric]
    notes: list[str]
    """What a reader must know, in words."""


class Side(NamedTuple):
    """A probe and its predictions, where they lie beside it."""

    result: ProbeResult
    rows: pd.DataFrame | None

    @property
    def tested(self) -> tuple[int, int]:
        """Test clips and patients."""
        return self.result.clips["test"], self.result.patients["test"]


def compare(first: str | Path, second: str | Path, *, draws: int = 1000, seed: int = 0) -> Compared:
    """Two probe.json of one target. With predictions beside both, on the test clips that they share, in pairs.

    Raises EchofmError where targets, tasks, classes, true values or test sets are unlike.
    """
    require_request(seed=seed, draws=draws)
    ours, theirs = read_side(first), read_side(second)
    a, b = ours.result, theirs.result
    require_alike(a, b)
    metrics = metrics_of(a, [ours.rows, theirs.rows])
    notes = [] if a.kind == b.kind else [f"of A the probe is {a.kind}, of B {b.kind}"]
    tested = ours.tested
    if metrics:
        found, tested, more = _paired(ours, theirs, metrics=metrics, draws=draws, seed=seed)
        notes += more
    else:
        if tested != theirs.tested:
            raise EchofmError(
                f"A was tested on {tested[0]} clips of {tested[1]} patients, B on {theirs.tested[0]} of "
                f"{theirs.tested[1]}: figures on unlike test sets do not compare; probe both on one set, and keep "
                f"{PREDICTIONS} beside probe.json"
            )
        missing = ours.rows is None or theirs.rows is None
        why = f"{PREDICTIONS} is not beside both" if missing else f"a {a.task} probe has no single prediction per clip"
        notes.append(
            f"{why}: only the interval of each is shown; that two intervals overlap does not mean no difference"
        )
        found = _unpaired(a, b)
    names = names_of([first, second], [ours, theirs])
    return Compared(
        target=a.target,
        first_name=names[0],
        second_name=names[1],
        task=a.task,
        first_encoder=a.encoder_digest,
        second_encoder=b.encoder_digest,
        paired=bool(metrics),
        clips=tested[0],
        patients=tested[1],
        metrics=found,
        notes=notes,
    )


def _paired(
    ours: Side, theirs: Side, *, metrics: Mapping[str, Metric], draws: int, seed: int
) -> tuple[list[ComparedMetric], tuple[int, int], list[str]]:
    """The metrics, the clips and patients that both share, and what must be known of them."""
    first, second, result = ours.rows, theirs.rows, ours.result
    assert first is not None and second is not None
    shared = first.merge(second, on="clip_id", suffixes=("_a", "_b"), validate="one_to_one")
    if shared.empty:
        raise EchofmError(
            "the two were tested on different clips: none is in both; use one set, one split and one id key for both"
        )
    if not (shared["patient_id_a"] == shared["patient_id_b"]).all() or not same_truth(shared, result):
        raise EchofmError(
            "a clip that both were tested on has another patient or another true value in each; embed one version of "
            "the set with both encoders"
        )
    # One array of patients, so that both meet the same redrawn ones.
    patients, clips = shared["patient_id_a"].to_numpy(str), pd.Index(shared["clip_id"])
    found_arrays = [arrays(own.set_index("clip_id").loc[clips], result) for own in (first, second)]
    keyed = {(name, ""): metric for name, metric in metrics.items()}
    truth = Truth(values_N=found_arrays[0][0], patients_N=patients, metrics=keyed)
    one, other = (redraw(truth.figures(predicted[:, None]), draws=draws, seed=seed) for _, predicted in found_arrays)
    found = [
        ComparedMetric(
            metric=key.metric, first=each.estimate, second=other[key].estimate, difference=each.minus(other[key])
        )
        for key, each in one.items()
    ]
    notes = _pair_notes((ours.result, first), (theirs.result, second), shared=len(shared))
    return found, (len(shared), len(set(patients))), notes


def _pair_notes(*sides: tuple[ProbeResult, pd.DataFrame], shared: int) -> list[str]:
    notes = []
    for name, (result, own) in zip("AB", sides):
        notes += averaged(name, result)
        if len(own) > shared:
            notes.append(f"{len(own) - shared} of {len(own)} test clips of {name} are not in the other; left out")
    return notes + unlike_splits([result for result, _ in sides])


def averaged(name: str, result: ProbeResult) -> list[str]:
    """Says so where a row of the predictions is a mean over fits. name: what the probe is called."""
    if result.seeds < 2 or (result.kind != "attentive" and result.folds < 2):
        return []
    what, one = ("repeats", "one repeat's") if result.folds > 1 else ("seeds", "one seed's")
    return [
        f"{name} is judged by its predictions averaged over {result.seeds} {what}, which are better than {one}; its "
        f"probe.json has the mean of the {what}' own figures"
    ]


def unlike_splits(results: Sequence[ProbeResult]) -> list[str]:
    """Says so where the probes were fitted on patients chosen in several ways."""
    if len({(each.splits_from, each.folds) for each in results}) < 2:
        return []
    return ["the splits come from several sources: some were fitted on more patients than others"]


def _unpaired(ours: ProbeResult, theirs: ProbeResult) -> list[ComparedMetric]:
    first, second = (
        {each.metric: each.estimate for each in result.main_scores if each.method == "probe"}
        for result in (ours, theirs)
    )
    return [
        ComparedMetric(metric=metric, first=each, second=second[metric], difference=None)
        for metric, each in first.items()
        if metric in second
    ]


def require_alike(ours: ProbeResult, theirs: ProbeResult, *, names: tuple[str, str] = ("A", "B")) -> None:
    """Raises EchofmError where target, task or classes are unlike."""
    for what, a, b in (
        ("target", ours.target, theirs.target),
        ("task", ours.task, theirs.task),
        ("classes", ", ".join(ours.classes), ", ".join(theirs.classes)),
    ):
        if a != b:
            raise EchofmError(
                f"{names[0]} has the {what} {a!r}, {names[1]} {b!r}: they do not compare; probe both for one target"
            )


def metrics_of(result: ProbeResult, rows: list[pd.DataFrame | None]) -> dict[str, Metric]:
    """What can be computed from predictions; nothing for tasks without one prediction per clip."""
    needed = {"clip_id", "patient_id"} | set(_true(result)) | set(_predicted(result))
    if any(each is None or not needed <= set(each.columns) or each["clip_id"].duplicated().any() for each in rows):
        return {}
    return METRICS.get(result.task, {})


def _true(result: ProbeResult) -> list[str]:
    return [f"true_{name}" for name in result.classes] if result.task == "multilabel" else ["true"]


def _predicted(result: ProbeResult) -> list[str]:
    return ["predicted"] if result.task == "regression" else [f"probability_{name}" for name in result.classes]


def arrays(rows: pd.DataFrame, result: ProbeResult) -> tuple[npt.NDArray, npt.NDArray]:
    """True and said, as the task's metrics take them."""
    if result.task == "regression":
        return rows["true"].to_numpy(float), rows["predicted"].to_numpy(float)
    predicted = rows[_predicted(result)].to_numpy(float)
    if result.task == "multilabel":
        return rows[_true(result)].to_numpy(float), predicted
    number_of = {name: number for number, name in enumerate(result.classes)}
    return rows["true"].astype(str).map(number_of).to_numpy(np.int64), predicted


def same_truth(shared: pd.DataFrame, result: ProbeResult) -> bool:
    for name in _true(result):
        first, second = shared[f"{name}_a"], shared[f"{name}_b"]
        if pd.api.types.is_numeric_dtype(first.dtype) and pd.api.types.is_numeric_dtype(second.dtype):
            if not np.allclose(first, second, rtol=1e-6, atol=1e-9, equal_nan=True):
                return False
        elif not (first.astype(str) == second.astype(str)).all():
            return False
    return True


def names_of(paths: Sequence[str | Path], sides: Sequence[Side]) -> list[str]:
    """The encoders' names; the run's folder is added where two are alike, and stands alone where none is known."""
    runs = []
    for given in paths:
        path = Path(given).resolve()
        folder = path.parent if path.suffix == ".json" else path
        runs.append((folder.parent if (folder / "probe.json").is_file() else folder).name)
    names = [side.result.encoder or run for side, run in zip(sides, runs)]
    alike = Counter(names)
    return [f"{name} ({run})" if alike[name] > 1 and name != run else name for name, run in zip(names, runs)]


def read_side(path: str | Path) -> Side:
    """Of a probe.json itself, the one in a target's folder, or the only one of a run; a run has a folder per target."""
    path = Path(path)
    folder = path.parent if path.name == "report.json" else path
    found = [path]
    if folder.is_dir():
        own = folder / "probe.json"
        found = [own] if own.is_file() else sorted(folder.glob("*/probe.json"))
        if len(found) != 1:
            inside = ", ".join(str(each.parent) for each in found) or "nothing"
            raise EchofmError(f"{path}: holds no probe.json of one target; its folders hold {inside}: name one of them")
    elif not path.is_file():
        raise EchofmError(f"{path}: there is no such file or folder; name a target's probe.json")
    file = found[0].with_name(PREDICTIONS)
    try:
        rows = pd.read_parquet(file) if file.is_file() else None
    except (OSError, ValueError) as error:
        raise EchofmError(f"{file}: no predictions can be read ({type(error).__name__}); probe again") from None
    return Side(ProbeResult.from_json(found[0]), rows)
