"""The card of a set in EchoNet-Synthetic's layout beside patients in EchoNet-Dynamic's, from their own files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hearts import write_avi
from lookalikes import chords, heart

from echofm import cli
from echofm.embed.options import EmbedOptions
from synth.evaluate.card import PANELS, Card
from synth.evaluate.inputs import names_of, open_sets

REAL, MADE = 26, 12
FRAMES, SIDE = 16, 48


def echonet_dynamic(root: Path) -> Path:
    """Names without .avi, ends traced, a video a patient; TRAIN, VAL and TEST."""
    (root / "Videos").mkdir(parents=True)
    lines = ["FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"]
    traces = ["FileName,X1,Y1,X2,Y2,Frame"]
    for index in range(REAL):
        name, split = f"0X{index:016X}", ("TRAIN", "TRAIN", "VAL", "TEST")[index % 4]
        lines.append(f"{name},{40 + index}.5,{50 - index},{100 + index},{SIDE},{SIDE},50,{FRAMES},{split}")
        write_avi(root / "Videos" / f"{name}.avi", heart(index, frames=FRAMES, size=SIDE))
        traces += chords(f"{name}.avi", 7, top=20, bottom=30, left=18, right=28)
    (root / "FileList.csv").write_text("\n".join(lines) + "\n")
    (root / "VolumeTracings.csv").write_text("\n".join(traces) + "\n")
    return root


def echonet_synthetic(root: Path) -> Path:
    """One of its three sets, as its sampler writes it: volumes 0, shifted size columns, 32 frames a second, EXTRA."""
    (root / "Videos").mkdir(parents=True)
    lines = ["FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"]
    for index in range(MADE):
        split = ("TRAIN", "VAL", "TEST", "EXTRA")[index % 4]
        lines.append(f"sample_{index:06d},{45 + index},0,0,{FRAMES},{SIDE},32,1,{split}")
        write_avi(root / "Videos" / f"sample_{index:06d}.avi", heart(200 + index, frames=FRAMES, size=SIDE), 32)
    (root / "FileList.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layouts")
    echonet_dynamic(folder / "EchoNet-Dynamic")
    echonet_synthetic(folder / "echonet-synthetic" / "dynamic")
    return folder


def test_both_are_recognised_and_zero_volumes_are_no_volumes(sets: Path) -> None:
    made = sets / "echonet-synthetic" / "dynamic"
    opened = open_sets(sets / "EchoNet-Dynamic", None, names_of([str(made)]), EmbedOptions())
    videos = opened.synthetic["dynamic"].videos
    assert videos is not None and opened.train.videos is not None
    assert (opened.train.videos.dataset, videos.dataset) == ("echonet-dynamic", "echonet-synthetic")
    labels = [row.labels for row in videos.rows]
    assert len(labels) == MADE
    assert all("ef_percent" in each and not {"esv_ml", "edv_ml"} & each.keys() for each in labels)


@pytest.mark.slow
def test_the_card_of_the_one_beside_the_other(sets: Path, tmp_path: Path) -> None:
    words = [f"--real={sets / 'EchoNet-Dynamic'}", f"--synthetic={sets / 'echonet-synthetic' / 'dynamic'}"]
    quick = ["--encoder=pixels", "--second=pixels", "--draws=100", "--canaries=0", "--alpha=0.2"]
    assert cli.main(["synth", "evaluate", *words, f"--out={tmp_path}", *quick, f"--cache={sets / 'cache'}"]) in (0, 1)
    card = Card.from_json(tmp_path / "card.json")
    (found,) = card.sets
    assert found.clips == MADE and list(found.panels) == list(PANELS)
    assert (card.real.train_patients, card.real.holdout_patients) == (14, 12)
    assert any(np.isfinite(each.found.value) for each in found.panels["fidelity"].figures)
    assert found.panels["control"].figures[0].name == "ef_percent, correlation"
