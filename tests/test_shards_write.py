"""Writing: same bytes whatever happened on the way, what is set aside and why, splits, nothing of a patient in OUT."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hearts import beating_heart, write_avi
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid
from shardfolder import KEY, Hearts, read_heart, write_hearts

from echofm import cli
from echofm.clip import Clip
from echofm.errors import EchofmError, UnreadableFile
from echofm.readers.source import Row
from echofm.shards import staging
from echofm.shards.read import ShardSet
from echofm.shards.write import write_shards

ROOT = Path(__file__).parents[1]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """The files of one source, and its shards written without interruption."""
    out = tmp_path_factory.mktemp("whole") / "shards"
    write_hearts(out, 20, shard_mb=0.3)
    return out.with_name("shards-files"), contents(out)


def again(files: Path, out: Path, read: Any = read_heart) -> None:
    write_shards(Hearts(files, 20), out, size=32, key=KEY, read=read, shard_mb=0.3)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("done", [0, 1, 7, 13, 19])
def test_what_was_interrupted_goes_on_to_the_same_bytes(
    whole: tuple[Path, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    files, expected = whole
    monkeypatch.setattr(staging, "_CHECKPOINT_S", 0.0)
    read: list[Row] = []

    def dies(row: Row) -> Clip:
        if len(read) == done:
            raise Killed
        read.append(row)
        return read_heart(row)

    out = tmp_path / "shards"
    with pytest.raises(Killed):
        again(files, out, dies)
    assert not out.exists()
    # What a kill between two writes leaves: half a line, and bytes of a clip that no line speaks of.
    partial = tmp_path / "shards.partial"
    with open(partial / "journal.jsonl", "ab") as journal:
        journal.write(b'{"clip_id": "0123')
    for tar in (partial / "shards").glob("*.tar"):
        with open(tar, "ab") as file:
            file.write(b"torn" * 999)
    (partial / "shards" / "train-000099.tar").touch()
    reread: list[Row] = []
    again(files, out, lambda row: (reread.append(row), read_heart(row))[1])
    assert len(reread) == 20 - done, "nothing is read twice"
    assert contents(out) == expected and not partial.exists()


def test_sigkill_twice_then_the_same_bytes(whole: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    files, expected = whole
    out = tmp_path / "shards"
    script = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests")!r})
from echofm.shards import staging
from shardfolder import *
staging._CHECKPOINT_S = 0
def slow(row):
    time.sleep(0.05)
    return read_heart(row)
write_shards(Hearts(Path({str(files)!r}), 20), Path({str(out)!r}), size=32, key=KEY, read=slow, shard_mb=0.3)
"""
    journal = tmp_path / "shards.partial" / "journal.jsonl"
    for lines in (4, 11):
        process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
        deadline = time.monotonic() + 60
        while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists()
    again(files, out)
    assert contents(out) == expected


@pytest.mark.slow
def test_the_command_killed_again_and_again(tmp_path: Path) -> None:
    """With real files, reader processes and another number of them each time; no process outlives the command."""
    files = tmp_path / "files"
    files.mkdir()
    # Enough that the command is still at work whenever it is killed, on a fast machine too.
    for number in range(96):
        write_avi(files / f"{number}.avi", beating_heart(frames=60, seed=number)[0])

    def command(out: str, processes: int) -> list[str]:
        options = ["--processes", str(processes), "--shard-mb", "2", "--split-by", "none"]
        return [sys.executable, "-m", "echofm.cli", "shards", str(files), str(tmp_path / out), *options]

    subprocess.run(command("whole", 1), cwd=ROOT, check=True)
    journal = tmp_path / "killed.partial" / "journal.jsonl"
    kills = 0
    for processes, lines in ((2, 3), (1, 20), (3, 40)):
        process = subprocess.Popen(command("killed", processes), cwd=ROOT)
        while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
            if process.poll() is not None:
                break
            time.sleep(0.01)
        try:
            readers = psutil.Process(process.pid).children()
        except psutil.NoSuchProcess:
            readers = []
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        assert not psutil.wait_procs(readers, timeout=20)[1], "a reader process outlives the command"
        if (tmp_path / "killed").exists():
            break
    assert kills > 0
    if not (tmp_path / "killed").exists():
        subprocess.run(command("killed", 2), cwd=ROOT, check=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(
    whole: tuple[Path, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, expected = whole
    monkeypatch.setattr(staging, "_CHECKPOINT_S", 0.0)
    real, calls = os.fsync, iter(range(1000))

    def full(descriptor: int) -> None:
        if next(calls) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(EchofmError, match=r"failed \(No space left on device\); .* goes on from here"):
            again(files, tmp_path / "shards")
    again(files, tmp_path / "shards")
    assert contents(tmp_path / "shards") == expected


def test_ctrl_c_while_the_journal_goes_to_disk_doubles_no_line(
    whole: tuple[Path, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, expected = whole
    monkeypatch.setattr(staging, "_CHECKPOINT_S", 0.0)
    real, journal, calls = os.fsync, tmp_path / "shards.partial" / "journal.jsonl", iter(range(1000))

    def interrupted(descriptor: int) -> None:
        real(descriptor)
        if os.path.samestat(os.fstat(descriptor), journal.stat()) and next(calls) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            again(files, tmp_path / "shards")
    lines = journal.read_bytes().splitlines()
    assert len(lines) == len(set(lines)) == 6
    # What an earlier version left behind is not gone on with: a doubled line would cost a clip.
    journal.write_bytes(b"".join(line + b"\n" for line in [*lines, lines[-1]]))
    with pytest.raises(EchofmError, match="damaged; remove that folder"):
        again(files, tmp_path / "shards")
    journal.write_bytes(b"".join(line + b"\n" for line in lines))
    again(files, tmp_path / "shards")
    assert contents(tmp_path / "shards") == expected


def test_an_unfinished_run_of_other_settings_is_not_mixed_in(
    whole: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    def dies(row: Row) -> Clip:
        raise Killed

    with pytest.raises(Killed):
        again(whole[0], tmp_path / "shards", dies)
    with pytest.raises(EchofmError, match=r"shards\.partial holds the unfinished shards of other data or other set"):
        write_shards(Hearts(whole[0], 20), tmp_path / "shards", size=16, key=KEY, read=read_heart)
    journal = tmp_path / "shards.partial" / "journal.jsonl"
    journal.write_text(journal.read_text() + "{}\n")
    with pytest.raises(EchofmError, match="damaged; remove that folder"):
        again(whole[0], tmp_path / "shards")


def test_finished_shards_are_never_written_over(tmp_path: Path) -> None:
    write_hearts(tmp_path / "shards", 2)
    with pytest.raises(EchofmError, match="is there already"):
        write_hearts(tmp_path / "shards", 2)


def test_out_may_be_a_link_to_an_empty_folder_or_the_folder_one_is_in(
    whole: tuple[Path, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, expected = whole
    for name in ("disk/shards", "home", "here"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "home" / "link").symlink_to(tmp_path / "disk" / "shards")

    def watched(row: Row) -> Clip:
        assert (tmp_path / "disk" / "shards.partial").is_dir(), "it grows on the disk that the link leads to"
        return read_heart(row)

    again(files, tmp_path / "home" / "link", watched)
    assert contents(tmp_path / "home" / "link") == expected == contents(tmp_path / "disk" / "shards")
    monkeypatch.chdir(tmp_path / "here")
    again(files, Path())
    assert contents(tmp_path / "here") == expected
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    with pytest.raises(EchofmError, match="name a new folder on that disk"):
        again(files, tmp_path / "mounted")


def test_two_writers_of_one_folder(tmp_path: Path) -> None:
    def another(row: Row) -> Clip:
        with pytest.raises(EchofmError, match="another process is writing shards"):
            write_hearts(tmp_path / "shards", 2)
        return read_heart(row)

    write_hearts(tmp_path / "shards", 2, read=another)


def test_the_number_of_processes_does_not_change_the_bytes(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number in range(6):
        write_avi(files / f"{number}.avi", beating_heart(frames=20, seed=number)[0])
    (files / "broken.avi").write_bytes(b"no video")
    for processes in (1, 2):
        out = tmp_path / str(processes)
        options = ["--processes", str(processes), "--size", "64", "--max-bad", "0.2", "--shard-mb", "0.3"]
        assert cli.main(["shards", str(files), str(out), *options]) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert len(ShardSet.open(tmp_path / "1")) == 6


def test_unreadable_files_and_copies_are_set_aside(tmp_path: Path) -> None:
    source = Hearts(tmp_path / "files", 10)
    (source.folder / "3.avi").write_text("broken")
    (source.folder / "5.avi").write_text("4")
    manifest = write_shards(source, tmp_path / "shards", size=16, key=KEY, read=read_heart)
    lines = (tmp_path / "shards" / "set_aside.jsonl").read_text().splitlines()
    reasons = {row["file_id"]: row["reason"] for row in map(json.loads, lines)}
    assert reasons.pop(KEY.file(source.folder / "3.avi")) == "no heart in it"
    # Of two copies the first in the tars' order stays.
    [(file, reason)] = reasons.items()
    assert file in [KEY.file(source.folder / name) for name in ("4.avi", "5.avi")]
    assert reason == "an exact copy of another file"
    assert manifest.set_aside == 2 and sum(counts.clips for counts in manifest.splits.values()) == 8


def test_too_many_unreadable_files_stop_it_and_a_higher_limit_goes_on(tmp_path: Path) -> None:
    source = Hearts(tmp_path / "files", 10)
    for number in (1, 2, 7):
        (source.folder / f"{number}.avi").write_text("broken")
    options = {"size": 16, "key": KEY, "read": read_heart}
    for _ in range(2):
        with pytest.raises(EchofmError, match=r"3 of 10 files cannot be read.*\(3 times\): no heart in it"):
            write_shards(source, tmp_path / "shards", max_bad=0.2, **options)
        assert not (tmp_path / "shards").exists()
    manifest = write_shards(source, tmp_path / "shards", max_bad=0.3, **options)
    assert manifest.set_aside == 3


def test_what_could_not_be_read_is_read_again_once_that_is_mended(
    whole: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    """A codec was missing, say: no file changes, and the run goes on from the first file that it cost."""
    files, expected = whole
    order: list[str] = []
    again(files, tmp_path / "order", lambda row: (order.append(row.path.name), read_heart(row))[1])
    out, seen = tmp_path / "shards", list[str]()

    def without(places: set[int], *, reason: str = "no codec", killed_at: int = 99) -> None:
        def read(row: Row) -> Clip:
            place = order.index(row.path.name)
            if place == killed_at:
                raise Killed
            seen.append(row.path.name)
            if place in places:
                raise UnreadableFile("x", reason)
            return read_heart(row)

        again(files, out, read)

    with pytest.raises(EchofmError, match=r"no codec\..*once that is mended the same command reads them again"):
        without({4, 9, 15})
    seen.clear()
    with pytest.raises(EchofmError, match=r"3 of 20 .*3 times\): another reason"):
        without({4, 9, 15}, reason="another reason")
    assert seen == [order[place] for place in (4, 9, 15)], "the others are not read twice"
    with pytest.raises(Killed):
        without({4}, killed_at=17)
    seen.clear()
    without(set())
    assert seen == [order[4], *order[4:]]
    assert contents(out) == expected


def test_what_still_cannot_be_read_leaves_the_bytes_as_they_were(tmp_path: Path) -> None:
    source, reads = Hearts(tmp_path / "files", 12), list[Row]()
    (source.folder / "3.avi").write_text("broken")
    options = {"size": 16, "key": KEY, "shard_mb": 0.1}

    def dies(row: Row) -> Clip:
        if len(reads) == 11:
            raise Killed
        reads.append(row)
        return read_heart(row)

    write_shards(source, tmp_path / "whole", read=read_heart, **options)
    with pytest.raises(Killed):
        write_shards(source, tmp_path / "shards", read=dies, **options)
    write_shards(source, tmp_path / "shards", read=read_heart, **options)
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def test_kinds_not_asked_for_are_counted_and_an_empty_choice_says_what_there_is(tmp_path: Path) -> None:
    assert write_hearts(tmp_path / "all", 12, kinds=("all",)).kinds == {"bmode": 11, "still": 1}
    with pytest.raises(EchofmError, match="no clip of kind spectral to write: 11 bmode, 1 still"):
        write_hearts(tmp_path / "none", 12, kinds=("spectral",))


def test_kinds_that_the_set_names_are_not_even_read(tmp_path: Path) -> None:
    class Named(Hearts):
        def rows(self) -> Iterator[Row]:
            for index, row in enumerate(super().rows()):
                yield Row(path=row.path, patient=row.patient, kind="colour_doppler" if index < 3 else "bmode")

    read: list[Row] = []
    manifest = write_shards(
        Named(tmp_path / "files", 8),
        tmp_path / "shards",
        size=16,
        key=KEY,
        read=lambda row: (read.append(row), read_heart(row))[1],
    )
    assert len(read) == 5 and manifest.not_selected == {"colour_doppler": 3}


def test_the_sets_own_splits_are_kept(tmp_path: Path) -> None:
    source = Hearts(tmp_path / "files", 12, splits=True)
    write_shards(source, tmp_path / "shards", size=16, key=KEY, read=read_heart, kinds=("all",))
    given = {KEY.patient(row.patient): row.split for row in source.rows()}
    shards = ShardSet.open(tmp_path / "shards")
    assert {record.meta.patient_id: record.meta.split for record in shards.records} == given
    write_shards(source, tmp_path / "one", size=16, key=KEY, read=read_heart, kinds=("all",), split_by="none")
    assert len(ShardSet.open(tmp_path / "one").split("train")) == 12


class Rows(Hearts):
    """Hearts with the patients and splits given."""

    def __init__(self, folder: Path, stated: list[tuple[str, str | None]]) -> None:
        super().__init__(folder, len(stated))
        self.stated = stated

    def rows(self) -> Iterator[Row]:
        for row, (patient, split) in zip(super().rows(), self.stated):
            yield Row(path=row.path, patient=patient, split=split)


def test_a_patient_in_two_splits_is_named_by_hash(tmp_path: Path) -> None:
    stated: list[tuple[str, str | None]] = [("Jane Doe", "train"), ("Jane Doe", "test")]
    with pytest.raises(EchofmError, match=f"patient {KEY.patient('Jane Doe')} is in two splits") as caught:
        write_shards(Rows(tmp_path / "files", stated), tmp_path / "shards", key=KEY, read=read_heart)
    assert "Jane" not in str(caught.value)
    with pytest.raises(EchofmError, match="none of train, val, test"):
        write_shards(Rows(tmp_path / "files", [("a", "dev")]), tmp_path / "shards", key=KEY, read=read_heart)


def test_a_patient_whom_only_the_files_name(tmp_path: Path) -> None:
    def read(row: Row) -> Clip:
        return read_heart(row).replace(patient_id=KEY.patient("Jane Doe"))

    with pytest.raises(EchofmError, match=f"patient {KEY.patient('Jane Doe')} is in two splits"):
        write_shards(Rows(tmp_path / "f", [("", "train"), ("", "val")]), tmp_path / "a", size=16, key=KEY, read=read)
    write_shards(Rows(tmp_path / "f", [("", None), ("", None)]), tmp_path / "b", size=16, key=KEY, read=read)


def test_one_split_of_a_patient_is_all_files_split(tmp_path: Path) -> None:
    stated = [("a", None), ("a", "test"), ("a", None)]
    write_shards(Rows(tmp_path / "files", stated), tmp_path / "shards", size=16, key=KEY, read=read_heart)
    assert len(ShardSet.open(tmp_path / "shards").split("test")) == 3


def test_more_data_moves_no_patient(tmp_path: Path) -> None:
    splits = []
    for n_files in (30, 60):
        write_hearts(tmp_path / str(n_files), n_files, size=8)
        splits.append({r.meta.patient_id: r.meta.split for r in ShardSet.open(tmp_path / str(n_files)).records})
    assert splits[0].items() <= splits[1].items() and len(set(splits[1].values())) == 3


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"size": 0}, "size"),
        ({"shard_mb": 0}, "shard_mb"),
        ({"frame_rate_hz": -1.0}, "rate"),
        ({"fractions": (1, 1, 1)}, "frac"),
    ],
)
def test_impossible_settings(tmp_path: Path, options: dict[str, Any], field: str) -> None:
    with pytest.raises(EchofmError, match=field):
        write_hearts(tmp_path / "shards", 2, **options)


def test_a_label_under_a_name_of_no_scheme_is_noted(tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match=r"clip [0-9a-f]{20}: labels"):
        write_hearts(tmp_path / "shards", 2, read=lambda row: read_heart(row).replace(labels={"EF %": 1.0}))


def test_labels_that_are_missing_stay_missing(tmp_path: Path) -> None:
    labels = {"ef_percent": float("nan"), "esv_ml": np.float32(40.5), "age_years": np.int64(70), "edv_ml": np.nan}
    write_hearts(tmp_path / "shards", 1, read=lambda row: read_heart(row).replace(labels=labels), split_by="none")
    (clip,) = ShardSet.open(tmp_path / "shards")
    assert clip.labels == {"esv_ml": 40.5, "age_years": 70}


NAME, BIRTH, HOSPITAL = "QUISTGAARD", "19471103", "SANKT-ELSEBETH"


def write_dicom(path: Path, seed: int) -> None:
    """A cine whose tags name a patient, and whose pixels show the name and the date beside the sector."""
    frames = beating_heart(frames=24, size=200, seed=seed)[0]
    canvas = np.zeros((len(frames), 240, 320), np.uint8)
    canvas[:, 30:230, 60:260] = frames
    for index, frame in enumerate(canvas):
        image = Image.fromarray(frame)
        ImageDraw.Draw(image).text((2, 2), f"{NAME} {BIRTH} {HOSPITAL}", fill=255)
        canvas[index] = np.asarray(image)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), Dataset(), file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.PatientBirthDate = f"{NAME}^Inger", f"ID-{NAME}-{seed}", BIRTH
    data.InstitutionName, data.Modality, data.StudyInstanceUID = HOSPITAL, "US", generate_uid()
    data.Rows, data.Columns = canvas.shape[1:]
    data.NumberOfFrames, data.FrameTime = len(canvas), "20.0"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = canvas.tobytes()
    data.save_as(path, enforce_file_format=True)


def test_nothing_of_a_patient_is_in_any_byte(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / NAME / HOSPITAL
    files.mkdir(parents=True)
    for seed in range(3):
        write_dicom(files / f"{NAME}_{BIRTH}_{seed}.dcm", seed)
    (files / f"{NAME}.avi").write_bytes(b"")
    out = tmp_path / "out" / "shards"
    assert cli.main(["shards", str(tmp_path / NAME), str(out), "--size", "96", "--max-bad", "0.5"]) == 0
    stated = capfd.readouterr()
    planted = [NAME, BIRTH, HOSPITAL, "Inger"]
    found = subprocess.run(["grep", "-raiE", "|".join(planted), str(tmp_path / "out")], capture_output=True, text=True)
    assert found.returncode == 1, found.stdout[:500]
    assert not any(word.lower() in (stated.out + stated.err).lower() for word in planted)
    shards = ShardSet.open(out)
    assert len(shards) == 3
    for clip in shards:
        assert not clip.frames_TCHW[:, :, ~clip.sector_HW].any()
        # The text stood in the top left corner of the image, outside the sector.
        assert not clip.frames_TCHW[:, :, :10, :30].any()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number in range(3):
        write_avi(files / f"{number}.avi", beating_heart(frames=20, seed=number)[0])
    key = tmp_path / "id.key"
    key.write_text("a" * 40)
    arguments = [str(files), str(tmp_path / "shards"), "--fps", "native", "--id-key", str(key), "--split-by", "none"]
    assert cli.main(["shards", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "native frame rates" in shown and "train" in shown
    shards = ShardSet.open(tmp_path / "shards")
    assert shards.manifest.settings.frame_rate_hz is None and len(shards) == 3
    assert key.read_bytes() not in b"".join(contents(tmp_path / "shards").values())
    for wrong in ([str(files), str(tmp_path / "shards")], [str(tmp_path / "nothing"), str(tmp_path / "x")]):
        assert cli.main(["shards", *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
