"""A phantom's folder is read as the set whose layout it has, with the phantom's own truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from echofm.phantom import LayoutName, generate
from echofm.readers import read_row
from echofm.readers.datasets import open_source
from echofm.readers.options import ReadOptions

FRAMES = 40


@pytest.mark.parametrize("layout", ["echonet-dynamic", "echonet-pediatric", "camus", "dicom"])
def test_each_layout(tmp_path: Path, layout: LayoutName) -> None:
    generate(
        tmp_path / "d",
        layout=layout,
        patients=2,
        size=96,
        frames=FRAMES,
        frame_rate_hz=40,
        processes=1,
        show_progress=False,
    )
    source = open_source(tmp_path / "d")
    assert source.name == {"dicom": "folder"}.get(layout, layout)
    # The whole frame: this test is about the truth, not about finding the sector.
    clips = [read_row(row, ReadOptions(keep_outside=True)) for row in source.rows()]
    assert len(clips) == 4 and len({clip.patient_id for clip in clips}) == 2
    assert not {note for note in source.notes if "not in" in note}
    for clip in clips:
        assert clip.phase_T is not None and np.isfinite(clip.phase_T).all()
        assert clip.mask_THW is not None and (clip.mask_THW == 1).any(axis=(1, 2)).all()
        assert {"ef_percent", "edv_ml", "esv_ml", "heart_rate_bpm"} <= set(clip.labels)
        assert clip.view in ("A4C", "A2C", "PLAX", "PSAX") and clip.kind == "bmode" and clip.simulated
        assert clip.frame_rate_hz == pytest.approx(40, rel=0.02)
