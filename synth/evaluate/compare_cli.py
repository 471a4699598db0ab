"""Cards side by side: the verdicts and figures of evaluations made before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from echofm.errors import EchofmError
from synth.evaluate.card import CARD, PANELS, Card


@dataclass(frozen=True)
class Arguments:
    """Print the verdicts of two cards or more, a column a set."""

    cards: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CARD")]
    """Folders written by `echofm synth evaluate`."""


def main(argv: list[str]) -> int:
    """Parse the command and print."""
    given = tyro.cli(Arguments, args=argv, prog="echofm synth compare", description=Arguments.__doc__)
    if len(given.cards) < 2:
        raise EchofmError("one card has nothing to stand beside; give two or more")
    cards = [load_card(each) for each in given.cards]
    if len({(card.encoders["encoder"], str(card.real)) for card in cards}) > 1:
        raise EchofmError("the cards compare other real clips or other encoders; evaluate the sets in one command")
    sets = [each for card in cards for each in card.sets]
    for name in PANELS:
        print(name)
        for each in sets:
            panel = each.panels[name]
            print(f"  {each.name}  {panel.verdict}  {panel.headline}")
            for figure in panel.figures:
                print(
                    f"    {figure.name}: {figure.found.value:.3g} ({figure.found.low:.3g} to {figure.found.high:.3g})"
                )
    return 0


def load_card(folder: Path) -> Card:
    """The card of a folder. Raises EchofmError where there is none or it is damaged."""
    if not (folder / CARD).is_file():
        raise EchofmError(f"{folder} holds no {CARD}; `echofm synth evaluate --out {folder}` writes it")
    return Card.from_json(folder / CARD)
