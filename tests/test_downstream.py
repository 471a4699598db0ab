"""Downstream tasks: arms, refusals, what the figures and the page hold; what good and useless synthetic frames do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from labelled_hearts import write_labelled_hearts

from echofm.cli import main
from echofm.clip import LEFT_VENTRICLE
from synth.downstream.frames import Frames, frames_of
from synth.downstream.run import SYNTHETIC, Sets, downstream
from synth.downstream.settings import DownstreamSettings

FEW = ["--shares", "50", "100", "--seeds", "2", "--steps", "3", "--batch", "4"]


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hearts")
    return write_labelled_hearts(folder / "shards", train=8, val=8, frames=60, size=32, views=("A4C", "A2C"))


def discs(count: int, *, seed: int, name: str) -> Frames:
    """Bright discs in noise, large at end-diastole, and where they are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    large_N = np.arange(count) % 2 == 0
    middle_N2 = rng.uniform(12, 20, (count, 2))
    radius_N = np.where(large_N, 8, 5)
    inside_NHW = np.stack([(y - a) ** 2 + (x - b) ** 2 < r**2 for (a, b), r in zip(middle_N2, radius_N)])
    image_NHW = np.clip(0.2 + 0.5 * inside_NHW + 0.05 * rng.standard_normal(inside_NHW.shape), 0, 1)
    return Frames(
        image_N1HW=torch.from_numpy(image_NHW[:, None]).float(),
        mask_NHW=torch.from_numpy(inside_NHW * LEFT_VENTRICLE).long(),
        time_point_N=np.where(large_N, "ED", "ES"),
        view_N=np.full(count, "A4C"),
        patient_N=np.array([f"{name}{number // 2}" for number in range(count)]),
    )


def test_the_command_writes_figures_and_a_page(hearts: Path, tmp_path: Path) -> None:
    other = write_labelled_hearts(tmp_path / "other", train=20, val=4, frames=60, size=32, views=("A4C", "A2C"))
    # Patients are named by number here, so those of one folder are in both.
    words = ["--real", f"{hearts}:train", "--synthetic", f"{other}:val", "--test", f"{hearts}:val", *FEW]
    out = tmp_path / "found"
    assert main(["synth", "downstream", "segmentation", *words, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"index.html", "results.json"}
    found = json.loads((out / "results.json").read_text())
    arms = ["50 % of real patients", "50 % of real patients and synthetic", "100 % of real patients"]
    arms += [f"{arms[2]} and synthetic", SYNTHETIC]
    assert [each["arm"] for each in found["results"]] == arms
    assert all(len(each["seeds"]) == 2 and each["figure"] == "Dice, left ventricle" for each in found["results"])
    assert [each["gain"] is not None for each in found["results"]] == [False, True, False, True, False]
    assert [each["figure"] for each in found["control"]] == [
        "Dice, left ventricle, asked", "Dice, left ventricle, wrong request",
    ]  # fmt: skip
    page = (out / "index.html").read_text()
    assert "Downstream: segmentation" in page and "by share of real patients" in page
    assert main(["synth", "downstream", "segmentation", *words, "--out", str(out)]) == 2


def three_sets() -> Sets:
    real, synthetic, test = (discs(40, seed=number, name=name) for number, name in enumerate("rst"))
    return Sets(real=real, synthetic=synthetic, test=test)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--test": "HEARTS:train"}, "share 8 patients"),
        ({"--test": "HEARTS"}, "give SHARDS:SPLIT"),
        ({"--test": "HEARTS:test"}, "no clips with whole masks"),
        ({"--shares": "0"}, "--shares are percents"),
    ],
)
def test_what_cannot_be_is_refused(
    hearts: Path, tmp_path: Path, changes: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--real": "HEARTS:train", "--synthetic": "HEARTS:val", "--test": "HEARTS:test"} | changes
    line = [word.replace("HEARTS", str(hearts)) for pair in given.items() for word in pair]
    assert main(["synth", "downstream", "phase", *line, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_good_synthetic_frames_help_and_what_they_show_is_seen() -> None:
    """Of two real patients, twenty more like them are worth more than themselves; asked and wrong requests differ."""
    sets = three_sets()
    settings = DownstreamSettings(shares=(5, 100), seeds=1, steps=60, batch=8)
    found = downstream("segmentation", sets, settings, show_progress=False)
    by_arm = {each.arm: each for each in found.results}
    assert by_arm[SYNTHETIC].found.value > 0.8 and by_arm["100 % of real patients"].found.value > 0.8
    gain = by_arm["5 % of real patients and synthetic"].gain
    assert gain is not None and gain.value == pytest.approx(
        by_arm["5 % of real patients and synthetic"].found.value - by_arm["5 % of real patients"].found.value
    )
    asked, wrong = found.control
    assert asked.found.low > wrong.found.high
    few = replace(settings, shares=(100,), steps=2)
    assert len({downstream("segmentation", sets, few, show_progress=False).to_json() for _ in range(2)}) == 1


def test_phase_is_learnt_and_shuffled_requests_are_at_chance() -> None:
    sets = three_sets()
    wrong = replace(sets.synthetic, time_point_N=np.roll(sets.synthetic.time_point_N, 1))
    settings = DownstreamSettings(shares=(100,), seeds=1, steps=60, batch=8)
    good, bad = (
        downstream("phase", replace(sets, synthetic=each), settings, show_progress=False)
        for each in (sets.synthetic, wrong)
    )
    found = {each.arm: each.found.value for each in good.results}
    assert found["100 % of real patients"] > 0.8 and found[SYNTHETIC] > 0.8
    assert {each.arm: each.found.value for each in bad.results}[SYNTHETIC] < 0.2
    asked, shuffled = good.control
    assert asked.found.low > 0.8 and abs(shuffled.found.value - 0.5) < 0.2


def test_frames_are_the_ends_of_each_clip(hearts: Path) -> None:
    frames = frames_of(f"{hearts}:train")
    assert len(frames) == 16 and list(frames.time_point_N[:2]) == ["ED", "ES"]
    areas_N = (frames.mask_NHW == LEFT_VENTRICLE).flatten(1).sum(1)
    assert (areas_N[::2] > areas_N[1::2]).all()
    few = frames.of_patients(50, seed=3)
    assert len(set(few.patient_N)) == 4
    assert set(frames.of_patients(25, seed=3).patient_N) < set(few.patient_N)
