"""Pretrain an encoder on shards."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pydantic
import tyro

from echofm.errors import EchofmError
from echofm.schema import first_problem

if TYPE_CHECKING:
    from pretrain.recipes import PretrainRecipe

_USAGE = """usage: echofm pretrain RECIPE --data SHARDS [--out RUN] [--fit.steps N ...]
                       [--resume] [--dry-run] [--print-config]
       echofm pretrain --config RUN/config.json --data SHARDS --out RUN
       torchrun --nproc_per_node 8 -m pretrain RECIPE ...

Pretrain an encoder on shards.

recipes:
{recipes}

`echofm pretrain RECIPE --help` lists every setting. Exit codes: 0 done, or stopped by SIGTERM with state and
encoder saved (--resume goes on); 2 bad input."""


def main(argv: list[str]) -> int:
    """Parse the command and run it; torch is imported only once a recipe is named."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_USAGE.format(recipes=_overview()))
        return 0
    recipe, rest = _starting_point(argv)
    command, recipe = _parse(recipe, rest)
    if command.print_config:
        print(recipe.to_json(), end="")
        return 0
    if command.data is None:
        raise EchofmError("pretrain needs --data SHARDS (from `echofm shards`)")
    from pretrain.start import dry_run, start

    if command.dry_run:
        dry_run(recipe, data=command.data, init=command.init)
    else:
        out = command.out or Path("runs") / recipe.name
        start(recipe, data=command.data, out=out, init=command.init, resume=command.resume, argv=argv)
    return 0


@dataclass(frozen=True)
class Command:
    """What `echofm pretrain` takes beside the recipe."""

    data: Path | None = None
    """Folder of shards, from `echofm shards`."""
    out: Path | None = None
    """Folder of the run: new, or with --resume that of a run; runs/RECIPE by default."""
    init: str | None = None
    """Begin from the weights of an export, a folder or a hub id, decoder included, instead of from random ones."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in --out from its last saved state; start it if it is not there."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Build everything, take two steps and tell size, memory and time; write nothing."""
    print_config: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the whole recipe as JSON and do nothing."""


def _parse(recipe: PretrainRecipe, argv: Sequence[str]) -> tuple[Command, PretrainRecipe]:
    parts = {"command": Command, "recipe": type(recipe)}
    # Made here, since importing the recipe's class for the overview's sake would import torch.
    fields = [(name, Annotated[part, tyro.conf.arg(name="")]) for name, part in parts.items()]
    both_type = make_dataclass("Both", fields)
    try:
        both = tyro.cli(
            both_type,
            args=list(argv),
            prog=f"echofm pretrain {recipe.name}",
            description=_docstrings().get(recipe.name, ""),
            default=both_type(Command(), recipe),
        )
    except pydantic.ValidationError as error:
        # Of the recipe as a whole; those of one part tyro explains itself.
        raise EchofmError(first_problem(error)) from None
    return both.command, both.recipe


def _starting_point(argv: Sequence[str]) -> tuple[PretrainRecipe, list[str]]:
    """The recipe that the command names, or the one that a run used (--config), and the words that change it."""
    words = list(argv)
    path = _take_config(words)
    name = words.pop(0) if words and not words[0].startswith("-") else None
    if name is not None and name not in _docstrings():
        close = difflib.get_close_matches(name, _docstrings(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(_docstrings())}"
        raise EchofmError(f"no recipe {name!r}; {hint}")
    from pretrain.recipes import RECIPES, PretrainRecipe

    if path is not None:
        recipe = PretrainRecipe.from_json(path)
        if name not in (None, recipe.name):
            raise EchofmError(f"the configuration given is of recipe {recipe.name!r}, the command says {name!r}")
        return recipe, words
    if name is None:
        raise EchofmError(f"name a recipe: {', '.join(RECIPES)}; or give --config RUN/config.json")
    return RECIPES[name](), words


def _take_config(words: list[str]) -> str | None:
    """Take `--config PATH` or `--config=PATH` out of the words."""
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option == "--config":
            if not equals and index + 1 == len(words):
                raise EchofmError("--config needs the path of a configuration, e.g. RUN/config.json")
            taken = words[index : index + (1 if equals else 2)]
            del words[index : index + len(taken)]
            return value if equals else taken[1]
    return None


def _docstrings() -> dict[str, str]:
    """Name and docstring of every recipe, read without running their module, which would import torch."""
    spec = find_spec("pretrain.recipes")
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.FunctionDef)}


def _overview() -> str:
    return "\n".join(f"  {name:<7}{text.partition(chr(10))[0]}" for name, text in _docstrings().items())
