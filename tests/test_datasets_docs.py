"""docs/datasets.md says what the code knows: every set, every label, every finding, every suffix."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from echofm.check import findings
from echofm.readers.datasets import ADAPTERS
from echofm.readers.datasets.labels import NUMBERS, UNITS, WORDS
from echofm.readers.suffixes import MEDIA


@pytest.fixture(scope="module")
def text() -> str:
    return (Path(__file__).parents[1] / "docs" / "datasets.md").read_text(encoding="utf-8")


def test_every_set_is_listed(text: str) -> None:
    assert re.findall(r"^\| `([a-z0-9-]+)` \| (?:\[|any)", text, re.M) == LISTED


LISTED = ["echonet-dynamic", "echonet-synthetic", "echonet-pediatric", "echonet-lvh", "camus", "tmed-2"]
LISTED += ["mimic-iv-echo", "cardiacnet", "hmc-qu", "segrwma", "cardiacuda", "unity-echophase", "folder"]


def test_the_list_is_complete() -> None:
    assert sorted(LISTED) == sorted(adapter.name for adapter in ADAPTERS)


def test_every_label_is_explained(text: str) -> None:
    for name, meaning in {**NUMBERS, **WORDS}.items():
        assert f"| `{name}` | {meaning} |" in text
    for unit in UNITS:
        assert re.search(rf"[`\s]_{unit}[`\s]", text), unit


def test_every_finding_and_suffix_is_explained(text: str) -> None:
    source = Path(findings.__file__).read_text(encoding="utf-8")
    codes = set(re.findall(r'\(\s*"([a-z_]+)",', source))
    assert len(codes) == 15 and all(f"| `{code}` |" in text for code in codes)
    assert all(suffix in text for suffix in MEDIA)
