"""`echofm report`: the page of a training run, from its files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echofm.errors import EchofmError
from echofm.report.training import main, run_page


def write_run(folder: Path, *, collapsed: float = 0.0, steps: int = 20) -> Path:
    (folder / "pictures").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"name": "demo", "fit": {"steps": steps}}))
    lines = []
    for step in (0, 10, 20):
        figures = {"monitor/position_share": 1 - step / 30, "monitor/collapsed": collapsed, "monitor/lost": None}
        pace = {"loss": 4 - step / 10, "lr": 0.1, "clips_per_s": 9.0, "data_wait_share": 0.5} if step else {}
        lines.append(json.dumps({"step": step, **pace, **figures}))
        picture = np.full((8, 16, 3), step, np.uint8)
        Image.fromarray(picture).save(folder / "pictures" / f"monitor_reconstruction_{step:08d}.png")
    # A run that trains is writing its next line.
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 3')
    return folder


def test_how_a_run_went(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = write_run(tmp_path / "run")
    (run / "export").mkdir()
    (run / "export" / "config.json").write_text("{}")
    assert main([str(run)]) == 0
    assert "Finished: step 20 of 20." in capsys.readouterr().out
    page = (run / "report.html").read_text()
    for text in ("3 at step 10, 2 at the end", "echofm probe RUN/export", "50% of the time", "lr is 0.1 throughout"):
        assert text in page
    assert page.count("step 0<") == page.count("step 20<") == 1, "the first and the last picture"


def test_a_run_that_needs_somebody(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(write_run(tmp_path / "run", collapsed=1.0, steps=40)), "--html", str(tmp_path / "page.html")]) == 1
    assert "Not finished: step 20 of 40; the encoder has collapsed" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert "--resume" in page and "Lower <code>--fit.optim.base-lr" in page and "RUN/export" not in page


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match="no training run lies there"):
        run_page(tmp_path)
    (write_run(tmp_path / "run") / "metrics.jsonl").write_text("")
    with pytest.raises(EchofmError, match="logged nothing yet"):
        run_page(tmp_path / "run")
