"""`echofm bench`: CardioBench's tasks on look-alikes of its sets, and the prediction files of its evaluators."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import bench_sets
import numpy as np
import pandas as pd
import pytest
import torch

from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.hub import save_model
from echofm.model.config import NetworkConfig
from echofm.model.mae import VideoMae
from probe.bench.cli import main
from probe.bench.keys import keys_of, tail
from probe.bench.linear import linear_probe
from probe.bench.prepare import apart
from probe.bench.records import Bench
from probe.labels.target import Target
from probe.partition import Partition

PROBABILITIES = ["prob_A2C", "prob_A3C", "prob_A4C", "prob_PSAX", "prob_PLAX"]
# What CardioBench's evaluators ask of each file, as its code and example predictions have it.
COLUMNS = {
    "EchoNet-Dynamic/EF/{}": ["FileName", "EF_pred"],
    "EchoNet-Pediatric/EF/{}": ["FileName", "EF_pred", "view"],
    "CAMUS/EF/{}": ["patient_id", "EF_pred"],
    "EchoNet-LVH/IVSd/{}": ["HashedFileName", "IVSd_pred"],
    "EchoNet-LVH/LVIDd/{}": ["HashedFileName", "LVIDd_pred"],
    "EchoNet-LVH/LVPWd/{}": ["HashedFileName", "LVPWd_pred"],
    "TMED2/AS/{}": ["study_id", "as_pred", "prob_as"],
    "CardiacNet/PAH/{}": ["unique_id", "pah_pred", "prob_pah"],
    "CardiacNet/ASD/{}": ["unique_id", "asd_pred", "prob_asd"],
    "HMCQU/stemi/{}": ["unique_id", "stemi_pred", "view"],
    **{f"segRWMA/rwma/{{}}_a{n}c": ["patient_id", "rwma_pred", "prob_rwma"] for n in (2, 3, 4)},
    "EchoNet-Dynamic/view/{}": ["FileName", "view_pred", *PROBABILITIES],
    "EchoNet-Pediatric/view/{}": ["FileName", "view_pred", *PROBABILITIES],
    "CAMUS/view/{}": ["unique_id", "view_pred", *PROBABILITIES],
    "EchoNet-LVH/view/{}": ["HashedFileName", "view_pred", *PROBABILITIES],
    "TMED2/view/{}": ["query_key", "view_pred", *PROBABILITIES],
    "CardiacNet/view/{}_pah": ["unique_id", "view_pred", *PROBABILITIES],
    "CardiacNet/view/{}_asd": ["unique_id", "view_pred", *PROBABILITIES],
    "HMCQU/view/{}": ["unique_id", "view_pred", *PROBABILITIES],
    "segRWMA/view/{}": ["patient_view_id", "view_pred", *PROBABILITIES],
}
# The lines that the look-alikes' test splits have: the first key, and how many.
TESTED = {
    "EchoNet-Dynamic/EF/{}": ("0X0000000000000004", 4),
    "EchoNet-Pediatric/EF/{}": ("CR0000-CR1-000000.avi", 4),
    "CAMUS/EF/{}": ("patient0005", 4),
    "EchoNet-LVH/IVSd/{}": ("0XAB04", 4),
    "TMED2/AS/{}": ("1004s1", 4),
    "CardiacNet/PAH/{}": ("004_image_P4-4", 4),
    "CardiacNet/ASD/{}": ("003_image_P3-4", 4),
    "HMCQU/stemi/{}": ("ES00014_A2C", 8),
    "segRWMA/rwma/{}_a3c": ("patient14", 4),
    "CAMUS/view/{}": ("patient0005_2CH", 8),
    "TMED2/view/{}": ("1004s1_0.png", 12),
    "CardiacNet/view/{}_asd": ("003_image_P3-4", 4),
    "segRWMA/view/{}": ("patient14_A2C", 12),
}


def write_encoder(folder: Path) -> Path:
    torch.manual_seed(7)
    net = VideoMae(NetworkConfig(
        size=32, frames=8, channels=1, patch=8, tubelet=2, width=32, depth=1, heads=2,
        decoder_width=16, decoder_depth=1, decoder_heads=2, predicted_frames=4,
    ))  # fmt: skip
    save_model(net, folder, contract=InputContract(size=32, frames=8, frame_rate_hz=25.0), card={})
    return folder


def require_files(folder: Path, model: str, home: str = "") -> None:
    """Each file with its columns, one line a key, sorted."""
    for name, columns in COLUMNS.items():
        if name.startswith(home):
            found = pd.read_csv(folder / f"{name.format(model)}.csv")
            assert found.columns.tolist() == columns, name
            assert found[columns[0]].is_unique and found[columns[0]].is_monotonic_increasing
            assert not found.isna().any().any()
            if not home and name in TESTED:
                assert (found.iloc[0, 0], len(found)) == TESTED[name]
            if "view_pred" in columns:
                assert (found[PROBABILITIES].sum(axis=1) < 1 + 1e-9).all()


def test_sets_that_are_there_are_run_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sets = tmp_path / "sets"
    bench_sets.hmcqu(tmp_path / "elsewhere" / "HMC_QU", patients=10)
    sets.mkdir()
    (sets / "hmc").symlink_to(tmp_path / "elsewhere" / "HMC_QU")
    # The table came first, the videos did not come at all.
    bench_sets.echonet_lvh(sets / "EchoNet-LVH")
    shutil.rmtree(sets / "EchoNet-LVH" / "Batch1")
    out, encoder = tmp_path / "out", write_encoder(tmp_path / "my_encoder")
    command = [str(encoder), "--sets", str(sets), "--cardiobench", str(bench_sets.clone(tmp_path / "clone"))]
    command += ["--out", str(out), "--draws", "20", "--processes", "1"]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert printed.err.count("EchoNet-LVH: not run") == 1 and "CAMUS: not there" in printed.err
    assert "HMC-QU: infarction  my_encoder  AUROC" in printed.out
    require_files(out / "cardiobench", "my-encoder", "HMCQU")
    require_files(out / "cardiobench", "my-encoder-cardiobench-probe", "HMCQU")
    done = Bench.from_json(out / "bench.json")
    assert [each.task for each in done.tasks] == ["hmc-qu-stemi", "view"]
    assert {each.state for each in done.sets} == {"run", "missing", "failed"}
    stemi = done.tasks[0]
    assert any("calibration error" in note for note in stemi.notes)
    assert {each.method for each in stemi.scores} >= {"probe", "random init", "pixel PCA", "CardioBench's probe"}
    assert stemi.tests == {"hmc-qu": 4} and stemi.published == {"hmc-qu": 50} and stemi.own_splits
    page = (out / "bench.html").read_text()
    assert "2 of 12 tasks were run, on 1 of 9 sets" in page and "creatis.insa-lyon.fr" in page
    written = (out / "my-encoder" / "hmc-qu-stemi" / "predictions.parquet").stat().st_mtime_ns
    assert main(command) == 1
    again = capsys.readouterr()
    assert "my_encoder, hmc-qu-stemi: done before" in again.err and "embedding" not in again.err
    assert again.out == printed.out and Bench.from_json(out / "bench.json").to_json() == done.to_json()
    assert (out / "my-encoder" / "hmc-qu-stemi" / "predictions.parquet").stat().st_mtime_ns == written


def asked(tmp_path: Path, *encoders: str, sets: Sequence[str] = tuple(bench_sets.WRITERS)) -> list[str]:
    """The command for look-alikes of some sets."""
    for name in sets:
        bench_sets.WRITERS[name](tmp_path / "sets" / name)
    given = [str(write_encoder(tmp_path / "encoder")), *encoders]
    return [*given, "--sets", str(tmp_path / "sets"), "--out", str(tmp_path / "out"), "--draws", "20"]


@pytest.mark.slow
def test_all_sets_and_tasks(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*asked(tmp_path), "--cardiobench", str(bench_sets.clone(tmp_path / "clone"))]) in (0, 1)
    done = Bench.from_json(out / "bench.json")
    assert len(done.tasks) == 12 and not done.failed and {each.state for each in done.sets} == {"run"}
    assert all(each.own_splits for each in done.tasks)
    for model in ("encoder", "encoder-cardiobench-probe"):
        require_files(out / "cardiobench", model)
    views = next(each for each in done.tasks if each.task == "view")
    assert sum(views.tests.values()) == sum(COUNTS.values()) and views.tests == COUNTS
    assert "12 of 12 tasks" in (out / "bench.html").read_text()


@pytest.mark.slow
def test_encoders_are_ranked(tmp_path: Path) -> None:
    assert main(asked(tmp_path, "pixels", sets=list(bench_sets.WRITERS)[:2])) in (0, 1)
    done = Bench.from_json(tmp_path / "out" / "bench.json")
    assert len({each.encoder for each in done.tasks}) == 2
    assert "to the best" in (tmp_path / "out" / "bench.html").read_text()


@pytest.mark.slow
def test_without_the_clone_its_sets_have_splits_of_our_own(tmp_path: Path) -> None:
    """And its evaluators get no files of them."""
    assert main(asked(tmp_path)) == 1
    alone = Bench.from_json(tmp_path / "out" / "bench.json")
    by_task = {each.task: each for each in alone.tasks}
    views = by_task["view"]
    assert not views.own_splits and views.files and not any("CardiacNet" in each for each in views.files)
    assert by_task["camus-EF"].files and "--cardiobench" in alone.failed["encoder: segrwma-rwma"]


COUNTS = {
    "echonet-dynamic": 4,
    "echonet-pediatric": 4,
    "camus": 8,
    "echonet-lvh": 4,
    "tmed-2": 12,
    "cardiacnet-pah": 4,
    "cardiacnet-asd": 4,
    "hmc-qu": 8,
    "segrwma": 12,
}


def test_clips_have_cardiobenchs_names() -> None:
    path = Path("/disk/pah/CardiacNet-PAH/PAH/257_image.nii/P4-4_image.nii")
    assert keys_of("cardiacnet", path, "A4C") == {"unique_id": "257_image_P4-4"}
    assert tail("cardiacnet", path) == tail(
        "cardiacnet", "data/raw/CardiacNet/CardiacNet-PAH/PAH/257_image.nii/P4-4_image.nii.gz"
    )
    assert tail("hmc-qu", "/pah/x/ES0001 _4CH_1.avi") == "es0001 _4ch_1"
    assert keys_of("hmc-qu", Path("ES000100 N_2CH_3.avi"), "A2C") == {"unique_id": "ES000100_A2C"}
    assert keys_of("tmed-2", Path("1009s2_12.png"), None) == {"query_key": "1009s2_12.png", "study_id": "1009s2"}
    assert keys_of("camus", Path("patient0001_4CH_half_sequence.nii.gz"), "A4C")["unique_id"] == "patient0001_4CH"


def test_no_patient_is_in_two_splits() -> None:
    splits = np.array(["train", "val", "test", "train", "val", None], object)
    keep, notes = apart(splits, np.array(["a", "b", "a", "b", "c", "d"], object))
    assert keep.tolist() == [1, 2, 4] and len(notes) == 2


def test_cardiobenchs_probe_learns_what_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    # At its own rate it needs thousands of steps.
    monkeypatch.setattr("probe.bench.linear._LR", 0.05)
    monkeypatch.setattr("probe.bench.linear._EPOCHS", 150)
    rng, rows = np.random.default_rng(0), np.arange(200)
    part = Partition(train=rows[:100], val=rows[100:150], test=rows[150:], source="table")
    features = rng.normal(size=(200, 6)).astype(np.float32)
    first = features[:, 0] / np.linalg.norm(features, axis=1)
    tasks = (("regression", 10.0 * first, ()), ("classification", (first > 0).astype(np.int64), ("no", "yes")))
    for task, values, classes in tasks:
        goal = Target(name="x", task=task, rows_M=rows, values_M=values, classes=classes)  # type: ignore[arg-type]
        found = linear_probe(features, goal, part, seed=0)
        predicted = found[:, 1] if classes else found
        assert np.corrcoef(predicted, first[150:])[0, 1] > 0.9
        assert np.array_equal(found, linear_probe(features, goal, part, seed=0))
        if classes:
            assert np.allclose(found.sum(1), 1)


def test_encoders_that_would_write_one_file_are_refused(tmp_path: Path) -> None:
    bench_sets.hmcqu(tmp_path / "sets" / "HMC_QU", patients=1)
    encoder = write_encoder(tmp_path / "my_encoder")
    shutil.copytree(encoder, tmp_path / "my-encoder")
    command = [str(encoder), str(tmp_path / "my-encoder"), "--sets", str(tmp_path / "sets"), "--out", str(tmp_path)]
    with pytest.raises(EchofmError, match="files of one name"):
        main(command)


def test_a_folder_without_sets_says_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match=r"none of CardioBench's sets.*EchoNet-Dynamic: https"):
        main(["pixels", "--sets", str(tmp_path), "--out", str(tmp_path / "out")])
