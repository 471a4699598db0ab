"""Rows to clips: every look-alike is read as the set says, its truth at the clip's size, and goes through shards."""

from __future__ import annotations

import json
import os
from pathlib import Path

import lookalikes
import numpy as np
import pytest

from echofm.contract import InputContract
from echofm.embed.videos import open_videos
from echofm.ids import IdKey
from echofm.readers import read_row
from echofm.readers.datasets import open_source
from echofm.readers.options import ReadOptions
from echofm.shards.write import _fingerprint as shards_fingerprint

MASKED = {"echonet-dynamic": 4, "echonet-pediatric": 8, "camus": 6, "cardiacnet": 3, "cardiacuda": 2}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("Jane_Doe")
    return {name: write(home / name) for name, write in lookalikes.ALL.items()}


@pytest.mark.parametrize("name", lookalikes.ALL)
def test_every_row_becomes_a_clip(sets: dict[str, Path], name: str) -> None:
    rows = list(open_source(sets[name]).rows())
    clips = [read_row(row) for row in rows]
    for row, clip in zip(rows, clips):
        assert clip.view == row.view and dict(clip.labels) == dict(row.labels)
        assert len(clip.frames_TCHW) == (1 if name == "tmed-2" else lookalikes.LENGTH)
        assert not clip.frames_TCHW[..., ~clip.sector_HW].any()
        assert row.patient == "" or row.patient not in repr(clip.patient_id)
    assert sum(clip.mask_THW is not None for clip in clips) == MASKED.get(name, 0)
    for clip in clips:
        if clip.mask_THW is not None:
            assert clip.mask_THW.shape == (len(clip.frames_TCHW), *clip.sector_HW.shape)
            assert set(np.unique(clip.mask_THW)) <= {0, 1, 2, 3, 255}
    patients = [row.patient or row.path.stem for row in rows]
    assert len({clip.patient_id for clip in clips}) == len(set(patients))
    assert {clip.kind for clip in clips} == ({"still"} if name == "tmed-2" else {"bmode"})


def test_frame_rates(sets: dict[str, Path]) -> None:
    expected = {"echonet-dynamic": 50, "echonet-synthetic": 32, "camus": 45.5, "mimic-iv-echo": 50, "cardiacnet": None}
    for name, rate in expected.items():
        clip = read_row(next(open_source(sets[name]).rows()))
        assert clip.frame_rate_hz == (None if rate is None else pytest.approx(rate)), name


def test_camus_older_release_reads(tmp_path: Path) -> None:
    clips = [read_row(row) for row in open_source(lookalikes.camus_mhd(tmp_path / "camus")).rows()]
    assert [clip.mask_THW is not None for clip in clips] == [True, True, False, False]
    assert clips[0].mask_THW is not None and (clips[0].mask_THW[0] == lookalikes.ellipse_mask(1, 112)[0]).all()


@pytest.mark.parametrize(
    ("layout", "changed"),
    [
        ("echonet_dynamic", "*.avi"),
        ("echonet_dynamic", "VolumeTracings.csv"),
        ("echonet_pediatric", "VolumeTracings.csv"),
        ("camus", "*_half_sequence_gt.nii.gz"),
        ("camus_mhd", "*_gt.raw"),
        ("camus_mhd", "*_sequence.raw"),
        ("cardiacnet", "*_label*"),
    ],
)
def test_a_changed_mask_is_another_input(tmp_path: Path, layout: str, changed: str) -> None:
    """What an interrupted run wrote, or a table in the cache holds, must not stand beside corrected masks."""
    root, key = getattr(lookalikes, layout)(tmp_path / "set"), IdKey(bytes(16))

    def known_by() -> tuple[str, str]:
        rows = list(open_source(root).rows())
        files = open_videos(root, options=ReadOptions(key=key)).input(InputContract(size=32, frames=4))
        return shards_fingerprint(rows, key, "the same choices"), files.fingerprint()

    before = known_by()
    assert known_by() == before
    path = sorted(root.rglob(changed))[0]
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
    assert all(one != other for one, other in zip(known_by(), before))


def test_masks_lie_on_the_image_as_read(tmp_path: Path) -> None:
    """Axes: the mask's bright class must fall on the picture's bright block, and not on its transpose."""
    root = lookalikes.cardiacnet(tmp_path / "c")
    folder = root / "CardiacNet-PAH" / "PAH"
    frames_THW = lookalikes.heart(1)
    frames_THW[:, 30:40, 50:70] = 255
    mask_THW = np.zeros_like(frames_THW)
    mask_THW[:, 30:40, 50:70] = 1
    lookalikes.write_nifti(folder / "001_image.nii.gz", frames_THW)
    lookalikes.write_nifti(folder / "001_label.nii.gz", mask_THW)
    clip = read_row(next(open_source(root).rows()))
    assert clip.mask_THW is not None
    bright = clip.frames_TCHW[:, 0] == 255
    assert (bright & (clip.mask_THW == 1)).sum() == 12 * 200


@pytest.mark.parametrize("name", lookalikes.ALL)
def test_every_set_goes_through_shards_and_a_loader(sets: dict[str, Path], tmp_path: Path, name: str) -> None:
    from echofm.shards.read import ShardSet
    from echofm.shards.write import write_shards

    source = open_source(sets[name])
    rows = list(source.rows())
    kinds = ("still",) if name == "tmed-2" else ("bmode",)
    write_shards(source, tmp_path / "out", size=56, frame_rate_hz=None, kinds=kinds, processes=1)
    shards = ShardSet.open(tmp_path / "out")
    clips = [part.clip(index) for part in map(shards.split, ("train", "val", "test")) for index in range(len(part))]
    assert len(clips) == len(rows)
    assert sorted(json.dumps(dict(c.labels), sort_keys=True) for c in clips) == sorted(
        json.dumps(dict(row.labels), sort_keys=True) for row in rows
    ), "labels arrive, names with their units"
    given = [row.split for row in rows if row.split is not None]
    assert all(len(shards.split(split)) >= given.count(split) for split in ("train", "val", "test"))
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for secret in ("Jane_Doe", "DOE^", *(os.path.splitext(row.path.name)[0] for row in rows)):
        assert secret.encode() not in written
