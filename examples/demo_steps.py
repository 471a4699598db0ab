"""The steps of a demo: commands as a user would type them, each with its time."""

from __future__ import annotations

import json
import os
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from echofm import cli
from echofm.atomic import write_whole
from echofm.errors import EchofmError
from echofm.report.page import Page
from echofm.schema import FrozenModel

_DONE, _SETTINGS = "steps.json", "demo.json"


Options = TypeVar("Options", bound="DemoOptions")


class DemoOptions(FrozenModel):
    """What every demo may be asked."""

    out: Path
    """Folder for everything; an interrupted or finished demo of the same settings goes on."""
    small: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Networks of a few thousand weights, which learn nothing: to see everything work."""


def begun(kind: type[Options], argv: list[str], description: str | None) -> tuple[Options, Steps]:
    """The options of a command line, and the steps of a new demo or of one of the same settings.

    Raises EchofmError where the folder holds anything else.
    """
    options = tyro.cli(kind, args=argv, description=description)
    out, mark = options.out, options.out / _SETTINGS
    settings = options.model_dump_json(indent=1, exclude={"out"}) + "\n"
    if mark.is_file():
        if mark.read_text(encoding="utf-8") != settings:
            raise EchofmError(f"{out} holds a demo of other settings ({_SETTINGS}); give another --out")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EchofmError(f"{out} is there already and no earlier demo; choose another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(mark, settings)
    return options, Steps(out)


@dataclass
class Steps:
    """Runs commands in this process and remembers in a file which are done, and how long they took."""

    out: Path
    done: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A key and a cache of its own, so that the demo leaves nothing in anyone's home.
        os.environ["ECHOFM_HOME"] = str(self.out / "home")
        self._begun_s, path = time.monotonic(), self.out / _DONE
        self._before: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def echofm(self, *words: str | Path, may_find: bool = False) -> None:
        """`echofm WORDS`, unless it is done already. Ends the demo where it fails; 1 is no failure if it may find."""
        shown = shlex.join(["echofm", *map(str, words)])
        print(f"\n[{len(self.done) + 1}] {shown}", flush=True)
        if shown not in self._before:
            begun_s = time.monotonic()
            code = cli.main([str(word) for word in words])
            if code > int(may_find):
                raise EchofmError(f"the step ended with exit code {code}; its own message is above")
            self._before[shown] = time.monotonic() - begun_s
            write_whole(self.out / _DONE, json.dumps(self._before, indent=1) + "\n")
        self.done.append((shown, self._before[shown]))
        print(f"    {self._before[shown]:.0f} s", flush=True)

    def end(self, page: Page) -> None:
        """Save the page and say where it is."""
        page.save(self.out / "index.html")
        minutes, seconds = divmod(round(time.monotonic() - self._begun_s), 60)
        print(f"\n{minutes} min {seconds} s this time. Open {self.out / 'index.html'}")
