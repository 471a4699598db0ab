"""An audit from tables to report: copies found, hostile tables refused, hostile ids shown as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.audit import Audited, audit
from synth.audit.cli import main
from synth.audit.power import Planted
from synth.audit.report import page
from synth.audit.result import AuditResult

WIDTH, CLIPS = 32, 2


def table(
    patients: int, name: str, seed: int, digest: str = "e" * 64, features: np.ndarray | None = None
) -> EmbeddingTable:
    rng = np.random.default_rng(seed)
    identity = np.repeat(rng.standard_normal((patients, WIDTH)), CLIPS, 0)
    drawn = identity + 0.2 * rng.standard_normal(identity.shape)
    rows = drawn if features is None else features
    return EmbeddingTable.from_arrays(
        rows,
        clip_id=[f"{name}{i:04d}" for i in range(len(rows))],
        patient_id=[f"{name}p{i // CLIPS:04d}" for i in range(len(rows))],
        encoder_digest=digest,
    )


# 10 % of copies can be flagged only with 199 held-out patients or more: see smallest_detectable_share.
TRAIN, HOLDOUT = table(300, "t", 0), table(600, "h", 1)


def synthetic(copied: int, fresh: int, seed: int = 2) -> EmbeddingTable:
    rng = np.random.default_rng(seed)
    copies = TRAIN.video_ND[:copied] + 0.02 * rng.standard_normal((copied, WIDTH))
    return table(0, "s", 0, features=np.concatenate([copies, rng.standard_normal((fresh, WIDTH))]))


def planted(noise: float, kind: str) -> Planted:
    rng = np.random.default_rng(7)
    source = TRAIN.clip_id[::6].astype(str)
    features = TRAIN.video_ND[::6] + noise * rng.standard_normal((len(source), WIDTH)).astype(np.float32)
    return Planted(
        kind=kind, strength=noise, features_CD=features, source_C=source, left_out_C=np.full(len(source), "")
    )


def with_plants(table_of_synthetic: EmbeddingTable) -> Audited:
    plants = [planted(0.0, "exact"), planted(0.01, "re-encoded"), planted(5.0, "noise")]
    return audit(TRAIN, HOLDOUT, table_of_synthetic, planted=plants)


def test_planted_copies_are_flagged_and_named() -> None:
    audited = with_plants(synthetic(40, 360))
    flagged = audited.samples["flagged"].to_numpy()
    assert flagged[:40].mean() >= 0.95
    # One draw of the false flags, whose mean test_audit_calibrate.py holds.
    assert flagged[:40].sum() / flagged.sum() >= 0.8
    assert (audited.samples["neighbour"][:40].to_numpy() == TRAIN.clip_id[:40]).all()
    assert audited.result.exposure.patients_flagged >= 20
    assert audited.result.attacks.membership_auc.value > 0.5


def test_new_patients_are_not_flagged_beyond_alpha() -> None:
    result = with_plants(synthetic(0, 400)).result
    assert result.flagged.fraction.low <= 0.05 <= result.flagged.fraction.high
    assert result.flagged.decided == 0
    assert "no more than new patients" in result.verdict


def test_power_is_measured_and_its_lack_is_the_first_thing_said() -> None:
    seen = with_plants(synthetic(0, 100)).result
    by_kind = {each.kind: each.recall.value for each in seen.power}
    assert by_kind["exact"] == 1.0
    assert by_kind["noise"] < 0.2
    assert seen.sees_copies
    unknown = audit(TRAIN, HOLDOUT, synthetic(0, 100)).result
    assert unknown.sees_copies is None
    assert unknown.verdict.startswith("No canaries were planted")
    blind = audit(TRAIN, HOLDOUT, synthetic(0, 100), planted=[planted(5.0, "exact")]).result
    assert blind.sees_copies is False
    assert blind.verdict.startswith("This encoder misses plain copies")


def test_a_new_beat_is_not_found_in_itself() -> None:
    rng = np.random.default_rng(3)
    own = table(0, "t", 0, features=rng.standard_normal((600, WIDTH)))
    ids = own.clip_id[:60].astype(str)
    beat = Planted(kind="new beat", strength=1, features_CD=own.video_ND[:60], source_C=ids, left_out_C=ids)
    result = audit(own, HOLDOUT, synthetic(0, 50), planted=[beat]).result
    assert result.power[0].recall.value < 0.3


def test_the_word_private_is_never_a_verdict() -> None:
    for audited in (with_plants(synthetic(0, 100)), with_plants(synthetic(50, 50))):
        text = page(audited).html().lower()
        assert "anonymous" not in text
        assert "is private" not in text


def test_ids_with_html_in_them_are_shown_as_text() -> None:
    evil = "<script>alert(1)</script>"
    rows = TRAIN.rows.assign(patient_id=[f"{evil}{name}" for name in TRAIN.rows["patient_id"]])
    train = EmbeddingTable(video_ND=TRAIN.video_ND, rows=rows, encoder_digest=TRAIN.encoder_digest)
    text = page(audit(train, HOLDOUT, synthetic(40, 60))).html()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda: (TRAIN, HOLDOUT, table(50, "s", 4, digest="f" * 64)), "different encoders"),
        (lambda: (TRAIN, TRAIN, synthetic(0, 9)), "both in the training and the held-out"),
        (lambda: (TRAIN, table(9, "h", 1), synthetic(0, 9)), "hold out at least 19"),
        (lambda: (TRAIN, HOLDOUT, HOLDOUT.select(np.zeros(len(HOLDOUT), bool))), "synthetic table is empty"),
    ],
)
def test_tables_that_do_not_fit_are_refused(change, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EchofmError, match=says):
        audit(*change())


def test_small_sets_say_what_was_left_out() -> None:
    result = audit(TRAIN, table(25, "h", 5), synthetic(0, 60)).result
    assert result.attacks.naming_attack is None
    assert any("40 held-out patients" in note for note in result.notes)


def test_command_writes_report_figures_and_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, each in {"t": TRAIN, "h": HOLDOUT, "s": synthetic(40, 160)}.items():
        each.save(tmp_path / name)
    asked = [f"--{flag}={tmp_path / flag[0]}" for flag in ("train", "holdout", "synthetic")]
    out = tmp_path / "out"
    assert main([*asked, f"--out={out}", "--fail-above=0.1"]) == 1
    assert sorted(path.name for path in out.iterdir()) == ["audit.json", "report.html", "samples.parquet"]
    assert AuditResult.from_json(out / "audit.json").verdict in capsys.readouterr().out
    samples = pd.read_parquet(out / "samples.parquet")
    assert samples["flagged"].sum() >= 38
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main([*asked, f"--out={out}"]) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_splits_of_one_table_are_the_training_and_the_held_out_set(tmp_path: Path) -> None:
    real = EmbeddingTable.concat([TRAIN, HOLDOUT])
    split = ["train"] * len(TRAIN) + ["val", "test"] * (len(HOLDOUT) // 2)
    rows = real.rows.assign(split=pd.array(split, dtype="string"))
    EmbeddingTable(video_ND=real.video_ND, rows=rows, encoder_digest=real.encoder_digest).save(tmp_path / "real")
    synthetic(0, 50).save(tmp_path / "s")
    asked = [f"--train={tmp_path / 'real'}:train", f"--holdout={tmp_path / 'real'}:val,test"]
    assert main([*asked, f"--synthetic={tmp_path / 's'}", f"--out={tmp_path / 'out'}"]) == 0
    result = AuditResult.from_json(tmp_path / "out" / "audit.json")
    assert (result.train.clips, result.holdout.clips) == (len(TRAIN), len(HOLDOUT))
