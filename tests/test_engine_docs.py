"""The example of echofm/engine/README.md runs as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from heart_shards import write_heart_shards

ROOT = Path(__file__).parents[1]


def test_the_example_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "echofm" / "engine" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    write_heart_shards(tmp_path / "SHARDS", train=10, val=1, frames=48, size=64)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "example"})
    records = [json.loads(line) for line in (tmp_path / "RUN" / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 20 and records[-1]["loss"] < records[0]["loss"]
    assert (tmp_path / "RUN" / "export" / "model.safetensors").is_file()
    assert len(text.splitlines()) <= 40
