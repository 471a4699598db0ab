"""Several images on one screen, each declared: a clip of each. One's own sector, and sets that their publisher cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lookalikes
import numpy as np
import pytest
from broken_files import dicom
from hearts import beating_heart, write_avi
from PIL import Image
from test_readers_kinds import region

import echofm
from echofm import read_clip, read_clips
from echofm.check.cli import main as check_main
from echofm.cli import main
from echofm.contract import InputContract
from echofm.embed.set_aside import file_positions, write_set_aside, write_several
from echofm.embed.videos import open_videos
from echofm.errors import EchofmError, UnreadableFile
from echofm.readers import read_row
from echofm.readers.datasets import open_source
from echofm.shards.cli import main as shards_main
from echofm.shards.read import ShardSet
from echofm.shards.write import write_shards

VIEWS = [beating_heart(frames=10, seed=seed)[0] for seed in range(4)]
BOXES = [(0, 0, 111, 111), (112, 0, 223, 111), (0, 112, 111, 223), (112, 112, 223, 223)]


def screen(path: Path, count: int, *, boxes: list[tuple[int, int, int, int]] | None = None, **tags: Any) -> Path:
    """A DICOM of so many views, two in a row, each a declared region."""
    regions = [region(box=box) for box in boxes or BOXES[:count]]
    for made in regions:
        made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = 3
        made.PhysicalDeltaX = made.PhysicalDeltaY = 0.05
    rows = [np.concatenate(VIEWS[start : start + 2], 2)[:, :, : 112 * count] for start in range(0, count, 2)]
    shown_THW = np.concatenate(rows, 1)
    frames, height, width = shown_THW.shape
    size = {"NumberOfFrames": frames, "Rows": height, "Columns": width, "SequenceOfUltrasoundRegions": regions}
    path.write_bytes(dicom(pixels=shown_THW.tobytes(), **(size | tags)))
    return path


@pytest.mark.parametrize("count", [1, 2, 4])
def test_each_declared_image_is_a_clip_of_its_own(tmp_path: Path, count: int) -> None:
    clips = read_clips(screen(tmp_path / "a.dcm", count))
    assert len(clips) == len({clip.clip_id for clip in clips}) == count
    assert len({clip.patient_id for clip in clips}) == 1
    for clip, view_THW in zip(clips, VIEWS):
        inside = clip.sector_HW
        assert clip.frames_TCHW.shape == (10, 1, 112, 112) and clip.pixel_spacing_mm == (0.5, 0.5)
        assert (clip.frames_TCHW[:, 0][:, inside] == view_THW[:, inside]).all() and clip.fan is not None
        assert inside[view_THW.max(0) > 0].mean() > 0.95
    if count == 1:
        assert clips[0].clip_id == read_clip(tmp_path / "a.dcm").clip_id
        return
    with pytest.raises(UnreadableFile, match=rf"declares {count} images; echofm.read_clips") as refused:
        read_clip(tmp_path / "a.dcm")
    assert refused.value.kind == "several_images"


def test_a_far_corner_one_past_the_last_pixel_and_a_small_image_beside(tmp_path: Path) -> None:
    assert len(read_clips(screen(tmp_path / "a.dcm", 2, boxes=[(0, 0, 112, 112), (112, 0, 224, 112)]))) == 2
    small = screen(tmp_path / "b.dcm", 2, boxes=[(0, 0, 111, 111), (150, 0, 200, 60)])
    assert read_clip(small).sector_HW[:, 112:].sum() == 0


def test_of_a_view_beside_its_colour_only_that_one_is_colour(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    plain, other = [region(box=box) for box in BOXES[:2]]
    box = region(kind=2, box=(140, 30, 180, 90))
    shown_THW = np.stack([np.concatenate(VIEWS[:2], 2)] * 3, -1)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "NumberOfFrames": 10}
    regions = {"Columns": 224, "SequenceOfUltrasoundRegions": [plain, other, box]}
    path.write_bytes(dicom(pixels=shown_THW.tobytes(), **tags, **regions))
    assert [clip.kind for clip in read_clips(path)] == ["bmode", "colour_doppler"]


def test_shards_check_and_embedding_take_every_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    path = screen(tmp_path / "in" / "a.dcm", 2)
    write_avi(tmp_path / "in" / "b.avi", VIEWS[2])
    wanted = {clip.clip_id for file in (path, tmp_path / "in" / "b.avi") for clip in read_clips(file)}
    assert shards_main([str(tmp_path / "in"), str(tmp_path / "shards"), "--split-by", "none", "--processes", "1"]) == 0
    assert {record.clip_id for record in ShardSet.open(tmp_path / "shards").records} == wanted and len(wanted) == 3
    check_main([str(tmp_path / "in"), *(f"--{each}={tmp_path / each}" for each in ("json", "names"))])
    report = json.loads((tmp_path / "json").read_text())
    assert report["files"] == 2 and report["clips"] == 3
    assert "1 file that declare several images: a clip of each, 2 in all" in capsys.readouterr().out
    lines = (tmp_path / "names").read_text().splitlines()[1:]
    assert {line.split(",")[1] for line in lines} == wanted

    videos = open_videos(tmp_path / "in")
    items = list(videos.input(InputContract(size=32, frames=4)).read([0, 1]))
    found = [each for item in items for each in item.all]  # type: ignore[union-attr]
    assert {each.clip.clip_id for each in found} == wanted
    write_set_aside(tmp_path, [])
    write_several(tmp_path, [each.file_id for each in found])
    videos.locate([each.clip.clip_id for each in found], tmp_path)
    read = videos.read([(each.clip.clip_id, each.clip.clip_id) for each in reversed(found)], same_clip)
    assert list(read) == [True, True, True], "each id leads back to its own image"
    with pytest.raises(EchofmError, match="do not fit"):
        file_positions(["x"], tmp_path, [each.file_id for each in items])  # type: ignore[union-attr]


def same_clip(clip: echofm.Clip, clip_id: str) -> bool:
    return clip.clip_id == clip_id


def test_an_interrupted_job_goes_on_after_a_file_of_several_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from echofm.shards import write

    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        screen(folder / f"{number}.dcm", 2, PatientID=f"p{number}", StudyID=str(number))
    source = open_source(folder)
    write_shards(source, tmp_path / "whole", show_progress=False)
    real, left = write._clip, [4]

    def stops(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(write, "_clip", stops)
    with pytest.raises(KeyboardInterrupt):
        write_shards(source, tmp_path / "cut", show_progress=False)
    monkeypatch.setattr(write, "_clip", real)
    write_shards(source, tmp_path / "cut", show_progress=False)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "cut" / path.name).read_bytes(), path.name


def white_on_black(path: Path, inside_HW: np.ndarray, mode: str = "L") -> Path:
    Image.fromarray(np.where(inside_HW, 255, 0).astype(np.uint8)).convert(mode).save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P"])
def test_ones_own_mask_is_the_sector(tmp_path: Path, mode: str) -> None:
    """Of a screen in which no sector is found: noise that fills the frame."""
    noise_THW = np.random.default_rng(0).integers(60, 255, (8, 90, 100), np.uint8)
    path = write_avi(tmp_path / "a.avi", noise_THW)
    with pytest.raises(UnreadableFile):
        read_clip(path)
    mask_HW = np.zeros((90, 100), bool)
    mask_HW[10:70, 20:90] = True
    clip = read_clip(path, mask=white_on_black(tmp_path / "mask.png", mask_HW, mode))
    assert (clip.sector_HW == mask_HW).all() and not clip.frames_TCHW[:, 0, ~mask_HW].any()
    assert clip.frames_TCHW[:, 0, mask_HW].min() > 0 and clip.fan is None
    assert clip.lit_outside == pytest.approx(1 - mask_HW.mean(), abs=0.05)
    assert (read_clip(path, mask=mask_HW).frames_TCHW == clip.frames_TCHW).all()


def test_a_mask_follows_pixels_that_are_made_square(tmp_path: Path) -> None:
    frames_THW = VIEWS[0][:, :, ::2].copy()
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(pixels=frames_THW.tobytes(), NumberOfFrames=10, Columns=56, PixelSpacing=[0.5, 1.0]))
    mask_HW = np.zeros((112, 56), bool)
    mask_HW[20:100, 10:40] = True
    sector_HW = read_clip(path, mask=mask_HW).sector_HW
    assert sector_HW.shape == (112, 112) and sector_HW[20:100, 20:80].all() and sector_HW.sum() == 80 * 60


def test_a_mask_of_another_size_or_of_nothing_is_refused(tmp_path: Path) -> None:
    path = write_avi(tmp_path / "a.avi", VIEWS[0])
    mask = white_on_black(tmp_path / "mask.png", np.ones((100, 112), bool))
    commands = (2, ["shards", str(path), str(tmp_path / "out")]), (1, ["check", str(path)])
    for code, command in commands:
        assert main([*command, "--mask", str(mask), "--processes", "1"]) == code
    with pytest.raises(UnreadableFile, match="its frames are 112 x 112 pixels, and --mask is 100 x 112"):
        read_clip(path, mask=mask)
    with pytest.raises(EchofmError, match="no pixel is white"):
        read_clip(path, mask=white_on_black(tmp_path / "black.png", np.zeros((112, 112), bool)))
    with pytest.raises(EchofmError, match="no PNG"):
        read_clip(path, mask=path)


def test_shards_of_another_mask_are_other_shards(tmp_path: Path) -> None:
    """An interrupted job must not go on under another mask."""
    write_avi(tmp_path / "a.avi", VIEWS[0])
    masks = [white_on_black(tmp_path / f"{size}.png", np.tri(112, k=size) > 0) for size in (30, 60)]
    written = []
    for number, mask in enumerate(masks):
        out = tmp_path / f"s{number}"
        assert shards_main([str(tmp_path / "a.avi"), str(out), "--mask", str(mask), "--processes", "1"]) == 0
        written.append(ShardSet.open(out).clip(0).sector_HW.mean())
        assert ShardSet.open(out).manifest.sector_loses == (number == 0), "what a mask cuts off is told, too"
    assert written[0] != written[1]
    inputs = [
        open_videos(tmp_path / "a.avi", options=echofm.readers.ReadOptions(mask_HW=mask))
        for mask in (None, np.ones((112, 112), bool))
    ]
    assert inputs[0].fingerprint() != inputs[1].fingerprint()


# --- sets whose publisher cut the images


def cut_screen(*, ticks: bool) -> np.ndarray:
    """A zoomed heart that fills the frame but for its upper corners, as the public sets are cut, with ticks beside."""
    heart_THW = beating_heart(frames=24, size=160, seed=3)[0][:, 10:122, 24:136].copy()
    if ticks:
        heart_THW[:, 6:10, 4:8] = 230
        heart_THW[:, 30, 2:9] = 200
    return heart_THW


@pytest.mark.parametrize("layout", ["echonet_dynamic", "echonet_pediatric", "camus", "echonet_lvh"])
def test_a_named_set_keeps_its_pixels_and_one_recognised_is_searched(tmp_path: Path, layout: str) -> None:
    root = getattr(lookalikes, layout)(tmp_path / "set")
    name = layout.replace("_", "-")
    assert not any(row.cut_by_publisher for row in open_source(root).rows())
    rows = list(open_source(root, dataset=name).rows())
    assert rows and all(row.cut_by_publisher for row in rows)
    clip, whole = read_row(rows[0]), read_clip(rows[0].path, keep_outside=True)
    assert (clip.frames_TCHW == whole.frames_TCHW)[:, :, clip.sector_HW].all() and clip.sector_HW.mean() > 0.9


def test_ticks_beside_the_fan_of_a_cut_image_are_left_out(tmp_path: Path) -> None:
    from echofm.readers.decoded import Decoded
    from echofm.readers.given import cut_by_publisher

    plain, ticked = (cut_by_publisher(Decoded(frames_TCHW=cut_screen(ticks=on)[:, None])) for on in (False, True))
    assert plain.mask_HW.all()
    assert not ticked.mask_HW[6:10, 4:8].any() and not ticked.mask_HW[30, 2:9].any()
    heart_HW = cut_screen(ticks=False).max(0) > 8
    assert ticked.mask_HW[heart_HW].mean() > 0.98


def test_the_published_clips_lose_nothing_where_the_set_is_named(real_clips: Path) -> None:
    from echofm.readers.source import Row

    for path in sorted(real_clips.glob("*.avi")):
        kept = read_row(Row(path=path, patient="p", cut_by_publisher=True))
        searched_HW = read_clip(path).sector_HW
        lit_HW = read_clip(path, keep_outside=True).frames_TCHW[:, 0].max(0) > 8
        assert kept.sector_HW[lit_HW & searched_HW].mean() > 0.99
        assert kept.sector_HW.mean() > 0.95
