"""The core imports none of the packages above it, those never one another, and `import echofm` stays cheap."""

from __future__ import annotations

import ast
import contextlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from echofm import cli

ROOT = Path(__file__).parents[1]
UPPER = ("pretrain", "probe", "synth")
HELPS = [
    *([name] for name in ("check", "convert", "embed", "phantom", "shards", "probe", "audit", "view")),
    *([name] for name in ("names", "export", "predict", "finetune")),
    ["audit", "duplicates"],
    *(
        ["pretrain", "demo"],
        ["probe", "compare"],
        ["audit", "filter"],
        ["audit", "fit-reid"],
        ["synth"],
        ["synth", "train"],
        ["synth", "evaluate"],
        ["synth", "compare"],
        ["synth", "downstream"],
        ["synth", "motion"],
        ["synth", "train", "mafe", "demo"],
        ["synth", "sample"],
        ["synth", "train", "video-ef", "demo"],
        ["synth", "latents"],
        ["synth", "train", "latent", "demo"],
    ),
]
MODULES = sorted(path for package in ("echofm", *UPPER) for path in (ROOT / package).rglob("*.py"))


def imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the whole name"
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_down(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    forbidden = set(UPPER) - {own} | {"tests", "benchmarks", "examples"}
    assert not imported_packages(path) & forbidden


OUTSIDE = sorted(path for folder in ("benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_stands_outside_imports_what_is_there(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("echofm", *UPPER):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def test_the_tree_was_found() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize("module", ["echofm", "echofm.cli"])
def test_import_brings_no_torch(module: str) -> None:
    heavy = "{'torch', 'decord', 'av', 'pydicom', 'webdataset', 'matplotlib', 'sklearn', 'scipy'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_overview_brings_no_torch() -> None:
    code = "import sys, echofm.cli; echofm.cli.main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "convert" in done.stdout and done.stdout.splitlines()[-1] == "False"


def test_no_catch_all_file_names() -> None:
    assert not [path for path in MODULES if path.stem in ("utils", "helpers", "util", "helper", "misc", "common")]


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help_shows_no_none(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        cli.main([*words, "--help"])
    text = capsys.readouterr().out
    assert "usage" in text and "{None" not in text
