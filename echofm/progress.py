"""One progress bar for all long work: what it does, how far, how long still, what it waits for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Standard error, so that a command's result can be piped.
console = Console(file=sys.stderr, stderr=True, soft_wrap=True)


class Bar:
    """Handle of one running bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        """Move on; `note` says what the work waits for or its latest figure. Never put a file's name into it."""
        self._progress.advance(self._task, steps)
        if note is not None:
            self._progress.update(self._task, note=note)


def left(seconds: float) -> str:
    """How long work still takes, for people: `2 h 05 min`, `7 min`, `40 s`."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


@contextmanager
def progress_bar(title: str, total: float | None, *, show: bool = True) -> Iterator[Bar]:
    """A bar with counts, elapsed time and ETA on standard error; silent where that is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not (show and console.is_terminal), transient=False) as progress:
        yield Bar(progress, progress.add_task(title, total=total, note=""))
