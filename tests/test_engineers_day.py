"""The engineer's day: a hospital's folder and a CSV to shards, encoder, probe, fine-tuned model, predictions, ONNX."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hearts import beating_heart, write_avi

from echofm.cli import main


def hospital(folder: Path, patients: range) -> Path:
    """A folder of a patient each, and a table of their ejection fractions as a hospital writes it."""
    lines = ["File name;MRN;LVEF (%);View;Dilated LV;Reported"]
    for number in patients:
        path = folder / f"MRN{7000 + number}" / "exam.avi"
        path.parent.mkdir(parents=True)
        write_avi(path, beating_heart(frames=24, size=64, seed=number)[0])
        cell = "about 50" if number == 3 else f"{30 + number % 35}"
        facts = f"MRN{7000 + number};{cell};AP4;{('Yes', 'No')[number % 2]};0{number % 9 + 1}.02.2024"
        lines.append(f"{path.parent.name}/exam.avi;{facts}")
    (folder.parent / f"{folder.name}.csv").write_text("\n".join(lines))
    return folder


SMALL = ["--network.size", 32, "--network.frames", 8, "--network.patch", 8, "--network.width", 32]
SMALL += ["--network.depth", 2, "--network.heads", 2, "--network.decoder-width", 16, "--network.decoder-heads", 2]
SMALL += ["--network.predicted-frames", 4]


@pytest.mark.parametrize("patients", [24, pytest.param(60, marks=pytest.mark.slow)])
def test_the_whole_day(tmp_path: Path, capsys: pytest.CaptureFixture, patients: int) -> None:
    """Of few patients: a few steps, no baselines, no ONNX."""

    def run(*words: object) -> str:
        assert main([*map(str, words)]) in (0, 1), words
        found = capsys.readouterr()
        assert "MRN70" not in found.out + found.err, "no patient is named"
        return " ".join((found.out + found.err).split())

    whole = patients == 60
    cache, own = ["--cache", tmp_path / "cache"], hospital(tmp_path / "ward", range(patients))
    table = [
        "--patient-from",
        "parent",
        "--fractions",
        0.5,
        0.25,
        0.25,
        "--labels",
        tmp_path / "ward.csv",
        "--key",
        "filename",
        "--map",
        "Reported=reported_year",
    ]
    shown = run("shards", own, tmp_path / "shards", "--size", 32, "--fps", "native", *table)
    assert f"dilated_lv {patients}" in shown and f"ef_percent {patients - 1}" in shown
    assert "row 4: something of 8 characters" in shown
    fit = ["--fit.steps", 10 if whole else 2, "--fit.batch", 4, "--fit.workers", 0, "--monitor.every", 0]
    run("pretrain", "demo", "--data", tmp_path / "shards", "--out", tmp_path / "run", *SMALL, *fit)
    encoder = tmp_path / "run" / "export"
    shared = ["--data", tmp_path / "shards", "--target", "ef_percent", "--draws", 50, *cache]
    shared += [] if whole else ["--no-baselines"]
    run("probe", encoder, *shared, "--out", tmp_path / "probe")
    steps = ["--steps", 8 if whole else 2, "--train-batch", 8]
    run("finetune", encoder, *shared, *steps, "--out", tmp_path / "tuned")
    new = hospital(tmp_path / "new", range(100, 104))
    for model in ("probe", "tuned") if whole else ("tuned",):
        out = tmp_path / model / "new.csv"
        run(
            "predict",
            tmp_path / model / "ef_percent",
            new,
            "--out",
            out,
            "--patient-from",
            "parent",
            "--processes",
            1,
            *cache,
        )
        clips = pd.read_csv(out).query("level == 'clip'")
        assert len(clips) == 4 and clips["predicted"].notna().all()
        names = pd.read_csv(tmp_path / model / "names.csv").set_index("clip_id")["path"]
        assert names.loc[clips["clip_id"]].str.contains("MRN71").all()
    if not whole:
        return
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    tuned = tmp_path / "tuned" / "ef_percent" / "encoder"
    assert "any number of clips" in run("export", tuned, "--out", tmp_path / "tuned.onnx")
