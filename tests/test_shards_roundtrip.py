"""What goes into shards comes out of them: through ShardSet, through plain webdataset and numpy."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import re
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from fans import fans
from hypothesis import given, settings
from hypothesis import strategies as st
from shardfolder import KEY, Hearts, read_heart, write_hearts

from echofm.clip import Clip
from echofm.conform import conform
from echofm.readers.source import Row
from echofm.shards.loader import train_batches
from echofm.shards.manifest import Manifest
from echofm.shards.read import ShardSet

FIELDS = ("frames_TCHW", "sector_HW", "frame_time_s", "phase_T", "mask_THW")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    out = tmp_path_factory.mktemp("roundtrip") / "shards"
    return out, write_hearts(out, 24, shard_mb=0.2, fractions=(0.5, 0.25, 0.25))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clip]:
    clips = [read_heart(row) for row in Hearts(tmp_path_factory.mktemp("originals"), 24).rows()]
    return {clip.clip_id: conform(clip, size=32, frame_rate_hz=50) for clip in clips}


def assert_same(one: Clip, other: Clip) -> None:
    for name in FIELDS:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert getattr(one, name) is None or getattr(one, name).dtype == getattr(other, name).dtype
    for name in ("clip_id", "patient_id", "study_id", "view", "kind", "simulated", "labels", "pixel_spacing_mm"):
        assert getattr(one, name) == getattr(other, name), name


def test_every_clip_comes_back(written: tuple[Path, Manifest], originals: dict[str, Clip]) -> None:
    shards = ShardSet.open(written[0])
    assert len(shards) == 22 == len({record.clip_id for record in shards.records})
    for clip in shards:
        assert_same(clip, originals[clip.clip_id])
    assert any(clip.frame_time_s is None for clip in shards)


def test_splits_are_whole_and_disjoint(written: tuple[Path, Manifest]) -> None:
    out, manifest = written
    shards = ShardSet.open(out)
    patients = {name: {record.meta.patient_id for record in shards.split(name).records} for name in manifest.splits}
    assert sum(map(len, patients.values())) == len(set().union(*patients.values())) == 12
    for name, counts in manifest.splits.items():
        assert (counts.clips, counts.patients) == (len(shards.split(name)), len(patients[name]))
        assert counts.clips > 0, "the fractions of this test give each split a patient"


def test_the_manifest_counts(written: tuple[Path, Manifest]) -> None:
    out, manifest = written
    assert json.loads((out / "manifest.json").read_text()) == json.loads(manifest.model_dump_json())
    assert sum(entry.clips for entry in manifest.tars) == 22 and len(manifest.tars) > 5
    assert manifest.not_selected == {"still": 2} and manifest.set_aside == 0
    assert manifest.views == {"A4C": 11, "PLAX": 11}
    assert manifest.size_histogram == {"48x48": 22}
    assert manifest.frame_rate_hz_histogram == {"50": 19, "unknown": 3}
    assert manifest.labels == {"ef_percent": 22, "sex": 22}
    for entry in manifest.tars:
        assert (out / entry.name).stat().st_size == entry.bytes <= 0.2e6 + 10240
    assert {path.name for path in out.iterdir()} == {entry.name for entry in manifest.tars} | {
        "manifest.json",
        "set_aside.jsonl",
    }


def test_tar_headers_hold_nothing_of_the_machine(written: tuple[Path, Manifest]) -> None:
    for path in written[0].glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
                assert member.mode == 0o444 and member.isreg()


def test_plain_webdataset_and_numpy_read_them(written: tuple[Path, Manifest], originals: dict[str, Clip]) -> None:
    import webdataset

    def decode(sample: dict) -> dict:
        arrays = {
            name: np.load(io.BytesIO(data), allow_pickle=False)
            for name, data in sample.items()
            if name.endswith(".npy")
        }
        return {**arrays, "meta": json.loads(sample["meta.json"]), "key": sample["__key__"]}

    tars = sorted(str(path) for path in written[0].glob("*.tar"))
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).map(decode))
    assert {sample["key"] for sample in samples} == set(originals) - {
        clip_id for clip_id, clip in originals.items() if clip.kind == "still"
    }
    for sample in samples:
        clip = originals[sample["key"]]
        assert np.array_equal(sample["frames.npy"], clip.frames_TCHW)
        assert np.array_equal(sample["mask.npy"], clip.mask_THW[sample["mask_frame.npy"]])
        assert 0 < len(sample["mask.npy"]) < len(clip.mask_THW) / 4, "only annotated frames are stored"
        assert sample["meta"]["labels"] == clip.labels and sample["meta"]["split"] in ("train", "val", "test")


def test_streaming_with_webdataset_splits_by_node(
    written: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    import webdataset

    tars = sorted(str(path) for path in written[0].glob("train-*.tar"))
    seen = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        data = webdataset.WebDataset(tars, shardshuffle=False, nodesplitter=webdataset.split_by_node)
        seen.append({sample["__key__"] for sample in data})
    assert len(tars) >= 2 and seen[0] and seen[1] and not seen[0] & seen[1]
    assert len(seen[0] | seen[1]) == len(ShardSet.open(written[0]).split("train"))


def test_a_window_is_the_frames_of_its_clip(written: tuple[Path, Manifest], originals: dict[str, Clip]) -> None:
    batches = train_batches(ShardSet.open(written[0]), frames=10, frame_rate_hz=25, batch=4, seed=3)
    for _, batch in zip(range(4), batches):
        assert batch.video_BCTHW.shape == (4, 1, 10, 32, 32) and batch.video_BCTHW.dtype == torch.uint8
        for clip_id, video, sector, time_s in zip(
            batch.clip_ids, batch.video_BCTHW, batch.sector_BHW, batch.frame_time_s_BT
        ):
            clip = originals[clip_id]
            stored = [frame.tobytes() for frame in clip.frames_TCHW]
            indices = [stored.index(frame.numpy().tobytes()) for frame in video.transpose(0, 1)]
            step = 1 if clip.frame_time_s is None else 2
            assert all((after - before) % len(stored) % step == 0 for before, after in itertools.pairwise(indices))
            assert (indices[1] - indices[0]) == step
            assert np.array_equal(sector.numpy(), clip.sector_HW)
            assert torch.isnan(time_s).all() if clip.frame_time_s is None else time_s[1] == pytest.approx(0.04)


def test_ids_are_hashes_under_the_key(written: tuple[Path, Manifest]) -> None:
    patients = {record.meta.patient_id for record in ShardSet.open(written[0]).records}
    assert patients == {KEY.patient(f"patient {index}") for index in range(12)}


def test_the_tars_are_those_of_webdatasets_own_writer(written: tuple[Path, Manifest], tmp_path: Path) -> None:
    import webdataset

    for path in sorted(written[0].glob("*.tar"))[:3]:
        samples = webdataset.WebDataset(str(path), shardshuffle=False)
        options = {"user": "", "group": "", "mode": 0o444, "mtime": 0, "encoder": False}
        with open(tmp_path / path.name, "wb") as file, webdataset.TarWriter(file, **options) as writer:
            for sample in samples:
                writer.write({name: data for name, data in sample.items() if name == "__key__" or "." in name})
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_what_a_clip_has_not_stays_absent(tmp_path: Path) -> None:
    bare = {
        "frame_time_s": None,
        "phase_T": None,
        "mask_THW": None,
        "view": None,
        "labels": {},
        "pixel_spacing_mm": None,
    }

    def read(row: Row) -> Clip:
        return read_heart(row).replace(**bare)

    write_hearts(tmp_path / "shards", 1, read=read, split_by="none")
    (clip,) = ShardSet.open(tmp_path / "shards")
    assert {name: getattr(clip, name) for name in bare} == bare
    write_hearts(
        tmp_path / "unmasked",
        1,
        split_by="none",
        read=lambda row: read(row).replace(mask_THW=np.full_like(read_heart(row).mask_THW, 255)),
    )
    (clip,) = ShardSet.open(tmp_path / "unmasked")
    assert clip.mask_THW is None


def test_a_pickled_set_and_threads_read_the_same(written: tuple[Path, Manifest]) -> None:
    shards = ShardSet.open(written[0])
    frames = [clip.frames_TCHW for clip in shards]
    other = pickle.loads(pickle.dumps(shards))  # noqa: S301 (our own bytes: what a spawned worker gets)
    with ThreadPoolExecutor(4) as pool:
        for expected, clip in zip(frames * 3, pool.map(other.clip, [*range(len(shards))] * 3)):
            assert np.array_equal(expected, clip.frames_TCHW)


@pytest.mark.gpu
def test_batches_are_page_locked_where_there_is_a_gpu(written: tuple[Path, Manifest]) -> None:
    for workers in (0, 2):
        batch = next(
            train_batches(ShardSet.open(written[0]), frames=8, frame_rate_hz=50, batch=4, seed=0, workers=workers)
        )
        assert batch.video_BCTHW.is_pinned() and batch.draw_B.is_pinned()
        on_device = batch.to("cuda").video_BCTHW
        # The GPU multiplies by 1 / 255: off by the last bit.
        assert torch.allclose(on_device.cpu(), batch.video_BCTHW.float() / 255, rtol=2e-7, atol=0)


def test_the_examples_of_the_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hearts(tmp_path / "shards", 6, split_by="none")
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "docs" / "shards.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) == 3
    names: dict = {}
    for example in examples:
        exec(example, names)  # our own docs
        assert len(names.get("video_BCTHW", names.get("frames"))) > 0


@st.composite
def any_clip(draw: st.DrawFn) -> Clip:
    """A clip of any shape, with and without everything that may be missing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_frames, channels = draw(st.integers(1, 6)), draw(st.sampled_from([1, 3]))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    sector = rng.random((height, width)) < 0.7
    mask = rng.integers(0, 4, (n_frames, height, width), dtype=np.uint8)
    mask[rng.random(n_frames) < 0.5] = 255
    phase = rng.random(n_frames, np.float32)
    phase[rng.random(n_frames) < 0.3] = np.nan
    label = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**62), 2**62) | st.text(max_size=20)
    return Clip(
        frames_TCHW=rng.integers(0, 256, (n_frames, channels, height, width), dtype=np.uint8) * sector,
        sector_HW=sector,
        clip_id=f"{draw(st.integers(0, 16**20 - 1)):020x}",
        patient_id="0" * 20,
        study_id=draw(st.none() | st.just("1" * 20)),
        frame_time_s=draw(st.none() | st.just(np.cumsum(rng.uniform(1e-3, 1, n_frames)))),
        fan=draw(st.none() | fans()),
        pixel_spacing_mm=draw(st.none() | st.tuples(st.floats(0.01, 2), st.floats(0.01, 2))),
        view=draw(st.none() | st.sampled_from(["A4C", "PLAX"])),
        kind="bmode",
        labels=draw(st.dictionaries(st.sampled_from(["ef_percent", "sex", "note"]), label.filter(_is_utf8))),
        phase_T=draw(st.none() | st.just(phase)),
        mask_THW=draw(st.none() | st.just(mask)),
    )


def _is_utf8(label: object) -> bool:
    return not isinstance(label, str) or not any(0xD800 <= ord(character) < 0xE000 for character in label)


@settings(max_examples=25, deadline=None)
@given(any_clip())
def test_any_clip_comes_back(clip: Clip) -> None:
    side = 7
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "shards"
        options = {"size": side, "channels": clip.frames_TCHW.shape[1], "frame_rate_hz": None, "split_by": "none"}
        write_hearts(out, 1, read=lambda row: clip, show_progress=False, **options)
        (back,) = ShardSet.open(out, verify="never")
    sent = conform(clip, size=side)
    if sent.mask_THW is not None and (sent.mask_THW == 255).all():
        sent = sent.replace(mask_THW=None)
    for name in FIELDS:
        assert np.array_equal(
            getattr(back, name), getattr(sent, name), equal_nan=name == "phase_T" and sent.phase_T is not None
        ), name
    assert back.labels == clip.labels and back.view == clip.view
    assert back.pixel_spacing_mm == sent.pixel_spacing_mm and back.fan == sent.fan
