"""The report shows what was measured: its data against plain formulas, its page against what it must hold."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_probes import (
    HeartFrames,
    bare_result,
    heart_frames,
    multilabel_probe,
    phase_probe,
    planted_probe,
    planted_table,
    with_subgroups,
)
from sklearn.metrics import confusion_matrix

from echofm.embed.provenance import is_simulated
from echofm.embed.rows import tidy_rows
from echofm.embed.table import EmbeddingTable
from echofm.estimators.logistic import median_level
from echofm.intervals import Estimate
from echofm.report.blocks import FilmStrip, Picture
from probe.report import page, write_report
from probe.report.agreement import agreement
from probe.report.classes import calibration, of_classes
from probe.report.clips import evenly, outlined, worst_clips
from probe.report.embedding import feature_map, plane
from probe.report.findings import Findings, target_findings
from probe.report.results import digits, shown, verdict
from probe.result import Overlay, Probed, Score

# One grey pixel.
DRAWN = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB2nSH4gAAAABJRU5ErkJggg==")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without their pictures, which take most of the time: for tests of the words."""
    monkeypatch.setattr(Picture, "_png", lambda self, theme: DRAWN)


@pytest.fixture(scope="module")
def table() -> EmbeddingTable:
    return planted_table(60)


@pytest.fixture(scope="module")
def probes(table: EmbeddingTable) -> list[Probed]:
    ef = planted_probe(table, "ef_percent", label_fractions=(0.2, 1.0), seeds=2)
    quality = ["good", "poor"] * (len(ef.predictions) // 2)
    return [with_subgroups(ef, {"image_quality": quality}), planted_probe(table, "view")]


@pytest.fixture(scope="module")
def written(probes: list[Probed], table: EmbeddingTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, probes, table=table, frames_of=heart_frames)
    return folder


def test_agreement_is_bland_and_altmans() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(20, 70, 200)
    rows = pd.DataFrame({"patient_id": np.arange(200) // 2, "true": true, "predicted": 5 + 0.8 * true})
    rows["predicted"] += rng.normal(0, 4, 200)
    found, difference = agreement(rows), rows["predicted"] - rows["true"]
    assert found.bias.value == pytest.approx(difference.mean())
    assert found.upper.value - found.lower.value == pytest.approx(2 * 1.96 * difference.std(ddof=1))
    assert found.slope.value == pytest.approx(np.polyfit(true, rows["predicted"], 1)[0])
    assert found.slope.low < 0.8 < found.slope.high < 1


def test_calibration_tells_the_honest_from_the_boastful() -> None:
    rng = np.random.default_rng(0)
    chance = rng.uniform(size=4000)
    so, patients = rng.uniform(size=4000) < chance, np.arange(4000).astype(str)
    honest = calibration(chance, so, patients, predicted_as="", seen_as="", draws=20)
    boastful = calibration(np.where(chance > 0.5, 0.99, 0.01), so, patients, predicted_as="", seen_as="", draws=20)
    assert honest.ece < 0.03 and boastful.ece > 0.2
    assert sum(each.clips for each in honest.bins) == 4000
    predicted_N = np.array([0.12, 0.18, 0.95, 1.0])
    few = calibration(predicted_N, np.array([0, 1, 1, 1], bool), patients[:4], predicted_as="", seen_as="", draws=20)
    assert few.ece == pytest.approx(0.5 * abs(0.15 - 0.5) + 0.5 * abs(0.975 - 1.0))
    assert few.bins[5].predicted is None and few.bins[5].observed is None


def test_calibration_of_levels_is_of_the_level_reported() -> None:
    predicted_NK, true_N = np.array([[0.4, 0.25, 0.35], [0.1, 0.1, 0.8]]), np.array([1, 2])
    found = of_classes(predicted_NK, true_N, median_level(predicted_NK), np.array(["p", "q"]), classes=["a", "b", "c"])
    predicted = [each.predicted for each in found.bins if each.predicted is not None]
    # Of the first the median is the middle level, right although the first is likelier.
    assert predicted == pytest.approx([0.25, 0.8])
    assert [each.observed.value for each in found.bins if each.observed is not None] == [1, 1]


def test_worst_clips_are_the_furthest_off(probes: list[Probed]) -> None:
    rows = probes[0].predictions
    found = worst_clips(rows, task="regression", classes=[])
    errors = (rows["predicted"] - rows["true"]).abs().sort_values(ascending=False)
    assert [each.error for each in found.clips] == pytest.approx(errors[:10].tolist())
    assert found.clips[0].clip_id == rows.loc[errors.index[0], "clip_id"]
    several = multilabel_probe()
    worst = worst_clips(several.predictions, task="multilabel", classes=several.result.classes)
    names = several.result.classes
    predicted, true = (several.predictions[[f"{what}_{name}" for name in names]] for what in ("probability", "true"))
    assert worst.clips[0].error == pytest.approx(np.nanmean(np.abs(predicted.to_numpy() - true.to_numpy()), 1).max())
    assert worst.clips[0].true != worst.clips[0].predicted


def test_json_holds_what_the_page_shows(written: Path, probes: list[Probed]) -> None:
    found = Findings.from_json(written / "report.json")
    ef, view = found.targets
    assert ef.agreement.bias.value == pytest.approx(
        (probes[0].predictions["predicted"] - probes[0].predictions["true"]).mean()
    )
    assert [(each.column, each.value) for each in ef.subgroups] == [
        ("image_quality", "good"),
        ("image_quality", "poor"),
    ]
    rows = probes[1].predictions
    assert (
        view.confusion.counts
        == confusion_matrix(rows["true"], rows["predicted"], labels=view.confusion.classes).tolist()
    )
    assert len(view.worst.clips) == 10 and view.calibration[""].ece > 0
    json.loads((written / "report.json").read_text(), parse_constant=lambda word: pytest.fail(word))


def test_page_begins_with_results_and_holds_every_part(written: Path) -> None:
    html = (written / "report.html").read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", html)
    assert titles == ["Results", "EF (%)", "view", "The embedding itself", "Model card"]
    first = html[html.index("<h2>Results") : html.index("<h2>EF")]
    for word in ("this encoder", "random init", "no features", "MAE", "balanced accuracy"):
        assert word in first
    alts = " ".join(re.findall(r'alt="(.*?)"', html))
    agreement_pictures = ("predicted against true", "their mean, with bias", "number of labelled", "by subgroup")
    class_pictures = ("operating characteristic", "reliability", "confusion")
    for picture in (*agreement_pictures, *class_pictures, "principal components", "t-SNE"):
        assert picture in alts
    assert html.count('class="strip"') == 2 and "Limits" in html
    assert "as though all classes were equally common" in html
    assert not re.search(r'(src|href|srcset)="(?!data:|#)', html)


def test_same_probes_same_bytes(undrawn: None, probes: list[Probed], table: EmbeddingTable, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_report(tmp_path / folder, probes, table=table, frames_of=heart_frames)
    for name in ("report.html", "report.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_failed_checks_come_before_everything_and_strange_names_stay_text(undrawn: None) -> None:
    evil = "<script>alert(1)</script>"
    found = bare_result("view", "classification", (evil, "b|`c`"), [_score("balanced_accuracy", 0.8)])
    sanity = found.sanity.model_copy(update={"problems": [f"the embedding is collapsed {evil}"]})
    rows = pd.DataFrame(
        {"clip_id": list("abcd"), "patient_id": list("wxyz"), "true": [evil, "b|`c`"] * 2, "predicted": [evil] * 4}
    ).assign(**{f"probability_{evil}": 0.7, "probability_b|`c`": 0.3})
    html = page([Probed(result=found.model_copy(update={"sanity": sanity}), predictions=rows)]).html()
    assert evil not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert html.index("the embedding is collapsed") < html.index("<h2>Results")
    # Of the checks the failed one is listed first.
    table = html[html.index("what was found") :]
    assert table.index("FAILED") < table.index("not checked") < table.index("passed")


def test_phantom_is_named(undrawn: None, table: EmbeddingTable, probes: list[Probed], tmp_path: Path) -> None:
    real, simulated = (replace(table, rows=tidy_rows(table.rows.assign(simulated=value))) for value in (False, True))
    assert is_simulated(simulated) and not is_simulated(real) and not is_simulated(table)
    assert "simulated" not in simulated.labels, "it is no label to be probed"
    # Words of the phantom's labels prove nothing: real cohorts use them as well.
    cohort = pd.DataFrame({"clip_id": table.clip_id, "rhythm": "atrial_fibrillation", "heart_rate_bpm": 90.0})
    assert not is_simulated(real.with_labels(cohort))
    html = write_report(tmp_path, probes[:1], table=simulated).read_text()
    assert "<h2>Results on the phantom</h2>" in html and "say nothing about patients" in html
    assert "## What its frozen features know (phantom)" in html
    assert json.loads((tmp_path / "report.json").read_text())["phantom"] is True


def test_plane_parts_what_is_apart_the_same_way_each_time() -> None:
    rng = np.random.default_rng(0)
    group = np.arange(60) % 2
    ids = [f"{number:020x}" for number in range(60)]
    features = rng.standard_normal((60, 8)) + 12 * group[:, None]
    apart = EmbeddingTable.from_arrays(features, clip_id=ids, patient_id=ids, encoder_digest="e")
    first, second = plane(apart), plane(apart)
    assert (first.tsne_P2 == second.tsne_P2).all() and (first.pca_P2 == second.pca_P2).all()
    for points in (first.pca_P2, first.tsne_P2):
        distance = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(60)
        assert (group[distance.argmin(1)] == group).all()
    assert len(plane(apart, most=20).rows_P) == 20
    dead = EmbeddingTable.from_arrays(np.ones((60, 8)), clip_id=ids, patient_id=ids, encoder_digest="e")
    assert plane(dead) is None


def test_classes_on_a_map_are_kept_apart() -> None:
    names = pd.Series([f"class {number:02d}" for number in range(12)])
    figure = feature_map(np.zeros((12, 2)), names, name="view", title="", axis="component")
    drawn = figure.axes[0].collections[1:]
    marks = {(str(dots.get_paths()[0].vertices.tolist()), str(dots.get_facecolor()[0].tolist())) for dots in drawn}
    assert len(drawn) == len(marks) == 12


def test_frames_and_masks_have_their_pictures() -> None:
    frame = heart_frames("1")[0, 0]
    true = np.zeros_like(frame)
    true[30:60, 30:60] = 1
    drawn = outlined(frame, true, colour=(255, 0, 0))
    red = (drawn == [255, 0, 0]).all(2)
    assert red.any() and not red[: 25 * 224 // 96].any()
    examples = [Overlay(name="Dice 0.9", frame_HW=frame, true_HW=true, predicted_HW=np.roll(true, 4))]
    html = page([replace(phase_probe(), overlays=examples)], frames_of=HeartFrames()).html()
    for words in ("told best", "told worst", "all test moments", "find most like them"):
        assert words in html
    assert html.count('class="strip"') == 2


def test_clips_not_at_hand_are_listed_and_colour_is_shown(undrawn: None) -> None:
    several = multilabel_probe()
    without = page([several], frames_of=lambda clip_id: None).html()
    assert 'class="strip"' not in without and "clip (hashed)" in without
    assert "reliability diagram of mitral" in without
    colour = np.zeros((3, 3, 200, 100), np.uint8)
    strip = FilmStrip(rows={"a": evenly(colour, 5)}, alt="")
    assert strip.rows["a"].shape == (5, 160, 80, 3)


def test_a_task_without_single_predictions_still_has_a_page(undrawn: None) -> None:
    found = bare_result("left_ventricle", "segmentation", ("lv",), [_score("dice", 0.8), _score("dice", 0.8, of="lv")])
    probed = Probed(result=found, predictions=pd.DataFrame({"clip_id": ["a"], "dice": [0.8]}))
    html = page([probed]).html()
    assert "dice" in html and target_findings(probed).worst is None


def test_what_was_found_is_shown_below_what_was_asked(undrawn: None) -> None:
    ids = [f"{number:020x}" for number in (1, 2, 3)]
    rows = pd.DataFrame({"clip_id": ids, "patient_id": ["p", "p", "q"], "best_clip_id": [ids[1], ids[0], ids[0]]})
    rows = rows.assign(best_patient_id=["p", "p", "p"], average_precision=[0.9, 1.0, 0.1])
    found = bare_result("patient-retrieval", "retrieval", (), [_score("map", 0.8)])
    html = page([Probed(result=found, predictions=rows)], frames_of=heart_frames).html()
    asked = re.findall(r'<th scope="row">(.*?)</th>', html)
    assert asked[:2] == ["1. asked, AP 1.00", "1. found, same patient"] and asked[-1] == "3. found, other patient"


def test_words_of_figures() -> None:
    assert [digits(value) for value in (-9.4e-6, 0.12345, 1234.5, float("nan"))] == ["0", "0.123", "1.23e+03", "nan"]
    less, more = Estimate(value=-1, low=-2, high=-0.5), Estimate(value=1, low=-0.1, high=2)
    assert verdict("mae", less) == "better" and verdict("r2", less) == "worse"
    assert verdict("es_error_ms", less) == "better" and verdict("mae", more) == "not told apart"
    nan = Estimate(value=np.nan, low=np.nan, high=np.nan)
    assert verdict("auroc", nan) == verdict("mae", nan) == "not defined"
    of_one_patient = Estimate(value=-1, low=np.nan, high=np.nan)
    assert verdict("mae", of_one_patient) == "not told apart"
    assert shown(of_one_patient).split() == ["-1", "(no", "interval)"]


def _score(metric: str, value: float, *, of: str = "") -> Score:
    return Score(
        method="probe", metric=metric, of=of, estimate=Estimate(value=value, low=value - 0.1, high=value + 0.1)
    )


def test_a_figure_that_is_not_defined_says_so_and_one_not_measured_is_a_dash() -> None:
    nan = float("nan")
    assert (shown(Estimate(value=nan, low=nan, high=nan)), shown(None)) == ("not defined", "–")
