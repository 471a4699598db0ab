"""A training command: its recipes with every setting on the command line, for any trainer. Imports no torch."""

from __future__ import annotations

import argparse
import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
import tyro

from echofm.config import Recipe
from echofm.errors import EchofmError
from echofm.schema import first_problem

if TYPE_CHECKING:
    from echofm.engine.task import Task

_USAGE = """usage: {command} RECIPE --data SHARDS [--out RUN] [--fit.steps N ...]
           [--resume] [--dry-run] [--print-config]
       {command} --config RUN/config.json --data SHARDS --out RUN
       torchrun --nproc_per_node 8 --no-python {command} RECIPE ...

{about}

recipes:
{recipes}

`{command} RECIPE --help` lists every setting. Exit codes: 0 done, or stopped by SIGTERM with state and
result saved (--resume goes on); 2 bad input."""


@dataclass(frozen=True)
class NoInputs:
    """A trainer that begins from shards alone."""


@dataclass(frozen=True)
class Trainer:
    """What a training command is about.

    command: how it is called, e.g. "echofm pretrain". about: one line.
    recipes: by name, all of one class; the first line of a recipe's docstring is its line in `--help`.
    build: (recipe, shards, **inputs) -> Task; it imports torch, so it is called only where something is trained.
    inputs: a dataclass of what else it begins from, each field an option that may name a file.
    """

    command: str
    about: str
    recipes: Mapping[str, Callable[[], Any]]
    build: Callable[..., Task]
    inputs: type = NoInputs


@dataclass(frozen=True)
class Options:
    """What every training command takes beside its recipe."""

    data: Annotated[Path | None, tyro.conf.arg(metavar="SHARDS")] = None
    """Folder of shards, from `echofm shards`."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Folder of the run: new, or with --resume that of a run; runs/RECIPE by default."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in --out from its last saved state; start it if it is not there."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Build everything, take two steps and print size, memory and time; write nothing."""
    print_config: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the whole recipe as JSON and do nothing."""


def main(argv: Sequence[str], trainer: Trainer) -> int:
    """Parse the command and run it; torch is imported only where something is trained."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_USAGE.format(command=trainer.command, about=trainer.about, recipes=_overview(trainer)))
        return 0
    recipe, rest = _starting_point(argv, trainer)
    options, inputs, recipe = _parse(recipe, rest, trainer)
    if options.print_config:
        print(recipe.to_json(), end="")
        return 0
    if options.data is None:
        raise EchofmError(f"{trainer.command} needs --data SHARDS (from `echofm shards`)")
    from echofm.engine.train import dry_run, start

    build = functools.partial(trainer.build, **vars(inputs))
    if options.dry_run:
        dry_run(recipe, build, data=options.data)
        return 0
    private = [f"--{field.name.replace('_', '-')}" for field in fields(trainer.inputs)]
    out = options.out or Path("runs") / recipe.name
    start(recipe, build, data=options.data, out=out, resume=options.resume, argv=argv, private=private)
    return 0


def _parse(recipe: Recipe, argv: Sequence[str], trainer: Trainer) -> tuple[Options, Any, Recipe]:
    parts = {"options": Options, "inputs": trainer.inputs, "recipe": type(recipe)}
    made = make_dataclass("Command", [(name, Annotated[part, tyro.conf.arg(name="")]) for name, part in parts.items()])
    try:
        parsed: Any = tyro.cli(
            made,
            args=list(argv),
            prog=f"{trainer.command} {recipe.name}",
            description=inspect.getdoc(trainer.recipes[recipe.name]) or "",
            default=made(Options(), trainer.inputs(), recipe),
        )
    except pydantic.ValidationError as error:
        # Of the recipe as a whole; those of one part tyro explains itself.
        raise EchofmError(first_problem(error)) from None
    return parsed.options, parsed.inputs, parsed.recipe


def _starting_point(argv: Sequence[str], trainer: Trainer) -> tuple[Recipe, list[str]]:
    """The recipe that the command names, or the one that a run used (--config), and the words that change it."""
    (path, words), recipes = _without_config(argv), trainer.recipes
    name = words.pop(0) if words and not words[0].startswith("-") else None
    if name is not None and name not in recipes:
        close = difflib.get_close_matches(name, recipes, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(recipes)}"
        raise EchofmError(f"no recipe {name!r}; {hint}")
    if path is not None:
        recipe = type(next(iter(recipes.values()))()).from_json(path)
        if name not in (None, recipe.name) or recipe.name not in recipes:
            raise EchofmError(
                f"the configuration given is of recipe {recipe.name!r}, the command is {name or recipes!r}"
            )
        return recipe, words
    if name is None:
        raise EchofmError(f"name a recipe: {', '.join(recipes)}; or give --config RUN/config.json")
    return recipes[name](), words


def _without_config(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The path that `--config PATH` or `--config=PATH` gives, and the other words."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config")
    try:
        found, rest = parser.parse_known_args(words)
    except argparse.ArgumentError:
        raise EchofmError("--config needs the path of a configuration, e.g. RUN/config.json") from None
    return found.config, rest


def _overview(trainer: Trainer) -> str:
    width = max(map(len, trainer.recipes))
    lines = {name: (inspect.getdoc(recipe) or "").partition("\n")[0] for name, recipe in trainer.recipes.items()}
    return "\n".join(f"  {name:<{width}}  {line}" for name, line in lines.items())
