"""The figures of a codec on held-out patients: what loses nothing costs nothing, what blurs costs."""

from __future__ import annotations

from pathlib import Path

import pytest
from shardfolder import write_hearts

from benchmarks.latent import main


def test_pixels_cost_nothing_and_a_blur_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hearts(tmp_path / "shards", 24, fractions=(0.4, 0.2, 0.4))
    main("pixels", tmp_path / "shards")
    lines = capsys.readouterr().out.splitlines()
    rows = {cells[1]: cells[2:-1] for line in lines if len(cells := [cell.strip() for cell in line.split("|")]) > 2}
    assert rows["pixels"][0].startswith("120.00") and rows["pixels"][1].startswith("0.00 [0.00, 0.00]")
    blurred = rows["4 x 4 mean"]
    assert float(blurred[0].split()[0]) < 40 and float(blurred[1].split()[0]) > 0.01
    assert rows["pixels"][2:] == rows["original"][2:] and "test clips" in lines[-1]
