"""Planted names (tags, path, burned-in text) reach nothing that is written or said, from files to page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pydicom.examples
import pytest
from hearts import beating_heart, write_avi
from PIL import Image, ImageDraw

from echofm import read_clip
from echofm.embed.table import EmbeddingTable
from echofm.report.blocks import Table
from echofm.report.page import Page
from echofm.shards.read import ShardSet

NAMES = ("Plantedname", "Janet", "MRN4455667", "19500317")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Clips whose folder, file names, tags and pixels carry a patient's name."""
    path = tmp_path / "Plantedname_Janet_19500317"
    path.mkdir()
    for seed in range(9):
        frames_THW, _ = beating_heart(frames=40, size=64, seed=seed)
        write_avi(path / f"Janet_Plantedname_{seed}.avi", frames_THW)
    dataset = pydicom.dcmread(pydicom.examples.get_path("ybr_color"))
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Plantedname^Janet", "MRN4455667", "19500317"
    dataset.StudyDescription = dataset.ImageComments = "Echo of Janet Plantedname"
    frames_THW3 = np.ascontiguousarray(dataset.pixel_array)
    for frame_HW3 in frames_THW3:
        picture = Image.fromarray(frame_HW3)
        ImageDraw.Draw(picture).text((4, 2), "Plantedname Janet MRN4455667", fill=(255, 255, 255))
        frame_HW3[:] = np.asarray(picture)
    dataset.decompress()
    dataset.PixelData = frames_THW3.tobytes()
    dataset.save_as(path / "Plantedname.dcm")
    (path / "Plantedname_broken.avi").write_bytes(b"RIFF Plantedname")
    return path


def test_burned_in_text_is_outside_what_is_read(folder: Path) -> None:
    clip = read_clip(folder / "Plantedname.dcm")
    assert clip.sector_HW.any() and not clip.sector_HW[:14].any()
    assert (clip.frames_TCHW[:, :, ~clip.sector_HW] == 0).all()


@pytest.mark.slow
def test_no_planted_name_is_written_or_printed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    small = ["--fit.steps", "2", "--fit.batch", "2", "--monitor.every", "1", "--monitor.clips", "1"]
    for words in (
        ["shards", folder, out / "shards", "--size", "64", "--max-bad", "0.5", "--fractions", "0.6", "0.3", "0.1"],
        ["pretrain", "demo", "--data", out / "shards", "--out", out / "run", *small],
        ["embed", out / "run" / "export", folder, out / "from-files"],
        ["embed", out / "run" / "export", out / "shards", out / "from-shards"],
        ["embed", out / "run" / "export", folder / "Plantedname_broken.avi", out / "none"],
    ):
        command = [sys.executable, "-m", "echofm.cli", *map(str, words)]
        done = subprocess.run(command, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=240)
        assert done.returncode == (2 if words[-1] == out / "none" else words[-1] == out / "from-files"), done.stderr
        # What the command was given is the user's own; it is not repeated, and nothing else is said of the files.
        (out / f"{words[0]}-{Path(words[-1]).name}.log").write_bytes(done.stdout + done.stderr)
    table = EmbeddingTable.load(out / "from-files")
    page = Page("report").add("clips", Table(list(table.rows.columns), table.rows.astype(object).to_numpy().tolist()))
    page.save(out / "page.html")

    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) > 20 and any(path.suffix == ".tar" for path in written)
    for path in written:
        content = path.read_bytes()
        for name in NAMES:
            assert name.encode() not in content and name.encode("utf-16-le") not in content, f"{name} in {path.name}"
    for clip in ShardSet.open(out / "shards", show_progress=False):
        assert (clip.frames_TCHW[:, :, ~clip.sector_HW] == 0).all()
