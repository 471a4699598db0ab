"""The sets whose faults are known: each is what its name says, and the table of panels tells right from wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shardfolder import write_hearts

from benchmarks.evaluation import faults, in_order, panels_table
from benchmarks.evaluation_sets import STRENGTHS, Made, noised, sets_of, write_set
from echofm.intervals import Estimate
from echofm.shards.read import ShardSet
from synth.evaluate.card import PANELS, Panel, SetCard

CLIPS = 4


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShardSet, dict[str, Made]]:
    folder = tmp_path_factory.mktemp("known") / "hearts"
    write_hearts(folder, 6, split_by="none", kinds=("all",))
    shards = ShardSet.open(folder)
    return shards, sets_of(shards, shards, clips=CLIPS)


def written(made: Made, folder: Path) -> list[np.ndarray]:
    shards = ShardSet.open(write_set(made, folder, size=32))
    # The order in the tars is drawn; the names that went in are in the patients.
    return [shards.clip(number).frames_TCHW for number in range(len(shards))]


def test_sets_are_what_their_names_say(given: tuple[ShardSet, dict[str, Made]], tmp_path: Path) -> None:
    shards, made = given
    stored = [shards.clip(number).frames_TCHW for number in range(len(shards))]
    found = {name: written(each, tmp_path / name) for name, each in made.items()}
    assert {len(each) for each in found.values()} == {CLIPS}
    as_stored = [any(np.array_equal(frames, each) for each in stored) for frames in found["new patients"]]
    assert all(as_stored)
    for frames in found["frames shuffled"]:
        assert any(sorted(map(bytes, frames)) == sorted(map(bytes, each)) for each in stored)
    assert not any(np.array_equal(frames, each) for frames in found["copied"] for each in stored)
    ef = [{clip.labels["ef_percent"] for clip, _ in made[name].clips} for name in ("new patients", "EF shuffled")]
    assert ef[0] == ef[1]
    sources = {clip.clip_id for clip, _ in made["one patient"].clips}
    assert len(sources) == 1 and len({clip.labels["ef_percent"] for clip, _ in made["one patient"].clips}) == CLIPS


def test_noise_rises_with_its_strength(given: tuple[ShardSet, dict[str, Made]], tmp_path: Path) -> None:
    noise = noised(given[0], clips=1)
    assert len(noise) == len(STRENGTHS)
    steps = [np.diff(written(each, tmp_path / name)[0].astype(float), axis=0).std() for name, each in noise.items()]
    assert all(np.diff(steps) > 0)
    # Outside the sector nothing is lit.
    for number, (clip, _) in enumerate(next(iter(noise.values())).clips):
        assert not ShardSet.open(tmp_path / next(iter(noise))).clip(number).frames_TCHW[..., ~clip.sector_HW].any()


def test_wrong_panels_are_named() -> None:
    def card(*failed: str) -> SetCard:
        panels = {name: Panel(verdict="fail" if name in failed else "pass", headline="") for name in PANELS}
        return SetCard(name="copied", clips=2, panels=panels)

    made = Made(clips=[], fails=("privacy", "diversity"))
    assert faults(card("privacy"), made) == faults(card("privacy", "diversity"), made) == []
    assert faults(card("diversity", "control"), made) == [
        "copied: control fails wrongly",
        "copied: privacy should fail",
    ]
    assert "| copied | pass | pass | pass | pass | **fail** |" in panels_table([card("privacy")], {"copied": made})
    rising = [Estimate(value=each, low=0, high=9) for each in (1, 2, 3)]
    assert in_order(rising) and not in_order(rising[::-1])
