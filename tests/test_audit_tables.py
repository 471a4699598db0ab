"""An audit from tables to report: copies found, hostile tables refused, hostile ids never shown."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from audit_sets import CLIPS, HOLDOUT, PLANTS, TRAIN, WIDTH, canary_table, planted, synthetic, table

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.assess import audit
from synth.audit.audited import Audited
from synth.audit.cli import main
from synth.audit.judging import Judge
from synth.audit.result import AuditResult
from synth.audit.sets import Sets, safe_table, shown_digest
from synth.audit.settings import AuditSettings

DOCS = Path(__file__).parents[1] / "docs" / "audit.md"


@pytest.fixture(scope="module")
def copied() -> Audited:
    return audit(TRAIN, HOLDOUT, synthetic(40, 360), canaries=PLANTS)


@pytest.fixture(scope="module")
def fresh() -> Audited:
    return audit(TRAIN, HOLDOUT, synthetic(0, 400), canaries=PLANTS)


def test_planted_copies_are_flagged_and_named(copied: Audited) -> None:
    removed = copied.samples["removed"].to_numpy()
    assert removed[:40].mean() >= 0.95
    # One draw of the false flags, whose mean test_audit_calibrate.py holds.
    assert removed[:40].sum() / removed.sum() >= 0.8
    neighbours = copied.samples["clip_neighbour"][:40].to_numpy()
    assert (neighbours == safe_table(TRAIN).clip_id[:40]).all()
    assert copied.result.exposure.patients_flagged >= 20
    assert sum(copied.result.exposure.clips_per_patient) == 400
    assert copied.result.attacks.membership_auc.value > 0.5
    assert "more than new patients" in copied.result.verdict


def test_new_patients_are_not_flagged_beyond_alpha(fresh: Audited) -> None:
    result = fresh.result
    assert result.flagged.fraction.low <= 0.05 <= result.flagged.fraction.high
    assert result.flagged.decided == result.removed == 0
    assert "no more than new patients" in result.verdict


def test_power_is_measured_and_its_lack_is_the_first_thing_reported(fresh: Audited) -> None:
    by_kind = {each.kind: each.recall.value for each in fresh.result.power}
    assert by_kind["exact"] == 1.0
    assert by_kind["noise"] < 0.2
    assert fresh.result.sees_copies
    assert all(each.recall_at_a_tenth.value <= each.recall.value for each in fresh.result.power)
    assert fresh.result.power[0].recall_at_a_tenth.value == 1
    # 25 held-out patients cannot give a p of alpha / 10.
    few = audit(TRAIN, table(25, "few-", 5), synthetic(0, 60), canaries=PLANTS).result
    assert few.sees_copies and few.power[0].recall_at_a_tenth.value == 0
    unknown = audit(TRAIN, HOLDOUT, synthetic(0, 100)).result
    assert unknown.sees_copies is None
    assert unknown.verdict.startswith("No canaries were planted")
    blind = audit(TRAIN, HOLDOUT, synthetic(0, 100), canaries=planted("exact", 5.0))
    assert blind.result.sees_copies is False
    assert blind.result.verdict.startswith("This encoder misses plain copies")
    assert blind.page().html().index('class="notice warning"') < blind.page().html().index("<main>")


def test_a_new_beat_is_not_found_in_itself() -> None:
    rng = np.random.default_rng(3)
    own = table(0, "t", 0, features=rng.standard_normal((300, WIDTH)))
    ids = own.clip_id[:60].astype(str).tolist()
    beat = canary_table(own.video_ND[:60], "new beat", 1, ids, ids)
    result = audit(own, HOLDOUT, synthetic(0, 50), canaries=beat).result
    assert result.power[0].recall.value < 0.3
    found_in_itself = canary_table(own.video_ND[:60], "new beat", 1, ids, [""] * 60)
    assert audit(own, HOLDOUT, synthetic(0, 50), canaries=found_in_itself).result.power[0].recall.value == 1


def test_levels_are_reported_apart_and_one_decides() -> None:
    train, holdout = table(120, "t", 0, frames=True), table(240, "h", 1, frames=True)
    copies = np.concatenate([train.video_ND[:40], table(60, "f", 5).video_ND])
    own = table(0, "s", 3, features=copies, frames=True)
    decided = audit(train, holdout, own, settings=AuditSettings(decide="any", frames=3))
    assert [each.level for each in decided.result.levels] == ["clip", "frame"]
    assert decided.result.level("frame").vectors_per_clip == 3
    least = np.minimum(decided.samples["clip_p"], decided.samples["frame_p"])
    np.testing.assert_allclose(decided.samples["p"], np.minimum(1, 2 * least))
    assert decided.samples["removed"][:40].mean() > 0.9
    by_frame = audit(train, holdout, own, settings=AuditSettings(decide="frame"))
    np.testing.assert_allclose(by_frame.samples["p"], by_frame.samples["frame_p"])
    with pytest.raises(EchofmError, match="motion needs motion features"):
        audit(train, holdout, own, settings=AuditSettings(levels=("motion",)))
    with pytest.raises(EchofmError, match="needs token-time features"):
        audit(TRAIN, HOLDOUT, synthetic(0, 50), settings=AuditSettings(decide="frame"))


class MotionHead:
    """A head with a clip and a motion level; clips whose first feature is low show no whole heart cycle."""

    levels: ClassVar[dict[str, None]] = {"clip": None, "motion": None}

    def digest(self, level: str) -> str:
        return f"head-{level}"

    def usable(self, table: EmbeddingTable, *, level: str) -> np.ndarray:
        return (table.video_ND[:, 0] > -1.3) | (level == "clip")

    def project(self, table: EmbeddingTable, *, level: str) -> EmbeddingTable:
        assert self.usable(table, level=level).all()
        features = table.video_ND[:, ::-1] if level == "motion" else 2 * table.video_ND
        return EmbeddingTable(video_ND=np.ascontiguousarray(features), rows=table.rows, encoder_digest="head")


def test_clips_without_motion_count_as_far_away_on_both_sides() -> None:
    own = synthetic(80, 320)
    found = audit(TRAIN, HOLDOUT, own, canaries=PLANTS, head=MotionHead(), settings=AuditSettings(decide="any"))
    assert [each.level for each in found.result.levels] == ["clip", "motion"]
    still = own.video_ND[:, 0] <= -1.3
    assert 10 < still.sum() < 100
    samples = found.samples
    assert samples["motion_score"].isna().to_numpy().tolist() == still.tolist()
    np.testing.assert_allclose(samples["motion_p"][still], 1)
    assert (samples["motion_neighbour"][still] == "").all()
    assert samples["removed"][:80][~still[:80]].mean() > 0.95
    assert found.result.reid_digest == "head-clip"
    assert "motion level" in found.page().html()


def test_a_judge_finds_no_excess_after_the_removal_and_does_before() -> None:
    rng = np.random.default_rng(11)
    turn = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]
    own = synthetic(80, 320)

    def seen(each: EmbeddingTable) -> EmbeddingTable:
        features = each.video_ND @ turn + 0.1 * rng.standard_normal(each.video_ND.shape)
        return EmbeddingTable(video_ND=features.astype(np.float32), rows=each.rows, encoder_digest="j" * 64)

    judge = Judge(sets=Sets(train=seen(TRAIN), holdout=seen(HOLDOUT), synthetic=seen(own), canaries=seen(PLANTS)))
    found = audit(TRAIN, HOLDOUT, own, canaries=PLANTS, judge=judge)
    second = found.result.judge
    assert second is not None and second.after is not None and second.membership_auc_after is not None
    assert second.before.excess_p < 1e-6 and second.after.excess_p > 0.05
    assert second.membership_auc_before.value > second.membership_auc_after.value
    assert "judge finds no excess" in found.result.verdict
    assert "A second judge" in found.page().html()
    other = Judge(
        sets=Sets(train=judge.sets.train, holdout=judge.sets.holdout, synthetic=seen(own.select(np.arange(400)[::-1])))
    )
    with pytest.raises(EchofmError, match="not the audit's"):
        audit(TRAIN, HOLDOUT, own, judge=other)


def test_no_verdict_says_that_all_is_well(copied: Audited, fresh: Audited) -> None:
    for audited in (copied, fresh):
        for text in (audited.page().html().lower(), audited.result.to_json().lower()):
            assert "anonymous" not in text and "private" not in text
            assert " safe" not in text


def test_hostile_ids_are_hashed_before_anything_is_shown(tmp_path: Path) -> None:
    evil = "<script>alert('Jane Doe 1950')</script>"
    changed = {name: [f"{evil}{each}" for each in TRAIN.rows[name]] for name in ("patient_id", "clip_id")}
    train = EmbeddingTable(video_ND=TRAIN.video_ND, rows=TRAIN.rows.assign(**changed), encoder_digest=evil)
    others = (
        EmbeddingTable(video_ND=each.video_ND, rows=each.rows, encoder_digest=evil)
        for each in (HOLDOUT, synthetic(40, 60))
    )
    found = audit(train, *others)
    found.result.save(tmp_path, found.samples)
    found.page().save(tmp_path / "report.html")
    assert found.result.exposure.most
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        # No digits alone: a hashed id may hold any of them.
        for name in (b"script>alert", b"Jane", b"Doe 1950", b"train-0", b"train-p"):
            assert name not in content, (path.name, name)
    assert shown_digest(evil) != evil and shown_digest("facebook/vjepa2-vitl:fpc64") == "facebook/vjepa2-vitl:fpc64"


def shared_clip() -> EmbeddingTable:
    rows = HOLDOUT.rows.assign(clip_id=[TRAIN.clip_id[0], *HOLDOUT.clip_id[1:]])
    return EmbeddingTable(video_ND=HOLDOUT.video_ND, rows=rows, encoder_digest=HOLDOUT.encoder_digest)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda: (TRAIN, HOLDOUT, table(50, "s", 4, digest="f" * 64)), "different encoders"),
        (lambda: (TRAIN, TRAIN, synthetic(0, 9)), "both in the training and the held-out"),
        (lambda: (TRAIN, shared_clip(), synthetic(0, 9)), r"1 clip\(s\) are both in the training and the held-out"),
        (lambda: (TRAIN, table(9, "h", 1), synthetic(0, 9)), "hold out at least 19"),
        (lambda: (TRAIN, HOLDOUT, HOLDOUT.select(np.zeros(len(HOLDOUT), bool))), "synthetic table is empty"),
        (lambda: (TRAIN, HOLDOUT, wider()), "different widths"),
        (lambda: (TRAIN, HOLDOUT, not_finite()), "synthetic table: the features of row 3 are not finite"),
        (lambda: (table(1, "t", 0), HOLDOUT, synthetic(0, 9)), "two training patients|a single patient"),
    ],
)
def test_tables_that_do_not_fit_are_refused_in_one_line(change, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EchofmError, match=says) as caught:
        audit(*change())
    assert "\n" not in str(caught.value)


def wider() -> EmbeddingTable:
    return table(0, "s", 0, features=np.ones((9, WIDTH + 1)))


def not_finite() -> EmbeddingTable:
    good = synthetic(0, 9)
    features = good.video_ND.copy()
    features[3, 4] = np.nan
    return EmbeddingTable(video_ND=features, rows=good.rows, encoder_digest=good.encoder_digest)


def test_small_sets_say_what_was_left_out() -> None:
    result = audit(TRAIN, table(25, "h", 5), synthetic(0, 60)).result
    assert result.attacks.naming_attack is None
    assert any("40 held-out patients" in note for note in result.notes)


def asked(tmp_path: Path, *more: str) -> list[str]:
    for name, each in {"t": TRAIN, "h": HOLDOUT, "s": synthetic(40, 160)}.items():
        if not (tmp_path / name).exists():
            each.save(tmp_path / name)
    return [*(f"--{flag}={tmp_path / flag[0]}" for flag in ("train", "holdout", "synthetic")), *more]


def test_command_writes_report_figures_and_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(asked(tmp_path, f"--out={out}")) == 1
    assert sorted(path.name for path in out.iterdir()) == ["audit.json", "report.html", "samples.parquet"]
    assert AuditResult.from_json(out / "audit.json").verdict in capsys.readouterr().out
    samples = pd.read_parquet(out / "samples.parquet")
    assert samples["removed"].sum() >= 38
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    PLANTS.save(tmp_path / "c")
    assert main(asked(tmp_path, f"--out={out}", "--fail-above=0.5")) == 0
    again = {path.name: path.read_bytes() for path in out.iterdir()}
    pages = [each.pop("report.html") for each in (first, again)]
    assert again == first
    assert b"<dd>1 (clips are to be removed" in pages[0] and b"<dd>0 (no more than --fail-above 0.5" in pages[1]
    # A blind encoder is never a clean exit.
    planted("exact", 5.0).save(tmp_path / "blind")
    assert main(asked(tmp_path, f"--out={out}", "--fail-above=1", f"--canary-table={tmp_path / 'blind'}")) == 1
    assert main(asked(tmp_path, f"--out={out}", "--fail-above=1", f"--canary-table={tmp_path / 'c'}")) == 0


def test_splits_of_one_table_are_the_training_and_the_held_out_set(tmp_path: Path) -> None:
    real = EmbeddingTable.concat([TRAIN, HOLDOUT])
    split = ["train"] * len(TRAIN) + ["val", "test"] * (len(HOLDOUT) // 2)
    rows = real.rows.assign(split=pd.array(split, dtype="string"))
    EmbeddingTable(video_ND=real.video_ND, rows=rows, encoder_digest=real.encoder_digest).save(tmp_path / "real")
    synthetic(0, 50).save(tmp_path / "s")
    words = [f"--train={tmp_path / 'real'}:train", f"--holdout={tmp_path / 'real'}:val,test"]
    assert main([*words, f"--synthetic={tmp_path / 's'}", f"--out={tmp_path / 'out'}"]) == 0
    result = AuditResult.from_json(tmp_path / "out" / "audit.json")
    assert (result.train.clips, result.holdout.clips) == (len(TRAIN), len(HOLDOUT))
    with pytest.raises(EchofmError, match="no clip of split val"):
        main([*words[:1], f"--holdout={tmp_path / 's'}:val", f"--synthetic={tmp_path / 's'}", "--out=x"])


def npz(path: Path, each: EmbeddingTable, **more: object) -> Path:
    keys = {
        "features": each.video_ND,
        "encoder": "someone/else",
        "clip_id": each.clip_id.astype(str),
        "patient_id": each.patient_id.astype(str),
        **more,
    }
    np.savez(path, **{name: value for name, value in keys.items() if value is not None})  # type: ignore[arg-type]
    return path


def test_arrays_of_someone_elses_encoder_give_the_same_figures(tmp_path: Path, copied: Audited) -> None:
    train, holdout = npz(tmp_path / "t.npz", TRAIN), npz(tmp_path / "h.npz", HOLDOUT)
    own = npz(tmp_path / "s.npz", synthetic(40, 360), clip_id=None, patient_id=None)
    marks = {name: PLANTS.rows[name].to_numpy(dtype=str) for name in ("canary_kind", "canary_source")}
    plants = npz(tmp_path / "c.npz", PLANTS, **marks, canary_strength=PLANTS.rows["canary_strength"].to_numpy())
    words = [f"--train={train}", f"--holdout={holdout}", f"--synthetic={own}", f"--canary-table={plants}"]
    assert main([*words, f"--out={tmp_path / 'out'}"]) == 1
    result = AuditResult.from_json(tmp_path / "out" / "audit.json")
    assert result.flagged == copied.result.flagged and result.power == copied.result.power
    assert result.encoder_digest == "someone/else"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"features": np.array([[1.0], [None]], object)}, "no sound .npz"),
        ({"encoder": None}, "no key encoder"),
        ({"patient_id": None}, "no patient_id"),
        ({"features": np.ones(4)}, "floats"),
        ({"surprise": np.ones(4)}, "an unknown key"),
        ({"clip_id": np.array(["one"])}, "300 texts are needed"),
        ({"clip_id": np.array(["one"] * 300)}, "the training file: .*clip ids occur twice"),
        ({"features": np.full((300, 4), np.nan)}, "the training file: .*not finite"),
    ],
)
def test_hostile_arrays_are_refused(tmp_path: Path, keys: dict[str, object], says: str) -> None:
    bad = npz(tmp_path / "bad.npz", TRAIN, **keys)
    HOLDOUT.save(tmp_path / "h")
    with pytest.raises(EchofmError, match=says):
        main([f"--train={bad}", f"--holdout={tmp_path / 'h'}", f"--synthetic={tmp_path / 'h'}", "--out=x"])


def test_cut_files_and_bombs_are_refused(tmp_path: Path) -> None:
    from echofm.embed.source import load_arrays

    words = asked(tmp_path, f"--out={tmp_path / 'out'}")
    whole = (tmp_path / "s" / "features.safetensors").read_bytes()
    (tmp_path / "s" / "features.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EchofmError, match=r"the synthetic table: features\.safetensors of the table cannot be read"):
        main(words)
    good = npz(tmp_path / "t.npz", TRAIN)
    with pytest.raises(EchofmError, match="unpacks to"):
        load_arrays(good, name="training", max_gb=1e-6)
    good.write_bytes(good.read_bytes()[:900])
    with pytest.raises(EchofmError, match=r"no sound \.npz"):
        load_arrays(good, name="training")
    # numpy takes it for a header of Python 2 and hands it to tokenize.
    description = b"{'descr': '|u1', 'fortran_order'[ False, 'shape': (1,), }\n"
    with zipfile.ZipFile(good, "w") as packed:
        packed.writestr("encoder.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(description)) + description + b"0")
    with pytest.raises(EchofmError, match=r"no sound \.npz"):
        load_arrays(good, name="training")


def test_every_field_of_the_schema_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    schema = AuditResult.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    names = {name for each in models for name in each.get("properties", {})}
    assert len(names) > 40
    missing = sorted(name for name in names if f"`{name}`" not in text)
    assert not missing, missing
    for column in audit(TRAIN, HOLDOUT, synthetic(0, 20)).samples.columns:
        assert f"`{column.removeprefix('clip_') if column != 'clip_id' else column}`" in text, column


def test_the_function_is_at_hand_and_the_import_is_cheap() -> None:
    code = (
        "import sys, synth.audit; heavy = {'torch', 'faiss', 'pandas', 'scipy'} & set(sys.modules); "
        "from synth.audit import audit, AuditResult; print(sorted(heavy), callable(audit), AuditResult.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True AuditResult"


def test_audit_json_is_versioned(copied: Audited) -> None:
    assert json.loads(copied.result.to_json())["schema_version"] == 2
    assert CLIPS == 2
