"""What a report is made of: prose, notices, commands, tables, pictures, film strips, clips.

Every text is escaped when it is rendered; a word between `backticks` is set as code. There is no other markup.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from echofm.report import style

Theme = Literal["light", "dark"]
# CSS pixels per inch of figure.
_SCREEN_SCALE = 122


class Block:
    """One piece of a section."""

    @property
    def kind(self) -> str:
        """The name of its macro in page.html."""
        return type(self).__name__.lower()


@dataclass(frozen=True, kw_only=True)
class Captioned(Block):
    """A block with a line under it: what is shown and what it means. tag: set before it, e.g. "generated"."""

    caption: str = ""
    tag: str = ""


@dataclass(frozen=True)
class Prose(Block):
    """Paragraphs, parted by blank lines."""

    text: str

    @property
    def paragraphs(self) -> list[str]:
        """Each paragraph on one line."""
        return [" ".join(part.split()) for part in self.text.split("\n\n") if part.strip()]


@dataclass(frozen=True)
class Notice(Block):
    """A framed remark; a "warning" is what nobody may overlook."""

    text: str
    level: Literal["note", "warning"] = "note"


@dataclass(frozen=True)
class Facts(Block):
    """Names and what stands for each, a line each; one without a text is a line to be filled in by hand."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Decision(Block):
    """What a page comes to, set above all else. level: "act" where a person has to, "open" where nothing is decided.

    facts: what it rests on. command: what to type next.
    """

    text: str
    level: Literal["act", "open", "none"] = "none"
    facts: Sequence[tuple[str, str]] = ()
    command: str = ""


@dataclass(frozen=True)
class Commands(Block):
    """Commands as typed, one a line."""

    text: str


@dataclass(frozen=True)
class Table(Captioned):
    """A table. Numbers are set right-aligned with three significant digits; give a string where more are due."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def cells(self) -> list[list[tuple[str, bool]]]:
        """By row: each cell's text and whether it is a number."""
        return [[(_shown(value), isinstance(value, int | float | np.number)) for value in row] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [any(row[place][1] for row in self.cells) for place in range(len(self.columns))]


@dataclass(frozen=True)
class Picture(Captioned):
    """A matplotlib figure, drawn once for a light page and once for a dark one.

    draw: makes the figure from the current matplotlib settings.
    alt: what it shows, for those who cannot see it.
    """

    draw: Callable[[], Figure]
    alt: str

    @property
    def sources(self) -> dict[Theme, str]:
        """data: URI per theme."""
        return {theme: _data_uri(png) for theme, png in self._pngs.items()}

    @property
    def width(self) -> int:
        """CSS pixels at which the figure's text has the size of the page's captions."""
        return round(_SCREEN_SCALE * Image.open(io.BytesIO(self._pngs["light"])).width / style.DPI)

    @cached_property
    def _pngs(self) -> dict[Theme, bytes]:
        return {theme: self._png(theme) for theme in ("light", "dark")}

    def _png(self, theme: Theme) -> bytes:
        with style.themed(theme):
            figure = self.draw()
            buffer = io.BytesIO()
            # Without the version of matplotlib in it, the same figure has the same bytes.
            figure.savefig(buffer, format="png", dpi=style.DPI, metadata={"Software": None})
        return buffer.getvalue()


@dataclass(frozen=True)
class Panels(Captioned):
    """Pictures side by side, one above the other where the screen is narrow."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class FilmStrip(Captioned):
    """Frames in rows that belong together column by column; scrolls sideways where the screen is narrow.

    rows: name -> frames, uint8 (T, H, W) or (T, H, W, 3), all with the same T.
    columns: one label per frame, e.g. "0.24 s"; none at all by default.
    """

    rows: Mapping[str, npt.NDArray[np.uint8]]
    alt: str
    columns: Sequence[str] = ()

    def __post_init__(self) -> None:
        lengths = {len(frames) for frames in self.rows.values()}
        assert len(lengths) == 1, "the rows of a film strip have one length"
        assert not self.columns or len(self.columns) == lengths.pop(), "one label per frame"

    @cached_property
    def images(self) -> dict[str, list[str]]:
        """data: URI per frame, by row."""
        return {name: [_frame(frame) for frame in frames] for name, frames in self.rows.items()}

    @property
    def width(self) -> int:
        """Frames in a row."""
        return len(next(iter(self.rows.values())))


@dataclass(frozen=True)
class Strips(Captioned):
    """Film strips side by side where there is room. on_paper: how many of them a print shows."""

    strips: Sequence[FilmStrip]
    on_paper: int


@dataclass(frozen=True)
class Cines(Captioned):
    """Clips that play side by side, again and again, each under its name.

    clips: name -> frames, uint8 (T, H, W). frame_rate_hz: at which they play.
    """

    clips: Mapping[str, npt.NDArray[np.uint8]]
    frame_rate_hz: float
    alt: str

    @cached_property
    def images(self) -> dict[str, str]:
        """data: URI of an animation per clip."""
        return {name: animation(frames, self.frame_rate_hz) for name, frames in self.clips.items()}


def animation(frames_THW: npt.NDArray[np.uint8], frame_rate_hz: float) -> str:
    """data: URI of a clip, (T, H, W) uint8, that plays again and again."""
    first, *others = (Image.fromarray(np.ascontiguousarray(frame)).convert("RGB") for frame in frames_THW)
    buffer = io.BytesIO()
    first.save(
        buffer, "webp", save_all=True, append_images=others, duration=round(1000 / frame_rate_hz), loop=0, quality=85
    )
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def still(frame_HW: npt.NDArray[np.uint8]) -> str:
    """data: URI of a picture, (H, W) uint8, a third of a PNG's size."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame_HW)).convert("RGB").save(buffer, "webp", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _frame(frame_HW: npt.NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame_HW)).save(buffer, "png", optimize=True)
    return _data_uri(buffer.getvalue())


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return "–"
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
