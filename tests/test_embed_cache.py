"""One cache for every command: an encoder and a set are embedded once, whoever asks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from encoder_and_sets import write_encoder_and_sets

from echofm.embed.cli import main as embed
from echofm.embed.extract import Extractor
from echofm.embed.table import EmbeddingTable
from probe.cli import main as probe
from synth.audit.cli import main as audit


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder_and_sets(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """How often each clip was put through each encoder: (digest, clip id) -> times."""
    times: Counter[tuple[str, str]] = Counter()
    encode = Extractor._encode

    def counted(self: Extractor, batch, middle_B):
        times.update((self.encoder.digest, clip_id) for clip_id in set(batch.clip_ids))
        return encode(self, batch, middle_B)

    monkeypatch.setattr(Extractor, "_encode", counted)
    monkeypatch.setattr("probe.report.write_report", lambda *_, **__: None)
    return times


def options(given: Path, cache: Path, *more: str) -> list[str]:
    # All of a clip's windows in one batch, or a clip would count once for every batch.
    return [f"--cache={cache}", "--windows=1", *more]


def test_probe_then_audit_embed_each_clip_once(given: Path, tmp_path: Path, embedded: Counter[tuple[str, str]]) -> None:
    encoder, shards, fresh = (str(given / name) for name in ("encoder", "shards", "fresh"))
    cached = options(given, tmp_path / "cache")
    assert embed([encoder, shards, str(tmp_path / "table"), *cached]) == 0
    first = dict(embedded)
    assert first and set(first.values()) == {1}
    probe([encoder, f"--data={shards}", "--target=view", "--draws=20", f"--out={tmp_path / 'probed'}", *cached])
    sets = [f"--train={shards}:train", f"--holdout={shards}:val,test", f"--synthetic={fresh}"]
    more = ["--alpha=0.25", "--canaries=0", "--duplicates=off", "--strips=0", f"--encoder={encoder}"]
    audit([*sets, *more, f"--out={tmp_path / 'audit'}", *cached])
    ours = next(iter(first))[0]
    assert sum(digest == ours for digest, _ in embedded) == len(first) + 4
    assert set(embedded.values()) == {1}


def test_a_table_comes_out_of_the_cache_as_it_would_be_made(
    given: Path, tmp_path: Path, embedded: Counter[tuple[str, str]]
) -> None:
    encoder, shards = str(given / "encoder"), str(given / "shards")
    rich = options(given, tmp_path / "cache", "--tokens=2,2,2")
    for out, words in (
        ("rich", rich),
        ("again", rich),
        ("lean", options(given, tmp_path / "cache", "--no-phase")),
        ("alone", options(given, tmp_path / "other", "--no-phase")),
    ):
        assert embed([encoder, shards, str(tmp_path / out), *words]) == 0
    assert set(embedded.values()) == {2}
    for one, other in (("rich", "again"), ("lean", "alone")):
        names = sorted(path.name for path in (tmp_path / one).iterdir())
        assert names == sorted(path.name for path in (tmp_path / other).iterdir())
        for name in names:
            assert (tmp_path / one / name).read_bytes() == (tmp_path / other / name).read_bytes(), name


def test_a_table_that_was_changed_or_is_gone_serves_nobody(
    given: Path, tmp_path: Path, embedded: Counter[tuple[str, str]]
) -> None:
    words = [str(given / "encoder"), str(given / "shards")]
    cached = options(given, tmp_path / "cache")
    embed([*words, str(tmp_path / "first"), *cached])
    table = EmbeddingTable.load(tmp_path / "first")
    table.select(np.arange(3)).save(tmp_path / "first")
    embed([*words, str(tmp_path / "second"), *cached])
    assert set(embedded.values()) == {2} and len(EmbeddingTable.load(tmp_path / "second")) == len(table)


def test_a_table_of_another_release_serves_nobody(
    given: Path, tmp_path: Path, embedded: Counter[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release may read the same files otherwise."""
    words = [str(given / "encoder"), str(given / "shards")]
    cached = options(given, tmp_path / "cache")
    embed([*words, str(tmp_path / "first"), *cached])
    monkeypatch.setattr("echofm.embed.cache.__version__", "99.0.0")
    embed([*words, str(tmp_path / "second"), *cached])
    assert set(embedded.values()) == {2}
