"""Where a run's figures go: metrics.jsonl, TensorBoard, a bar in the terminal and, if asked for, W&B."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from echofm.atomic import sync, write_whole
from echofm.engine.config import FitConfig
from echofm.engine.state import writing
from echofm.errors import EchofmError
from echofm.progress import console, left, progress_bar

# Without a terminal, a line of progress this often.
_LINE_EVERY_S = 60.0


class Tracker:
    """Takes one record per logged step. Use it as a context; it closes every file.

    metrics.jsonl: {"step", every figure, "clips_per_s", "data_wait_share", "eta_s"}; what is no number is null.
    pictures/: the figures that are pictures.
    """

    def __init__(self, folder: Path, config: FitConfig, *, start_step: int, enabled: bool) -> None:
        self._folder, self._config, self._start_step, self._enabled = folder, config, start_step, enabled
        self._open = ExitStack()
        self._last_line_s = -math.inf
        self._note = ""
        self._reset_clock(start_step)

    def __enter__(self) -> Tracker:
        if not self._enabled:
            return self
        from torch.utils.tensorboard import SummaryWriter

        self._metrics = self._open.enter_context(open(self._folder / "metrics.jsonl", "a", encoding="utf-8"))
        # Events after the state that the run goes on from belong to a past that did not happen.
        self.board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=self._start_step + 1)
        self._open.callback(self._close_board)
        self._wandb = _start_wandb(self._folder, self._config, self._open)
        self._bar = self._open.enter_context(progress_bar("training", self._config.steps))
        self._bar.advance(self._start_step, note="waiting for the first batch")
        self._reset_clock(self._start_step)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._open.close()
        except EchofmError:
            # A full disk has been told of where it was met first; that files cannot be closed follows from it.
            if error is None:
                raise

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Time in the block counts as waiting; the bar says so meanwhile."""
        with self._noting("waiting for data") as begun_s:
            yield
            self._waited_s += time.perf_counter() - begun_s

    @contextmanager
    def aside(self, what: str) -> Iterator[None]:
        """Time in the block is left out of the pace; the bar says what is done meanwhile."""
        with self._noting(what) as begun_s:
            yield
            self._clock_s += time.perf_counter() - begun_s

    @contextmanager
    def _noting(self, what: str) -> Iterator[float]:
        if self._enabled:
            self._bar.advance(0, note=what)
        yield time.perf_counter()
        if self._enabled:
            self._bar.advance(0, note=self._note)

    def log(self, step: int, figures: Mapping[str, Any]) -> None:
        """Write one record. Raises EchofmError where the disk refuses."""
        if not self._enabled:
            return
        pictures = {name: value for name, value in figures.items() if isinstance(value, np.ndarray)}
        numbers = {name: value for name, value in figures.items() if name not in pictures}
        record = {"step": step, **numbers, **self._pace(step)}
        clean = {name: None if _no_number(value) else value for name, value in record.items()}
        with writing("the figures"):
            self._metrics.write(json.dumps(clean) + "\n")
            self._metrics.flush()
            for name, value in numbers.items():
                if isinstance(value, float):
                    self.board.add_scalar(name, value, step)
            for name, picture_HW3 in pictures.items():
                self._show(name, picture_HW3, step)
        if self._wandb:
            self._wandb.log(numbers, step=step)
        self._say(step, record)

    def _show(self, name: str, picture_HW3: npt.NDArray[np.uint8], step: int) -> None:
        folder = self._folder / "pictures"
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture_HW3).save(folder / f"{name.replace('/', '_')}_{step:08d}.png")
        self.board.add_image(name, picture_HW3, step, dataformats="HWC")

    def advance(self) -> None:
        if self._enabled:
            self._bar.advance(1)

    def settle(self) -> None:
        """Have everything logged on the disk, so that no saved state is ahead of its metrics."""
        if self._enabled:
            with writing("the figures"):
                sync(self._folder / "metrics.jsonl")
                self.board.flush()

    def _close_board(self) -> None:
        with writing("TensorBoard's file"):
            self.board.close()

    def _reset_clock(self, step: int) -> None:
        self._clock_step, self._clock_s, self._waited_s = step, time.perf_counter(), 0.0

    def _pace(self, step: int) -> dict[str, float]:
        if step == self._clock_step:  # before the first step nothing has a pace
            return {}
        passed_s = max(time.perf_counter() - self._clock_s, 1e-9)
        steps = step - self._clock_step
        pace = {
            "clips_per_s": self._config.batch * steps / passed_s,
            "data_wait_share": self._waited_s / passed_s,
            "eta_s": (self._config.steps - step) * passed_s / steps,
        }
        self._reset_clock(step)
        return pace

    def _say(self, step: int, record: Mapping[str, Any]) -> None:
        loss = next((value for name, value in record.items() if name.rpartition("/")[2] == "loss"), None)
        if loss is None or "clips_per_s" not in record:
            return
        self._note = (
            f"loss {loss:.4f}, {record['clips_per_s']:.1f} clips/s, {record['data_wait_share']:.0%} waiting for data"
        )
        self._bar.advance(0, note=self._note)
        now = time.monotonic()
        if not console.is_terminal and (now - self._last_line_s > _LINE_EVERY_S or step == self._config.steps):
            self._last_line_s = now
            console.print(
                f"step {step}/{self._config.steps}: {self._note}, {left(record['eta_s'])} to go", highlight=False
            )


def cut_metrics(path: Path, *, after_step: int) -> None:
    """Drop the records after a step and a line that a kill cut short, so that going on repeats and loses none."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    # A run that starts over measures the untrained model, step 0, again.
    kept = [line for line in lines if after_step and _step_of(line) <= after_step]
    write_whole(path, "".join(line + "\n" for line in kept))


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return math.inf


def _no_number(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _start_wandb(folder: Path, config: FitConfig, opened: ExitStack) -> Any:
    if config.wandb is None:
        return None
    try:
        import wandb
    except ImportError:
        raise EchofmError("--fit.wandb needs the package wandb: pip install wandb") from None
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # The folder's name may name a patient; W&B gets the settings and the figures only.
    session = wandb.init(project=config.wandb, dir=str(folder), config=settings, save_code=False)
    opened.callback(session.finish)
    return session
