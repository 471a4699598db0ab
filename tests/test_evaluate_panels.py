"""Each panel fails for the damage that is its own, passes a set drawn like the real ones, and says what it lacks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from echofm import cli
from echofm.embed.phase import PhaseTokens
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.evaluate.agreement import agreement, chance
from synth.evaluate.api import require_fit
from synth.evaluate.card import PANELS, Card, Panel, RealSet, SetCard
from synth.evaluate.compare_cli import load_card
from synth.evaluate.control import CEILING, SHUFFLED, control
from synth.evaluate.diversity import diversity
from synth.evaluate.features import Vectors, vectors_of
from synth.evaluate.fidelity import FLOOR, Compared, fidelity
from synth.evaluate.inputs import Tables, names_of, open_sets
from synth.evaluate.page import page
from synth.evaluate.temporal import statistics
from synth.evaluate.utility import PUBLISHED, REAL, SHARE, utility

WIDTH, CLIPS = 12, 2


def table(patients: int, seed: int, *, damage: str = "", clips: int = CLIPS) -> EmbeddingTable:
    """Patients as points, EF along the first axis, views along the second."""
    rng = np.random.default_rng(seed)
    identity = rng.standard_normal((1 if damage == "one patient" else patients, WIDTH))
    rows = np.resize(np.repeat(identity, clips, 0), (patients * clips, WIDTH))
    rows = rows + (0.05 if damage == "one patient" else 0.3) * rng.standard_normal(rows.shape)
    ef = 55 + 8 * rows[:, 0] + rng.standard_normal(len(rows))
    view = np.where(rows[:, 1] > 0, "A4C", "PSAX")
    if damage == "noise":
        rows = rows + 1.5 * rng.standard_normal(rows.shape) + 1.0
    if damage == "labels shuffled":
        order = rng.permutation(len(rows))
        ef, view = ef[order], view[order]
    return EmbeddingTable.from_arrays(
        rows,
        clip_id=[f"{seed}c{index:04d}" for index in range(len(rows))],
        patient_id=[f"{seed}p{index // clips:04d}" for index in range(len(rows))],
        encoder_digest="e" * 64,
        labels=pd.DataFrame({"ef_percent": ef}),
        view=view.tolist(),
    )


TRAIN, HOLDOUT = table(150, 0), table(100, 5)


def compared(made: EmbeddingTable) -> Compared:
    found = Compared.of(
        vectors_of(TRAIN, "clip"), vectors_of(HOLDOUT, "clip"), vectors_of(made, "clip", synthetic=True)
    )
    assert found is not None
    return found


def verdicts(made: EmbeddingTable) -> dict[str, str]:
    clips = compared(made)
    return {
        "fidelity": fidelity({"clip": clips}, seed=0, draws=200).verdict,
        "diversity": diversity(clips, seed=0).verdict,
        "control": control(TRAIN, HOLDOUT, made, seed=0).verdict,
        "utility": utility(TRAIN, HOLDOUT, made, seed=0).verdict,
    }


@pytest.mark.parametrize(
    ("damage", "fails"),
    [
        ("", set()),
        ("noise", {"fidelity"}),
        # Its clips differ too little in EF to teach it.
        ("one patient", {"fidelity", "diversity", "utility"}),
        ("labels shuffled", {"control", "utility"}),
    ],
)
def test_each_damage_fails_the_panel_that_is_its_own(damage: str, fails: set[str]) -> None:
    found = verdicts(table(120, 2, damage=damage, clips=1))
    assert {name for name, verdict in found.items() if verdict == "fail"} == fails


def test_fidelity_stands_beside_the_real_floor() -> None:
    panel = fidelity({"clip": compared(table(120, 2, clips=1))}, seed=0, draws=200)
    kernel, above, frechet = panel.figures
    assert kernel.beside[FLOOR].low < 0 < kernel.beside[FLOOR].high
    assert above.found.low < 0 < above.found.high
    assert frechet.found.value == pytest.approx(frechet.beside[FLOOR].value, rel=0.6)


def test_control_is_between_shuffled_and_the_readers_own() -> None:
    panel = control(TRAIN, HOLDOUT, table(120, 2, clips=1), seed=0)
    correlation = panel.figures[0]
    assert correlation.name == "ef_percent, correlation"
    assert correlation.found.low > correlation.beside[SHUFFLED].high
    assert correlation.beside[CEILING].value > 0.9
    assert any(figure.name == "view, balanced_accuracy" for figure in panel.figures)
    assert any("heart_rate_bpm" in note for note in panel.notes)


def test_utility_is_a_share_of_what_real_clips_teach() -> None:
    panel = utility(TRAIN, HOLDOUT, table(150, 2), seed=0)
    for name in (SHARE, PUBLISHED):
        share = next(each for each in panel.figures if each.name == name)
        assert share.found.low < 1.05 and share.found.value == pytest.approx(1, abs=0.1)
    assert panel.figures[1].beside[REAL].value > 0.8


def test_utility_of_views() -> None:
    panel = utility(TRAIN, HOLDOUT, table(150, 2), seed=0)
    view = next(each for each in panel.figures if each.name == "view, synthetic alone, balanced_accuracy")
    assert view.found.low > 0.7 and view.beside[REAL].low > 0.7


def beats(patients: int, seed: int, *, shuffled: bool = False) -> EmbeddingTable:
    """Clips of 60 token times at 12.5 Hz that turn once a beat, each about its own point; the rate is a label."""
    rng = np.random.default_rng(seed)
    rate = rng.uniform(50, 110, patients)
    time_s = np.arange(60) / 12.5
    turn_NT = 2 * np.pi * (rate[:, None] / 60 * time_s + rng.random((patients, 1)))
    plane_N2D = rng.standard_normal((patients, 2, WIDTH))
    phase = np.einsum("nkt,nkd->ntd", np.stack([np.cos(turn_NT), np.sin(turn_NT)], 1), plane_N2D)
    phase = phase + 0.2 * rng.standard_normal(phase.shape)
    if shuffled:
        phase = np.stack([each[rng.permutation(60)] for each in phase])
    names = [f"{seed}c{index:04d}" for index in range(patients)]
    return EmbeddingTable.from_arrays(
        rng.standard_normal((patients, WIDTH)),
        clip_id=names,
        patient_id=names,
        encoder_digest="e" * 64,
        labels={"heart_rate_bpm": rate.tolist()},
        phase=PhaseTokens.from_arrays(list(phase), time_s=[time_s] * patients),
    )


def test_chance_lies_about_nothing() -> None:
    rng = np.random.default_rng(1)
    found = chance(rng.normal(50, 10, 100), rng.normal(50, 10, 100))["correlation"]
    assert abs(found.value) < 0.05 and found.low == pytest.approx(-0.2, abs=0.05) and found.high > 0.15


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_heart_rate_is_followed_until_the_frames_are_shuffled(shuffled: bool) -> None:
    panel = control(beats(60, 0), beats(40, 1), beats(40, 2, shuffled=shuffled), seed=0)
    assert panel.verdict == ("fail" if shuffled else "pass")
    assert len(panel.points["heart_rate_bpm"]) == 40


def test_a_feature_that_never_varies_in_training_decides_nothing() -> None:
    def with_wild(patients: int, seed: int) -> Vectors:
        clips = vectors_of(table(patients, seed), "clip")
        assert clips is not None
        wild = np.zeros(len(clips))
        wild[0] = 0 if seed == 0 else 1e-3
        return replace(clips, vectors_VD=np.column_stack([clips.vectors_VD, wild]))

    sets = Compared(train=with_wild(150, 0), holdout=with_wild(100, 5), synthetic=with_wild(120, 2))
    panel = fidelity({"clip": sets}, seed=0, draws=200)
    assert panel.verdict == "pass" and abs(panel.figures[0].found.value) < 1


def test_what_is_missing_is_not_tested() -> None:
    bare = table(60, 3, clips=1)
    bare = EmbeddingTable.from_arrays(
        bare.video_ND, clip_id=bare.clip_id, patient_id=bare.patient_id, encoder_digest=bare.encoder_digest
    )
    for panel in (control(TRAIN, HOLDOUT, bare, seed=0), utility(TRAIN, HOLDOUT, bare, seed=0)):
        assert panel.verdict == "not_tested" and "ef_percent" in panel.headline


def relabelled(given: EmbeddingTable, ef: np.ndarray) -> EmbeddingTable:
    return replace(given, rows=given.rows.assign(ef_percent=ef))


def test_one_clip_with_many_labels_follows_none() -> None:
    made = table(120, 2, clips=1)
    one = replace(made, video_ND=np.repeat(made.video_ND[:1], len(made), 0))
    panel = control(TRAIN, HOLDOUT, one, seed=0)
    assert panel.verdict == "fail" and panel.figures[0].found.value == 0


def test_two_clips_in_turn_fail_what_is_theirs() -> None:
    made = table(120, 2, clips=1)
    found = verdicts(replace(made, video_ND=np.resize(made.video_ND[:2], made.video_ND.shape)))
    assert [name for name, verdict in found.items() if verdict == "fail"] == list(PANELS[:4])


@pytest.mark.parametrize("same", ["training", "held-out", "synthetic"])
def test_one_ef_in_all_clips_of_a_set_is_not_tested(same: str) -> None:
    sets = {"training": TRAIN, "held-out": HOLDOUT, "synthetic": table(120, 2, clips=1)}
    sets[same] = relabelled(sets[same], np.full(len(sets[same]), 55.0))
    assert utility(*sets.values(), seed=0).verdict == "not_tested"


def test_utility_blames_no_set_for_what_real_clips_do_not_teach() -> None:
    rng = np.random.default_rng(0)
    train, made = (relabelled(each, rng.normal(55, 8, len(each))) for each in (TRAIN, table(120, 2, clips=1)))
    panel = utility(train, HOLDOUT, made, seed=0)
    assert panel.verdict == "not_tested" and "Real clips teach no EF either" in panel.headline


def test_ef_in_fractions_is_refused() -> None:
    made = table(120, 2, clips=1)
    made = relabelled(made, made.rows["ef_percent"].to_numpy() / 100)
    tables = Tables(digest=made.encoder_digest, train=TRAIN, holdout=HOLDOUT, synthetic={"made": made})
    with pytest.raises(EchofmError, match="of the made set is at most 1"):
        require_fit(tables)


def test_agreement_of_numbers_and_classes() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(50, 10, 200)
    patients = np.arange(200).astype(str)
    found = agreement(truth, 0.5 * truth + 25, patients)
    assert found["correlation"].value == pytest.approx(1) and found["slope"].value == pytest.approx(0.5)
    assert found["R2"].value == pytest.approx(0.75, abs=0.01)
    assert found["mae"].value == pytest.approx(np.abs(0.5 * truth - 25).mean())
    classes = np.where(truth > 50, "a", "b")
    assert agreement(classes, classes, patients)["balanced_accuracy"].value == 1


def beating(rate_bpm: float, *, order: np.ndarray | None = None) -> np.ndarray:
    time_s = np.arange(75) / 25
    rows, columns = np.indices((64, 64))
    reach = 14 + 5 * np.sin(2 * np.pi * time_s * rate_bpm / 60)
    frames = 1 / (1 + np.exp(np.hypot(rows - 32, columns - 32)[None] - reach[:, None, None]))
    texture = np.random.default_rng(0).random((64, 64))
    frames = frames * (0.5 + 0.5 * texture)
    return frames if order is None else frames[order]


def test_temporal_figures_know_order_rate_and_noise() -> None:
    slow, fast = statistics(beating(60)), statistics(beating(120))
    shuffled = statistics(beating(60, order=np.random.default_rng(1).permutation(75)))
    noisy = statistics(np.clip(beating(60) + np.random.default_rng(2).normal(0, 0.1, (75, 64, 64)), 0, 1))
    assert fast[3] > 1.5 * slow[3]
    assert shuffled[0] > slow[0] and abs(shuffled[1]) < 0.2 < slow[1]
    assert slow[4] > 0.5 > shuffled[4]
    # Flow explains a moving wall, and no noise.
    assert slow[2] < noisy[2]


def card() -> Card:
    panels = {name: Panel.not_tested("nothing here") for name in PANELS}
    panels["fidelity"] = fidelity({"clip": compared(table(60, 2, damage="noise", clips=1))}, seed=0, draws=100)
    return Card(
        echofm_version="0",
        encoders={"encoder": "e" * 64},
        seed=0,
        real=RealSet(train_clips=300, train_patients=150, holdout_clips=200, holdout_patients=100),
        sets=[SetCard(name="made", clips=60, panels=panels)],
    )


def test_card_is_read_back_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = card()
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(written.to_json(), encoding="utf-8")
    assert load_card(tmp_path / "a") == written and written.fails
    html = page(written).html()
    assert "FAIL" in html and "not tested" in html and "kernel distance" in html
    assert page(written).html() == html
    # A second set makes a column of what was beside.
    both = written.model_copy(update={"sets": [written.sets[0], written.sets[0].model_copy(update={"name": "other"})]})
    assert f"beside: {FLOOR}" in page(both).html() and f"beside: {FLOOR}" not in html
    assert cli.main(["synth", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "fidelity" in capsys.readouterr().out
    other = json.loads(written.to_json())
    other["encoders"]["encoder"] = "f" * 64
    (tmp_path / "b" / "card.json").write_text(json.dumps(other), encoding="utf-8")
    assert cli.main(["synth", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert cli.main(["synth", "compare", str(tmp_path / "a"), str(tmp_path)]) == 2


def test_a_card_has_all_panels() -> None:
    with pytest.raises(ValueError, match="fidelity, diversity"):
        SetCard(name="x", clips=1, panels={"fidelity": Panel.not_tested("")})


def test_sets_are_named_by_their_folders() -> None:
    assert names_of(["a/set", "b/set", "training"]) == {"set": "a/set", "set-2": "b/set", "training-2": "training"}


def test_held_out_patients_are_asked_for(tmp_path: Path) -> None:
    from echofm.embed.options import EmbedOptions

    with pytest.raises(EchofmError, match="--holdout"):
        open_sets(f"{tmp_path}:train", None, {}, EmbedOptions())
