"""Label maps to generate from: pairs of clips, the shape model, sets in CAMUS' layout read back, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from labelled_hearts import write_labelled_hearts
from tiny_generator import tiny_generator

from echofm.cli import main
from echofm.clip import LEFT_ATRIUM, LEFT_VENTRICLE, MYOCARDIUM
from echofm.errors import EchofmError
from echofm.hub import save_model
from echofm.phantom import render_clip
from echofm.shards.read import ShardSet
from synth.generator.camus_set import CamusSet
from synth.generator.map_plan import MapPlan
from synth.generator.sample_set import How
from synth.maps.pairs import MapPair, by_view, pairs_of
from synth.maps.shape_model import ShapeModel

SIZE = 16


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_hearts(
        tmp_path_factory.mktemp("hearts") / "shards", train=12, frames=60, size=32, views=("A4C", "A2C")
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    generator, folder = tiny_generator(("text", "label-map"), frames=1), tmp_path_factory.mktemp("run") / "export"
    save_model(generator, folder, contract=generator.contract, card={})
    return folder.parent


def ellipse(rows: float, columns: float, right: float = 0.0, *, size: int = 64) -> MapPair:
    """A ventricle with wall and atrium; at end-systole it is smaller."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    x = x - right
    maps = []
    for squeeze in (1.0, 0.7):
        map_HW = np.zeros((size, size), np.uint8)
        map_HW[(y - 0.3) ** 2 + x**2 < 0.01] = LEFT_ATRIUM
        map_HW[(y / rows) ** 2 + (x / columns) ** 2 < 1] = MYOCARDIUM
        map_HW[(y / rows) ** 2 + (x / columns) ** 2 < 0.6 * squeeze] = LEFT_VENTRICLE
        maps.append(map_HW)
    return MapPair(ed_HW=maps[0], es_HW=maps[1], view="A4C", source={}, spacing_mm=(0.5, 0.5))


def test_a_clips_pair_is_its_largest_and_smallest_ventricle(hearts: Path) -> None:
    shards = ShardSet.open(hearts, show_progress=False).split("train")
    pairs = pairs_of(shards, "train", size=SIZE)
    assert len(pairs) == 12 and list(by_view(pairs)) == ["A4C", "A2C"]
    index = next(i for i, each in enumerate(shards.records) if each.meta.clip_id == pairs[0].source["map_clip"])
    mask_THW = shards.array(index, "mask_THW")
    assert mask_THW is not None and pairs[0].ed_HW.shape == (SIZE, SIZE)
    whole = pairs_of(shards, "train", size=32)[0]
    areas_T = (mask_THW == LEFT_VENTRICLE).sum((1, 2))
    assert (whole.ed_HW == LEFT_VENTRICLE).sum() == areas_T.max() > (whole.es_HW == LEFT_VENTRICLE).sum() > 0


def test_the_shape_model_draws_hearts_like_those_it_saw_and_none_of_them() -> None:
    rng = np.random.default_rng(0)
    pairs = [ellipse(*rng.uniform((0.2, 0.1, -0.1), (0.3, 0.2, 0.1))) for _ in range(20)]
    model = ShapeModel.fit("A4C", pairs)
    assert np.array_equal(model.drawn(5, size=64).ed_HW, model.drawn(5, size=64).ed_HW)
    drawn = [model.drawn(draw, size=64) for draw in range(30)]
    areas = {name: [(getattr(each, name) == LEFT_VENTRICLE).sum() for each in pairs] for name in ("ed_HW", "es_HW")}
    for each in drawn:
        assert (each.es_HW == LEFT_VENTRICLE).sum() < (each.ed_HW == LEFT_VENTRICLE).sum()
        assert not any(np.array_equal(each.ed_HW, pair.ed_HW) for pair in pairs)
        for name, seen in areas.items():
            area = (getattr(each, name) == LEFT_VENTRICLE).sum()
            assert 0.5 * min(seen) < area < 1.5 * max(seen)
        # The wall goes around the cavity, as in every heart it saw.
        cavity = np.pad(each.ed_HW == LEFT_VENTRICLE, 1)
        beside = np.roll(cavity, 1, 0) | np.roll(cavity, -1, 0) | np.roll(cavity, 1, 1) | np.roll(cavity, -1, 1)
        around = np.pad(each.ed_HW, 1)[beside & ~cavity]
        assert np.isin(around, (MYOCARDIUM, LEFT_VENTRICLE)).mean() > 0.95
    mean = np.mean([(each.ed_HW == LEFT_VENTRICLE).sum() for each in drawn])
    assert abs(mean / np.mean(areas["ed_HW"]) - 1) < 0.15
    assert model.drawn(0, size=96).ed_HW.shape == (96, 96)
    with pytest.raises(EchofmError, match="of A4C there are 3"):
        ShapeModel.fit("A4C", pairs[:3])


def test_one_component_gives_its_outline_back() -> None:
    """At the mean of two shapes, with no deviation, nothing but rounding separates the map from the shapes' own."""
    pairs = [ellipse(0.25, 0.15)] * 5
    drawn = ShapeModel.fit("A4C", pairs).drawn(0, size=64)
    assert (drawn.ed_HW != pairs[0].ed_HW).mean() < 0.01


@pytest.mark.parametrize("words", [[], ["--shape-model"]], ids=["given", "drawn"])
def test_a_set_in_camus_layout_is_read_back_with_the_same_masks(
    run: Path, hearts: Path, tmp_path: Path, words: list[str]
) -> None:
    out = tmp_path / "set"
    command = ["synth", "sample", str(run), "--out", str(out), "--steps", "1", "--maps", f"{hearts}:train", *words]
    assert main([*command, "--count", "3"]) == 0
    before = {path: path.read_bytes() for path in out.rglob("*.nii.gz")}
    assert len(before) == 3 * 6 and main([*command, "--count", "5"]) == 0
    assert all(path.read_bytes() == held for path, held in before.items())
    assert {path.name for path in out.iterdir()} == {
        "database_nifti", "database_split", "index.html", "provenance.jsonl", "set.json",
    }  # fmt: skip
    assert sorted(path.name for path in (out / "database_nifti" / "patient9001").iterdir()) == [
        *(f"Info_{view}.cfg" for view in ("2CH", "4CH")),
        *(
            f"patient9001_{view}_{name}{kind}.nii.gz"
            for view in ("2CH", "4CH")
            for name in ("ED", "ES", "half_sequence")
            for kind in ("", "_gt")
        ),
    ]
    lines = [json.loads(line) for line in (out / "provenance.jsonl").read_text().splitlines()]
    assert [line["view"] for line in lines] == ["A4C", "A2C", "A4C", "A2C", "A4C"]
    assert lines[0]["prompts"] == [f"apical four-chamber view, {each}" for each in ("end-diastole", "end-systole")]
    assert ("shape_model" if words else "map_clip") in lines[0] and len({line["draw"] for line in lines}) == 5
    # Noise has no sector to find.
    again = ["shards", str(out), str(tmp_path / "shards"), "--size", str(SIZE), "--fps", "native", "--keep-outside"]
    assert main(again) == 0
    shards = ShardSet.open(tmp_path / "shards", show_progress=False)
    assert shards.manifest.dataset == "camus" and len(shards) == 5
    found = {clip.mask_THW.tobytes() for clip in shards if clip.mask_THW is not None}
    written = {
        np.moveaxis(np.asanyarray(nib.load(path).dataobj), (0, 1), (2, 1)).tobytes()
        for path in out.rglob("*half_sequence_gt.nii.gz")
    }
    assert len(found) == 5 and found == written


def test_check_reads_a_set_whose_frames_show_a_heart(
    hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = tiny_generator(("label-map",), frames=1, size=64)
    clip = render_clip(1, view="A4C", frames=2, size=64)
    shown_BCTHW = torch.from_numpy(clip.frames_THWC[..., 0])[:, None, None].float() / 255
    monkeypatch.setattr(generator, "sample", lambda *_, draw_B, **__: shown_BCTHW.repeat(len(draw_B) // 2, 1, 1, 1, 1))
    plan = MapPlan(generator, maps=f"{hearts}:train", shape_model=False)
    made = CamusSet(tmp_path / "set", generator, plan, How(steps=1), settings={})
    made.make(range(4), show_progress=False)
    made.close(range(4))
    # 1: of the same frames under two patients, and of no frame rate, it tells.
    assert main(["check", str(tmp_path / "set")]) == 1
    found = capsys.readouterr().out
    assert "camus: 4 clips, 2 patients" in found and "A2C: 2, A4C: 2" in found and "cannot be read" not in found
    made.drop_others([0, 1])
    assert len(list((tmp_path / "set" / "database_nifti").iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--maps", "nowhere"], "SHARDS:SPLIT"),
        (["--maps", "HEARTS:train", "--ef", "30"], "--maps says view and time point"),
        (["--maps", "PLAX:train"], "no view PLAX"),
        (["--maps", "HEARTS:test"], "no clip"),
        (["--shape-model"], "give both"),
    ],
)
def test_what_cannot_be_is_refused_before_work(
    run: Path, hearts: Path, tmp_path: Path, words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "PLAX:train" in words:
        write_labelled_hearts(tmp_path / "plax", views=("PLAX",), frames=60)
    words = [word.replace("HEARTS", str(hearts)).replace("PLAX", str(tmp_path / "plax")) for word in words]
    assert main(["synth", "sample", str(run), "--out", str(tmp_path / "set"), *words]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
