"""EmbeddingTable: round trips, joins, and what it refuses."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from echofm.embed.phase import PhaseTokens
from echofm.embed.store import save_tables
from echofm.embed.table import EmbeddingTable
from echofm.embed.tokens import SpaceTimeTokens
from echofm.errors import EchofmError


def example(*, clips: int = 6, dim: int = 8, encoder: str = "a" * 64, first: int = 0, seed: int = 0) -> EmbeddingTable:
    rng = np.random.default_rng(seed)
    lengths = [2 + n % 3 for n in range(clips)]
    return EmbeddingTable.from_arrays(
        rng.normal(size=(clips, dim)),
        clip_id=[f"clip{first + n}" for n in range(clips)],
        patient_id=[f"patient{(first + n) // 2}" for n in range(clips)],
        encoder_digest=encoder,
        split=["train", "train", "val", "test", None, "train"][:clips],
        view=["A4C", None, "A2C", "A4C", "A4C", None][:clips],
        frame_rate_hz=[50, None, 30, 50, 50, 25][:clips],
        labels={
            "ef_percent": [55, None, 60.5, 40, 30, 20][:clips],
            "grade": ["mild", None, "none", "x", "y", "z"][:clips],
        },
        phase=PhaseTokens.from_arrays(
            [rng.normal(size=(length, 3)) for length in lengths],
            time_s=[0.04 + 0.08 * np.arange(length) for length in lengths],
            cycle=[np.linspace(0, 0.9, length) for length in lengths],
        ),
        tokens=rng.normal(size=(clips, 2, 3, 3, 4)),
        contract={"size": 112, "frames": 16},
    )


def test_round_trip(tmp_path: Path) -> None:
    table = example()
    table.save(tmp_path / "table")
    assert {path.name for path in (tmp_path / "table").iterdir()} == {
        "features.safetensors",
        "rows.parquet",
        "meta.json",
    }
    loaded = EmbeddingTable.load(tmp_path / "table")
    pd.testing.assert_frame_equal(loaded.rows, table.rows)
    np.testing.assert_array_equal(loaded.video_ND, table.video_ND)
    assert loaded.phase is not None and table.phase is not None
    for name in ("feature_PD", "time_s_P", "frame_P", "window_P", "cycle_P", "start_N1"):
        np.testing.assert_array_equal(getattr(loaded.phase, name), getattr(table.phase, name))
    assert loaded.tokens is not None and table.tokens is not None and loaded.tokens.grid == (2, 3, 3)
    np.testing.assert_array_equal(loaded.tokens.feature_NTRCD, table.tokens.feature_NTRCD)
    assert not loaded.tokens.feature_NTRCD.flags.writeable
    assert loaded.contract == {"size": 112, "frames": 16}
    assert loaded.encoder_digest == table.encoder_digest
    assert list(loaded.split) == ["train", "train", "val", "test", None, "train"]
    assert loaded.view[1] is None
    assert np.isnan(loaded.rows["frame_rate_hz"][1])
    assert list(loaded.labels.columns) == ["ef_percent", "grade"]


def test_loaded_features_are_mapped_not_copied(tmp_path: Path) -> None:
    # 64 MiB of features; the process's own (anonymous) memory must not grow by them.
    table = EmbeddingTable.from_arrays(
        np.ones((16384, 1024), np.float32),
        clip_id=[str(n) for n in range(16384)],
        patient_id=["p"] * 16384,
        encoder_digest="e",
    )
    table.save(tmp_path / "big")
    del table
    example(clips=2).save(tmp_path / "small")
    EmbeddingTable.load(tmp_path / "small")
    before = _anonymous_mib()
    loaded = EmbeddingTable.load(tmp_path / "big")
    assert not loaded.video_ND.flags.writeable
    assert loaded.video_ND.sum() == 16384 * 1024
    assert _anonymous_mib() - before < 50


def _anonymous_mib() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc")
    return int(status.read_text().split("RssAnon:")[1].split()[0]) / 1024


def test_without_labels_phase_or_any_text(tmp_path: Path) -> None:
    table = EmbeddingTable.from_arrays(np.eye(3), clip_id="abc", patient_id="ppq", encoder_digest="someone's")
    table.save(tmp_path)
    loaded = EmbeddingTable.load(tmp_path)
    assert loaded.phase is None and loaded.tokens is None and loaded.labels.empty and list(loaded.view) == [None] * 3
    pd.testing.assert_frame_equal(loaded.rows, table.rows)


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    EmbeddingTable.from_arrays(np.zeros((0, 4)), clip_id=[], patient_id=[], encoder_digest="e").save(tmp_path)
    assert len(EmbeddingTable.load(tmp_path)) == 0


def test_save_replaces_a_table(tmp_path: Path) -> None:
    example().save(tmp_path)
    example(clips=2).save(tmp_path)
    assert len(EmbeddingTable.load(tmp_path)) == 2


def test_select() -> None:
    table = example()
    train = table.select(split="train")
    assert list(train.clip_id) == ["clip0", "clip1", "clip5"]
    assert list(table.select(split="train", view="A4C").clip_id) == ["clip0"]
    chosen = table.select([5, 0])
    assert list(chosen.clip_id) == ["clip5", "clip0"]
    np.testing.assert_array_equal(chosen.video_ND, table.video_ND[[5, 0]])
    assert chosen.phase is not None and table.phase is not None
    for place, source in enumerate([5, 0]):
        np.testing.assert_array_equal(chosen.phase.of(place).feature_PD, table.phase.of(source).feature_PD)
    assert chosen.tokens is not None and table.tokens is not None
    np.testing.assert_array_equal(chosen.tokens.feature_NTRCD, table.tokens.feature_NTRCD[[5, 0]])
    mask = np.array([False, True, True, False, False, False])
    assert list(table.select(mask).clip_id) == ["clip1", "clip2"]
    with pytest.raises(EchofmError, match="no column 'spilt'"):
        table.select(spilt="train")


def test_concat_and_join() -> None:
    first, second = example(), example(clips=3, first=6, seed=1)
    both = EmbeddingTable.concat([first, second])
    assert len(both) == 9 and both.phase is not None and len(both.phase) == 9
    assert second.phase is not None
    np.testing.assert_array_equal(both.phase.of(8).feature_PD, second.phase.of(2).feature_PD)
    assert both.tokens is not None and second.tokens is not None
    np.testing.assert_array_equal(both.tokens.feature_NTRCD[6:], second.tokens.feature_NTRCD)
    overlapping = EmbeddingTable.concat([first.select([4, 5]), second])
    pd.testing.assert_frame_equal(first.join(overlapping).rows, both.rows)
    with pytest.raises(EchofmError, match="2 clip ids occur twice"):
        EmbeddingTable.concat([first, first.select([0, 1])])


def test_rows_do_not_depend_on_which_part_knew_a_label() -> None:
    with_label, without = example(clips=2), example(clips=2, first=2)
    bare = EmbeddingTable.from_arrays(
        without.video_ND, clip_id=list(without.clip_id), patient_id=list(without.patient_id), encoder_digest="a" * 64
    )
    plain = EmbeddingTable.from_arrays(
        with_label.video_ND,
        clip_id=["x", "y"],
        patient_id=["p", "q"],
        encoder_digest="a" * 64,
        labels={"ef_percent": [50, 60], "grade": ["1", "2"]},
    )
    for parts in ([bare, plain], [plain, bare]):
        types = EmbeddingTable.concat(parts).rows.dtypes
        assert types["ef_percent"] == "float64" and types["grade"] == "string"


def test_joins_refuse_another_encoder() -> None:
    ours, theirs = example(), example(encoder="b" * 64, first=10)
    for put_together in (ours.join, lambda other: EmbeddingTable.concat([ours, other])):
        with pytest.raises(EchofmError, match="different encoders") as caught:
            put_together(theirs)
        assert "aaaaaaaaaaaa" in str(caught.value) and "\n" not in str(caught.value)


def test_join_refuses_one_clip_with_two_features() -> None:
    with pytest.raises(EchofmError, match="different features"):
        example().join(example(seed=3))
    with pytest.raises(EchofmError, match="different heads of one encoder"):
        replace(example(), phase_digest="a").join(replace(example(), phase_digest="b"))


def test_tables_with_and_without_tokens_do_not_mix(tmp_path: Path) -> None:
    with_tokens, plain = example(), replace(example(first=10), tokens=None)
    with pytest.raises(EchofmError, match="some of the tables have space-time tokens"):
        EmbeddingTable.concat([with_tokens, plain])
    with pytest.raises(EchofmError, match="some of the tables have space-time tokens"):
        save_tables([with_tokens, plain], tmp_path)
    coarse = replace(example(first=10), tokens=SpaceTimeTokens(feature_NTRCD=np.zeros((6, 1, 1, 1, 4), np.float32)))
    with pytest.raises(EchofmError, match="different shapes"):
        EmbeddingTable.concat([with_tokens, coarse])


def test_with_labels() -> None:
    table = example()
    by_patient = table.with_labels(pd.DataFrame({"patient_id": ["patient0"], "age_years": [70]}), on="patient_id")
    np.testing.assert_array_equal(by_patient.rows["age_years"], [70, 70, *[np.nan] * 4])
    assert list(by_patient.clip_id) == list(table.clip_id)
    with pytest.raises(EchofmError, match="already: ef_percent"):
        table.with_labels(pd.DataFrame({"clip_id": ["clip0"], "ef_percent": [1]}))
    with pytest.raises(EchofmError, match="twice"):
        table.with_labels(pd.DataFrame({"clip_id": ["clip0", "clip0"], "x": [1, 2]}))
    with pytest.raises(EchofmError, match="clip_id is int64; the ids of a table are text"):
        table.with_labels(pd.DataFrame({"clip_id": [1, 2], "x": [1, 2]}))
    with pytest.raises(EchofmError, match="2 rows of the labels have no clip_id"):
        table.with_labels(pd.DataFrame({"clip_id": ["clip0", None, None], "x": [1, 2, 3]}))
    with pytest.raises(EchofmError, match="name no clip_id of the table"):
        table.with_labels(pd.DataFrame({"clip_id": ["0X1A.avi"], "x": [1]}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_id": ["a", "a", "b"]}, "occur twice"),
        ({"patient_id": ["p", None, "q"]}, "without a patient_id"),
        ({"split": ["train", "testing", None]}, "split names"),
        ({"clip_id": ["a", "b"]}, "3 clips have features"),
        ({"video_ND": np.array([[1.0], [np.nan], [2.0]])}, "row 1 are not finite"),
        ({"video_ND": np.zeros((3, 2, 2))}, "float32"),
        ({"labels": {"x": [1.0, np.inf, 2.0]}}, "infinite"),
        ({"phase": np.zeros((2, 4, 3))}, "3 clips, but phase features of 2"),
        ({"phase": np.full((3, 4, 3), np.inf)}, "phase features"),
        ({"phase": [np.zeros((4, 3)), np.zeros((4, 2)), np.zeros((4, 3))]}, "one width"),
        ({"tokens": np.zeros((2, 1, 1, 1, 3))}, "space-time tokens of 2"),
        ({"tokens": np.zeros((3, 4, 3))}, "times, rows, columns"),
        ({"tokens": np.full((3, 1, 1, 1, 3), np.nan)}, "tokens of row 0 are not finite"),
        ({"encoder_digest": ""}, "does not name its encoder"),
    ],
)
def test_from_arrays_refuses(changes: dict, message: str) -> None:
    arguments = {
        "video_ND": np.zeros((3, 2)),
        "clip_id": ["a", "b", "c"],
        "patient_id": ["p", "p", "q"],
        "encoder_digest": "e",
    } | changes
    with pytest.raises(EchofmError, match=message) as caught:
        EmbeddingTable.from_arrays(arguments.pop("video_ND"), **arguments)
    assert "\n" not in str(caught.value)


def _features(folder: Path, change: Callable[[dict], dict]) -> None:
    save_file(change(load_file(folder / "features.safetensors")), folder / "features.safetensors")


def _rows(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(folder / "rows.parquet")).to_parquet(folder / "rows.parquet")


def _meta(folder: Path, **changes: object) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | changes))


def _cut(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def _nan(arrays: dict) -> dict:
    arrays["video"][3, 2] = np.nan
    return arrays


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "nan": (lambda f: _features(f, _nan), "row 3 are not finite"),
    "other width": (lambda f: _features(f, lambda a: a | {"video": a["video"][:, :5].copy()}), "meta.json promises"),
    "float64": (lambda f: _features(f, lambda a: a | {"video": a["video"].astype(np.float64)}), "float64"),
    "no video": (lambda f: _features(f, lambda a: {k: v for k, v in a.items() if k != "video"}), "no tensor 'video'"),
    "no tokens": (
        lambda f: _features(f, lambda a: {k: v for k, v in a.items() if k != "tokens"}),
        "no tensor 'tokens'",
    ),
    "other tokens": (
        lambda f: _features(f, lambda a: a | {"tokens": a["tokens"][:, :1].copy()}),
        "promises space-time tokens",
    ),
    "no phase": (lambda f: _features(f, lambda a: {"video": a["video"]}), "lacks the tensor 'phase'"),
    "phase offsets": (
        lambda f: _features(f, lambda a: a | {"phase_start": a["phase_start"][::-1].copy()}),
        "offsets must rise",
    ),
    "phase of fewer clips": (
        lambda f: _features(f, lambda a: a | {"phase_start": a["phase_start"][[0, -1]]}),
        "phase features of 1",
    ),
    "fewer features than rows": (
        lambda f: _features(f, lambda a: a | {"video": a["video"][:4].copy()}),
        "meta.json promises",
    ),
    "truncated features": (lambda f: _cut(f / "features.safetensors", 0.7), "cannot be read"),
    "empty features": (lambda f: _cut(f / "features.safetensors", 0), "cannot be read"),
    "huge header": (
        lambda f: (f / "features.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}"),
        "cannot be read",
    ),
    "header of garbage": (
        lambda f: (f / "features.safetensors").write_bytes(struct.pack("<Q", 8) + b"\xff" * 40),
        "cannot be read",
    ),
    "no features": (lambda f: (f / "features.safetensors").unlink(), "cannot be read"),
    "features are a folder": (
        lambda f: ((f / "features.safetensors").unlink(), (f / "features.safetensors").mkdir()),
        "cannot be read",
    ),
    "truncated rows": (lambda f: _cut(f / "rows.parquet", 0.6), "rows.parquet of the table cannot be read"),
    "rows of text": (lambda f: (f / "rows.parquet").write_text("clip_id\n1\n"), "cannot be read"),
    "no rows": (lambda f: (f / "rows.parquet").unlink(), "cannot be read"),
    "fewer rows": (lambda f: _rows(f, lambda r: r.iloc[:4]), "4 rows"),
    "no column": (lambda f: _rows(f, lambda r: r.drop(columns="patient_id")), "lacks the columns patient_id"),
    "no label column": (lambda f: _rows(f, lambda r: r.drop(columns="grade")), "lacks the columns grade"),
    "duplicate ids": (lambda f: _rows(f, lambda r: r.assign(clip_id="same")), "5 clip ids occur twice"),
    "missing id": (lambda f: _rows(f, lambda r: r.assign(patient_id=[None, *"abcde"])), "without a patient_id"),
    "lists in a column": (lambda f: _rows(f, lambda r: r.assign(grade=[[1]] * 6)), "'grade' is list"),
    "text for a number": (lambda f: _rows(f, lambda r: r.assign(frame_rate_hz="fast")), "frame_rate_hz"),
    "no meta": (lambda f: (f / "meta.json").unlink(), "no embedding table"),
    "meta cut": (lambda f: _cut(f / "meta.json", 0.5), "damaged"),
    "meta not text": (lambda f: (f / "meta.json").write_bytes(b"\xff\xfe\x00"), "damaged"),
    "meta of the future": (lambda f: _meta(f, schema_version=99), "schema 99"),
    "meta with more": (lambda f: _meta(f, extra=1), "damaged"),
    "no digest": (lambda f: _meta(f, encoder_digest=""), "does not name its encoder"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tables_get_one_line(tmp_path: Path, name: str) -> None:
    example().save(tmp_path)
    damage, message = HOSTILE[name]
    damage(tmp_path)
    with pytest.raises(EchofmError, match=message) as caught:
        EmbeddingTable.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_table_without_studies_is_read(tmp_path: Path) -> None:
    example().save(tmp_path)
    _rows(tmp_path, lambda rows: rows.drop(columns="study_id"))
    assert EmbeddingTable.load(tmp_path).rows["study_id"].isna().all()


def test_a_failed_save_leaves_the_older_table_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example().save(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(EchofmError, match="No space left"):
        example(clips=2).save(tmp_path)
    assert len(EmbeddingTable.load(tmp_path)) == len(example())
    assert not list(tmp_path.glob(".*"))


def test_a_file_is_no_damaged_table(tmp_path: Path) -> None:
    (tmp_path / "features.npz").write_bytes(b"")
    with pytest.raises(EchofmError, match="holds no embedding table"):
        EmbeddingTable.load(tmp_path / "features.npz")
