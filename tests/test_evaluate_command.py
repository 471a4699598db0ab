"""echofm synth evaluate from shards to the card, on hearts that a second embeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from encoder_and_sets import write_encoder_and_sets

from echofm import cli
from synth.evaluate.card import PANELS, Card


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder_and_sets(tmp_path_factory.mktemp("evaluate"), hearts=60, fresh=12)


def asked(given: Path, out: Path, *more: str) -> list[str]:
    sets = [
        f"--real={given / 'shards'}",
        f"--encoder={given / 'encoder'}",
        f"--out={out}",
        f"--cache={given / 'cache'}",
    ]
    return ["synth", "evaluate", *sets, "--second=pixels", "--draws=100", "--canaries=0", "--alpha=0.2", *more]


def test_shards_become_a_card(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = asked(given, tmp_path / "a", f"--synthetic={given / 'fresh'}")
    assert cli.main(words) in (0, 1)
    printed = capsys.readouterr().out
    assert all(f"fresh  {name}" in printed for name in PANELS)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"card.json", "card.html", "privacy"}
    card = Card.from_json(tmp_path / "a" / "card.json")
    (found,) = card.sets
    assert found.clips == 11 and found.panels["fidelity"].verdict in ("pass", "fail")
    spaces = [each.name for each in found.panels["fidelity"].figures if each.name.startswith("kernel distance, ")]
    assert len(spaces) == 7
    # No canaries were planted, so nothing is cleared.
    assert found.panels["privacy"].verdict in ("fail", "not_tested")


def test_a_table_is_compared_by_its_encoder_alone(given: Path, tmp_path: Path) -> None:
    made = str(tmp_path / "table")
    cache = f"--cache={given / 'cache'}"
    assert cli.main(["embed", str(given / "encoder"), str(given / "fresh"), made, cache]) == 0
    assert cli.main(asked(given, tmp_path / "card", f"--synthetic={made}")) in (0, 1)
    card = Card.from_json(tmp_path / "card" / "card.json")
    fidelity = card.sets[0].panels["fidelity"]
    assert list(card.encoders) == ["encoder"]
    assert any(note.startswith("second encoder, clip: not of 8") for note in fidelity.notes)


def test_a_table_of_another_encoder_is_refused_before_the_first_clip(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = str(tmp_path / "table")
    assert cli.main(["embed", "pixels", str(given / "fresh"), made, f"--cache={tmp_path / 'cache'}"]) == 0
    words = [each for each in asked(given, tmp_path / "card", f"--synthetic={made}") if "--cache" not in each]
    capsys.readouterr()
    assert cli.main([*words, f"--cache={tmp_path / 'empty'}"]) == 2
    assert "table comes from another encoder" in capsys.readouterr().err
    assert not (tmp_path / "empty").exists()


@pytest.mark.slow
def test_the_same_command_gives_the_same_card(given: Path, tmp_path: Path) -> None:
    for name in "ab":
        cli.main(asked(given, tmp_path / name, f"--synthetic={given / 'fresh'}"))
    assert (tmp_path / "a" / "card.json").read_bytes() == (tmp_path / "b" / "card.json").read_bytes()


@pytest.mark.slow
def test_training_clips_themselves_fail_privacy(given: Path, tmp_path: Path) -> None:
    assert cli.main(asked(given, tmp_path, f"--synthetic={given / 'shards'}:train")) == 1
    card = Card.from_json(tmp_path / "card.json")
    assert card.sets[0].panels["privacy"].verdict == "fail"
    assert card.sets[0].panels["fidelity"].verdict == "pass"


def test_patients_on_both_sides_are_refused(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = asked(given, tmp_path, f"--synthetic={given / 'fresh'}", f"--holdout={given / 'shards'}:train")
    assert cli.main(words) == 2
    assert "in the training and the held-out table" in capsys.readouterr().err
