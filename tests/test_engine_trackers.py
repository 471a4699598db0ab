"""What is written down about a run, and what must not be."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_engine_fit import config_of, metrics, train

from echofm.engine.train import describe, without_paths
from echofm.errors import EchofmError


def test_tensorboard_has_the_figures_once_after_a_resume(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, killed_at=8)
    # TensorBoard reads its files by name: by second, then by a process's own count, where 10 comes before 9.
    time.sleep(1)
    train(tmp_path, resume=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = events.Scalars("loss")
    assert [event.step for event in losses] == list(range(1, 13))
    assert [event.value for event in losses] == pytest.approx([record["loss"] for record in metrics(tmp_path)])


def test_wandb_gets_figures_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[int, dict[str, Any]]] = []
    session = SimpleNamespace(log=lambda figures, step: logged.append((step, figures)), finish=lambda: None)
    started: list[dict[str, Any]] = []
    fake = SimpleNamespace(init=lambda **settings: started.append(settings) or session)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    train(tmp_path / "quiet")
    assert not started
    train(tmp_path / "asked", config=config_of(wandb="heart"))
    assert started[0]["project"] == "heart" and started[0]["config"]["steps"] == 12
    assert [step for step, _ in logged] == list(range(1, 13)) and "loss" in logged[0][1]


def test_wandb_missing_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(EchofmError, match="pip install wandb"):
        train(tmp_path, config=config_of(wandb="heart"))


def test_command_is_kept_without_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Doe_Jane").mkdir()
    argv = ["demo", "--data", "s", "--out=DOE", "--fit.steps", "9", "Doe_Jane", "a/b", "--config", "x", "--resume"]
    cleaned = "demo --data <path> --out=<path> --fit.steps 9 <path> <path> --config <path> --resume"
    assert without_paths(argv) == cleaned.split()


def test_environment_tells_versions_and_data() -> None:
    env = describe(["demo"], data={"train-000000.tar": "ab"})
    assert env["data"] == {"train-000000.tar": "ab"} and env["packages"]["torch"] and env["processes"] == 1
    assert env["git_sha"] is None or len(env["git_sha"].removesuffix("+changes")) == 40
