"""The audit through re-identification heads: every level, and a judge that was fitted on other patients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from identities import planted

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.cli import main
from synth.audit.reid import fit_reid
from synth.audit.reid.folder import save_reid
from synth.audit.reid.options import FitOptions
from synth.audit.result import AuditResult

QUICK = FitOptions(components=(32,), shrink=(0.03,), directions=(6,), hidden=(0,), steps=30)
COPIES, FRESH = 60, 60


def copies(table: EmbeddingTable) -> EmbeddingTable:
    """Recordings of training patients under other names, as a generator that memorises would give."""
    rng = np.random.default_rng(5)
    own = table.select(np.sort(rng.permutation(len(table))[:COPIES]))
    assert own.phase is not None and own.tokens is not None
    phase = own.phase.feature_PD + 0.02 * rng.standard_normal(own.phase.feature_PD.shape)
    rows = own.rows.assign(clip_id=[f"copy{row:05d}" for row in range(len(own))])
    return replace(own, rows=rows, phase=replace(own.phase, feature_PD=phase.astype(np.float32)))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reid")
    train = planted(60)
    fresh = planted(FRESH, 1, seed=2)
    synthetic = EmbeddingTable.concat([copies(train), fresh])
    for name, each in {"train": train, "holdout": planted(70, 2, seed=1), "synthetic": synthetic}.items():
        each.save(root / name)
    for role in ("filter", "judge"):
        save_reid(fit_reid(train, role=role, options=QUICK), root / role)  # type: ignore[arg-type]
    return root


def words(root: Path, out: Path, *more: str) -> list[str]:
    three = [f"--{name}={root / name}" for name in ("train", "holdout", "synthetic")]
    return [*three, f"--out={out}", f"--reid={root / 'filter'}", *more]


def test_every_level_is_compared_and_the_judge_agrees_that_the_copies_are_gone(sets: Path, tmp_path: Path) -> None:
    assert main(words(sets, tmp_path, f"--judge={sets / 'judge'}")) == 1
    result = AuditResult.from_json(tmp_path / "audit.json")
    assert [each.level for each in result.levels] == ["clip", "frame", "motion"]
    assert {each.features for each in result.levels} == {128}
    assert result.reid_digest is not None and result.reid_digest != result.encoder_digest
    assert all(each.flagged.excess_p < 1e-3 for each in result.levels)
    assert COPIES * 0.95 <= result.removed <= COPIES * 1.15
    judge = result.judge
    assert judge is not None and judge.after is not None and judge.separate
    assert judge.before.excess_p < 1e-3 < 0.05 < judge.after.excess_p


def test_a_judge_that_is_the_filter_is_recognised(sets: Path, tmp_path: Path) -> None:
    main(words(sets, tmp_path, f"--judge={sets / 'filter'}", "--levels=clip"))
    result = AuditResult.from_json(tmp_path / "audit.json")
    assert result.judge is not None and not result.judge.separate
    assert "were fitted on the same patients" in (tmp_path / "report.html").read_text()


def test_a_head_of_another_encoder_is_refused(sets: Path, tmp_path: Path) -> None:
    for name in ("train", "holdout", "synthetic"):
        table = EmbeddingTable.load(sets / name)
        replace(table, encoder_digest="f" * 64).save(tmp_path / name)
    asked = [f"--{name}={tmp_path / name}" for name in ("train", "holdout", "synthetic")]
    with pytest.raises(EchofmError, match="embed the clips with that encoder"):
        main([*asked, f"--out={tmp_path / 'out'}", f"--reid={sets / 'filter'}"])
