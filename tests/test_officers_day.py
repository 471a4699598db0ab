"""The officer's day: copies alone, the audit with its PDF to sign, the set without what is to be removed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_audit_videos import sets, words

from echofm.errors import EchofmError
from echofm.report.pdf import browser
from synth.audit.cli import main

__all__ = ["sets"]


@pytest.mark.slow
def test_from_copies_to_a_signed_page_to_the_kept_set(sets: Path, tmp_path: Path) -> None:
    copies = [
        "duplicates",
        str(sets / "train"),
        str(sets / "synthetic"),
        f"--out={tmp_path / 'copies'}",
        "--processes=1",
    ]
    assert main(copies) == 1
    try:
        browser()
        pdf = ["--pdf"]
    except EchofmError:
        pdf = []
    out = tmp_path / "audit"
    assert main(words(sets, out, *pdf)) == 1
    page = (out / "report.html").read_text()
    first = page[: page.index("<main>")]
    for each in (
        "Remove 2 of 5",
        "show the very recording of a training clip",
        "synthetic: n = 5 clips",
        "Power",
        "Not tested",
    ):
        assert each in first, each
    assert "echofm audit filter --audit audit --synthetic synthetic --out KEPT" in first
    for each in ("In plain words", "Singling out", "Linkability", "Inference", "For the record"):
        assert f"{each}</h2>" in page
    if pdf:
        assert 1 <= len(re.findall(rb"/Type\s*/Page\b", (out / "report.pdf").read_bytes())) <= 4
    kept = ["filter", f"--audit={out}", f"--synthetic={sets / 'synthetic'}", f"--out={tmp_path / 'kept'}"]
    assert main(kept) == 0
    assert len(list((tmp_path / "kept" / "Videos").iterdir())) == 3
