"""Two probes side by side: paired where both were tested on the same clips, refused where they do not compare."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from planted_probes import planted_table

from echofm.errors import EchofmError
from probe.cli import main
from probe.comparison import Compared, compare
from probe.labels.evaluate import evaluate
from probe.ranking import Ranking, rank
from probe.result import ProbeResult

BETTER, WORSE = planted_table(60, noise=0.5), planted_table(60, noise=3.0, encoder="other")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for target in ("ef_percent", "view"):
        for name, table in (("a", BETTER), ("b", WORSE)):
            probed = evaluate(table, target=target, draws=100)
            probed.result.save(folder / name / target, probed.predictions)
    return folder


@pytest.mark.parametrize("target", ["ef_percent", "view"])
def test_paired_is_what_evaluate_finds_for_a_baseline(runs: Path, target: str) -> None:
    found = compare(runs / "a" / target, runs / "b" / target / "probe.json", draws=100)
    side_by_side = evaluate(BETTER, target=target, baselines={"b": WORSE}, draws=100).result
    assert found.paired and found.notes == []
    for each in found.metrics:
        asked = ("b", each.metric, "clip")
        (expected,) = [c.difference for c in side_by_side.comparisons if (c.baseline, c.metric, c.level) == asked]
        assert each.difference.model_dump() == pytest.approx(expected.model_dump())
        assert each.first.value == pytest.approx(side_by_side.score(each.metric).value)
    first = found.metrics[0].difference
    assert not first.low <= 0 <= first.high


def test_a_run_of_several_targets_is_asked_which(runs: Path) -> None:
    for named in (runs / "a", runs / "a" / "report.json"):
        with pytest.raises(EchofmError, match=r"its folders hold .*a/ef_percent, .*a/view: name one of them"):
            compare(named, runs / "b")


def test_a_path_that_is_not_there_is_reported(runs: Path) -> None:
    with pytest.raises(EchofmError, match="no such file or folder"):
        compare(runs / "a" / "wiev", runs / "b" / "view")


def test_a_run_of_one_target_is_that_target(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "a" / "view", tmp_path / "view")
    assert compare(tmp_path, runs / "b" / "view", draws=20) == compare(tmp_path / "view", runs / "b" / "view", draws=20)


def test_an_encoder_does_not_beat_itself(runs: Path) -> None:
    found = compare(runs / "a" / "view", runs / "a" / "view", draws=50)
    assert all(each.difference.low == each.difference.high == 0 for each in found.metrics)


def test_clips_of_one_alone_are_left_out_and_reported(runs: Path, tmp_path: Path) -> None:
    _copy(runs / "b" / "view", tmp_path, rows=lambda rows: rows.iloc[5:])
    found = compare(runs / "a" / "view", tmp_path, draws=50)
    whole = ProbeResult.from_json(runs / "a" / "view" / "probe.json").clips["test"]
    assert found.clips == whole - 5
    assert found.notes == [f"5 of {whole} test clips of A are not in the other; left out"]


def test_without_predictions_no_difference_is_claimed(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "probe.json").write_bytes((runs / "b" / "view" / "probe.json").read_bytes())
    found = compare(runs / "a" / "view", tmp_path)
    assert not found.paired and all(each.difference is None for each in found.metrics)
    assert "does not mean no difference" in found.notes[0]


def test_unlike_probes_are_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match="A has the target 'ef_percent', B 'view'"):
        compare(runs / "a" / "ef_percent", runs / "a" / "view")
    _copy(runs / "b" / "view", tmp_path / "classes", result={"classes": ["A2C", "A4C"]})
    with pytest.raises(EchofmError, match="A has the classes"):
        compare(runs / "a" / "view", tmp_path / "classes")
    _copy(runs / "b" / "view", tmp_path / "others", rows=lambda rows: rows.assign(clip_id="x" + rows["clip_id"]))
    with pytest.raises(EchofmError, match="none is in both"):
        compare(runs / "a" / "view", tmp_path / "others")
    _copy(runs / "b" / "ef_percent", tmp_path / "truth", rows=lambda rows: rows.assign(true=rows["true"] + 1))
    with pytest.raises(EchofmError, match="another true value"):
        compare(runs / "a" / "ef_percent", tmp_path / "truth")
    fewer = {"clips": {"train": 1, "val": 1, "test": 7}}
    _copy(runs / "b" / "view", tmp_path / "fewer", result=fewer, rows=None)
    with pytest.raises(EchofmError, match=r"B on 7 of \d+: figures on unlike test sets do not compare"):
        compare(runs / "a" / "view", tmp_path / "fewer")


def test_several_are_ranked_with_paired_differences_to_the_best(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "b", tmp_path / "c")
    files = [str(folder / "ef_percent") for folder in (tmp_path / "c", runs / "a", runs / "b")]
    out = ["--html", str(tmp_path / "r.html"), "--json", str(tmp_path / "r.json")]
    assert main(["compare", *files, *out, "--draws", "100"]) == 0
    found = Ranking.from_json(tmp_path / "r.json")
    assert [(each.rank, each.name) for each in found.ranked] == [(1, "a"), (2, "c"), (3, "b")]
    pair = compare(runs / "a" / "ef_percent", runs / "b" / "ef_percent", draws=100)
    assert (pair.first_name, pair.second_name) == ("a", "b")
    to_best, paired = found.ranked[2].to_best, pair.metrics[0].difference
    assert to_best is not None and paired is not None
    assert to_best.value == pytest.approx(-paired.value) and to_best.low == pytest.approx(-paired.high)
    assert found.ranked[0].to_best is None and "a  mae" in capsys.readouterr().out
    assert "better than all others" in (tmp_path / "r.html").read_text()
    with pytest.raises(EchofmError, match="c has the target 'ef_percent', a 'view'"):
        main(["compare", files[0], str(runs / "a" / "view"), files[2]])
    with pytest.raises(EchofmError, match="two or more probes"):
        main(["compare", files[0]])


def test_command_prints_and_writes(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(runs / name / "ef_percent" / "probe.json") for name in ("a", "b")]
    out = [str(tmp_path / "c.html"), str(tmp_path / "c.json")]
    assert main(["compare", *files, "--html", out[0], "--json", out[1], "--draws", "50"]) == 0
    assert "A - B" in capsys.readouterr().out
    html = (tmp_path / "c.html").read_text()
    assert "A minus B" in html and "better" in html
    assert Compared.from_json(tmp_path / "c.json").paired
    with pytest.raises(EchofmError, match="no such"):
        main(["compare", files[0], str(tmp_path / "missing.json")])


def test_draws_and_seeds_that_cannot_be_is_reported(runs: Path) -> None:
    for word, value in (("--draws", "0"), ("--seed", "-1")):
        with pytest.raises(EchofmError, match=f"{word[2:]}.* is {value}; give"):
            main(["compare", str(runs / "a" / "view"), str(runs / "b" / "view"), word, value])


def test_a_mean_over_seeds_is_reported_to_be_one(runs: Path, tmp_path: Path) -> None:
    _copy(runs / "a" / "view", tmp_path, result={"kind": "attentive"})
    (kind, seeds) = compare(tmp_path, runs / "b" / "view", draws=20).notes
    assert kind == "of A the probe is attentive, of B linear"
    assert seeds.startswith("A is judged by its predictions averaged over 5 seeds")


def test_a_cross_validation_is_reported_to_be_a_mean_and_fitted_on_others(runs: Path, tmp_path: Path) -> None:
    own = {"folds": 5, "seeds": 3, "splits_from": "cross-validation"}
    _copy(runs / "a" / "view", tmp_path / "x", result=own)
    averaged, splits = compare(tmp_path / "x", runs / "b" / "view", draws=20).notes
    assert averaged.startswith("A is judged by its predictions averaged over 3 repeats, which are better than one")
    assert splits.startswith("the splits come from several sources")
    _copy(runs / "b" / "view", tmp_path / "y", result={"encoder": "third"})
    ranked = rank([tmp_path / "x", runs / "b" / "view", tmp_path / "y"], draws=20).notes
    assert any("averaged over 3 repeats" in note for note in ranked) and splits in ranked


def _copy(source: Path, folder: Path, *, result: dict | None = None, rows=lambda rows: rows) -> None:  # type: ignore[no-untyped-def,type-arg]
    """A probe's files, changed; no predictions where `rows` is None."""
    folder.mkdir(parents=True, exist_ok=True)
    own = ProbeResult.from_json(source / "probe.json").model_copy(update=result or {})
    (folder / "probe.json").write_text(own.to_json())
    if rows is not None:
        rows(pd.read_parquet(source / "predictions.parquet")).to_parquet(folder / "predictions.parquet", index=False)


def test_names_of_the_package_are_functions_whoever_was_imported_first() -> None:
    import probe
    import probe.comparison
    import probe.labels.evaluate

    assert probe.evaluate is evaluate and probe.compare is compare and callable(probe.write_report)
