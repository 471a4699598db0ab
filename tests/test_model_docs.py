"""The examples of docs/model.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from echofm.contract import InputContract
from echofm.hub import save_model
from echofm.model.config import SIZES
from echofm.model.mae import VideoMae

TEXT = (Path(__file__).parents[1] / "docs" / "model.md").read_text(encoding="utf-8")


def test_examples_run(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) == 3
    contract = InputContract(size=112, frames=32, frame_rate_hz=50.0)
    save_model(VideoMae(SIZES["tiny"]), tmp_path, contract=contract, card={})
    names = {"FOLDER": str(tmp_path)}
    for example in examples:
        exec(compile(example, "docs/model.md", "exec"), names)
    assert names["features"][0].shape == (1, 192, 4, 14, 14)
    assert all(parameter.grad is not None for parameter in names["model"].parameters())


def test_table_of_sizes_is_the_code_s() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| (?:grey|colour) (.*) \|$", TEXT, re.MULTILINE))
    assert set(rows) == set(SIZES)
    for name, row in rows.items():
        size = SIZES[name]
        with torch.device("meta"):
            model = VideoMae(size)
        millions = round(sum(parameter.numel() for parameter in model.parameters()) / 1e6)
        decoder = f"{size.decoder_width} / {size.decoder_depth} / {size.decoder_heads}"
        assert row.startswith(
            f"{size.frames} x {size.size}^2 | {size.tubelet} x {size.patch} x {size.patch} | "
            f"{size.width} / {size.depth} / {size.heads} | {decoder}"
        ), name
        assert row.endswith(f"| {millions}"), (name, millions)
