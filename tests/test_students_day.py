"""The student's day: encoders compared in one command, on few patients, and ranked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from encoder_and_sets import write_encoder_and_sets

from probe.cli import main
from probe.ranking import Ranking


@pytest.mark.slow
def test_encoders_side_by_side_and_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_encoder_and_sets(tmp_path)
    shutil.copytree(folder / "encoder", folder / "again")
    shared = ["--data", str(folder / "shards"), "--target", "ef_percent", "--cross-validate", "3", "--seeds", "1"]
    shared += ["--draws", "50", "--cache", str(folder / "cache")]
    encoders = [str(folder / "encoder"), str(folder / "again"), "pixels"]
    assert main([*encoders, *shared, "--out", str(folder / "all")]) in (0, 1)
    page = (folder / "all" / "report.html").read_text()
    first = page[: page.index("<main>")]
    assert "encoder, digest" in first and "shards" in first and "again" in first and "pixels" in first
    runs = []
    for name, encoder in zip("abc", encoders):
        assert main([encoder, *shared, "--no-baselines", "--out", str(folder / name)]) in (0, 1)
        runs.append(str(folder / name / "ef_percent"))
    assert main(["compare", *runs, "--html", str(folder / "rank.html"), "--json", str(folder / "rank.json")]) == 0
    found = Ranking.from_json(folder / "rank.json")
    assert {each.name for each in found.ranked} == {"encoder", "again", "pixels (given)"}
    assert found.clips == 22
