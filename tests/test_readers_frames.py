"""GIFs and folders of numbered pictures are clips; stills that happen to be numbered are not glued into one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hearts import beating_heart, write_avi
from PIL import Image

from echofm import read_clip
from echofm.errors import UnreadableFile
from echofm.readers import Limits
from echofm.readers.datasets import open_source
from echofm.shards.write import write_shards

HEART, _ = beating_heart(frames=16)


def write_gif(path: Path, frames: np.ndarray = HEART, duration: int | list[int] = 20) -> Path:
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration)
    return path


def write_frames(
    folder: Path, frames: np.ndarray = HEART, *, name: str = "{:04d}", first: int = 0, suffix: str = ".png"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, start=first):
        Image.fromarray(frame).save(folder / (name.format(number) + suffix))
    return folder


def test_a_gif_is_a_clip_with_its_own_times(tmp_path: Path) -> None:
    clip = read_clip(write_gif(tmp_path / "a.gif"))
    assert (clip.frames_TCHW[:, 0] == HEART * clip.sector_HW).all() and clip.kind == "bmode"
    assert clip.frame_rate_hz == pytest.approx(50)
    uneven = read_clip(write_gif(tmp_path / "b.gif", duration=[20, 40] * 8))
    assert uneven.frame_time_s is not None and uneven.frame_time_s[:3] == pytest.approx([0, 0.02, 0.06])
    assert read_clip(write_gif(tmp_path / "c.gif", duration=0)).frame_time_s is None
    assert read_clip(write_gif(tmp_path / "d.gif", HEART[:1]), keep_outside=True).kind == "still"


@pytest.mark.parametrize("fault", ["cut", "noise", "large"])
def test_a_broken_gif_is_a_reason(tmp_path: Path, fault: str) -> None:
    content = write_gif(tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(
        {"cut": content[: len(content) // 2], "noise": content[:300] + bytes(500), "large": content}[fault]
    )
    reason = "above the limit" if fault == "large" else "the GIF is cut or damaged"
    with pytest.raises(UnreadableFile, match=reason):
        read_clip(tmp_path / "a.gif", limits=Limits(max_clip_mb=0.01 if fault == "large" else 100))


def test_a_gif_cut_anywhere_says_so_or_has_all_its_frames(tmp_path: Path) -> None:
    content = write_gif(tmp_path / "a.gif").read_bytes()
    for length in range(6, len(content) - 1, len(content) // 23):
        (tmp_path / "cut.gif").write_bytes(content[:length])
        with pytest.raises(UnreadableFile, match=r"cut or damaged|above the limit|no image"):
            read_clip(tmp_path / "cut.gif")


@pytest.mark.parametrize(
    ("name", "first", "suffix"),
    [("{:04d}", 0, ".png"), ("{}", 1, ".PNG"), ("img-{:03d}", 7, ".jpg"), ("f {}", 95, ".jpeg")],
)
def test_a_folder_of_numbered_frames_is_one_clip(tmp_path: Path, name: str, first: int, suffix: str) -> None:
    folder = write_frames(tmp_path / "set" / "one", name=name, first=first, suffix=suffix)
    write_avi(tmp_path / "set" / "two.avi", HEART)
    source = open_source(tmp_path / "set")
    assert [row.path.name for row in source.rows()] == ["two.avi", "one"]
    clip = read_clip(folder)
    assert len(clip.frames_TCHW) == 16 and clip.kind == "bmode" and clip.frame_time_s is None
    within = 0 if suffix.lower() == ".png" else 6
    assert np.abs(clip.frames_TCHW[:, 0].astype(int) - HEART * clip.sector_HW)[:, clip.sector_HW].mean() <= within


def test_frames_go_into_shards_and_a_changed_one_is_another_clip(tmp_path: Path) -> None:
    for number in range(3):
        write_frames(tmp_path / "set" / f"c{number}", beating_heart(frames=16, seed=number)[0])
    manifest = write_shards(
        open_source(tmp_path / "set"), tmp_path / "out", size=32, split_by="none", show_progress=False
    )
    assert manifest.kinds == {"bmode": 3} and manifest.set_aside == 0
    before = read_clip(tmp_path / "set" / "c0").clip_id
    state = next(iter(open_source(tmp_path / "set").rows())).state()
    Image.fromarray(HEART[3] // 2).save(tmp_path / "set" / "c0" / "0005.png")
    assert read_clip(tmp_path / "set" / "c0").clip_id != before
    assert next(iter(open_source(tmp_path / "set").rows())).state() != state


def test_a_manifest_may_name_a_folder_of_frames(tmp_path: Path) -> None:
    write_frames(tmp_path / "one")
    (tmp_path / "manifest.csv").write_text("path,patient,frame_rate_hz,ef_percent\none,p,40,55\n")
    (row,) = open_source(tmp_path).rows()
    assert row.path == tmp_path / "one" and row.frame_rate_hz == 40 and row.labels == {"ef_percent": 55}


def test_numbered_stills_stay_stills(tmp_path: Path) -> None:
    hearts = np.stack([beating_heart(frames=1, seed=seed)[0][0] for seed in range(8)])
    write_frames(tmp_path / "views", hearts, name="IMG_{:04d}")
    write_frames(tmp_path / "few", HEART[:4])
    write_frames(tmp_path / "gap", np.delete(HEART, 8, axis=0)[:8])
    (tmp_path / "gap" / "0003.png").unlink()
    write_frames(tmp_path / "mixed", HEART[:8])
    (tmp_path / "mixed" / "notes.txt").write_text("x")
    write_frames(tmp_path / "sizes", HEART[:8])
    Image.fromarray(HEART[0, :64]).save(tmp_path / "sizes" / "0001.png")
    for folder in sorted(path for path in tmp_path.iterdir()):
        rows = list(open_source(folder).rows())
        assert len(rows) > 1 and all(row.path.is_file() for row in rows), folder.name


def test_a_broken_frame_costs_its_clip_and_names_nothing(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "Doe")
    (folder / "0015.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    with pytest.raises(UnreadableFile) as error:
        read_clip(folder)
    assert "Doe" not in str(error.value) and "0015" not in error.value.reason
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableFile, match="folder"):
        read_clip(tmp_path / "empty")
