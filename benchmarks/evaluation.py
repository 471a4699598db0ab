"""Can the card fail? Sets whose faults are known, each of whose panels must fail for its own fault and for no other.

    python -m benchmarks.evaluation --train SHARDS --holdout SHARDS --new SHARDS --encoder E --out OUT

Shards of the phantom, of three lots of patients: those that a generator would have been trained on, held-out ones, and
new ones, from whom the sets are made. OUT keeps sets and features; given again, what is there is not made again. Exit
code 1: a panel fails wrongly, or one that must fail does not.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.evaluation_sets import SHOWN_STRENGTH, STRENGTHS, Made, name_of, sets_of, write_set
from echofm.embed.options import EmbedOptions
from echofm.intervals import Estimate
from echofm.shards.read import ShardSet
from synth.evaluate.api import evaluate_sets
from synth.evaluate.card import PANELS, Card, SetCard
from synth.evaluate.settings import EvaluateSettings

_RANKED = "kernel distance, "


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Three lots of patients, and what looks at them."""

    train: Path
    holdout: Path
    new: Path
    encoder: str
    out: Path
    canaries: int = 20
    second: str = EvaluateSettings.second


def main(arguments: Arguments) -> int:
    """Make the sets, their card and the tables."""
    made = sets_of(ShardSet.open(arguments.train), ShardSet.open(arguments.new))
    size = ShardSet.open(arguments.new).manifest.settings.size
    paths = {name: write_set(each, arguments.out / "sets" / name, size=size) for name, each in made.items()}
    found = evaluate_sets(
        arguments.train,
        paths,
        encoder=arguments.encoder,
        holdout=arguments.holdout,
        settings=EvaluateSettings(canaries=arguments.canaries, second=arguments.second),
        embed=EmbedOptions(cache=arguments.out / "cache"),
    )
    found.save(arguments.out / "card")
    shown = [each for each in found.card.sets if each.name not in _noises() or each.name == name_of(SHOWN_STRENGTH)]
    print(panels_table(shown, made), ranks_table(found.card), sep="\n\n")
    wrong = [name for each in found.card.sets for name in faults(each, made[each.name])]
    for each in wrong:
        print(each, file=sys.stderr)
    return int(bool(wrong))


def faults(card: SetCard, made: Made) -> list[str]:
    """Panels that fail wrongly, and the set's own where it does not fail. Weak noise need not be seen."""
    failed = [name for name in PANELS if card.panels[name].verdict == "fail"]
    wrong = [f"{card.name}: {name} fails wrongly" for name in failed if name not in made.fails]
    weak = card.name in _noises() and card.name != name_of(SHOWN_STRENGTH)
    if made.fails and made.fails[0] not in failed and not weak:
        wrong.append(f"{card.name}: {made.fails[0]} should fail")
    return wrong


def panels_table(sets: Sequence[SetCard], made: Mapping[str, Made]) -> str:
    """Markdown: a row a set, a column a panel; its own panel in bold."""
    lines = [f"| set (phantom) | {' | '.join(PANELS)} |", "|---" * (len(PANELS) + 1) + "|"]
    for each in sets:
        words = {name: panel.verdict.replace("_", " ") for name, panel in each.panels.items()}
        own = made[each.name].fails[:1]
        cells = [f"**{words[name]}**" if name in own else words[name] for name in PANELS]
        lines.append(f"| {each.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ranks_table(card: Card) -> str:
    """Markdown: the kernel distance of every strength of noise, a row a space."""
    sets = {each.name: each.panels["fidelity"].figures for each in card.sets}
    names = ["new patients", *_noises()]
    lines = [f"| kernel distance (phantom) | {' | '.join(names)} | in order |", "|---" * (len(names) + 2) + "|"]
    spaces = [each.name for each in sets[names[0]] if each.name.startswith(_RANKED)]
    for space in spaces:
        row = [next(figure.found for figure in sets[name] if figure.name == space) for name in names]
        ordered = in_order(row[1:])
        lines.append(
            f"| {space.removeprefix(_RANKED)} | {' | '.join(map(_shown, row))} | {'yes' if ordered else 'no'} |"
        )
    return "\n".join(lines)


def in_order(found: Sequence[Estimate]) -> bool:
    """Whether each is higher than the one before it."""
    return all(one.value < other.value for one, other in itertools.pairwise(found))


def _noises() -> list[str]:
    return [name_of(each) for each in STRENGTHS]


def _shown(each: Estimate) -> str:
    return f"{each.value:.3g} [{each.low:.2g}, {each.high:.2g}]"


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments, description=__doc__)))
