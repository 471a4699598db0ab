"""`echofm audit duplicates`: training recordings found without encoder or held-out patients; page, filter, PDF."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hearts import beating_heart, write_avi

from echofm.errors import EchofmError
from echofm.report.pdf import BROWSER, browser
from synth.audit.cli import main
from synth.audit.copies.search import DuplicatesResult


def heart(seed: int) -> np.ndarray:
    return beating_heart(frames=16, size=64, seed=seed)[0]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train: four patients of a folder each; synthetic: a byte copy, a re-encoded copy, a new heart, a broken file."""
    root = tmp_path_factory.mktemp("duplicates")
    for seed in range(4):
        (root / "train" / f"Janet{seed}").mkdir(parents=True)
        write_avi(root / "train" / f"Janet{seed}" / "scan.avi", heart(seed))
    (root / "fake").mkdir()
    shutil.copy(root / "train" / "Janet0" / "scan.avi", root / "fake" / "a.avi")
    write_avi(root / "fake" / "b.avi", heart(1), codec="mpeg4")
    write_avi(root / "fake" / "c.avi", heart(9))
    (root / "fake" / "d.avi").write_bytes(b"RIFF, but no video")
    return root


def asked(root: Path, out: Path, *more: str) -> list[str]:
    return ["duplicates", str(root / "train"), str(root / "fake"), f"--out={out}", "--processes=1", *more]


def test_copies_are_found_without_encoder_and_held_out_patients(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked(sets, tmp_path / "out", "--patient-from=parent")) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("Remove 2 of 3: 2 show the very recording of a training clip, 1 byte for byte.\n")
    assert len(re.findall(r"^  [0-9a-f]{20} shows [0-9a-f]{20} of patient [0-9a-f]{20}$", printed, re.MULTILINE)) == 2
    result = DuplicatesResult.from_json(tmp_path / "out" / "duplicates.json")
    assert (result.train.name, result.train.clips, result.train.patients, result.synthetic.set_aside) == (
        "train", 4, 4, 1
    )  # fmt: skip
    samples = pd.read_parquet(tmp_path / "out" / "samples.parquet")
    assert samples["removed"].sum() == 2 and samples["same_bytes"].sum() == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('<figure class="strip">') == 2 and "Janet" not in page and "scan" not in page
    assert (
        main(["filter", f"--audit={tmp_path / 'out'}", f"--synthetic={sets / 'fake'}", f"--out={tmp_path / 'k'}"]) == 0
    )
    assert [path.name for path in (tmp_path / "k").glob("*.avi")] == ["c.avi"]
    assert len(json.loads((tmp_path / "k" / "filter.json").read_text())["left_out"]) == 3


def test_a_set_without_copies_ends_with_0_and_no_pixels_where_none_are_asked_for(sets: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    write_avi(tmp_path / "new" / "x.avi", heart(20))
    words = ["duplicates", str(sets / "train"), str(tmp_path / "new"), "--processes=1"]
    assert main(words) == 0
    assert main([*asked(sets, tmp_path / "out"), "--no-strips"]) == 1
    assert '<figure class="strip">' not in (tmp_path / "out" / "report.html").read_text()


def test_without_a_browser_pdf_says_what_to_install_before_any_work(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BROWSER, raising=False)
    monkeypatch.setattr("echofm.report.pdf._PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EchofmError, match=r"none is here; install one .*apt install chromium"):
        main(asked(sets, tmp_path / "out", "--pdf"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(EchofmError, match="install one"):
        main(["--train=a", "--holdout=b", "--synthetic=c", "--out=d", "--pdf"])


@pytest.mark.slow
def test_the_pdf_is_the_page_on_few_pages(sets: Path, tmp_path: Path) -> None:
    try:
        browser()
    except EchofmError:
        pytest.skip("no Chromium here")
    assert main(asked(sets, tmp_path / "out", "--pdf")) == 1
    pdf = (tmp_path / "out" / "report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 4


def test_a_page_of_an_earlier_search_does_not_stay_beside_new_figures(sets: Path, tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(b"%PDF- signed")
    assert main(asked(sets, tmp_path, "--no-strips")) == 1
    assert (tmp_path / "report.html").exists() and not (tmp_path / "report.pdf").exists()
