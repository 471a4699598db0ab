"""Cross-validation by patient, label fractions of every method, figures without a test clip of a class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import probe
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.cli import main
from probe.labels.folds import folds
from probe.labels.target import read_target

CLIPS, PATIENTS = 120, 60


def table(noise: float, name: str = "a", *, splits: bool = True) -> EmbeddingTable:
    """Two clips a patient; the first feature tells the ejection fraction. 12 patients are for testing."""
    rng = np.random.default_rng(0)
    ef = np.repeat(rng.uniform(30, 70, PATIENTS), 2)
    features = rng.normal(size=(CLIPS, 8))
    features[:, 0] += (ef - 50) / (10 * noise)
    return EmbeddingTable.from_arrays(
        features.astype(np.float32),
        clip_id=[f"c{i}" for i in range(CLIPS)],
        patient_id=[f"p{i // 2}" for i in range(CLIPS)],
        encoder_digest=name * 64,
        split=[("train", "train", "train", "val", "test")[(i // 2) % 5] for i in range(CLIPS)] if splits else None,
        labels={
            "ef_percent": ef.tolist(),
            "grade": ["rare" if i < 2 else "often" if i % 4 < 2 else "x" for i in range(CLIPS)],
        },
    )


def test_every_patient_is_tested_once_in_each_repeat_and_never_fitted_on_in_the_same_fold() -> None:
    made = table(1.0)
    goal = read_target(made, "ef_percent")
    rounds = folds(made, goal, count=5, repeats=2, seed=0)
    assert len(rounds) == 2 and all(len(each) == 5 for each in rounds)
    tested = []
    for each in rounds:
        rows = np.concatenate([part.test for part in each])
        assert sorted(rows) == list(range(CLIPS))
        tested.append([frozenset(part.test) for part in each])
        for part in each:
            sides = [set(made.patient_id[rows]) for rows in (part.train, part.val, part.test)]
            assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert set(tested[0]) != set(tested[1])
    with pytest.raises(EchofmError, match="60 patient"):
        folds(made, goal, count=61, repeats=1, seed=0)


def test_a_cross_validation_tests_all_clips_with_a_narrower_interval() -> None:
    made = table(1.0)
    split = probe.evaluate(made, target="ef_percent", draws=200).result
    found = probe.evaluate(
        made, target="ef_percent", cross_validate=5, seeds=2, draws=200, baselines={"b": table(4.0, "b")}
    )
    result = found.result
    assert result.splits_from == "cross-validation" and result.folds == 5
    assert result.patients["test"] == PATIENTS and len(found.predictions) == CLIPS
    one, other = split.score("mae"), result.score("mae")
    assert other.high - other.low < one.high - one.low
    assert result.score("r2").value > 0.4 > result.score("r2", method="b").value
    assert abs(result.score("r2", method="mean").value) < 0.1
    assert "--cross-validate 5 tests on all 60 patients" in " ".join(split.notes)
    assert probe.evaluate(made, target="ef_percent", cross_validate=5, seeds=2, draws=200).predictions.equals(
        found.predictions
    )


def test_folds_that_cannot_be_are_refused(tmp_path: Path) -> None:
    table(1.0).save(tmp_path / "a")
    words = [str(tmp_path / "a"), "--target", "ef_percent", "--out", str(tmp_path / "out")]
    for more, says in (
        (["--cross-validate", "2"], "give 3 or more"),
        (["--cross-validate", "99"], "as many folds at most"),
    ):
        with pytest.raises(EchofmError, match=says):
            main([*words, *more])
    assert not (tmp_path / "out").exists()


def test_every_method_has_figures_at_every_part_of_the_labels_and_one_of_efficiency(tmp_path: Path) -> None:
    for name, noise in (("a", 1.0), ("b", 4.0)):
        table(noise, name).save(tmp_path / name)
    words = [str(tmp_path / "a"), str(tmp_path / "b"), "--target", "ef_percent", "--label-fractions", "0.2,0.5,1"]
    assert main([*words, "--draws", "50", "--seeds", "2", "--out", str(tmp_path / "out")]) in (0, 1)
    scores = json.loads((tmp_path / "out" / "ef_percent" / "probe.json").read_text())["scores"]
    seen: dict[str, set[float]] = {}
    for each in scores:
        seen.setdefault(each["method"], set()).add(each["label_fraction"])
    assert seen == {method: {0.2, 0.5, 1.0} for method in ("probe", "mean", "b")}
    by_part = {each["label_fraction"]: each["estimate"]["value"] for each in scores
               if (each["method"], each["metric"], each["level"]) == ("b", "mae", "clip")}  # fmt: skip
    one = next(
        each["estimate"]["value"] for each in scores if (each["method"], each["metric"]) == ("b", "mae_over_labels")
    )
    steps = np.diff(np.log([0.2, 0.5, 1.0]))
    means = [(by_part[0.2] + by_part[0.5]) / 2, (by_part[0.5] + by_part[1.0]) / 2]
    assert one == pytest.approx(float(np.dot(steps, means) / steps.sum()))


def test_a_mean_over_classes_without_a_test_clip_is_not_defined(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = table(1.0)
    result = probe.evaluate(made, target="grade", draws=20).result
    for method in ("probe", "majority"):
        for metric in ("balanced_accuracy", "macro_f1", "auroc", "average_precision"):
            assert np.isnan(result.score(metric, method=method).value), (method, metric)
    made.save(tmp_path / "a")
    main([str(tmp_path / "a"), "--target", "grade", "--draws", "20", "--out", str(tmp_path / "out")])
    assert "balanced_accuracy   not defined" in capsys.readouterr().out
    assert "not defined" in (tmp_path / "out" / "report.html").read_text()
    assert not np.isnan(
        probe.evaluate(made, target="grade", cross_validate=5, seeds=1, draws=20).result.score("macro_f1").value
    )


def test_folds_are_alike_in_the_number_and_a_constant_correlates_with_nothing() -> None:
    made = table(1.0)
    goal = read_target(made, "ef_percent")
    means = [goal.of(part.test).mean() for part in folds(made, goal, count=5, repeats=1, seed=0)[0]]
    assert max(means) - min(means) < 2, "of a standard deviation of 12"
    scored = probe.evaluate(made, target="ef_percent", cross_validate=5, seeds=2, draws=20).result
    assert np.isnan(scored.score("pearson", method="mean").value), "each fold's own mean would be below chance"
    assert scored.score("mae", method="mean").value > scored.score("mae").value
