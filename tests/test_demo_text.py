"""The demo of text and label maps, as `make demo-text` runs it but with networks that learn nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_demo_ends_with_sets_figures_and_a_page(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    words = ["--patients", "10", "--size", "64", "--codec-steps", "2", "--generator-steps", "2", "--count", "4"]
    command = [sys.executable, str(ROOT / "examples" / "demo_text.py"), "--out", out.name, "--small", *words]
    command += ["--downstream-steps", "2", "--seeds", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in out.iterdir()} == {
        "demo.json", "steps.json",
        "home", "data", "shards", "codec", "latents", "image", "text", "text-map", "set", "set-shards", "held-out",
        "held-out-shards", "drawn", "drawn-shards", "segmentation", "phase", "results.json", "index.html",
        "whole.png",
    }  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    for name in ("real test frames (ceiling)", "set", "held-out", "drawn"):
        assert {"value", "low", "high"} == set(results[f"{name}: Dice, left ventricle"])
        assert f"{name}: Dice, left ventricle, wrong map" in results
    for name in ("image", "text"):
        assert f"{name}: view as asked" in results and f"{name}: phase, requests shuffled" in results
    page = (out / "index.html").read_text()
    assert page.count("data:image") > 40 and "On maps of the shape model" in page and str(tmp_path) not in page
