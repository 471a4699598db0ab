"""Where an audit could say more than it knows, or lose what it has: ids that are no hashes, few canaries, no motion."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audit_sets import HOLDOUT, PLANTS, TRAIN, WIDTH, planted, synthetic, table
from hearts import beating_heart, write_avi

from echofm.check.duplicates import Pair
from echofm.contract import InputContract
from echofm.embed.rows import tidy_rows
from echofm.embed.source import load_arrays
from echofm.embed.table import EmbeddingTable
from echofm.embed.videos import open_videos
from echofm.errors import EchofmError
from echofm.ids import IdKey
from echofm.intervals import Estimate
from echofm.readers.options import ReadOptions
from synth.audit.assess import audit
from synth.audit.canaries.transforms import sees_copies
from synth.audit.cli import main
from synth.audit.duplicates import Duplicates, _copied, exact_copies
from synth.audit.filter.write import Filtered, LeftOut, read_decisions
from synth.audit.report.strips import pairs
from synth.audit.result import Attacks, AuditResult, CanaryRecall
from synth.audit.sets import STRENGTH, safe_table
from synth.audit.settings import AuditSettings
from synth.audit.statistics.calibrate import at_most, conformal_p, flagged_at_any, q_values
from synth.audit.statistics.scores import combined_p
from synth.audit.verdict import _membership


def with_ids(features: np.ndarray, ids: list[str]) -> EmbeddingTable:
    return EmbeddingTable.from_arrays(features, clip_id=ids, patient_id=ids, encoder_digest="e" * 64)


def test_clips_that_only_share_a_row_number_are_no_copies() -> None:
    rng = np.random.default_rng(0)
    train, other = rng.standard_normal((2, 20, WIDTH)).astype(np.float32)
    numbered = [str(row) for row in range(20)]
    other[3] = train[3] * (1 + 1e-5)
    assert exact_copies(with_ids(train, numbered), with_ids(other, numbered)) == {"3": "3"}


def recall(kind: str, value: float, planted: int = 50) -> CanaryRecall:
    part = Estimate(value=value, low=value, high=value)
    return CanaryRecall(
        kind=kind, strength=0.0, planted=planted, recall=part, recall_at_a_tenth=part, right_patient=1.0
    )


def test_an_exact_copy_alone_proves_no_sight() -> None:
    assert sees_copies([]) is None and sees_copies([recall("exact", 1)]) is None
    assert sees_copies([recall("exact", 1), recall("noise", 1)]) is None
    assert sees_copies([recall("exact", 1), recall("re-encoded", 1)])
    assert sees_copies([recall("re-encoded", 0.98)]) is False
    first = audit(TRAIN, HOLDOUT, synthetic(0, 100), canaries=planted("exact", 0.0)).result.verdict.splitlines()[0]
    assert first.startswith("Exact and re-encoded copies were not both planted, so nobody knows")


def test_the_verdict_rounds_no_small_alpha_away() -> None:
    many = audit(
        TRAIN, table(520, "many-", 9), synthetic(0, 100), canaries=PLANTS, settings=AuditSettings(alpha=0.002)
    ).result
    assert "than 99.8% of new patients do" in many.verdict and "(expected 0.2%" in many.verdict
    assert "of 50 at worst, 95 % interval 9" in many.verdict


@pytest.mark.parametrize(("clips", "patients"), [(6, 199), (7, 199), (10, 99), (10, 59)])
def test_a_p_of_alpha_is_not_above_alpha(clips: int, patients: int) -> None:
    names = np.repeat(np.arange(patients).astype(str), clips)
    null = np.repeat(np.arange(patients, dtype=float), clips)
    above = round(0.05 * (patients + 1)) - 1
    p = conformal_p(np.array([patients - above]), null, names)
    assert p[0] == pytest.approx(0.05) and p[0] <= 0.05


def test_the_least_p_of_just_enough_patients_still_counts() -> None:
    """1/60 is a rounding above 0.05/3, and 250 copies of 300 are as few as 23 patients can flag."""
    copies, null = np.ones(50), np.linspace(0, 0.5, 59)
    assert flagged_at_any([(copies, null)] * 3, np.arange(59).astype(str)).fraction.value == 1
    assert at_most(combined_p([conformal_p(copies, null)] * 3), 0.05).all()
    p = conformal_p(np.repeat([1.0, -1.0], [250, 50]), np.linspace(0, 0.5, 23))
    assert (q_values(p)[:250] <= 0.05).all()


def test_numbers_that_look_like_a_hash_are_hashed() -> None:
    hospital = "12345678901234567890"
    named = with_ids(np.eye(2, WIDTH, dtype=np.float32), [hospital, "a" * 20])
    assert safe_table(named, key=IdKey(bytes(16))).clip_id[0] != hospital
    own = with_ids(np.eye(2, WIDTH, dtype=np.float32), ["b" * 20, "a" * 20])
    assert safe_table(own) is own


def test_ids_as_bytes_are_texts_and_other_bytes_are_refused(tmp_path: Path) -> None:
    features = np.eye(2, WIDTH, dtype=np.float32)
    for name, ids in {"utf8": ["Müller".encode(), b"b"], "other": [b"\xff\xfe", b"b"]}.items():
        np.savez(tmp_path / f"{name}.npz", features=features, encoder="e", patient_id=np.array(ids))
    assert list(load_arrays(tmp_path / "utf8.npz", name="training").patient_id) == ["Müller", "b"]
    with pytest.raises(EchofmError, match="the training file's patient_id holds bytes that are no UTF-8"):
        load_arrays(tmp_path / "other.npz", name="training")


def test_features_of_nothing_are_named_by_their_set() -> None:
    own = synthetic(0, 50)
    own.video_ND[7] = 0
    with pytest.raises(EchofmError, match="the synthetic table: the features of row 7 are all 0"):
        audit(TRAIN, HOLDOUT, own)


def test_an_excess_without_any_single_flag_is_no_clean_exit(tmp_path: Path) -> None:
    # So few held-out patients that no clip can be flagged alone, and a third of the set is copied.
    few = table(30, "few-", 5)
    for name, each in {"t": TRAIN, "h": few, "s": synthetic(30, 60), "c": PLANTS}.items():
        each.save(tmp_path / name)
    words = [f"--train={tmp_path / 't'}", f"--holdout={tmp_path / 'h'}", f"--synthetic={tmp_path / 's'}"]
    words += [f"--canary-table={tmp_path / 'c'}", f"--out={tmp_path / 'out'}"]
    assert main(words) == 1
    result = AuditResult.from_json(tmp_path / "out" / "audit.json")
    assert result.removed == 0 and result.flagged.excess_p < 0.01
    assert main([*words, "--fail-above=0.5"]) == 0


def test_other_views_than_the_held_out_ones_are_reported() -> None:
    def seen(one: EmbeddingTable, views: list[str]) -> EmbeddingTable:
        rows = one.rows.assign(view=pd.array((views * len(one))[: len(one)], dtype="string"))
        return EmbeddingTable(video_ND=one.video_ND, rows=rows, encoder_digest=one.encoder_digest)

    own, null = synthetic(0, 100), seen(HOLDOUT, ["A4C", "A2C"])
    alike = audit(TRAIN, null, seen(own, ["A2C", "A4C", "A4C"])).result.notes
    assert not any("synthetic clips show" in note for note in alike)
    apart = audit(TRAIN, null, seen(own, ["A4C", "A4C", "A4C", "PLAX"])).result.notes
    assert any("75% of the synthetic clips show A4C, but 50% of the held-out" in note for note in apart)


def of_kind(each: EmbeddingTable, kind: str) -> EmbeddingTable:
    rows = each.rows.assign(kind=pd.array([kind] * len(each), dtype="string"))
    return EmbeddingTable(video_ND=each.video_ND, rows=rows, encoder_digest=each.encoder_digest)


def test_stills_beside_cines_are_reported_on_the_page_and_at_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Single frames are no nearer to cines, copied or not, so that nothing seems memorised."""
    for name, each in {"t": TRAIN, "h": HOLDOUT}.items():
        of_kind(each, "cine").save(tmp_path / name)
    of_kind(synthetic(0, 50), "still").save(tmp_path / "s")
    words = [f"--train={tmp_path / 't'}", f"--holdout={tmp_path / 'h'}", f"--synthetic={tmp_path / 's'}"]
    main([*words, f"--out={tmp_path / 'out'}"])
    reported = "100% of the synthetic clips are still, but 0% of the held-out ones"
    assert f"note: {reported}" in capsys.readouterr().err
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.index("What was found</h2>") < page.index(reported) < page.index("Singling out</h2>")


def test_a_page_of_an_earlier_audit_does_not_outlast_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, each in {"t": TRAIN, "h": HOLDOUT, "s": synthetic(0, 50)}.items():
        each.save(tmp_path / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("of before")

    def killed(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("synth.audit.audited.page", killed)
    words = [f"--train={tmp_path / 't'}", f"--holdout={tmp_path / 'h'}", f"--synthetic={tmp_path / 's'}"]
    with pytest.raises(KeyboardInterrupt):
        main([*words, f"--out={tmp_path / 'out'}"])
    assert (tmp_path / "out" / "audit.json").is_file() and not (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("s.npy", r"the synthetic set is a \.npy file; .*an \.npz"),
        ("s.csv", r"has no column path.*features of another model are read from an \.npz"),
    ],
)
def test_a_file_of_features_that_is_no_npz_is_reported_what_to_be(tmp_path: Path, name: str, says: str) -> None:
    np.save(tmp_path / "s.npy", np.eye(3))
    (tmp_path / "s.csv").write_text("clip_id,f0,f1\na,1,2\n")
    for real, each in {"t": TRAIN, "h": HOLDOUT}.items():
        each.save(tmp_path / real)
    words = [f"--train={tmp_path / 't'}", f"--holdout={tmp_path / 'h'}", f"--synthetic={tmp_path / name}"]
    with pytest.raises(EchofmError, match=says):
        main([*words, f"--out={tmp_path / 'out'}"])


def test_an_npz_of_frames_is_reported_that_features_are_lacking(tmp_path: Path) -> None:
    np.savez(tmp_path / "frames.npz", video=np.zeros((2, 3)))
    with pytest.raises(EchofmError, match="the synthetic file has no key features"):
        load_arrays(tmp_path / "frames.npz", name="synthetic")


def test_reasons_are_counted_together_and_an_audit_that_is_none_is_reported() -> None:
    reasons = ("flagged (q 0.01)", "flagged (q 0.02)", "flagged (q 0.01) and shows the recording of real clip ab1")
    left = [LeftOut(id=str(place), reason=reason) for place, reason in enumerate(reasons)]
    done = Filtered(audit_sha256="", clips_kept=1, kept=["x"], left_out=left, other_files={})
    assert done.summary().splitlines() == [
        "1 clips kept, 3 left out",
        "  2: flagged",
        "  1: flagged and shows the recording of real clip",
    ]
    with pytest.raises(EchofmError, match="holds no finished audit"):
        read_decisions(Path("nowhere"))


def test_pairs_are_shown_of_clips_that_have_a_neighbour() -> None:
    rows = pd.DataFrame({
        "row": range(5), "clip_id": list("vwxyz"), "motion_score": [np.nan, 0.2, 0.4, 0.1, np.nan], "q": 0.5,
        "motion_neighbour": ["", "a", "b", "c", ""], "motion_neighbour_patient": "p",
        "duplicate_of": ["", "", "", "d", ""], "removed": [False, False, False, True, False],
    })  # fmt: skip
    found = pairs(rows, "motion", kept=20, holdout=["d"])
    assert [(each.clip_id, each.source_id, each.of, each.removed) for each in found] == [
        ("y", "d", "held-out", True), ("x", "b", "training", False), ("w", "a", "training", False),
    ]  # fmt: skip
    assert len(pairs(rows, "motion", kept=0)) == 1


def test_whose_a_file_is_belongs_to_what_is_cached(tmp_path: Path) -> None:
    for place in ("A/1.avi", "A/2.avi", "B/1.avi"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        write_avi(tmp_path / place, beating_heart(frames=4, size=32, seed=0)[0])

    def state(patient_from: str) -> str:
        contract, key = InputContract(size=32, frames=4), IdKey(bytes(16))
        return (
            open_videos(tmp_path, options=ReadOptions(key=key), patient_from=patient_from).input(contract).fingerprint()
        )

    assert state("parent") == state("parent") != state("stem")


@pytest.mark.parametrize("simulated", [True, False])
def test_the_page_says_that_patients_are_simulated(tmp_path: Path, simulated: bool) -> None:
    rows = TRAIN.rows.assign(simulated=float(simulated))
    train = EmbeddingTable(video_ND=TRAIN.video_ND, rows=rows, encoder_digest=TRAIN.encoder_digest)
    for name, each in {"t": train, "h": HOLDOUT, "s": synthetic(0, 50)}.items():
        each.save(tmp_path / name)
    words = [f"--{side}={tmp_path / side[0]}" for side in ("train", "holdout", "synthetic")]
    assert main([*words, f"--out={tmp_path / 'out'}", "--fail-above=1"]) == 0
    assert ("phantom patients" in (tmp_path / "out" / "report.html").read_text()) == simulated


class Moving:
    """A head that leaves features as they are; at the motion level some clips have none."""

    def __init__(self, *still: str, levels: tuple[str, ...] = ("clip", "motion")) -> None:
        self.still, self.levels = still, dict.fromkeys(levels)

    def digest(self, level: str) -> str:
        return f"head-{level}"

    def usable(self, table: EmbeddingTable, *, level: str) -> np.ndarray:
        return np.array([level != "motion" or each not in self.still for each in table.clip_id], bool)

    def project(self, table: EmbeddingTable, *, level: str) -> EmbeddingTable:
        return table


def test_a_level_that_knows_nothing_of_the_set_decides_nothing() -> None:
    # Under a key of its own: of 200 ids under a random one some are now and then digits alone, and hashed again.
    own = safe_table(synthetic(20, 180), key=IdKey(bytes(16)))
    ids = [str(each) for each in own.clip_id]
    beside = audit(TRAIN, HOLDOUT, own, head=Moving(*ids))
    assert "histograms" in beside.page().html()
    with pytest.raises(EchofmError, match="no synthetic clip has features at the motion level"):
        audit(TRAIN, HOLDOUT, own, head=Moving(*ids), settings=AuditSettings(decide="motion"))
    some = audit(TRAIN, HOLDOUT, own, head=Moving(*ids[:30]), settings=AuditSettings(decide="motion")).result.verdict
    assert "Of 30 synthetic clip(s) the deciding level has no features" in some
    with pytest.raises(EchofmError, match=r"fit-reid --levels clip"):
        audit(TRAIN, HOLDOUT, own, head=Moving(levels=("motion",)))


def test_what_was_not_compared_is_in_the_verdict() -> None:
    own = synthetic(0, 100)
    assert "Not compared" not in audit(TRAIN, HOLDOUT, own, set_aside=(0, 3, 0)).result.verdict
    verdict = audit(TRAIN, HOLDOUT, own, set_aside=(1, 0, 90)).result.verdict
    assert "Not compared: 90 synthetic and 1 training file(s)" in verdict


def test_membership_without_an_interval_is_not_decided() -> None:
    attacks = Attacks.model_construct(membership_auc=Estimate(value=0.9, low=np.nan, high=np.nan))
    assert _membership(attacks).startswith("Membership inference is not decided")


def test_clips_that_show_held_out_recordings_are_removed_and_reported() -> None:
    own = synthetic(0, 98)
    mixed = EmbeddingTable.concat([own, HOLDOUT.select([4, 9])])
    found = audit(TRAIN, HOLDOUT, mixed)
    assert found.result.duplicates.holdout == 2 and found.samples["removed"].to_numpy()[98:].all()
    assert "2 clip(s) show the very recording of a held-out clip" in found.result.verdict
    pairs = [Pair(0, 1, 0.9), Pair(2, 3, 0.9)]
    owners = [("held-out", "h"), ("synthetic", "s"), ("training", "t"), ("synthetic", "u")]
    assert dict(_copied(owners, pairs, "held-out")) == {"s": "h"}
    shared = Duplicates(exact={}, train_holdout=[("t", "h")])
    assert "1 held-out clip(s) show the very recording" in audit(TRAIN, HOLDOUT, own, duplicates=shared).result.verdict


def test_canaries_that_do_not_say_what_they_are_are_refused() -> None:
    plain = planted("exact", 0.0)
    for strength in (np.nan, "strong"):
        rows = tidy_rows(plain.rows.assign(**{STRENGTH: [strength, *plain.rows[STRENGTH][1:]]}))
        table = EmbeddingTable(video_ND=plain.video_ND, rows=rows, encoder_digest=plain.encoder_digest)
        with pytest.raises(EchofmError, match="1 canaries have no canary_kind or no number as canary_strength"):
            audit(TRAIN, HOLDOUT, synthetic(0, 50), canaries=table)


def test_an_audit_that_is_cut_short_leaves_no_figures_beside_other_samples(tmp_path: Path) -> None:
    first, second = (audit(TRAIN, HOLDOUT, synthetic(0, count)) for count in (50, 60))
    first.result.save(tmp_path, first.samples)
    broken = second.samples.rename(columns={"p": "q"})
    with pytest.raises(ValueError, match=r"[Dd]uplicate"):
        second.result.save(tmp_path, broken)
    assert AuditResult.from_json(tmp_path / "audit.json").synthetic.clips == 50
    assert len(pd.read_parquet(tmp_path / "samples.parquet")) == 50


def test_arrays_that_are_none_are_refused_in_one_line(tmp_path: Path) -> None:
    good = {"features": np.eye(3, WIDTH), "encoder": "e", "patient_id": np.array(["a", "b", "c"])}
    bad = {"phase": np.array([["a"]] * 3)}, {"phase": np.zeros((3, 0, 4))}, {"encoder": np.array(b"\xff")}
    for each in bad:
        np.savez(tmp_path / "bad.npz", **{**good, **each})
        with pytest.raises(EchofmError, match=f"the training file's {next(iter(each))}"):
            load_arrays(tmp_path / "bad.npz", name="training")
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as packed:
        packed.writestr("features", b"no array")
    np.savez(tmp_path / "locked.npz", **good)
    content = bytearray((tmp_path / "locked.npz").read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(re.escape(mark), bytes(content)):
            content[found.start() + flags] |= 1
    (tmp_path / "locked.npz").write_bytes(content)
    for name in ("raw", "locked"):
        with pytest.raises(EchofmError, match=r"is no sound \.npz"):
            load_arrays(tmp_path / f"{name}.npz", name="training")


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match="--seed -1 is negative"):
        main(["--train=t", "--holdout=h", "--synthetic=s", f"--out={tmp_path}", "--seed=-1"])
