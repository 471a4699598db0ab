"""`python -m benchmarks.probe [protocol|ridge|logistic ...]`: probes against scikit-learn, and the whole protocol.

Features are made as embeddings are: float32, correlated (the variance falls by 10^4 over the directions), far from zero
in the mean. Both sides standardise, choose from the same penalties and are scored on the same held-out rows; a
difference above 1e-3 ends the run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
import tyro
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.timing import TABLE_HEAD, Clock, Row, header
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.estimators.logistic import BlockLogistic
from echofm.estimators.ridge import ALPHAS, ridge_path
from echofm.estimators.rows import Rows
from probe.labels.evaluate import evaluate
from probe.result import Kind

Part = Literal["protocol", "ridge", "logistic"]
_HELD_OUT = 5_000
_C = 0.1


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured, and how often."""

    parts: Annotated[tuple[Part, ...], tyro.conf.Positional] = ("protocol", "ridge", "logistic")
    rows: int = 100_000
    """Training rows of ridge and logistic; 10,000 clips for the protocol in any case."""
    width: int = 1024
    rounds: int = 1
    threads: int = 2
    clock: Literal["wall", "cpu"] = "wall"
    """cpu: this process's CPU time, for a machine that others use too; give `--threads 1` with it."""


def main() -> None:
    """Print the header, then the table's rows as they are measured."""
    options = tyro.cli(Options, description=__doc__)
    torch.set_num_threads(options.threads)
    print(header(), TABLE_HEAD, sep="\n\n", flush=True)
    try:
        with threadpool_limits(options.threads):
            for row in run(options):
                print(row.markdown(), flush=True)
    except EchofmError as error:
        raise SystemExit(f"error: {error}") from None


def run(options: Options) -> Iterator[Row]:
    """Rows of the parts asked for, each as soon as it is done."""
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    if "protocol" in options.parts:
        for kind, target in (("linear", "ef_percent"), ("linear", "view"), ("knn", "ef_percent")):
            yield _protocol(clock, kind, target)  # type: ignore[arg-type]
    if "ridge" in options.parts:
        yield _ridge(options, clock)
    if "logistic" in options.parts:
        for classes in (2, 4):
            yield _logistic(options, clock, classes=classes)


def embeddings(rows: int, width: int, *, seed: int) -> npt.NDArray[np.float32]:
    """(rows, width)."""
    mix = np.random.default_rng(0).standard_normal((width, width)).astype(np.float32)
    mix *= np.logspace(0, -2, width, dtype=np.float32)[:, None] / np.float32(np.sqrt(width))
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, width), np.float32) @ mix + np.float32(0.5)


def _protocol(clock: Clock, kind: Kind, target: str) -> Row:
    """No baseline: 10,000 clips of 2,500 patients, two label fractions, 5 seeds, 1,000 bootstraps."""
    features = embeddings(10_000, 768, seed=1)
    rng = np.random.default_rng(2)
    signal = features @ rng.standard_normal((768, 4)).astype(np.float32)
    signal = (signal - signal.mean(0)) / signal.std(0) + 0.5 * rng.standard_normal(signal.shape)
    table = EmbeddingTable.from_arrays(
        features,
        clip_id=[f"c{i:05d}" for i in range(10_000)],
        patient_id=[f"p{i // 4:04d}" for i in range(10_000)],
        view=np.array(["A2C", "A4C", "PLAX", "PSAX"])[signal.argmax(1)].tolist(),
        labels={"ef_percent": 50 + 10 * signal[:, 0]},
        encoder_digest="benchmark",
    )
    started = clock()
    evaluate(table, target=target, kind=kind, label_fractions=(0.1, 1.0), seeds=5, draws=1000)
    took = clock() - started
    return Row(
        name=f"probe {kind} {target}, 10,000 x 768",
        unit="s",
        baseline=60.0,
        variant=took,
        ratios=[60.0 / took],
        target="under 60 s",
        met=took < 60,
        note="baseline: the promise; fractions 0.1 and 1, 5 seeds, 1,000 bootstraps, both levels, subgroups",
    )


def _ridge(options: Options, clock: Clock) -> Row:
    X, fresh, rng = _features(options)
    weights = rng.standard_normal(options.width)
    y, truth = (part @ weights + 0.5 * rng.standard_normal(len(part)) for part in (X, fresh))
    kept: dict[str, float] = {}

    def theirs() -> None:
        model = make_pipeline(StandardScaler(), RidgeCV(alphas=ALPHAS)).fit(X, y)
        kept["alpha"], kept["theirs"] = float(model[-1].alpha_), r2_score(truth, model.predict(fresh))

    def ours() -> None:
        path = {model.alpha: model for model in ridge_path(Rows(features_ND=X), y)}
        kept["ours"] = r2_score(truth, path[kept["alpha"]].predict(fresh))

    base, own = _timed(theirs, ours, clock, options.rounds)
    return _row(
        f"ridge, {len(ALPHAS)} penalties, {options.rows:,} x {options.width}",
        base,
        own,
        _equal("R2", kept["theirs"], kept["ours"]),
    )


def _logistic(options: Options, clock: Clock, *, classes: int) -> Row:
    X, fresh, rng = _features(options)
    weights = rng.standard_normal((options.width, classes)).astype(np.float32)
    y, truth = ((_scaled(part @ weights) + rng.gumbel(size=(len(part), classes))).argmax(1) for part in (X, fresh))
    kept: dict[str, npt.NDArray] = {}

    def theirs() -> None:
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=_C, class_weight="balanced", tol=1e-5, max_iter=5000)
        )
        kept["theirs"] = model.fit(X, y).predict_proba(fresh)

    def ours() -> None:
        kept["ours"] = BlockLogistic(C=_C).fit(X, y).predict_proba(fresh)

    base, own = _timed(theirs, ours, clock, options.rounds)
    apart = float(np.abs(kept["theirs"] - kept["ours"]).max())
    scores = [
        (
            balanced_accuracy_score(truth, predicted.argmax(1)),
            roc_auc_score(truth, predicted[:, 1] if classes == 2 else predicted, multi_class="ovr"),
        )
        for predicted in (kept["theirs"], kept["ours"])
    ]
    equal = _equal("balanced accuracy", scores[0][0], scores[1][0]) + "; " + _equal("AUROC", scores[0][1], scores[1][1])
    name = f"logistic, {classes} classes, one penalty, {options.rows:,} x {options.width}"
    return _row(name, base, own, f"{equal}; probabilities within {apart:.1e}")


def _features(options: Options) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], np.random.Generator]:
    whole = embeddings(options.rows + _HELD_OUT, options.width, seed=3)
    return whole[: options.rows], whole[options.rows :], np.random.default_rng(4)


def _scaled(scores: npt.NDArray) -> npt.NDArray:
    return 2 * (scores - scores.mean(0)) / scores.std(0)


def _timed(
    baseline: Callable[[], None], variant: Callable[[], None], clock: Clock, rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of each, alternating."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, function in zip(seconds, (baseline, variant)):
            started = clock()
            function()
            side.append(clock() - started)
    return seconds


def _equal(name: str, theirs: float, ours: float) -> str:
    if abs(theirs - ours) > 1e-3:
        raise EchofmError(
            f"{name} differs: scikit-learn {theirs:.5f}, ours {ours:.5f}; run tests/test_probe_estimators.py"
        )
    return f"{name} {theirs:.5f} and {ours:.5f}"


def _row(name: str, base: Sequence[float], own: Sequence[float], note: str) -> Row:
    return Row(
        name=name,
        unit="s",
        baseline=statistics.median(base),
        variant=statistics.median(own),
        ratios=[a / b for a, b in zip(base, own)],
        note=f"against scikit-learn; {note}",
    )


if __name__ == "__main__":
    main()
