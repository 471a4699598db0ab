"""Fitted on one hospital, tested on another: `--test-on`, `evaluate(..., test_clips=...)`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_probes import CLIPS, planted_table
from shardfolder import KEY, Hearts, read_heart

from echofm.contract import InputContract
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.hub import save_model
from echofm.model.config import NetworkConfig
from echofm.model.mae import VideoMae
from echofm.shards.read import ShardSet
from echofm.shards.write import write_shards
from probe.baselines import pixel_pca
from probe.cli import main
from probe.labels.evaluate import evaluate
from probe.result import ProbeResult

OURS = 100


def two_sets(encoder: str = "trained", *, noise: float = 1.0) -> tuple[EmbeddingTable, EmbeddingTable]:
    """100 patients with splits, 60 others of another data set whose splits mean nothing here."""
    both = planted_table(160, encoder=encoder, noise=noise)
    ours, theirs = both.select(np.arange(OURS * CLIPS)), both.select(np.arange(OURS * CLIPS, 160 * CLIPS))
    return ours, replace(theirs, rows=theirs.rows.assign(dataset=pd.array(["elsewhere"] * len(theirs), "string")))


def with_splits(table: EmbeddingTable, splits: list[str | None]) -> EmbeddingTable:
    return replace(table, rows=table.rows.assign(split=pd.array(splits, "string")))


def test_all_of_the_other_set_is_tested_and_none_of_it_fitted_on() -> None:
    ours, theirs = two_sets()
    both = EmbeddingTable.concat([ours, theirs])
    found = evaluate(both, target="ef_percent", test_clips=theirs.clip_id, label_fractions=(0.3, 1), draws=50)
    assert found.predictions["clip_id"].tolist() == theirs.clip_id.tolist()
    assert found.result.splits_from == "test clips"
    own = {name: int((ours.split == name).sum()) for name in ("train", "val", "test")}
    assert found.result.clips == {"train": own["train"], "val": own["val"], "test": len(theirs)}
    assert f"the {own['test']} test clips of the set that was trained on were left out" in found.result.notes
    # The same as if the splits had been written by hand.
    by_hand = both.select(np.r_[np.flatnonzero(ours.split != "test"), OURS * CLIPS : len(both)])
    kept = [*ours.split[ours.split != "test"], *["test"] * len(theirs)]
    same = evaluate(with_splits(by_hand, kept), target="ef_percent", label_fractions=(0.3, 1), draws=50)
    # As text: the correlation of a constant is NaN, which equals nothing. Only another set has recalibrated figures.
    metrics = {each.metric for each in same.result.scores}
    shared = [each for each in found.result.scores if each.metric in metrics]
    assert [each.to_json() for each in same.result.scores] == [each.to_json() for each in shared] != []
    pd.testing.assert_frame_equal(same.predictions, found.predictions)


def test_a_set_without_splits_is_all_for_training() -> None:
    ours, theirs = two_sets()
    for splits, stated in (([None] * len(ours), False), ([None, None, *ours.split[2:]], True)):
        both = EmbeddingTable.concat([with_splits(ours, splits), theirs])
        found = evaluate(both, target="view", test_clips=theirs.clip_id, draws=20).result
        assert found.clips["train"] + found.clips["val"] == len(ours) and found.clips["test"] == len(theirs)
        assert found.patients["val"] > 10
        assert any("all of its clips are for training" in note for note in found.notes) == stated


def test_what_would_leak_or_cannot_be_tested_is_refused() -> None:
    ours, theirs = two_sets()
    seen = ours.patient_id[ours.split == "train"][0]
    both = EmbeddingTable.concat([ours, theirs])
    names = both.rows["patient_id"].where(both.rows["clip_id"] != theirs.clip_id[0], seen)
    leaking = replace(both, rows=both.rows.assign(patient_id=names))
    with pytest.raises(EchofmError, match=rf"patient {seen} is in the splits test and train.*--id-key"):
        evaluate(leaking, target="ef_percent", test_clips=theirs.clip_id)
    unlabelled = replace(theirs, rows=theirs.rows.assign(ef_percent=np.nan))
    with pytest.raises(EchofmError, match="none of the clips to test on has this label"):
        evaluate(EmbeddingTable.concat([ours, unlabelled]), target="ef_percent", test_clips=theirs.clip_id)
    nothing = replace(ours, rows=ours.rows.assign(ef_percent=np.nan))
    with pytest.raises(EchofmError, match="no clip but those to test on has this label"):
        evaluate(EmbeddingTable.concat([nothing, theirs]), target="ef_percent", test_clips=theirs.clip_id)
    with pytest.raises(EchofmError, match=r"1 of the 121 clips to test on are not in the table"):
        evaluate(both, target="ef_percent", test_clips=[*theirs.clip_id, "mistyped"])
    split = ours.split.copy()
    split[np.flatnonzero(ours.patient_id == seen)[0]] = "val"
    torn = EmbeddingTable.concat([with_splits(ours, list(split)), theirs])
    with pytest.raises(EchofmError, match=r"in the splits train and val.*write the shards again"):
        evaluate(torn, target="ef_percent", test_clips=theirs.clip_id)


def test_pixels_are_reduced_without_the_other_set() -> None:
    ours, theirs = two_sets()
    far = replace(theirs, video_ND=theirs.video_ND * 50)
    near, moved = (
        pixel_pca(EmbeddingTable.concat([ours, each]), target="ef_percent", test_clips=theirs.clip_id)
        for each in (theirs, far)
    )
    np.testing.assert_allclose(near.video_ND[: len(ours)], moved.video_ND[: len(ours)], atol=1e-4)
    assert not np.allclose(near.video_ND[len(ours) :], moved.video_ND[len(ours) :])


def test_command_on_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, noise in (("trained", 1.0), ("blurred", 6.0)):
        for place, table in zip(("here", "there"), two_sets(name, noise=noise)):
            table.save(tmp_path / f"{name}-{place}")
    mine, other = str(tmp_path / "trained-here"), str(tmp_path / "trained-there")
    against = [str(tmp_path / "blurred-here")]
    asked = ["--target", "ef_percent", "--target", "view", "--draws", "50", "--out", str(tmp_path / "out")]
    assert main([mine, *against, "--test-on", other, "--test-on", str(tmp_path / "blurred-there"), *asked]) == 0
    assert "note: ef_percent: the" in capsys.readouterr().err
    for target, metric in (("ef_percent", "r2"), ("view", "balanced_accuracy")):
        result = ProbeResult.from_json(tmp_path / "out" / target / "probe.json")
        assert result.clips["test"] == 60 * CLIPS
        (paired,) = [
            each.difference for each in result.comparisons
            if each.baseline == "blurred-here" and each.metric == metric and each.level == "clip"
        ]  # fmt: skip
        assert paired.low > 0
    html = (tmp_path / "out" / "report.html").read_text()
    assert "the test clips are another set" in html and "Clips of another set, all labels used" in html
    for words, says in (
        ([mine, *against, "--test-on", other], "1 tables of the other set for 2"),
        ([mine, "--test-on", mine], r"200 clips are in both sets.*--test-on takes a set of other patients"),
        ([mine, "--test-on", str(tmp_path)], "no embedding table lies there"),
        ([mine, "pixels?size=32&frames=8", "--test-on", other], "tables alone, or encoders alone"),
    ):
        with pytest.raises(EchofmError, match=says):
            main([*words, *asked])
    with pytest.raises(EchofmError, match="--test-on is for labels of clips; ask for retrieval:view"):
        main([mine, "--test-on", other, *asked, "--target", "retrieval:view"])


def test_two_sets_without_a_class_in_common_are_refused(tmp_path: Path) -> None:
    ours, theirs = two_sets()
    words = replace(theirs, rows=theirs.rows.assign(view=pd.array(["4CH", "2CH"] * (len(theirs) // 2), "string")))
    says = "no class of 'view' is in both sets: training clips have .*, test clips 2CH, 4CH; give both sets"
    with pytest.raises(EchofmError, match=says):
        evaluate(EmbeddingTable.concat([ours, words]), target="view", test_clips=words.clip_id, draws=20)
    # Text here and numbers there: read as one column they are words, of which none is in both.
    ef = pd.array(np.where(ours.labels["ef_percent"] > 50, "normal", "reduced"), "string")
    replace(ours, rows=ours.rows.assign(ef_percent=ef)).save(tmp_path / "ours")
    theirs.save(tmp_path / "theirs")
    asked = ["--target", "ef_percent", "--test-on", str(tmp_path / "theirs"), "--out", str(tmp_path / "out")]
    with pytest.raises(EchofmError, match=r"normal, reduced, test clips .* and \d+ more") as caught:
        main([str(tmp_path / "ours"), *asked])
    assert len(str(caught.value)) < 400


def test_a_label_that_the_other_set_lacks_is_named(tmp_path: Path) -> None:
    ours, theirs = two_sets()
    ours.save(tmp_path / "ours")
    replace(theirs, rows=theirs.rows.drop(columns="ef_percent")).save(tmp_path / "theirs")
    asked = ["--target", "view", "--target", "ef_percent", "--test-on", str(tmp_path / "theirs")]
    with pytest.raises(EchofmError, match="--target ef_percent: none of the clips to test on has this label"):
        main([str(tmp_path / "ours"), *asked, "--out", str(tmp_path / "out")])


def test_command_on_an_encoder_and_two_hospitals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, count, first in (("here", 24, 0), ("there", 10, 100)):
        source = Elsewhere(tmp_path / f"{place}-files", count, first=first)
        write_shards(
            source, tmp_path / place, size=32, frame_rate_hz=None, key=KEY, read=read_heart, show_progress=False
        )
    net = VideoMae(NetworkConfig(
        size=32, frames=8, channels=1, patch=8, tubelet=2, width=32, depth=1, heads=2,
        decoder_width=16, decoder_depth=1, decoder_heads=2, predicted_frames=4,
    ))  # fmt: skip
    export = str(save_model(net, tmp_path / "export", contract=InputContract(size=32, frames=8), card={}))
    shown: dict[str, object] = {}
    monkeypatch.setattr("probe.report.write_report", lambda out, probes, **given: shown.update(given))
    command = [export, "--data", str(tmp_path / "here"), "--test-on", str(tmp_path / "there"), "--windows", "1"]
    command += ["--cache", str(tmp_path / "cache"), "--draws", "20", "--out", str(tmp_path / "out")]
    main([*command, "--target", "view", "--target", "ef_percent"])
    for target in ("view", "ef_percent"):
        result = ProbeResult.from_json(tmp_path / "out" / target / "probe.json")
        assert {"probe", "random init", "pixel PCA"} <= {score.method for score in result.scores}
        there = ShardSet.open(tmp_path / "there", show_progress=False)
        assert result.clips["test"] == len(there) == 9
        predicted = pd.read_parquet(tmp_path / "out" / target / "predictions.parquet")
        assert set(predicted["clip_id"]) == {record.clip_id for record in there.records}
    # Film strips are of the clips that were tested on.
    assert shown["frames_of"](there.records[0].clip_id) is not None  # type: ignore[operator]
    capsys.readouterr()
    with pytest.raises(EchofmError, match="--test-on is for labels of clips; ask for mask"):
        main([*command, "--target", "mask"])
    with pytest.raises(EchofmError, match="encoders are tested on one set"):
        main([*command, "--target", "view", "--test-on", str(tmp_path / "here")])
    with pytest.raises(EchofmError, match="--test-on: that is --data itself"):
        main([*command[:3], "--test-on", command[2], *command[5:], "--target", "view"])
    assert "embedding" not in capsys.readouterr().err


class Elsewhere(Hearts):
    """Hearts of other numbers, and so of other patients."""

    def __init__(self, folder: Path, n_files: int, *, first: int) -> None:
        super().__init__(folder, n_files, splits=True)
        self.first = first
        for index in range(n_files):
            (folder / f"{index}.avi").write_text(str(first + index))

    def rows(self):  # type: ignore[no-untyped-def]
        for row in super().rows():
            yield replace(row, patient=f"{row.patient} of {self.first}")
