"""Can the card fail? Sets whose faults are known, each of whose panels must fail for its own fault and for no other.

    python -m benchmarks.evaluation --real SHARDS --new SHARDS --encoder E --out OUT

Shards of the phantom: of patients on whom a generator would have been trained and held-out ones, and of new patients,
from whom the sets are made. OUT keeps sets and features; given again, what is there is not made again. Exit code 1: a
panel fails wrongly, or one that must fail does not.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.evaluation_sets import Made, noised, sets_of, write_set
from echofm.embed.options import EmbedOptions
from echofm.intervals import Estimate
from echofm.metric.kernel_distance import kernel_distances
from echofm.shards.read import ShardSet
from synth.audit.inputs import encoder_of
from synth.evaluate.api import evaluate_sets
from synth.evaluate.card import PANELS, SetCard
from synth.evaluate.features import LEVELS, Level, standardised, vectors_of
from synth.evaluate.inputs import Tables, embed_all, open_sets
from synth.evaluate.settings import EvaluateSettings


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Real and new patients, and what looks at them."""

    real: Path
    """The train split trained the generator, val and test are held out."""
    new: Path
    """Of other patients."""
    encoder: str
    out: Path
    clips: int = 200
    """Of each set of the card; noise is ranked on all new clips."""
    canaries: int = 20
    second: str = EvaluateSettings.second


def main(arguments: Arguments) -> int:
    """Make the sets, their card and the tables."""
    real, new = ShardSet.open(arguments.real), ShardSet.open(arguments.new)
    options = EmbedOptions(cache=arguments.out / "cache")
    size = new.manifest.settings.size
    made = sets_of(real.split("train"), new, clips=arguments.clips)
    paths = {name: write_set(each, arguments.out / "sets" / name, size=size) for name, each in made.items()}
    settings = EvaluateSettings(canaries=arguments.canaries, second=arguments.second)
    found = evaluate_sets(arguments.real, paths, encoder=arguments.encoder, settings=settings, embed=options)
    found.save(arguments.out / "card")
    print(panels_table(found.card.sets, made), flush=True)
    noise = noised(new, clips=len(new))
    several = {name: write_set(each, arguments.out / "ranked" / name, size=size) for name, each in noise.items()}
    print(ranks_table(arguments, {"new patients": arguments.new, **several}, options))
    wrong = [name for each in found.card.sets for name in faults(each, made[each.name])]
    for each in wrong:
        print(each, file=sys.stderr)
    return int(bool(wrong))


def faults(card: SetCard, made: Made) -> list[str]:
    """Panels that fail wrongly, and the set's own where it does not fail."""
    failed = [name for name in PANELS if card.panels[name].verdict == "fail"]
    wrong = [f"{card.name}: {name} fails wrongly" for name in failed if name not in made.fails]
    if made.fails and made.fails[0] not in failed:
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


def ranks_table(arguments: Arguments, paths: Mapping[str, Path], options: EmbedOptions) -> str:
    """Markdown: the kernel distance to held-out patients of new ones and of every strength of noise, a row a space."""
    lines = [f"| kernel distance (phantom) | {' | '.join(paths)} | in order |", "|---" * (len(paths) + 2) + "|"]
    opened = open_sets(arguments.real, None, paths, options)
    for name in (arguments.encoder, arguments.second):
        called = "encoder" if name == arguments.encoder else "second encoder"
        tables = embed_all(opened, encoder_of(name, options), options, called=called)
        for level in LEVELS:
            found = _distances(tables, level)
            order = "yes" if in_order(found[1:]) else "no"
            lines.append(f"| {called}, {level} | {' | '.join(map(_shown, found))} | {order} |")
    return "\n".join(lines)


def _distances(tables: Tables, level: Level) -> list[Estimate]:
    parts = [vectors_of(tables.train, level), vectors_of(tables.holdout, level)]
    parts += [vectors_of(each, level, synthetic=True) for each in tables.synthetic.values()]
    vectors = [each for each in parts if each is not None]
    assert len(vectors) == len(parts), "videos have vectors of every level"
    _, held, *made = standardised(vectors[0], vectors[1:])
    sets = [(each.vectors_VD, each.patients) for each in made]
    return kernel_distances(held.vectors_VD, sets, patients=held.patients)[: len(sets)]


def in_order(found: Sequence[Estimate]) -> bool:
    """Whether each is higher than the one before it."""
    return all(one.value < other.value for one, other in itertools.pairwise(found))


def _shown(each: Estimate) -> str:
    return f"{each.value:.3g} [{each.low:.2g}, {each.high:.2g}]"


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments, description=__doc__)))
