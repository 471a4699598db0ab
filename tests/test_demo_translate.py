"""The demo of colour Doppler to greyscale, as `make demo-translate` runs it but with networks that learn nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_demo_ends_with_clips_figures_and_a_page(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    words = ["--patients", "24", "--frames", "8", "--steps", "4", "--reader-steps", "2", "--small"]
    command = [sys.executable, str(ROOT / "examples" / "demo_translate.py"), "--out", out.name, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in out.iterdir()} == {
        "demo.json", "steps.json", "home", "data", "shards", "translator", "grey", "results.json", "index.html",
    }  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    for name in ("blurred fill-in", "OpenCV's inpainting", "structure", "structure and texture"):
        for figure in ("inside, MAE: {}, noisy target", "inside, SSIM: {}, noise-free target", "flicker, change: {}"):
            assert {"value", "low", "high"} == set(results[figure.format(name)])
    for name in ("Dice with the map of the true grey", "view, F1"):
        assert f"{name}: colour as it is" in results and f"{name}: structure and texture" in results
    page = (out / "index.html").read_text()
    assert page.count("data:image") > 40 and str(tmp_path) not in page
