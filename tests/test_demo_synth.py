"""The demo of generators, as `make demo-synth` runs it but smaller: it goes on where it was; what it leaves."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from echofm.phantom import generate
from echofm.shards.read import ShardSet

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = shlex.split(
    "--patients 42 --clips 5 --measured 10 --encoder-steps 2 --codec-steps 2 --mafe-steps 2 --video-steps 2 "
    "--tuned-steps 2 --steps 2 --small"
)


def rendered(out: Path) -> str:
    """Its first step done: hearts rendered small, of whom a filter has enough held out; the command."""
    generate(
        out / "data", patients=42, clips_per_patient=1, views=("A4C",), frame_rate_hz=12.5, frames=17, size=64,
        processes=1, show_progress=False,
    )  # fmt: skip
    table = out / "data" / "FileList.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with table.open("w", newline="") as file:
        written = csv.DictWriter(file, list(rows[0]))
        written.writeheader()
        for number, row in enumerate(rows):
            written.writerow({**row, "Split": "VAL" if number < 20 else "TEST" if number < 30 else "TRAIN"})
    options = "--patients 42 --clips-per-patient 1 --views A4C --frame-rate-hz 12.5 --frames 24"
    return f"echofm phantom {out / 'data'} {options}"


def figures(results: Any) -> list[dict[str, float]]:
    if isinstance(results, dict) and set(results) == {"value", "low", "high"}:
        return [results]
    return [each for value in results.values() for each in figures(value)] if isinstance(results, dict) else []


def test_the_demo_goes_on_and_ends_with_a_set_figures_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    import demo_synth

    monkeypatch.setenv("ECHOFM_HOME", str(tmp_path))
    out = tmp_path / "demo-synth"
    demo_synth.begun(demo_synth.Demo, [*SMALL, "--out", str(out)], None)
    (out / "steps.json").write_text(json.dumps({rendered(out): 1.0}))
    assert demo_synth.main([*SMALL, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir() if "shards.mafe" not in path.name} == {
        "audit", "codec", "data", "demo.json", "ef", "encoder", "home", "index.html", "latents", "mafe", "motion",
        "onestep", "results.json", "set", "shards", "steps.json", "whole.png",
    }  # fmt: skip
    assert {path.name for path in (out / "set").iterdir()} == {
        "FileList.csv", "Videos", "index.html", "provenance.jsonl", "set.json",
    }  # fmt: skip
    assert len(list((out / "set" / "Videos").iterdir())) == 5
    assert len(ShardSet.open(out / "latents", latents=True, show_progress=False)) == 42

    results = json.loads((out / "results.json").read_text())
    assert list(results) == ["of", "codec", "ejection fraction", "motion", "one step", "set"]
    assert list(results["ejection fraction"]) == ["real held-out clips", "guidance 1", "guidance 2", "guidance 4"]
    assert list(results["motion"]) == ["own motion", "another patient's motion"]
    assert len(found := figures(results)) > 60 and all(math.isfinite(each["value"]) for each in found)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 5 + 6 and not re.search(r"https?:", page)

    before = (out / "results.json").stat().st_mtime_ns
    capsys.readouterr()
    assert demo_synth.main([*SMALL, "--out", str(out)]) == 0
    assert "step 2/2" not in capsys.readouterr().out and (out / "results.json").stat().st_mtime_ns == before
    with pytest.raises(demo_synth.EchofmError, match="other settings"):
        demo_synth.main([*SMALL, "--clips", "6", "--out", str(out)])
