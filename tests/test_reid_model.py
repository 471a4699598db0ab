"""Re-identification from table to folder: identities found, other encoders refused, same command, same bytes."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from identities import planted, with_tokens, without_tokens

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.reid import Reid, fit, fit_reid, load_reid, require_separate
from synth.audit.reid.cli import main
from synth.audit.reid.folder import CARD, CONFIG, WEIGHTS, save_reid
from synth.audit.reid.measure import Measured, measure
from synth.audit.reid.options import FitOptions, half_of
from synth.audit.reid.samples import available_levels
from synth.audit.reid.verify import Recordings, Setting, area, fewer_patients

QUICK = FitOptions(components=(32,), shrink=(0.03,), directions=(6, 16), hidden=(0,), steps=40)
RANDOM = replace(QUICK, init="random", learning_rate=1e-2, steps=120)
TABLE = planted(150)
TEST = TABLE.select(split="test")


@pytest.fixture(scope="module")
def reid() -> Reid:
    return fit_reid(TABLE, options=QUICK)


def auc(measured: list[Measured], level: str, setting: str, space: str) -> float:
    return next(
        each.found.auc.value
        for each in measured
        if (each.level, each.found.setting, each.space) == (level, setting, space)
    )


def test_a_head_finds_identities_that_the_plain_cosine_does_not(reid: Reid) -> None:
    measured = measure(reid, TEST, draws=20)
    for level in ("frame", "clip"):
        plain, head = (auc(measured, level, "across acquisitions", space) for space in ("raw cosine", "head"))
        assert plain < 0.8 and head > 0.95
    plain, head = (auc(measured, "motion", "across acquisitions", space) for space in ("raw cosine", "head"))
    assert head > 0.8
    # Nothing of the looks is in the motion: the moments' common part was taken out before.
    found = reid.levels["motion"].samples(TEST).feature_MD.reshape(-1, 16, 12)
    assert np.abs(found.mean(1)).max() < 1e-5


def test_with_patients_shuffled_nothing_is_found() -> None:
    # Shuffled within splits, which would otherwise share patients.
    rows = TABLE.rows.copy()
    for split in ("train", "val", "test"):
        own = (TABLE.split == split).nonzero()[0]
        rows.loc[own, "patient_id"] = np.random.default_rng(4).permutation(TABLE.patient_id[own])
    shuffled = replace(TABLE, rows=rows)
    model = fit_reid(shuffled, levels=("clip",), options=QUICK)
    found = next(
        each.found
        for each in measure(model, shuffled.select(split="test"), draws=200)
        if each.space == "head" and each.found.setting == "across acquisitions"
    )
    assert found.auc.low <= 0.5 <= found.auc.high


@pytest.mark.parametrize("loss", ["supcon", "siamese"])
def test_either_loss_learns_from_a_random_begin(loss: Literal["supcon", "siamese"]) -> None:
    model = fit_reid(TABLE, levels=("frame",), options=replace(RANDOM, loss=loss))
    measured = measure(model, TEST, draws=5)
    plain, head = (auc(measured, "frame", "across acquisitions", space) for space in ("raw cosine", "head"))
    assert model.config.levels[0].step > 0 and head > plain + 0.08


def test_without_tokens_phase_features_are_read() -> None:
    table = without_tokens(TABLE)
    model = fit_reid(table, levels=("frame", "clip"), options=QUICK)
    assert {each.level: each.source for each in model.config.levels} == {
        "frame": "phase",
        "clip": "video",
    }
    projected = model.project(table.select(split="test"), level="frame")
    assert projected.phase is not None and projected.phase.feature_PD.shape == (32 * len(TEST), 128)
    assert auc(measure(model, table.select(split="test"), draws=5), "clip", "across acquisitions", "head") > 0.7


def test_projected_tables_are_unit_and_named_after_head_and_encoder(reid: Reid, tmp_path: Path) -> None:
    seen = {}
    for level in ("frame", "clip", "motion"):
        table = TEST if level != "motion" else TEST.select(reid.usable(TEST, level="motion"))
        projected = reid.project(table, level=level)
        assert projected.video_ND.shape == (len(table), 128) and len(table) > 0.8 * len(TEST)
        np.testing.assert_allclose(np.linalg.norm(projected.video_ND, axis=1), 1, atol=1e-5)
        assert projected.rows.equals(table.rows) and projected.encoder_digest == reid.digest(level)
        seen[level] = projected.encoder_digest
    assert len({*seen.values(), TABLE.encoder_digest}) == 4
    frames = reid.project(TEST, level="frame")
    assert frames.phase is not None and frames.phase.feature_PD.shape == (4 * len(TEST), 128)
    frames.save(tmp_path / "frames")
    assert EmbeddingTable.load(tmp_path / "frames").encoder_digest == seen["frame"]
    with pytest.raises(EchofmError, match="different encoders"):
        frames.join(TEST)


def test_a_saved_model_gives_the_same_features(reid: Reid, tmp_path: Path) -> None:
    save_reid(reid, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([CONFIG, WEIGHTS, CARD])
    again = load_reid(tmp_path)
    assert again.half == "all"
    for level in ("frame", "clip"):
        assert again.digest(level) == reid.digest(level)
        np.testing.assert_array_equal(
            again.project(TEST, level=level).video_ND, reid.project(TEST, level=level).video_ND
        )


def test_tables_of_another_encoder_or_other_settings_are_refused(reid: Reid) -> None:
    with pytest.raises(EchofmError, match=f"encoder {'c' * 12}, this re-identification model reads features of bbbb"):
        reid.project(planted(digest="c" * 64))
    with pytest.raises(EchofmError, match="embed with the same options"):
        reid.project(replace(TEST, settings={"windows": 4, "precision": "fp32", "tokens": "4,2,2"}))
    with pytest.raises(EchofmError, match="no motion level"):
        fit_reid(TABLE, levels=("clip",), options=QUICK).project(TEST, level="motion")
    with pytest.raises(EchofmError, match="which the table lacks"):
        reid.project(without_tokens(TEST))
    assert TEST.tokens is not None
    with pytest.raises(EchofmError, match="the same --tokens"):
        reid.project(with_tokens(TEST, TEST.tokens.feature_NTRCD[:, :, :1]))


def test_clips_without_a_cycle_are_named_before_they_are_scored(reid: Reid) -> None:
    assert TEST.phase is not None
    times = TEST.phase.time_s_P.copy()
    times[: TEST.phase.start_N1[2]] = np.nan
    broken = replace(TEST, phase=replace(TEST.phase, time_s_P=times))
    usable = reid.usable(broken, level="motion")
    assert not usable[:2].any()
    with pytest.raises(EchofmError, match=r"of \d+ clips show no whole heart cycle, which the motion level needs"):
        reid.project(broken, level="motion")
    assert len(reid.project(broken.select(usable), level="motion")) == usable.sum()


def test_filter_and_judge_see_other_patients(reid: Reid) -> None:
    models = {role: fit_reid(TABLE, role=role, levels=("clip",), options=QUICK) for role in ("filter", "judge")}
    train = set(TABLE.select(split="train").patient_id)
    for role, half in (("filter", "a"), ("judge", "b")):
        assert models[role].config.half == half
        assert models[role].config.patients == len({p for p in train if half_of(p) == half})
    assert models["filter"].config.seed != models["judge"].config.seed
    assert models["filter"].digest() != models["judge"].digest()
    require_separate(models["filter"], models["judge"])
    for one, other, why in ((reid, reid, "one model"), (models["filter"], reid, "all training patients")):
        with pytest.raises(EchofmError, match=f"not separate: .*{why}"):
            require_separate(one, other)
    with pytest.raises(EchofmError, match="not separate: both were fitted on half a"):
        require_separate(models["filter"], fit_reid(TABLE, role="judge", half="a", levels=("clip",), options=QUICK))


def test_the_command_writes_model_and_report_and_repeats_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = planted(60, 3)
    rows = table.rows.copy()
    rows["clip_id"] = [f"<b>{name}</b>" for name in rows["clip_id"]]
    replace(table, rows=rows).save(tmp_path / "table")
    options = ["--components", "16", "--hidden", "8", "--steps", "20", "--draws", "20", "--levels", "motion"]
    codes = [main([str(tmp_path / "table"), "--out", str(tmp_path / name), *options]) for name in ("one", "two")]
    printed = capsys.readouterr().out
    assert codes[0] == codes[1] and "across acquisitions" in printed and "raw cosine" in printed
    names = {"config.json", "model.safetensors", "README.md", "verification.json", "report.html"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == names
    for name in names:
        one, two = ((tmp_path / run / name).read_bytes() for run in ("one", "two"))
        assert hashlib.sha256(one).hexdigest() == hashlib.sha256(two).hexdigest(), name
    html = (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert "<b>c" not in html and "&lt;b&gt;c" in html
    figures = json.loads((tmp_path / "one" / "verification.json").read_text(encoding="utf-8"))["figures"]
    assert {each["setting"] for each in figures} == {"within acquisition", "across acquisitions", "across views"}
    assert {(each["level"], each["space"]) for each in figures} == {("motion", "head"), ("motion", "raw cosine")}


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("cut", "sha256 differs"),
        ("no weights", "cannot be read"),
        ("cut and renamed", "not a safetensors file, or cut"),
        ("wider", "not what config.json describes"),
        ("huge", "levels.0.components"),
        ("no config", "no such configuration"),
    ],
)
def test_damaged_folders_get_one_line(harm: str, message: str, reid: Reid, tmp_path: Path) -> None:
    save_reid(reid, tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text(encoding="utf-8"))
    content = (tmp_path / WEIGHTS).read_bytes()
    if harm == "no weights":
        (tmp_path / WEIGHTS).unlink()
    elif harm == "no config":
        (tmp_path / CONFIG).unlink()
    elif harm.startswith("cut"):
        (tmp_path / WEIGHTS).write_bytes(content[:-40])
        if harm == "cut and renamed":
            config["weights_sha256"] = hashlib.sha256(content[:-40]).hexdigest()
    else:
        config["levels"][0]["components"] = 33 if harm == "wider" else 1 << 40
    if harm != "no config":
        (tmp_path / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(EchofmError, match=message) as raised:
        load_reid(tmp_path)
    assert "\n" not in str(raised.value)


def test_hostile_tables_get_one_line(tmp_path: Path) -> None:
    missing = TABLE.select(np.flatnonzero(TABLE.split != "val"))
    with pytest.raises(EchofmError, match="no clips of the split 'val'"):
        fit_reid(missing, options=QUICK)
    rows = TABLE.rows.copy()
    rows.loc[0, "split"] = "test"
    with pytest.raises(EchofmError, match=r"1 patient\(s\) are in the splits train and test"):
        fit_reid(replace(TABLE, rows=rows), options=QUICK)
    assert TABLE.tokens is not None
    poisoned = TABLE.tokens.feature_NTRCD.copy()
    poisoned[3, 0, 0, 0, 0] = np.nan
    with pytest.raises(EchofmError, match="not finite"):
        fit_reid(with_tokens(TABLE, poisoned), options=QUICK)
    single = planted(40, 1)
    bare = EmbeddingTable(video_ND=single.video_ND, rows=single.rows, encoder_digest="d" * 64)
    assert available_levels(bare) == ("clip",)
    with pytest.raises(EchofmError, match="nothing can meet"):
        fit_reid(bare, options=QUICK)
    with pytest.raises(EchofmError, match="no phase features"):
        fit_reid(bare, levels=("motion",), options=QUICK)
    with pytest.raises(EchofmError, match="name a table"):
        main(["--out", str(tmp_path)])


def test_one_clip_a_patient_is_enough_with_tokens() -> None:
    # As in EchoNet-Dynamic: halves of a clip are all that can meet.
    table = planted(60, 1)
    model = fit_reid(table, levels=("frame", "clip"), options=QUICK)
    settings = {each.found.setting for each in measure(model, table.select(split="test"), draws=5)}
    assert settings == {"within acquisition"}


def test_of_very_many_validation_clips_a_part_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def counted(queries: Recordings, gallery: Recordings, *, setting: Setting) -> float | None:
        seen.append(len(queries))
        return area(queries, gallery, setting=setting)

    monkeypatch.setattr(fit, "area", counted)
    monkeypatch.setattr(fit, "fewer_patients", functools.partial(fewer_patients, most=12))
    fit_reid(TABLE, levels=("clip",), options=QUICK)
    assert max(seen) <= 12 < (TABLE.split == "val").sum()
