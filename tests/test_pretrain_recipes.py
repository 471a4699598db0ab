"""Every recipe builds, by discovery; the command line's manners."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pydantic
import pytest
import torch
from torch import nn

from echofm.engine import monitor
from echofm.engine.run import Run
from echofm.errors import EchofmError
from echofm.model.config import MaskingConfig
from echofm.model.mae import VideoMae
from pretrain import recipes
from pretrain.cli import main
from pretrain.recipes import RECIPES, PretrainRecipe

# Millions of parameters; a change of size is meant, not met.
PARAMETERS_M = {"demo": 0.53, "tiny": 3.47, "small": 26.58, "base": 120.78, "large": 344.51}


def test_every_recipe_is_listed() -> None:
    found = {
        name
        for name, value in vars(recipes).items()
        if callable(value) and getattr(value, "__annotations__", {}).get("return") == "PretrainRecipe"
    }
    assert found == set(RECIPES) == set(PARAMETERS_M) and len(found) == 5


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_builds_and_returns_from_json(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]()
    assert recipe.name == name
    assert f"pretrain {name} --data SHARDS --out RUN" in (RECIPES[name].__doc__ or "")
    with torch.device("meta"):
        net: nn.Module = VideoMae(recipe.network, recipe.masking, recipe.objective)
    millions = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    assert millions == pytest.approx(PARAMETERS_M[name], abs=0.05)
    assert recipe.contract.size == recipe.network.size
    recipe.fit.micro_batch(8)
    assert recipe.fit.optim.warmup_steps < recipe.fit.steps
    path = tmp_path / "config.json"
    path.write_text(recipe.to_json())
    assert PretrainRecipe.from_json(path) == recipe


def test_large_has_the_published_hyper_parameters() -> None:
    recipe = RECIPES["large"]()
    network, objective, optim = recipe.network, recipe.objective, recipe.fit.optim
    assert (network.size, network.frames, network.tubelet, network.patch) == (224, 32, 4, 16)
    assert (network.width, network.depth, network.heads) == (1024, 24, 16)
    assert (network.decoder_width, network.decoder_depth, network.decoder_heads) == (512, 8, 16)
    assert recipe.masking == MaskingConfig(kind="tube", ratio=0.75, decode_ratio=1)
    assert (objective.triplet.margin, objective.cycle.temperature) == (0.2, 0.1)
    assert objective.clip_contrast.weight == network.phase_centre == 0
    assert (optim.beta1, optim.beta2, optim.weight_decay, optim.max_grad_norm) == (0.9, 0.95, 0.05, 0.02)
    assert optim.peak_lr(recipe.fit.batch) == pytest.approx(1e-3 * 64 / 256) and recipe.fit.batch == 64


def test_recipes_refuse_unknown_fields() -> None:
    with pytest.raises(pydantic.ValidationError):
        PretrainRecipe(**RECIPES["demo"]().model_dump(), epochs=3)


def test_overview_lists_the_recipes_without_torch() -> None:
    code = "import sys; from pretrain.cli import main; main(['--help']); print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False"
    listed = done.stdout.partition("recipes:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines()] == list(RECIPES)


def test_print_config_takes_overrides_and_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--fit.steps",
        "7",
        "--fit.optim.base-lr",
        "0.5",
        "--objective.reconstruction.sector-only",
        "--monitor",
        "a:b",
        "--print-config",
    ]
    assert main(["demo", *words]) == 0
    printed = capsys.readouterr().out
    changed = json.loads(printed)
    assert changed["fit"]["steps"] == 7 and changed["fit"]["optim"]["base_lr"] == 0.5
    assert changed["objective"]["reconstruction"]["sector_only"] is True and changed["monitor"]["hooks"] == ["a:b"]
    (tmp_path / "config.json").write_text(printed)
    assert main([f"--config={tmp_path / 'config.json'}", "--print-config"]) == 0
    assert capsys.readouterr().out == printed
    assert main(["demo", "--config", str(tmp_path / "config.json"), "--fit.steps", "9", "--print-config"]) == 0
    assert json.loads(capsys.readouterr().out) == changed | {"fit": changed["fit"] | {"steps": 9}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dmo"], "did you mean 'demo'"),
        (["--data", "x"], "name a recipe"),
        (["demo"], "--data SHARDS"),
        (["demo", "--config"], "needs the path"),
        (["demo", "--network.patch", "64", "--data", "x"], "^tube masks hide parts of a frame: they take"),
        (["--config", "nowhere.json"], "no such configuration"),
    ],
)
def test_mistakes_get_one_line(words: list[str], message: str) -> None:
    with pytest.raises(EchofmError, match=message):
        main(words)


def test_a_run_goes_into_a_folder_of_its_recipe_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    outs: list[Path] = []
    monkeypatch.setattr("echofm.engine.train.start", lambda recipe, build, *, out, **others: outs.append(out))
    assert main(["demo", "--data", "s"]) == 0 and main(["demo", "--data", "s", "--out", "mine"]) == 0
    assert outs == [Path("runs/demo"), Path("mine")]


def test_installed_monitor_is_given_its_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """How `--monitor probe:ef_percent` reaches a package that pretrain must not import."""
    entry = EntryPoint("double", "test_pretrain_recipes:double", monitor.GROUP)
    monkeypatch.setattr(monitor, "entry_points", lambda group: [entry] if group == "echofm.monitors" else [])
    snapshot = monitor.Snapshot(contract=None, shards=None, folder=Path(), step=21)  # type: ignore[arg-type]
    assert monitor.load_hook("double:ef_percent")(snapshot) == {"ef_percent": 42}
    with pytest.raises(EchofmError, match="did you mean 'double'"):
        monitor.load_hook("duble")


def double(argument: str) -> monitor.Hook:
    return lambda snapshot: {argument: 2 * snapshot.step}


def test_config_of_another_recipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(RECIPES["tiny"]().to_json())
    with pytest.raises(EchofmError, match="'tiny'"):
        main(["demo", "--config", str(tmp_path / "config.json")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fit.step", "3"], "--fit.steps"),
        (["--fit.steps", "0"], "steps"),
        (["--network.size", "65"], "patch"),
    ],
)
def test_wrong_settings_are_explained(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["demo", *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "field"),
    [({"grad_checkpointing": True}, "grad_checkpointing"), ({"fit": {"accumulate": 2}}, "fit.accumulate")],
)
def test_what_saves_memory_may_differ_on_resume(
    change: dict[str, Any], field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("echofm.engine.run.console.print", lambda text, **_: lines.append(text))
    first = RECIPES["demo"]()
    fit = first.fit.model_copy(update=change.get("fit", {}))
    Run.open(tmp_path / "run", first, env={"data": {}}, resume=False)
    changed = first.model_copy(update={**change, "fit": fit})
    Run.open(tmp_path / "run", changed, env={"data": {}}, resume=True)
    assert len(lines) == 1 and lines[0].startswith(field + ": ") and "only to round-off" in lines[0]
