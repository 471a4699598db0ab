"""Probes find what is there, find nothing where labels are shuffled, and stop at a leak."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.checks.embedding import check_embedding
from probe.cli import main
from probe.labels.evaluate import evaluate
from probe.phase.probe import probe_phase
from probe.result import Kind, ProbeResult
from probe.retrieval.probe import probe_retrieval

WIDTH, CLIPS = 24, 3
VIEWS = ("A2C", "A4C", "PLAX")


def table(
    patients: int = 120, *, seed: int = 0, noise: float = 0.3, digest: str = "a" * 64, splits: list[str] | None = None
) -> EmbeddingTable:
    """Features that carry a patient's EF along one direction and a clip's view along others."""
    world = np.random.default_rng(seed)
    ef = np.repeat(world.uniform(15, 80, patients), CLIPS)
    view = world.integers(0, 3, patients * CLIPS)
    hidden = np.concatenate(
        [(ef[:, None] - 47) / 19, np.eye(3)[view], np.repeat(world.standard_normal((patients, 3)), CLIPS, 0)], 1
    )
    own = np.random.default_rng([seed, ord(digest[0])])
    features = hidden @ own.standard_normal((hidden.shape[1], WIDTH)) + noise * own.standard_normal((len(ef), WIDTH))
    return EmbeddingTable.from_arrays(
        features,
        clip_id=[f"c{i:05d}" for i in range(len(ef))],
        patient_id=[f"p{i // CLIPS:04d}" for i in range(len(ef))],
        view=[VIEWS[v] for v in view],
        split=splits,
        labels={"ef_percent": ef, "reduced": (ef < 40).astype(float)},
        encoder_digest=digest,
    )


def shuffled(original: EmbeddingTable, seed: int) -> EmbeddingTable:
    rng = np.random.default_rng(seed)
    patients = np.unique(original.patient_id.astype(str))
    order = dict(zip(patients, rng.permutation(patients)))
    first = original.rows.drop_duplicates("patient_id").set_index("patient_id")
    names = [order[str(name)] for name in original.patient_id]
    ef = first.loc[names, "ef_percent"].to_numpy()
    rows = original.rows.assign(ef_percent=ef, reduced=(ef < 40).astype(float))
    return EmbeddingTable(video_ND=original.video_ND, rows=rows, encoder_digest=original.encoder_digest)


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_what_is_there_is_found(kind: str) -> None:
    ef = evaluate(table(), target="ef_percent", kind=kind, draws=100).result
    assert ef.task == "regression"
    assert ef.score("r2").low > (0.8 if kind == "linear" else 0.5)
    assert ef.score("mae").high < ef.score("mae", method="mean").low
    assert ef.score("r2", level="patient").value >= ef.score("r2").value - 0.02
    view = evaluate(table(), target="view", kind=kind, draws=100).result
    assert view.classes == list(VIEWS)
    assert view.score("balanced_accuracy").low > 0.8
    assert view.score("balanced_accuracy", method="majority").value == pytest.approx(1 / 3)
    assert evaluate(table(), target="reduced", kind=kind, draws=100).result.score("auroc").low > 0.85


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_shuffled_patients_leave_chance_inside_the_interval(kind: Kind) -> None:
    inside = []
    for seed in range(5):
        asked = {"kind": kind, "draws": 200, "seed": seed}
        reduced = evaluate(shuffled(table(), seed), target="reduced", **asked).result
        ef = evaluate(shuffled(table(), seed), target="ef_percent", **asked).result
        against_mean = next(
            each.difference for each in ef.comparisons if (each.baseline, each.metric) == ("mean", "mae")
        )
        correlation = ef.score("pearson")
        inside += [reduced.score("auroc").low <= 0.5 <= reduced.score("auroc").high, against_mean.high > 0]
        # A fit of the mean alone says the same of every clip and correlates with nothing.
        inside.append(np.isnan(correlation.value) or correlation.low <= 0 <= correlation.high)
        assert ef.score("r2").value < 0.15
    # 15 intervals of 95 %: two or more outside happen by chance in 17 of 100 such tests, four in 1 of 200.
    assert sum(inside) >= 12


def with_studies(studies: list[str | None], ef: np.ndarray) -> EmbeddingTable:
    """Patients of three clips each; features that tell the label up to noise of each clip's own."""
    noise = np.random.default_rng(0).standard_normal((len(ef), 1))
    return EmbeddingTable.from_arrays(
        np.concatenate([(ef - 50)[:, None] / 10 + noise, noise[::-1]], 1),
        clip_id=[f"c{i:03d}" for i in range(len(ef))],
        patient_id=[f"p{i // 3:03d}" for i in range(len(ef))],
        study_id=studies,
        labels={"ef_percent": ef},
        encoder_digest="b" * 64,
    )


def test_a_study_is_a_level_where_the_label_is_its_own() -> None:
    patient = np.arange(360) // 3
    rng = np.random.default_rng(1)
    ef = rng.uniform(20, 75, (120, 2))
    # Two clips in a patient's first study, one in the second, a year later and with another ejection fraction.
    later = np.arange(360) % 3 == 2
    studies = [f"s{p:03d}{int(late)}" for p, late in zip(patient, later)]
    found = evaluate(with_studies(studies, ef[patient, later.astype(int)]), target="ef_percent", draws=100).result
    assert {score.level for score in found.scores} == {"clip", "study"}
    assert found.score("mae", level="study").value < found.score("mae").value
    assert {each.level for each in found.comparisons} == {"clip", "study"}
    one_each = [f"s{p}" for p in patient]
    some_unknown = [None if n % 3 == 0 else name for n, name in enumerate(studies)]
    for names, expected in ((studies, ["clip", "study", "patient"]), (one_each, ["clip", "patient"]),
                            (some_unknown, ["clip", "patient"])):  # fmt: skip
        scores = evaluate(with_studies(names, ef[patient, 0]), target="ef_percent", draws=20).result.scores
        assert list(dict.fromkeys(score.level for score in scores)) == expected


def test_patient_in_two_splits_stops_the_run() -> None:
    splits = ["train"] * 200 + ["val"] * 60 + ["test"] * 100
    with pytest.raises(EchofmError, match=r"patient p0066 is in the splits train and val"):
        evaluate(table(splits=splits), target="ef_percent")


def test_own_splits_are_kept_and_hashed_ones_share_no_patient() -> None:
    splits = ["train"] * 210 + ["val"] * 60 + ["test"] * 90
    own = evaluate(table(splits=splits), target="ef_percent", draws=50).result
    assert own.splits_from == "table"
    assert own.clips == {"train": 210, "val": 60, "test": 90}
    dealt = evaluate(table(), target="ef_percent", draws=50).result
    assert dealt.splits_from == "patients"
    assert sum(dealt.patients.values()) == 120


def test_the_tables_test_patients_are_kept_where_validation_clips_lack_the_label() -> None:
    splits = ["train"] * 240 + ["val"] * 30 + ["test"] * 90
    made = table(splits=splits)
    ef = made.rows["ef_percent"].where(made.rows["split"] != "val")
    probed = evaluate(replace(made, rows=made.rows.assign(ef_percent=ef)), target="ef_percent", draws=20)
    assert probed.result.splits_from == "table" and probed.result.clips["test"] == 90
    assert set(probed.predictions["clip_id"]) == set(made.clip_id[270:])
    assert probed.result.patients["train"] + probed.result.patients["val"] == 80
    assert 8 <= probed.result.patients["val"] <= 32
    assert any("a quarter of its training patients" in note for note in probed.result.notes)


def test_splits_that_are_not_used_is_reported() -> None:
    splits: list[str | None] = ["train"] * 210 + ["val"] * 60 + ["test"] * 90
    some = table(splits=[None, None, None, *splits[3:]])  # type: ignore[list-item]
    found = evaluate(some, target="ef_percent", draws=20)
    assert found.result.splits_from == "patients"
    moved = set(found.predictions["clip_id"]) & set(some.clip_id[3:210])
    stated = f"{len(moved)} of the {found.result.clips['test']} test clips were training clips of the table"
    assert any("3 of 360 clips with this label have none" in note and stated in note for note in found.result.notes)
    made = table(splits=splits)  # type: ignore[arg-type]
    untested = made.rows.assign(ef_percent=made.rows["ef_percent"].where(made.rows["split"] != "test"))
    notes = evaluate(replace(made, rows=untested), target="ef_percent", draws=20).result.notes
    assert any("no clip with this label is a test clip" in note for note in notes)
    (few,) = evaluate(table(), target="ef_percent", draws=20).result.notes
    assert few.startswith("only 25 test patients: ")
    # A patient in two of the splits given is a leak, whatever the clips without one.
    leaking = table(splits=[None, *["train"] * 199, *["val"] * 60, *["test"] * 100])  # type: ignore[list-item]
    with pytest.raises(EchofmError, match=r"patient p0066 is in the splits train and val"):
        evaluate(leaking, target="ef_percent")


def test_more_labels_help_and_fractions_are_of_patients() -> None:
    found = evaluate(table(noise=1.0), target="ef_percent", label_fractions=(0.05, 1.0), seeds=3, draws=50).result
    assert found.score("mae", label_fraction=0.05).value > found.score("mae").value


def test_baselines_are_compared_in_pairs() -> None:
    ours, baseline = table(noise=0.1), table(noise=3.0, digest="b" * 64)
    order = np.random.default_rng(0).permutation(len(baseline))
    found = evaluate(ours, target="ef_percent", baselines={"worse": baseline.select(order)}, draws=200).result
    for level in ("clip", "patient"):
        difference = {
            (each.baseline, each.metric): each.difference for each in found.comparisons if each.level == level
        }
        for name in ("worse", "mean"):
            assert difference[name, "mae"].high < 0
            assert difference[name, "r2"].low > 0
    same = evaluate(ours, target="ef_percent", baselines={"itself": ours}, draws=50).result
    itself = [each.difference for each in same.comparisons if each.baseline == "itself"]
    assert len(itself) == 8
    assert all(each.low == each.high == 0 for each in itself)


@pytest.mark.parametrize("name", ["probe", "mean", "chance"])
def test_a_baseline_cannot_take_a_methods_name(name: str) -> None:
    for asked in (
        lambda baselines: evaluate(table(), target="ef_percent", baselines=baselines),
        lambda baselines: probe_phase(table(), baselines=baselines),
        lambda baselines: probe_retrieval(table(), baselines=baselines),
    ):
        with pytest.raises(EchofmError, match=f"cannot be named '{name}'"):
            asked({name: table(digest="b" * 64)})


def test_command_gives_a_baseline_of_a_methods_name_another(tmp_path: Path) -> None:
    for name in ("ours", "mean"):
        table(digest=name[0] * 64).save(tmp_path / name)
    paths = [str(tmp_path / "ours"), str(tmp_path / "mean")]
    main([*paths, "--target", "ef_percent", "--features", "video", "--draws", "20", "--out", str(tmp_path / "out")])
    result = ProbeResult.from_json(tmp_path / "out" / "ef_percent" / "probe.json")
    assert result.score("r2", method="mean").value < 0.1 < result.score("r2", method="mean (given)").value
    assert [each.baseline for each in result.comparisons if each.metric == "mae"].count("mean") == 2


def test_counts_below_one_are_refused(tmp_path: Path) -> None:
    for asked in ({"draws": 0}, {"seeds": 0}):
        with pytest.raises(EchofmError, match="is 0; give 1 or more"):
            evaluate(table(), target="ef_percent", **asked)
    for probe in (probe_phase, probe_retrieval):
        with pytest.raises(EchofmError, match="draws is 0; give 1 or more"):
            probe(table(), draws=0)
    for option in ("--draws", "--seeds", "--windows", "--batch", "--processes"):
        with pytest.raises(EchofmError, match=f"{option} is 0; give 1 or more"):
            main([str(tmp_path), "--target", "ef_percent", "--out", str(tmp_path / "out"), option, "0"])


def test_a_mistyped_target_is_reported_before_the_first_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table().save(tmp_path / "t")
    monkeypatch.setattr("probe.targets.probe_target", lambda *given, **more: pytest.fail("probed"))
    command = [str(tmp_path / "t"), "--out", str(tmp_path / "out"), "--target", "ef_percent"]
    for more, says in (
        (["--target", "ef_per_cent"], "no label 'ef_per_cent'"),
        (["--target", "retrieval:heart"], "retrieval is of"),
        (["--kind", "upsampling"], "for segmentation"),
        (["--features", "motion"], "this table offers video"),
    ):
        with pytest.raises(EchofmError, match=says):
            main([*command, *more])


def test_a_dead_embedding_is_reported_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alive = table()
    dead = EmbeddingTable(video_ND=np.ones_like(alive.video_ND), rows=alive.rows, encoder_digest="d")
    assert "collapsed" in check_embedding(dead).problems[0]
    assert check_embedding(alive).problems == []
    dead.save(tmp_path / "dead")
    assert main([str(tmp_path / "dead"), "--target", "ef_percent", "--out", str(tmp_path / "out")]) == 1
    assert "collapsed" in capsys.readouterr().err
    assert "collapsed" in (tmp_path / "out" / "report.html").read_text()


def test_features_see_identity_within_patients() -> None:
    found = check_embedding(table())
    assert found.within_patient > found.between_patients + 0.3


@pytest.mark.parametrize(
    ("target", "says"), [("nothing", "it has: ef_percent, reduced, view"), ("split", "no label"), ("kind", "0 clips")]
)
def test_unusable_targets_are_refused(target: str, says: str) -> None:
    with pytest.raises(EchofmError, match=says):
        evaluate(table(), target=target)


@pytest.mark.slow
def test_command_writes_the_same_bytes_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table().save(tmp_path / "t")
    command = [str(tmp_path / "t"), "--target", "ef_percent", "--target", "view", "--label-fractions", "0.2", "1"]
    written = []
    for name in ("a", "b"):
        assert main([*command, "--out", str(tmp_path / name)]) == 0
        written.append(
            {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        )
    assert written[0] == written[1]
    assert sorted(map(str, written[0])) == [
        "ef_percent/model.json",
        "ef_percent/model.safetensors",
        "ef_percent/predictions.parquet",
        "ef_percent/probe.json",
        "report.html",
        "report.json",
        "view/model.json",
        "view/model.safetensors",
        "view/predictions.parquet",
        "view/probe.json",
    ]
    result = ProbeResult.from_json(tmp_path / "a" / "ef_percent" / "probe.json")
    rows = pd.read_parquet(tmp_path / "a" / "ef_percent" / "predictions.parquet")
    assert result.score("mae").value == pytest.approx((rows["true"] - rows["predicted"]).abs().mean())
    assert "balanced_accuracy" in capsys.readouterr().out


def test_command_says_on_the_terminal_and_in_the_report_that_splits_were_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(splits=[None, *["train"] * 209, *["val"] * 60, *["test"] * 90]).save(tmp_path / "t")  # type: ignore[list-item]
    main([str(tmp_path / "t"), "--target", "ef_percent", "--draws", "20", "--out", str(tmp_path / "out")])
    assert "note: ef_percent: the table's splits were not used because" in capsys.readouterr().err
    assert "were training clips of the table" in (tmp_path / "out" / "report.html").read_text()
