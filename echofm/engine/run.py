"""Run: the folder of one training run, and the promise that whatever happens it can be continued.

RUN/config.json   the recipe, whole          RUN/metrics.jsonl   one line per logged step
RUN/env.json      one entry per start        RUN/tensorboard/    the same figures
RUN/state/        for resuming, last k       RUN/pictures/       what the task shows
RUN/export/       the result
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from echofm.atomic import PART, clear_parts, whole_folder, write_whole
from echofm.engine.config import FitConfig
from echofm.engine.parallel import on_main, processes
from echofm.engine.player import Trained
from echofm.engine.state import (
    is_exported,
    read_state,
    rng_of_this_process,
    state_json,
    write_state,
    writing,
)
from echofm.engine.task import Nets, Task
from echofm.engine.track import Tracker, cut_metrics
from echofm.errors import EchofmError
from echofm.progress import console
from echofm.schema import FrozenModel


class Run:
    """One run's folder. Only the main process writes.

    start_step: the step of the state from which the run goes on; 0 at its start.
    exported: whether export/ was written, whole, from that state.
    """

    def __init__(self, folder: Path, *, start_step: int) -> None:
        self.folder, self.start_step = folder, start_step
        self.exported = (folder / "export").is_dir() and is_exported(folder / "state" / _state_name(start_step))
        self.main = processes().is_main_process

    @classmethod
    def open(cls, folder: Path, config: FrozenModel, *, env: dict[str, Any], resume: bool) -> Run:
        """Start a run in a new folder, or with `resume` go on with the one that is there (if there is one).

        env: what to write down about this start; its "data" must be the same each time.
        Raises EchofmError where a run is there already and `resume` is not set, where a field of the
        configuration that changes the weights differs, or the data do.
        """

        def prepare() -> None:
            with writing("the run folder"):
                _prepare(folder, config, env, resume)
                cut_metrics(folder / "metrics.jsonl", after_step=_last_step(folder))

        on_main(prepare)
        return cls(folder, start_step=_last_step(folder))

    def restore(self, players: Sequence[Trained], accelerator: Accelerator) -> None:
        """Load the last saved state, if there is one."""
        if self.start_step:
            folder = self.folder / "state" / _state_name(self.start_step)
            read_state(folder, players, process=accelerator.process_index, device=accelerator.device)

    def save(self, step: int, players: Sequence[Trained], accelerator: Accelerator, *, keep: int) -> None:
        """Save the state after `step`, all of it or nothing, and remove all but the last `keep`.

        Called by every process; the others wait for the main one, however slow its disk (echofm.engine.parallel).
        Raises EchofmError where the disk refuses; the states before it stay whole.
        """
        rng = {
            name: accelerator.gather(row.to(accelerator.device)).cpu()
            for name, row in rng_of_this_process(accelerator.device).items()
        }
        final = self.folder / "state" / _state_name(step)

        def write() -> None:
            if final.exists():
                return
            with writing(f"the state of step {step}"), whole_folder(final) as folder:
                write_state(folder, players, step=step, rng=rng)
            for old in _states(self.folder)[:-keep]:
                shutil.rmtree(old)

        on_main(write)

    def export(self, task: Task, nets: Nets, *, step: int, card: Mapping[str, Any]) -> None:
        """Have the task write its result to export/, replacing an older one, and note it in the state of that step.

        Called by every process; the others wait for the main one.
        """

        def write() -> None:
            final = self.folder / "export"
            with writing("the export"), whole_folder(final, replace=True) as folder:
                task.export(folder, nets, card=card)
            with writing("the export"):
                state = self.folder / "state" / _state_name(step)
                write_whole(state / "state.json", state_json(step=step, exported=True))

        on_main(write)

    def tracker(self, config: FitConfig) -> Tracker:
        """Where this process's figures go: nowhere, unless it is the main one."""
        return Tracker(self.folder, config, start_step=self.start_step, enabled=self.main)


def _prepare(folder: Path, config: FrozenModel, env: dict[str, Any], resume: bool) -> None:
    path = folder / "config.json"
    starts: list[dict[str, Any]] = []
    if path.exists():
        if not resume:
            raise EchofmError("the folder given as --out holds a run; --resume goes on with it, or name another one")
        roundings = _refuse_differences(type(config).from_json(path), config)
        if (folder / "env.json").exists():
            starts = json.loads((folder / "env.json").read_text(encoding="utf-8"))
        if starts and starts[0].get("data") != env.get("data"):
            raise EchofmError(
                "the data (--data) or the networks given are not those that this run began with: their digests differ"
            )
        if starts:
            _warn_of_other_bits(starts[0], env)
        for name, was, now in roundings:
            _say_other_bits(name, was, now)
    elif folder.exists() and any(child.name != "state" and not child.name.endswith(PART) for child in folder.iterdir()):
        raise EchofmError("the folder given as --out is not empty and holds no run; name another one")
    (folder / "state").mkdir(parents=True, exist_ok=True)
    # A process killed while writing leaves these behind.
    clear_parts(folder)
    clear_parts(folder / "state")
    if not path.exists():
        write_whole(path, config.to_json())
    write_whole(folder / "env.json", json.dumps([*starts, env], indent=2) + "\n")


def _warn_of_other_bits(first: dict[str, Any], now: dict[str, Any]) -> None:
    """The order of additions depends on these; the run goes on, but not to the very bits."""
    for name in ("processes", "threads", "device", "packages"):
        if first.get(name) != now.get(name):
            _say_other_bits(name, first.get(name), now.get(name))


def _say_other_bits(name: str, was: Any, now: Any) -> None:
    console.print(
        f"{name}: {was} when this run began, {now} now; it goes on, but its weights will equal those of an unbroken "
        "run only to round-off",
        highlight=False,
    )


def _refuse_differences(old: FrozenModel, new: FrozenModel, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Name, value then and value now of the fields that differ and change the weights by round-off alone.

    Raises EchofmError on one that changes them by more.
    """
    free: frozenset[str] = getattr(type(old), "free_on_resume", frozenset())
    rounding: frozenset[str] = getattr(type(old), "rounding_on_resume", frozenset())
    found: list[tuple[str, Any, Any]] = []
    for field in type(old).model_fields:
        was, now = getattr(old, field), getattr(new, field)
        if isinstance(was, FrozenModel) and type(was) is type(now):
            found += _refuse_differences(was, now, f"{prefix}{field}.")
        elif was != now and field in rounding:
            found.append((f"{prefix}{field}", was, now))
        elif was != now and field not in free:
            raise EchofmError(
                f"this run has {prefix}{field} = {was}, asked for is {now}; a resumed run keeps it: change it back, or "
                "start another run in a new folder"
            )
    return found


def _state_name(step: int) -> str:
    return f"step_{step:08d}"


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def _last_step(folder: Path) -> int:
    """Of the newest state; 0 where there is none."""
    return max((_step(state) for state in _states(folder)), default=0)


def _states(folder: Path) -> list[Path]:
    return sorted((folder / "state").glob("step_*"), key=_step)
