"""How the house is kept: sizes, circles of imports, words, length of the docs. CONTRIBUTING.md says why."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("echofm", "pretrain", "probe", "synth")
PRODUCT = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
CODE = sorted(
    {*PRODUCT, *(path for folder in ("tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))}
)
MOST_LINES, MOST_FUNCTION_LINES, MOST_WORDS = 300, 60, 20_000
# Private English that the field's words replaced (CONTRIBUTING.md, glossary).
BANNED = re.compile(
    r"(?:^|_)(?:told|said|rivals?|twins?|maker|culprits|moments|place_share|prior_reach|lr_per_256|final_lr_share|"
    r"clip_norm|recompute)(?:$|_)"
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {node.name: lines for node in functions if (lines := _lines(node)) > MOST_FUNCTION_LINES}
    assert not long


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_names_are_the_fields_words(path: Path) -> None:
    names = {*path.relative_to(ROOT).with_suffix("").parts, *_names(ast.parse(path.read_text(encoding="utf-8")))}
    if path == Path(__file__):
        return
    assert not sorted(name for name in names if BANNED.search(_snake(name)))


def test_the_word_list_finds_what_it_should() -> None:
    for name in ("said_N", "--no-rivals", "TableMaker", "_twin", "prior_reach", "clipNorm", "recompute"):
        assert BANNED.search(_snake(name)), name
    for name in ("unsaid", "makers_mark", "momentum", "moment", "clip_normal"):
        assert not BANNED.search(_snake(name)), name


def _names(tree: ast.AST) -> Iterator[str]:
    """Identifiers, and strings that are one word as options and keys are."""
    for node in ast.walk(tree):
        for field in ("id", "name", "attr", "arg", "asname"):
            if isinstance(name := getattr(node, field, None), str):
                yield name
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.-]+", node.value):
            yield node.value


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-.]+", "_", name).lower()


def test_no_circle_of_imports() -> None:
    arrows = {_module(path): set(_imported(path)) for path in PRODUCT}
    assert not [circle for module in arrows if (circle := _circle(module, arrows))]


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path) -> Iterator[str]:
    """Modules of the house that a file imports, wherever in it but for the type checker alone."""
    modules = {_module(each) for each in PRODUCT}
    for node in _run(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else node.module for name in inner)


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """A tree's nodes, those under `if TYPE_CHECKING` left out."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield from _run(child)


def _circle(start: str, arrows: dict[str, set[str]]) -> list[str] | None:
    """A shortest way from a module back to itself; None where there is none."""
    ways, seen = [[start, each] for each in sorted(arrows[start])], {start}
    while ways:
        way = ways.pop(0)
        if way[-1] == start:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [[*way, each] for each in sorted(arrows[way[-1]])]
    return None


def test_docs_are_short() -> None:
    docs = [path for path in ROOT.rglob("*.md") if _is_doc(path)]
    assert sum(len(path.read_text(encoding="utf-8").split()) for path in docs) <= MOST_WORDS


def _is_doc(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return parts[0] not in ("tests", "benchmarks") and not any(part.startswith(".") or "venv" in part for part in parts)
