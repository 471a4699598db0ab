"""What the pages name is there: linked files and headings, paths, Python names, and every option of every command."""

from __future__ import annotations

import contextlib
import io
import pkgutil
import re
from functools import cache
from pathlib import Path

import pytest
from test_layering import HELPS

from echofm import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "echofm/engine/README.md")]
PAGES += sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
# What a page asks its reader to write.
TO_BE_WRITTEN = {"echofm/readers/datasets/NAME.py", "echofm/loss/slowness.py", "--objective.slowness.weight"}
# Of torchrun and uv.
OTHERS = {"--nproc_per_node", "--no-python", "--universal"}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            assert heading in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], link


@pages
def test_paths_and_python_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"(?<![\w/.])(?:echofm|pretrain|probe|synth|tests|benchmarks|examples)/[\w/]+\.(?:py|md)", text)
    assert [path for path in paths if path not in TO_BE_WRITTEN and not (ROOT / path).exists()] == []
    groups = re.findall(r'"(echofm\.\w+)"\]', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name in re.findall(r"`((?:echofm|pretrain|probe|synth|benchmarks)(?:\.\w+)+)", text):
        if name not in groups and not name.endswith((".py", ".json")):
            pkgutil.resolve_name(name)


@pages
def test_options_are_the_commands_own(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.M | re.S)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    for code in [line.split("#")[0] for block in blocks for line in block.splitlines()] + spans:
        found = re.search(r"(?:^|[ &])echofm ([a-z].*)", code, re.S)
        if found:
            known, asked = options(*_command(found[1].split())), found[1]
        elif code.startswith("--") and page.parent.name != "benchmarks":
            known, asked = set().union(*(options(*words) for words in HELPS)), code
        else:
            continue
        assert set(re.findall(r"(?<!\S)--[a-z][\w.-]*", asked)) <= known | OTHERS | TO_BE_WRITTEN, code


def _command(words: list[str]) -> list[str]:
    """The words before a command's arguments; `demo` where a recipe is left open."""
    count = 1 if words[0] == "pretrain" else 3 if words[:2] == ["synth", "train"] and len(words) > 2 else 0
    if count:
        recipe = " ".join(words[count : count + 1])
        return [*words[:count], recipe if re.fullmatch("[a-z_]+", recipe) else "demo"]
    return words[:2] if words[:2] in HELPS else words[:1]


@cache
def options(*words: str) -> set[str]:
    """All that a command's help names."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        cli.main([*words, "--help"])
    assert "usage" in shown.getvalue(), words
    return set(re.findall(r"--[a-z][\w.-]*\w", shown.getvalue()))
