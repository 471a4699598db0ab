"""A gallery: cards of clips, each a film strip that plays when it is clicked, to be filtered and sorted in the page.

K frames, H rows, W columns.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from echofm.report.blocks import Block, animation, still

_STRIP = 4
# A field of more words is no choice but a name.
_MOST_CHOICES = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Card:
    """One clip. title: its id. frames_KHW: uint8, grey. fields: what it is filtered and sorted by."""

    title: str
    frames_KHW: npt.NDArray[np.uint8]
    fields: Mapping[str, str | float]


@dataclass(frozen=True)
class Gallery(Block):
    """Cards; without scripts all are shown in their order, as film strips."""

    cards: Sequence[Card]
    frame_rate_hz: float

    @cached_property
    def items(self) -> list[dict[str, str]]:
        """By card: title, data: URIs of strip and clip, fields as JSON and in words."""
        return [
            {
                "title": card.title,
                "strip": still(_strip(card.frames_KHW)),
                "clip": animation(card.frames_KHW, self.frame_rate_hz) if len(card.frames_KHW) > 1 else "",
                "fields": json.dumps(dict(card.fields)),
                "words": ", ".join(
                    f"{name} {_shown(value)}" for name, value in card.fields.items() if name != "patient"
                ),
            }
            for card in self.cards
        ]

    @property
    def choices(self) -> dict[str, list[str]]:
        """The fields of few words, each with its words; of several joined by "; " each by itself."""
        found: dict[str, set[str]] = {}
        for card in self.cards:
            for name, value in card.fields.items():
                # Patients are sought by text.
                if isinstance(value, str) and name != "patient":
                    found.setdefault(name, set()).update(value.split("; "))
        return {name: sorted(words) for name, words in found.items() if 1 < len(words) <= _MOST_CHOICES}

    @property
    def orders(self) -> list[str]:
        """The fields by which cards can be sorted."""
        return list(dict.fromkeys(name for card in self.cards for name in card.fields))


def script() -> tuple[str, str]:
    """The page's one script, and its digest for the content security policy."""
    text = Path(__file__).with_name("gallery.js").read_text(encoding="utf-8")
    return text, base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _strip(frames_KHW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Some frames side by side, evenly spread."""
    picked = np.linspace(0, len(frames_KHW) - 1, min(_STRIP, len(frames_KHW))).round().astype(int)
    return np.concatenate([frames_KHW[place] for place in picked], axis=1)


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
