"""A fitted probe applied again: the same numbers on the same shards, nearly so on the files; refusals elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from encoder_and_sets import write_encoder_and_sets
from hearts import beating_heart, write_avi

from echofm.cli import main
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.labels.evaluate import evaluate
from probe.predict.clips import _columns, predictions, refusal
from probe.predict.conformal import margin, margins_of
from probe.predict.model import LabelModel
from probe.predict.rates import with_rates_as_read


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder; thirty videos with a manifest; their shards; a probe of a number and of a class."""
    root = tmp_path_factory.mktemp("day")
    write_encoder_and_sets(root, hearts=1, fresh=1)
    (root / "in").mkdir()
    lines = ["file,MRN,split,LVEF (%),Dilated,View"]
    for number in range(30):
        frames_THW = beating_heart(frames=16, size=64, seed=number)[0]
        write_avi(root / "in" / f"exam{number:02d}.avi", frames_THW)
        split = ("train", "train", "val", "test", "val")[number % 5]
        lines.append(f"exam{number:02d}.avi,p{number},{split},{30 + number},{('yes', 'no')[number % 2]},AP4")
    (root / "in" / "manifest.csv").write_text("\n".join(lines))
    assert main(["shards", str(root / "in"), str(root / "own"), "--size", "32", "--fps", "native"]) == 0
    words = [str(root / "encoder"), "--data", str(root / "own"), "--target", "ef_percent", "--target", "dilated"]
    words += ["--draws", "20", "--no-baselines", "--cache", str(root / "cache"), "--out", str(root / "probe")]
    assert main(["probe", *words]) in (0, 1)
    return root


def predicted(day: Path, source: str, out: Path, target: str = "ef_percent") -> pd.DataFrame:
    words = [str(day / "probe" / target), str(day / source), "--out", str(out), "--cache", str(day / "cache")]
    assert main(["predict", *words, "--processes", "1"]) == 0
    return pd.read_csv(out)


@pytest.mark.parametrize("target", ["ef_percent", "dilated"])
def test_the_reports_predictions_come_again(day: Path, tmp_path: Path, target: str) -> None:
    ours = pd.read_parquet(day / "probe" / target / "predictions.parquet").set_index("clip_id")
    column = "predicted" if target == "ef_percent" else "probability_yes"
    for source, same in (("own", True), ("in", False)):
        table = predicted(day, source, tmp_path / source / "p.csv", target)
        clips = table[table["level"] == "clip"].set_index("clip_id")
        again = clips.loc[ours.index, column].to_numpy()
        if same:
            assert (again == ours[column].to_numpy()).all(), "bit for bit"
        np.testing.assert_allclose(again, ours[column], rtol=0, atol=1e-5 * max(1, abs(again).max()))
        assert (table["level"] == "study").sum() == 30
        if target == "ef_percent":
            assert (clips["low"] < clips["predicted"]).all() and (clips["predicted"] < clips["high"]).all()
        else:
            assert set(clips["predicted"]) <= {"yes", "no"} and clips["set"].notna().all()
    assert (
        "exam" in (tmp_path / "in" / "names.csv").read_text() and "exam" not in (tmp_path / "in" / "p.csv").read_text()
    )


def test_clips_unlike_those_of_training_are_refused(day: Path, capsys: pytest.CaptureFixture) -> None:
    model = LabelModel.load(day / "probe" / "ef_percent")
    assert model.facts.views == ("A4C",) and model.facts.patients == {"train": 12, "val": 12, "test": 6}
    folder = day / "odd"
    folder.mkdir()
    write_avi(folder / "slow.avi", beating_heart(frames=16, size=64, seed=90)[0], frame_rate_hz=10)
    write_avi(folder / "view.avi", beating_heart(frames=16, size=64, seed=91)[0])
    write_avi(folder / "good.avi", beating_heart(frames=16, size=64, seed=92)[0])
    (folder / "manifest.csv").write_text("path,view\nslow.avi,A4C\nview.avi,PLAX\ngood.avi,A4C\n")
    words = [
        str(day / "probe" / "ef_percent"),
        str(folder),
        "--out",
        str(day / "odd.csv"),
        "--cache",
        str(day / "cache"),
    ]
    assert main(["predict", *words, "--processes", "1"]) == 1
    table = pd.read_csv(day / "odd.csv")
    assert table["predicted"].notna().sum() == 2, "one clip, and its study"
    shown = capsys.readouterr().err
    assert "view PLAX: fitted on A4C" in shown and "10 frames per second: fitted on 50 to 50" in shown


def test_another_encoder_and_damaged_files_are_refused(day: Path, tmp_path: Path) -> None:
    model = LabelModel.load(day / "probe" / "ef_percent")
    table = EmbeddingTable.from_arrays([[0.0] * 32], clip_id=["c"], patient_id=["p"], encoder_digest="other")
    with pytest.raises(EchofmError, match="another encoder's"):
        model.predict(table)
    with pytest.raises(EchofmError, match=r"no model\.json"):
        LabelModel.load(tmp_path)
    model.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(EchofmError, match="copy the folder again"):
        LabelModel.load(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["facts"]["encoder"] is None


def test_every_kind_of_model_is_the_same_when_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(120, 6))
    labels = {
        "a_cm": values[:, 0],
        "grade": [("none", "mild", "severe")[int(v)] for v in np.digitize(values[:, 1], [-0.5, 0.5])],
        "site": [("x", "y", "z")[int(v)] for v in np.digitize(values[:, 2], [-0.5, 0.5])],
        "one": (values[:, 3] > 0).astype(float),
        "two": (values[:, 4] > 0).astype(float),
    }
    table = EmbeddingTable.from_arrays(
        values,
        clip_id=[f"c{n}" for n in range(120)],
        patient_id=[f"p{n // 2}" for n in range(120)],
        encoder_digest="e",
        labels=labels,
        motion_NRCD=np.abs(rng.normal(size=(120, 2, 2, 6))) + 0.1,
    )
    for target, features in (("a_cm", "both"), ("grade", "video"), ("site", "motion"), ("one+two", "video")):
        probed = evaluate(table, target=target, features=features, draws=5)
        probed.model.save(tmp_path)
        again = LabelModel.load(tmp_path)
        ours, theirs = probed.model.predict(table), again.predict(table)
        assert (ours == theirs).all() and again.margins == probed.model.margins, target
        column = "predicted" if target == "a_cm" else f"probability_{again.facts.classes[0]}"
        rows = predictions(again, table).set_index("clip_id").loc[probed.predictions["clip_id"], column]
        assert (rows.to_numpy() == probed.predictions[column].to_numpy()).all(), target


def test_nine_of_ten_new_patients_lie_within_the_margin() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        patients = np.repeat(np.arange(41), rng.integers(1, 6, 41))
        misses = np.abs(rng.normal(size=41)[patients] + 0.3 * rng.normal(size=len(patients)))
        seen = patients < 40
        held.append((misses[~seen] <= margin(misses[seen], patients[seen].astype(str))).mean())
    assert 0.88 <= np.mean(held) <= 0.96
    assert margin(np.ones(8), np.arange(8).astype(str)) == np.inf, "too few patients for nine of ten"
    rows = pd.DataFrame({"patient_id": [f"p{n}" for n in range(20)], "study_id": None})
    assert margins_of("multilabel", np.zeros((20, 2)), np.zeros((20, 2)), rows) == {}


def test_the_table_of_names_cannot_take_the_predictions_place(
    day: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = [str(day / "probe" / "ef_percent"), str(day / "in"), "--out", str(tmp_path / "names.csv")]
    assert main(["predict", *words]) == 2
    assert "names.csv is what leads from ids back to files" in capsys.readouterr().err


def test_files_of_the_rate_at_which_the_shards_were_recorded_are_no_strangers(day: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for seed in range(2):
        write_avi(tmp_path / "in" / f"{seed}.avi", beating_heart(frames=16, size=64, seed=seed)[0], frame_rate_hz=30)
    assert main(["shards", str(tmp_path / "in"), str(tmp_path / "s"), "--size", "32", "--split-by", "none"]) == 0
    model = LabelModel.load(day / "probe" / "ef_percent")
    model = replace(model, facts=model.facts.model_copy(update={"frame_rate_hz": (50.0, 50.0)}))
    recorded, resampled = {"frame_rate_hz": 30.0}, {"frame_rate_hz": 50.0}
    assert refusal(model.facts, recorded) and not refusal(model.facts, resampled)
    of_a_table = model.facts.model_copy(update={"encoder": None})
    assert "--data" in refusal(of_a_table, recorded) and "--data" not in refusal(model.facts, recorded)
    wider = with_rates_as_read(model, tmp_path / "s").facts
    assert not refusal(wider, recorded) and not refusal(wider, resampled) and refusal(wider, {"frame_rate_hz": 10.0})
    assert with_rates_as_read(model, day / "own").facts == model.facts, "shards at their files' own rates"


def test_a_model_of_an_earlier_run_does_not_stay_beside_another_probes_figures(day: Path, tmp_path: Path) -> None:
    words = [str(day / "encoder"), "--data", str(day / "own"), "--target", "ef_percent", "--draws", "20"]
    words += ["--no-baselines", "--cache", str(day / "cache"), "--out", str(tmp_path / "p")]
    assert main(["probe", *words]) in (0, 1) and (tmp_path / "p" / "ef_percent" / "model.json").exists()
    assert main(["probe", *words, "--kind", "knn"]) in (0, 1)
    with pytest.raises(EchofmError, match=r"no model\.json"):
        LabelModel.load(tmp_path / "p" / "ef_percent")


def test_a_set_is_never_empty_which_would_stand_for_too_few_patients(day: Path) -> None:
    model = replace(LabelModel.load(day / "probe" / "dilated"), margins={"clip": 0.0, "study": 0.0})
    rows = _columns(model, np.array([[0.55, 0.45], [0.0, 1.0]]), "clip")
    assert list(rows["set"]) == list(rows["predicted"]) == ["no", "yes"]
