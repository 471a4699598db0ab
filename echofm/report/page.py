"""Page: sections of blocks become one HTML file that loads nothing from anywhere."""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

import echofm
from echofm.atomic import write_whole
from echofm.errors import os_errors_as
from echofm.report.blocks import Block, Decision, Notice
from echofm.report.gallery import Gallery, script

_CODE = re.compile(r"`([^`]+)`")


@dataclass
class Page:
    """A report in the making. The same blocks give the same bytes.

    title: one line. lead: what stands under it, a paragraph per line. decision: what the page comes to, above both
    lead and sections. Nothing here may name a patient or a file: ids are hashes.
    """

    title: str
    lead: str = ""
    sections: list[tuple[str, str, tuple[Block, ...]]] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    decision: Decision | None = None
    screen_only: set[str] = field(default_factory=set)

    def add(self, title: str, *blocks: Block, on_paper: bool = True) -> Page:
        """Append a section; returns the page, so that calls can be chained. on_paper: whether a print shows it."""
        anchor = f"{len(self.sections) + 1}-{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}"
        self.sections.append((anchor, title, blocks))
        if not on_paper:
            self.screen_only.add(anchor)
        return self

    def warn(self, text: str) -> Page:
        """Put a banner above everything else."""
        self.warnings.append(Notice(text, "warning"))
        return self

    def html(self) -> str:
        """The whole file."""
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("echofm.report", "."),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["inline"] = _inline
        # The file is ours, and quotes in a style sheet must not be escaped.
        css = Markup(Path(__file__).with_name("page.css").read_text(encoding="utf-8"))
        code = None
        if any(isinstance(block, Gallery) for _, _, blocks in self.sections for block in blocks):
            text, digest = script()
            code = Markup(text), digest
        return environment.get_template("page.html").render(page=self, css=css, script=code, version=echofm.__version__)

    def save(self, path: str | Path) -> Path:
        """Write the file, whole or not at all. Raises EchofmError where that cannot be done."""
        path = Path(path)
        with os_errors_as(f"the report cannot be written to {path} ({{reason}})"):
            write_whole(path, self.html())
        return path


def today() -> str:
    """The date for a page, year first; that of $SOURCE_DATE_EPOCH where it is set, so that a page can be repeated."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given.isdigit():
        return datetime.datetime.fromtimestamp(int(given), datetime.timezone.utc).date().isoformat()
    return datetime.date.today().isoformat()


def _inline(text: str) -> Markup:
    """Escape, then set `this` as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))
