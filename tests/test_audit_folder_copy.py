"""What a filtered folder keeps: every clip that stays, its tables and companions, and nothing of those left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pandas as pd
import pytest
from audit_sets import HOLDOUT, TRAIN, synthetic
from hearts import beating_heart
from PIL import Image

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.ids import load_key
from synth.audit.assess import audit
from synth.audit.filter.folder_copy import ClipNames, FolderCopy
from synth.audit.filter.write import clip_ids_of, write_kept

TRIMMED = "tables, written without the rows of clips left out"


def filtered(
    root: Path, clips: Mapping[str, bool], others: Mapping[str, str | bytes]
) -> tuple[dict[str, bytes], Counter[str]]:
    """Write a set, copy what stays; (the files of the copy, what became of the others)."""
    for name, content in [*((name, f"video {name}") for name in clips), *others.items()]:
        path = root / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    copy = FolderCopy(root / "set", root / "kept")
    for name, stays in clips.items():
        (copy.keep if stays else copy.leave)(root / "set" / name)
    done = copy.finish()
    files = [path for path in (root / "kept").rglob("*") if path.is_file()]
    return {path.relative_to(root / "kept").as_posix(): path.read_bytes() for path in files}, done


@pytest.mark.parametrize(
    ("header", "kept", "left"),
    [
        ("HashedFileName,Calc", "0XA,LVIDd", "0XB,LVIDd"),
        ("\ufeffFileName,EF", "0XA,55", "0XB,60"),
        ("FileName;EF", "0XA;55", "0XB;60"),
        ("FileName\tEF", "0XA.avi\t55", "0XB.avi\t60"),
        ("clip,EF", "0XA,55", "0XB,60"),
        ("note,where", '"two\nlines",Videos/0XA.avi', '"two\nlines",Videos/0XB.avi'),
    ],
)
def test_tables_keep_their_header_and_the_rows_of_kept_clips(tmp_path: Path, header: str, kept: str, left: str) -> None:
    table = f"{header}\r\n{left}\r\n{kept}\r\n"
    files, done = filtered(tmp_path, {"Videos/0XA.avi": True, "Videos/0XB.avi": False}, {"List.csv": table})
    assert files["List.csv"] == f"{header}\r\n{kept}\r\n".encode()
    assert done == {TRIMMED: 1}


def test_a_table_that_names_no_clip_is_left_out_and_counted_as_that(tmp_path: Path) -> None:
    clips = {"55.avi": True, "60.avi": False}
    # The numbers are ejection fractions, although clips are called so.
    tables = {"ef.csv": "EF\n55\n60\n", "empty.csv": "", "header.csv": "FileName,EF\n"}
    files, done = filtered(tmp_path, clips, tables)
    assert set(files) == {"55.avi"} and done == {"tables that name no clip, left out": 3}


def test_clips_of_one_name_in_two_folders_are_not_taken_for_each_other(tmp_path: Path) -> None:
    clips = {"A/1.avi": True, "B/1.avi": False, "B/2.avi": True}
    others = {
        "manifest.csv": "path,ef\nA/1.avi,50\nB/1.avi,60\nB/2.avi,70\n",
        "B/list.csv": "file,ef\n1,60\n2.avi,70\n",
        "names.csv": "file,ef\n1,0\n2,70\n",
        "A/1_mask.png": "kept",
        "B/1_mask.png": "left",
        "truth/B/2.npz": "kept",
        "truth/B/1.npz": "left",
    }
    files, done = filtered(tmp_path, clips, others)
    assert set(files) == {*(n for n, stays in clips.items() if stays), "manifest.csv", "B/list.csv", "names.csv",
                          "A/1_mask.png", "truth/B/2.npz"}  # fmt: skip
    assert files["manifest.csv"] == b"path,ef\nA/1.avi,50\nB/2.avi,70\n"
    assert files["B/list.csv"] == b"file,ef\n2.avi,70\n"
    assert files["names.csv"] == b"file,ef\n2,70\n"
    assert done["companions of clips left out"] == 2


def test_camus_companions_go_with_their_view(tmp_path: Path) -> None:
    stem = "patient0001/patient0001"
    clips = {f"{stem}_2CH_half_sequence.nii.gz": True, f"{stem}_4CH_half_sequence.nii.gz": False}
    views = {f"patient0001/Info_{view}.cfg": view for view in ("2CH", "4CH")}
    masks = {f"{stem}_{view}_ED_gt.nii.gz": view for view in ("2CH", "4CH")}
    files, done = filtered(tmp_path, clips, {**views, **masks, "patient0001/notes.txt": "of nobody"})
    assert set(files) == {next(iter(clips)), "patient0001/Info_2CH.cfg", f"{stem}_2CH_ED_gt.nii.gz"}
    assert done["that belong to no clip, left out"] == 1 and done["companions of clips left out"] == 2


def test_a_clip_and_its_still_of_one_name_are_one() -> None:
    names = ClipNames()
    for path, stays in (("A/scan_2CH.avi", True), ("A/scan_2CH.png", True), ("A/scan_4CH.avi", False)):
        names.add(PurePosixPath(path), stays=stays)
    assert names.companion(PurePosixPath("A/Info_2CH.cfg")) and names.companion(PurePosixPath("A/scan.txt")) is None


def test_cells_that_are_no_names_mean_no_clip() -> None:
    names = ClipNames()
    names.add(PurePosixPath("Videos/0XA.avi"), stays=True)
    for cell in ("", " ", ".", "/", "..", "0X", "other/0XA.avi", ".nii.gz", "a\0b"):
        assert names.cell(cell, folder=PurePosixPath()) is None, cell
    for cell in ("0XA", "0XA.avi", "Videos/0XA.avi", "/data/Videos/0XA.avi", "Videos\\0XA.avi"):
        assert names.cell(cell, folder=PurePosixPath()), cell


def test_a_video_that_the_set_does_not_name_is_no_companion(tmp_path: Path) -> None:
    files, done = filtered(
        tmp_path, {"a.avi": True}, {"a_original.avi": "a patient", "a_raw.m4v": "too", "a_mask.png": "mask"}
    )
    assert set(files) == {"a.avi", "a_mask.png"}
    assert done["videos that the set does not name, left out"] == 2


@pytest.fixture
def audited_video(tmp_path: Path) -> Path:
    """A video that was audited among 19 that are no longer there; the audit lies in tmp_path / "audit"."""
    video = tmp_path / "set" / "a.avi"
    video.parent.mkdir()
    video.write_bytes(b"video")
    clip_id = clip_ids_of(video, load_key())[0]
    own = synthetic(0, 20)
    rows = own.rows.assign(clip_id=pd.array([clip_id, *own.clip_id[1:]], dtype="string"))
    found = audit(TRAIN, HOLDOUT, EmbeddingTable(video_ND=own.video_ND, rows=rows, encoder_digest=own.encoder_digest))
    found.result.save(tmp_path / "audit", found.samples)
    return video


def test_a_filter_cut_short_leaves_no_set_and_begins_anew(
    audited_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("synth.audit.filter.write.FolderCopy.finish", full)
        with pytest.raises(OSError, match="No space"):
            write_kept(tmp_path / "audit", str(audited_video.parent), kept)
    assert not kept.exists() and (tmp_path / "kept.partial" / "a.avi").exists()
    done = write_kept(tmp_path / "audit", str(audited_video.parent), kept)
    assert done.other_files == {"audited clips that are not in this set": 19}
    assert {path.name for path in kept.iterdir()} == {"a.avi", "filter.json"}
    assert not (tmp_path / "kept.partial").exists()
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "thesis.tex").touch()
    with pytest.raises(EchofmError, match=r"OUT\.partial"):
        write_kept(tmp_path / "audit", str(audited_video.parent), tmp_path / "other")


def test_what_lies_beside_a_single_file_is_none_of_the_set(audited_video: Path, tmp_path: Path) -> None:
    (audited_video.parent / "a_notes.txt").write_text("of a patient")
    done = write_kept(tmp_path / "audit", str(audited_video), tmp_path / "kept")
    assert done.clips_kept == 1 and done.other_files == {}
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"a.avi", "filter.json"}


def test_a_folder_of_frames_stays_or_goes_as_one_clip(tmp_path: Path) -> None:
    picture = beating_heart(frames=8)[0]
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number, frame in enumerate(picture if name == "a" else picture[::-1]):
            Image.fromarray(frame).save(tmp_path / "set" / name / f"{number:04d}.png")
    copy = FolderCopy(tmp_path / "set", tmp_path / "kept")
    copy.keep(tmp_path / "set" / "a")
    copy.leave(tmp_path / "set" / "b")
    copy.finish()
    kept = sorted(path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").rglob("*.png"))
    assert kept == [f"a/{number:04d}.png" for number in range(8)]
    assert clip_ids_of(tmp_path / "set" / "a", load_key())[0] == clip_ids_of(tmp_path / "kept" / "a", load_key())[0]
