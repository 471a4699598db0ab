"""The demo, as `make demo` runs it but smaller: exit code, files, and a page that is whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def demo(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), "--out", str(out), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, cwd=out.parent)


@pytest.mark.slow
def test_demo_ends_with_an_encoder_a_table_and_a_page(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = demo(out, "--patients", "4", "--steps", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ min \d+ s this time\. Open .*index\.html", done.stdout)
    assert {path.name for path in out.iterdir()} == {
        "made-by-echofm-demo", "steps.json", "home", "data", "shards", "run", "table", "index.html",
    }  # fmt: skip
    assert {path.name for path in (out / "run" / "export").iterdir()} == {
        "config.json", "model.safetensors", "README.md",
    }  # fmt: skip
    page = (out / "index.html").read_text(encoding="utf-8")
    for shown in (
        "before and after the sector mask",
        "loss",
        "filled in",
        "pixel prior",
        "embedding",
        "path",
        "EF (%)",
    ):
        assert shown in page
    for heading in re.findall(r"<h2>(.*?)</h2>", page):
        assert heading
    assert page.count('class="tag">generated<') >= 4 and page.count('class="tag">real<') >= 4
    assert not re.search(r"https?:", page) and "nan" not in re.sub(r"data:[^\"]*", "", page)
    assert 500_000 < len(page) < 8_000_000


def test_demo_leaves_other_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    done = demo(tmp_path / "mine")
    assert done.returncode == 1 and "no earlier demo" in done.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
