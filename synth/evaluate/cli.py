"""What synthetic sets are worth: fidelity, diversity, control, utility and privacy on one card.

Exit codes: 0 done, 1 done and a panel fails, 2 bad input.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from echofm.embed.options import EmbedOptions
from synth.evaluate.settings import EvaluateSettings


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Set synthetic sets beside the real patients that their generators were trained on, and beside new ones.

    echofm synth evaluate --real shards --synthetic made/set --encoder runs/first/export --out card
    """

    real: Annotated[str, tyro.conf.arg(metavar="SET")]
    """Real clips: the train split trained the generator, val and test are held out."""
    synthetic: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET")]
    """Synthetic sets: folders in any layout, shards or tables; columns of one card."""
    encoder: Annotated[str, tyro.conf.arg(metavar="ENCODER")]
    """What embeds the clips, as in `echofm embed`."""
    out: Path
    """Folder for card.html, card.json and each set's audit."""
    holdout: Annotated[str | None, tyro.conf.arg(metavar="SET")] = None
    """Held-out patients, where --real has none."""
    settings: tyro.conf.OmitArgPrefixes[EvaluateSettings] = field(default_factory=EvaluateSettings)
    embed: tyro.conf.OmitArgPrefixes[EmbedOptions] = field(default_factory=EmbedOptions)


def main(argv: list[str]) -> int:
    """Parse the command and run it."""
    given = tyro.cli(Arguments, args=argv, prog="echofm synth evaluate", description=Arguments.__doc__)
    given.settings.check()
    from synth.evaluate.api import evaluate_sets
    from synth.evaluate.inputs import names_of

    found = evaluate_sets(
        given.real,
        names_of(list(given.synthetic)),
        encoder=given.encoder,
        holdout=given.holdout,
        settings=given.settings,
        embed=given.embed,
    )
    found.save(given.out)
    for each in found.card.sets:
        for name, panel in each.panels.items():
            print(f"{each.name}  {name:<9}  {panel.verdict:<10}  {panel.headline}")
    print(f"card: {given.out / 'card.html'}", file=sys.stderr)
    return int(found.card.fails)
