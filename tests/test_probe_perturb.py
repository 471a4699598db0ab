"""`echofm probe --perturb`: test clips with a fault of the image, by what was fitted on clean ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from shardfolder import KEY, Hearts, read_heart

from echofm.acoustic import KINDS
from echofm.contract import InputContract
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.hub import save_model
from echofm.model.config import NetworkConfig
from echofm.model.mae import VideoMae
from echofm.shards.write import write_shards
from probe.cli import main
from probe.labels.evaluate import evaluate
from probe.perturb import parsed, replaced
from probe.result import ProbeResult


def table(rng_seed: int = 0) -> EmbeddingTable:
    rng = np.random.default_rng(rng_seed)
    ef = rng.uniform(20, 75, 60)
    features = np.stack([ef, *rng.standard_normal((5, 60))], 1).astype(np.float32)
    return EmbeddingTable.from_arrays(
        features,
        clip_id=[f"c{number:02d}" for number in range(60)],
        patient_id=[f"p{number // 2:02d}" for number in range(60)],
        split=["train"] * 30 + ["val"] * 10 + ["test"] * 20,
        labels={"ef_percent": ef},
        encoder_digest="made up",
    )


def test_the_loss_is_of_the_test_clips_alone() -> None:
    """Features of test clips moved by 5 % move a linear probe's answers by 5 %: nothing else is fitted anew."""
    clean = table()
    moved = clean.select(split="test")
    features = moved.video_ND.copy()
    features[:, 0] += 5
    other = EmbeddingTable(video_ND=features, rows=moved.rows, encoder_digest="made up", settings={"perturb": "gain:1"})
    same = replaced({"probe": clean}, {"probe": moved, "not asked": moved})
    tables = {"gain:1": replaced({"probe": clean}, {"probe": other}), "none": same}
    found = evaluate(clean, target="ef_percent", perturbed=tables, draws=50, label_fractions=(0.5, 1.0)).result
    by = {(each.perturbation, each.metric, each.level): each for each in found.perturbed}
    assert set(same) == {"probe"} and {each.method for each in found.perturbed} == {"probe"}
    assert by["gain:1", "mae", "clip"].estimate.value == pytest.approx(5, rel=0.05)
    assert by["gain:1", "mae", "clip"].change.low > 4
    assert by["none", "r2", "clip"].estimate == found.score("r2") and by["none", "r2", "clip"].change.high == 0


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """All but the target."""
    folder = tmp_path_factory.mktemp("perturbed")
    source = Hearts(folder / "files", 24, splits=True)
    write_shards(source, folder / "shards", size=32, frame_rate_hz=None, key=KEY, read=read_heart, show_progress=False)
    torch.manual_seed(11)
    net = VideoMae(NetworkConfig(
        size=32, frames=8, channels=1, patch=8, tubelet=2, width=32, depth=1, heads=2,
        decoder_width=16, decoder_depth=1, decoder_heads=2, predicted_frames=4,
    ))  # fmt: skip
    export = save_model(net, folder / "export", contract=InputContract(size=32, frames=8), card={})
    words = [str(export), "--data", str(folder / "shards"), "--draws", "20", "--windows", "1", "--perturb", "gain:1"]
    return [*words, "--cache", str(folder / "cache"), "--out", str(folder / "out")]


def test_every_method_is_tested_on_perturbed_clips(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main([*asked, "--target", "ef_percent", "--perturb", "dropout:0"])
    out = Path(asked[-1])
    found = ProbeResult.from_json(out / "ef_percent" / "probe.json").perturbed
    methods = {"probe", "random init", "pixel PCA"}
    assert {(each.perturbation, each.method) for each in found} == {
        (name, method) for name in ("gain:1", "dropout:0") for method in methods
    }
    changes = {(each.perturbation, each.method, each.metric): each.change.value for each in found}
    # A fault of no strength is none, but for grey values that are rounded to bytes, as they were.
    assert all(abs(value) < 1e-4 for (name, *_), value in changes.items() if name == "dropout:0")
    assert all(changes["gain:1", method, "mae"] != 0 for method in methods)
    printed = capsys.readouterr()
    assert "gain:1" in printed.out and "minus clean" in printed.out
    tested = ProbeResult.from_json(out / "ef_percent" / "probe.json").clips["test"]
    assert f"probe, gain:1: embedding {tested} clips" in printed.err
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "minus clean clips" in page and "dropout:0" in page


def test_what_has_no_perturbed_clips_is_refused(asked: list[str], tmp_path: Path) -> None:
    table().save(tmp_path / "table")
    with pytest.raises(EchofmError, match="which a table has not"):
        main([str(tmp_path / "table"), "--target", "ef_percent", "--perturb", "haze:1", "--out", str(tmp_path / "out")])
    with pytest.raises(EchofmError, match="ask for mask by itself"):
        main([*asked, "--target", "mask"])
    with pytest.raises(EchofmError, match="--cross-validate"):
        main([*asked, "--target", "view", "--cross-validate", "3"])
    with pytest.raises(EchofmError, match="give KIND:STRENGTH"):
        main([*asked, "--target", "view", "--perturb", "fog:1"])


def test_all_is_each_kind() -> None:
    assert parsed(["all:0.5", "gain:1"]) == {**{f"{kind}:0.5": {kind: 0.5} for kind in KINDS}, "gain:1": {"gain": 1.0}}
