"""The audit from Python: as docs/audit.md shows it, from names or objects, the same as the command's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from encoder_and_sets import write_encoder_and_sets

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.hub import load_encoder
from synth.audit import AuditSettings, audit_sets
from synth.audit.cli import main

DOCS = Path(__file__).parents[1] / "docs" / "audit.md"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_encoder_and_sets(tmp_path_factory.mktemp("audit"))
    for ours, theirs in (("shards", "real"), ("fresh", "fake"), ("encoder", "export")):
        (folder / theirs).symlink_to(folder / ours)
    return folder


def test_the_lines_of_the_docs_run(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(given)
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    # Four held-out patients are too few for 0.05.
    exec(example.replace("0.05", "0.25").replace('"audit"', repr(str(tmp_path / "python" / "audit"))))
    assert "for removal" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "python" / "audit").iterdir()} == {
        "report.html",
        "audit.json",
        "samples.parquet",
    }
    words = ["--train=real:train", "--holdout=real:val,test", "--synthetic=fake", "--encoder=export", "--alpha=0.25"]
    main([*words, f"--out={tmp_path / 'command' / 'audit'}"])
    for name in ("report.html", "audit.json", "samples.parquet"):
        same = [(tmp_path / way / "audit" / name).read_bytes() for way in ("python", "command")]
        assert same[0] == same[1]


def test_an_open_encoder_and_tables_are_taken(given: Path) -> None:
    encoder = load_encoder(given / "encoder")
    sets = [f"{given / 'shards'}:train", f"{given / 'shards'}:val,test"]
    settings = AuditSettings(alpha=0.25, canaries=0, duplicates="off", strips=0)
    plain = {"encoder": encoder, "settings": settings}
    found = audit_sets(*sets, given / "fresh", **plain)
    assert found.flagged_ids == found.removed_ids == found.samples["clip_id"][found.samples["flagged"]].tolist()
    assert found.result.encoder_digest == encoder.digest
    other = EmbeddingTable.from_arrays([[1.0, 2.0]], clip_id=["a"], patient_id=["b"], encoder_digest="other")
    with pytest.raises(EchofmError, match="the synthetic table comes from another encoder"):
        audit_sets(*sets, other, **plain)
    with pytest.raises(EchofmError, match="--alpha 2 is no probability"):
        audit_sets(*sets, given / "fresh", encoder=encoder, settings=AuditSettings(alpha=2))
