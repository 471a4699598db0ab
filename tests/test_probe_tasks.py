"""Every task of a clip's label, what is read of a clip, subgroups, copies across the split, and `import probe`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from test_probe_evaluate import shuffled, table

import probe
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.baselines import pixel_pca
from probe.labels.evaluate import evaluate, fits_of
from probe.labels.target import read_target
from probe.result import Kind

TIMES = 6


def labelled() -> EmbeddingTable:
    """The table of the other tests with levels, several labels at once and a frame rate."""
    made = table()
    ef = made.rows["ef_percent"].to_numpy()
    level = np.array(["severe_as", "moderate_as", "mild_as", "no_as"])[np.digitize(ef, [30, 45, 60])]
    view = made.view
    reduced = np.where(np.arange(len(made)) % 7 == 0, np.nan, ef < 40)
    findings = [
        "|".join(word for word, there in (("low", e < 40), ("a4c", v == "A4C")) if there) for e, v in zip(ef, view)
    ]
    rows = made.rows.assign(
        aortic_stenosis=level,
        reduced=reduced,
        apical=(view != "PLAX").astype(float),
        findings=[each or None for each in findings],
        frame_rate_hz=np.where(np.arange(len(made)) % 2, 25.0, 60.0),
    )
    return replace(made, rows=rows)


def moving(*, digest: str = "m" * 64) -> EmbeddingTable:
    """Clips whose mean tells nothing: the EF is in how far their tokens swing."""
    rng = np.random.default_rng(0)
    ef = np.repeat(rng.uniform(15, 80, 80), 2)
    beat = np.sin(2 * np.pi * np.arange(TIMES) / TIMES)
    swing = beat[None, :, None] * (ef / 40)[:, None, None] * rng.standard_normal(8)
    phase = swing + 0.1 * rng.standard_normal((160, TIMES, 8))
    return EmbeddingTable.from_arrays(
        rng.standard_normal((160, 8)) + phase.mean(1),
        clip_id=[f"c{i:03d}" for i in range(160)],
        patient_id=[f"p{i // 2:03d}" for i in range(160)],
        labels={"ef_percent": ef},
        phase=phase,
        encoder_digest=digest,
    )


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_levels_in_order(kind: Kind) -> None:
    probed = evaluate(labelled(), target="aortic_stenosis", kind=kind, draws=100)
    result = probed.result
    assert result.task == "ordinal"
    assert result.classes == ["no_as", "mild_as", "moderate_as", "severe_as"]
    assert result.score("kappa_quadratic").low > 0.6
    assert result.score("kappa_quadratic", method="majority").value == pytest.approx(0)
    assert result.score("mae_levels").high < result.score("mae_levels", method="majority").low
    assert set(probed.predictions["predicted"]) <= set(result.classes)


def test_order_is_asked_for_where_it_is_not_known() -> None:
    made = labelled()
    with pytest.raises(EchofmError, match="order of 'view'"):
        read_target(made, "view", task="ordinal")
    with pytest.raises(EchofmError, match="not among A4C, A2C"):
        read_target(made, "view", order=("A4C", "A2C"))
    assert read_target(made, "view", order=("PLAX", "A4C", "A2C")).classes == ("PLAX", "A4C", "A2C")


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_several_labels_at_once(kind: Kind) -> None:
    probed = evaluate(labelled(), target="reduced+apical", kind=kind, draws=100)
    result = probed.result
    assert (result.task, result.classes) == ("multilabel", ["reduced", "apical"])
    each = [result.score("auroc", of=label).value for label in result.classes]
    assert result.score("auroc").value == pytest.approx(np.mean(each))
    assert min(each) > 0.9
    assert result.score("auroc", method="prevalence").value == pytest.approx(0.5)
    assert probed.predictions["true_reduced"].isna().any()
    alone = evaluate(labelled(), target="apical", kind=kind, draws=50).result
    assert alone.score("auroc").value > 0.9


@pytest.mark.parametrize(("split", "part"), [("train", "training"), ("val", "validation")])
def test_one_of_several_labels_that_a_split_lacks_is_reported(split: str, part: str) -> None:
    splits = np.array(["train"] * 210 + ["val"] * 60 + ["test"] * 90)
    made = labelled()
    rows = made.rows.assign(split=splits, apical=made.rows["apical"].where(splits != split))
    rows["split"] = rows["split"].astype("string")
    lacking = replace(made, rows=rows)
    with pytest.raises(EchofmError, match=rf"'apical' of 'reduced\+apical' is unknown in all \d+ {part} clips"):
        evaluate(lacking, target="reduced+apical", draws=20)
    with pytest.raises(EchofmError, match="'apical' of 'reduced"):
        pixel_pca(lacking, target="reduced+apical")


def test_words_joined_by_bars_are_labels() -> None:
    made = labelled()
    goal = read_target(made, "findings")
    assert (goal.task, goal.classes) == ("multilabel", ("a4c", "low"))
    low = made.rows["ef_percent"].to_numpy()[goal.rows_M] < 40
    np.testing.assert_array_equal(goal.values_M[:, 1], low)


def test_motion_is_read_where_a_mean_hides_it() -> None:
    made = moving()
    mean = evaluate(made, target="ef_percent", features="video", draws=50).result
    chosen = evaluate(made, target="ef_percent", draws=50, baselines={"itself": made}).result
    assert mean.score("r2").value < 0.2
    assert chosen.score("r2").value > 0.8
    assert chosen.features in ("phase", "both")
    assert chosen.chosen["itself"] == chosen.chosen["probe"]
    assert evaluate(made, target="ef_percent", kind="knn", draws=50).result.score("r2").value > 0.4
    without = replace(made, phase=None)
    with pytest.raises(EchofmError, match="offers video"):
        evaluate(without, target="ef_percent", features="phase")
    with pytest.raises(EchofmError, match="--tokens"):
        evaluate(without, target="ef_percent", kind="attentive")


def test_attentive_probe_end_to_end_and_at_chance_on_shuffled_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echofm.estimators.attentive.WEIGHT_DECAYS", (0.01,))
    made = moving()
    steps: list[str] = []
    asked = {"kind": "attentive", "seeds": 2, "draws": 100}
    probed = evaluate(made, target="ef_percent", advance=steps.append, **asked)
    assert len(steps) == fits_of(kind="attentive", label_fractions=(1.0,), seeds=2)
    assert probed.result.features == "phase"
    assert {"lr", "weight_decay"} <= set(probed.result.chosen["probe"])
    assert probed.result.score("r2").value > 0.6
    # One setting from here on, for the sake of time.
    monkeypatch.setattr("echofm.estimators.attentive.LEARNING_RATES", (4e-3,))
    baselines = {"pixels": replace(made, phase=None, encoder_digest="x")}
    few = evaluate(made, target="ef_percent", baselines=baselines, kind="attentive", seeds=1, draws=20).result
    assert "pixels has no tokens: the attentive probe reads its one vector" in few.notes
    assert few.score("r2", method="pixels").value < few.score("r2").value
    mixed = made.rows.assign(reduced=0.0)
    mixed = shuffled(replace(made, rows=mixed), 1).rows
    chance = evaluate(replace(made, rows=mixed), target="reduced", **asked).result.score("auroc")
    assert chance.low <= 0.5 <= chance.high


def test_subgroups_are_figures_on_their_own_clips() -> None:
    probed = evaluate(labelled(), target="ef_percent", draws=100)
    rows = probed.predictions.merge(labelled().rows, on="clip_id")
    groups = {(each.column, each.value): each for each in probed.result.subgroups}
    assert {column for column, _ in groups} == {"view", "ef_percent", "frame_rate_hz"}
    assert {value for column, value in groups if column == "frame_rate_hz"} == {"below 30", "50 to 80"}
    plax = rows[rows["view"] == "PLAX"]
    found = groups["view", "PLAX"]
    assert (found.clips, found.patients) == (len(plax), plax["patient_id_x"].nunique())
    assert found.scores["mae"].value == pytest.approx((plax["true"] - plax["predicted"]).abs().mean())
    low = groups["ef_percent", "below 40"]
    assert low.clips == (rows["true"] < 40).sum()
    assert low.scores["mae"].low <= low.scores["mae"].value <= low.scores["mae"].high


def test_a_copy_across_the_split_is_reported() -> None:
    splits = ["train"] * 210 + ["val"] * 60 + ["test"] * 90
    made = table(splits=splits)
    features = np.array(made.video_ND)
    features[300] = features[10] * 1.0005
    copied = evaluate(replace(made, video_ND=features), target="ef_percent", draws=20).result
    assert any("1 of 90 test clips" in says and "c00300 and c00010" in says for says in copied.sanity.problems)
    clean = evaluate(made, target="ef_percent", draws=20).result
    assert clean.sanity.problems == []
    assert clean.sanity.checks[-1].passed


def test_a_draw_of_one_class_says_so() -> None:
    made = table()
    found = evaluate(made, target="reduced", label_fractions=(0.004,), seeds=6, draws=20).result
    assert any("draws of 0.4% of" in note and "hold one class only" in note for note in found.notes)


def test_import_is_cheap_and_names_are_there() -> None:
    code = "import sys, probe; print(sorted({'torch', 'sklearn', 'pandas', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert all(getattr(probe, name) is not None for name in probe.__all__)
    with pytest.raises(AttributeError):
        probe.nothing  # noqa: B018


def test_classes_whose_numbers_differ_late_stay_apart() -> None:
    made = table()
    site = np.where(np.arange(len(made)) % 2, 1_000_001.0, 1_000_002.0)
    goal = read_target(replace(made, rows=made.rows.assign(site=site)), "site", task="classification")
    assert goal.classes == ("1000001", "1000002")
    levels = read_target(replace(made, rows=made.rows.assign(site=site)), "site", task="ordinal")
    assert levels.classes == ("1000001", "1000002")


@pytest.mark.parametrize("written", ["{:.1f}", "{:.1f}%", "< {:.0f}.{:.0f}"])
def test_numbers_that_one_cell_has_made_text_is_reported(written: str) -> None:
    made = table()
    values = [written.format(each, each) for each in made.rows["ef_percent"]]
    rows = made.rows.assign(written=["not seen", *values[1:]])
    with pytest.raises(EchofmError, match=r"'written' is text, but 359 of its 360 values are numbers"):
        read_target(replace(made, rows=rows), "written")


def test_free_text_is_no_class() -> None:
    made = table()
    rows = made.rows.assign(written=[f"report {number}" for number in range(len(made))])
    with pytest.raises(EchofmError, match="'written' has 360 different values, too many for classes"):
        read_target(replace(made, rows=rows), "written")


def test_a_label_that_never_changes_is_left_out_and_reported() -> None:
    made = labelled()
    never = replace(made, rows=made.rows.assign(never=0.0))
    result = evaluate(never, target="reduced+never", draws=20).result
    assert result.classes == ["reduced"]
    assert any(note.startswith("never: the same in every clip") for note in result.notes)
    # Clips of which `never` alone is known teach nothing.
    assert sum(result.clips.values()) == made.rows["reduced"].notna().sum()


def test_a_class_that_a_split_lacks_is_reported() -> None:
    made = table(splits=["train"] * 210 + ["val"] * 60 + ["test"] * 90)
    stated = {"no test clip is rare": slice(0, 3), "no training clip is rare": slice(-3, None)}
    stated["no validation clip is rare: nothing was chosen by it"] = slice(0, 3)
    for words, rows in stated.items():
        view = made.view.copy()
        view[rows] = "rare"
        changed = replace(made, rows=made.rows.assign(view=view.astype(str)).astype({"view": "string"}))
        result = evaluate(changed, target="view", draws=20).result
        assert any(note.startswith(words) for note in result.notes)
        assert np.isnan(result.score("auroc").value) == (rows.start == 0)
