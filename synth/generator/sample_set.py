"""A set of generated clips in EchoNet-Dynamic's layout, with where each one comes from.

Clip number n is a function of the generator, the settings and n alone, so that a set can be made by any number of
processes, be broken off, and grow.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

import echofm
from echofm.atomic import whole_file, write_whole
from echofm.engine.parallel import on_main, processes, together
from echofm.errors import EchofmError
from echofm.phantom.video import write_mjpeg
from echofm.progress import progress_bar
from synth.condition import Condition
from synth.generator.model import Generator
from synth.generator.sampler import Guidance, Method
from synth.set_folder import PROVENANCE, begun
from synth.text.grammar import facets_of

TABLE, VIDEOS = "FileList.csv", "Videos"
_COLUMNS = ("FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split")
_AT_A_TIME = 8


@dataclass(frozen=True, kw_only=True)
class How:
    """How clips are sampled."""

    steps: int = 25
    guidance: Guidance = field(default_factory=Guidance)
    method: Method | None = None


def name_of(number: int) -> str:
    """Of a clip, without suffix."""
    return f"synthetic-{number:06d}"


class Asks(Protocol):
    """What a set's numbers are asked for: `Plan`, `MapPlan`."""

    frames: int

    def draw_B(self, numbers: Sequence[int]) -> torch.Tensor: ...

    def condition(self, numbers: Sequence[int]) -> Condition: ...

    def about(self, number: int) -> dict[str, Any]: ...


class SyntheticSet:
    """A set being made in `out`. settings: all that decides its clips, JSON-like; another set there is refused.

    home: the folder of its files. per_number: clips of the generator that make one of the set's.
    """

    home: ClassVar[str] = VIDEOS
    per_number: ClassVar[int] = 1

    def __init__(self, out: Path, generator: Generator, plan: Asks, how: How, *, settings: Mapping[str, Any]) -> None:
        self.out, self._generator, self._plan, self._how = out, generator, plan, how
        self.settings = {**settings, "tool": f"echofm {echofm.__version__}"}
        # A container wants a rate; still images and frames of no fixed rate have none.
        self.frame_rate_hz = generator.contract.frame_rate_hz or 1.0
        on_main(lambda: begun(out, self.home, self.settings))

    def make(self, numbers: Sequence[int], *, show_progress: bool = True) -> None:
        """Those of these clips that are not there yet, dealt to the processes."""
        missing = [number for number in numbers if not self.path(number).exists()]
        own = missing[processes().process_index :: processes().num_processes]

        def made() -> None:
            with progress_bar("clips", len(own), show=show_progress and processes().is_main_process) as bar:
                for first in range(0, len(own), _AT_A_TIME):
                    part = own[first : first + _AT_A_TIME]
                    self._write(part)
                    bar.advance(len(part))

        together(made)

    def path(self, number: int) -> Path:
        """Of a clip's file."""
        return self.out / VIDEOS / f"{name_of(number)}.avi"

    def drop_others(self, numbers: Sequence[int]) -> None:
        """Delete the files of all clips but these."""
        keep = {self.path(number) for number in numbers}
        for path in set((self.out / VIDEOS).glob("synthetic-*.avi")) - keep:
            path.unlink()

    def close(self, numbers: Sequence[int]) -> None:
        """Write the tables of the clips that are in the set; called once, on the main process."""
        lines = [self.provenance(number) for number in numbers]
        write_whole(self.out / PROVENANCE, "".join(f"{json.dumps(line)}\n" for line in lines))
        write_whole(self.out / TABLE, self._table(lines))

    def provenance(self, number: int) -> dict[str, Any]:
        """Where a clip comes from: seed, condition, reference."""
        own = {"file": f"{name_of(number)}.avi", "number": number, "draw": int(self._plan.draw_B([number])[0])}
        return {**own, **self._plan.about(number)}

    def _write(self, numbers: Sequence[int]) -> None:
        for number, frames_THW in zip(numbers, self.frames(numbers)):
            self._write_one(number, frames_THW)

    def _write_one(self, number: int, frames_THW: npt.NDArray[np.uint8]) -> None:
        with whole_file(self.path(number)) as path:
            # By its suffix a container is chosen, and by its name nothing is.
            write_mjpeg(path, frames_THW[..., None], self.frame_rate_hz)

    def frames(self, numbers: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixels (T, H, W) of each of these."""
        video_BCTHW = self._generator.sample(
            self._plan.condition(numbers),
            frames=self._plan.frames,
            steps=self._how.steps,
            guidance=self._how.guidance,
            method=self._how.method,
            draw_B=self._plan.draw_B(numbers),
        )
        every_BTHW = (255 * video_BCTHW[:, 0]).round().byte().numpy()
        yield from every_BTHW.reshape(len(numbers), -1, *every_BTHW.shape[2:])

    def _table(self, provenances: Sequence[dict[str, Any]]) -> str:
        size = self._generator.contract.size
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(_COLUMNS)
        for each in provenances:
            ef, name = ef_of(each["condition"]), name_of(each["number"])
            shown = "" if ef is None else f"{ef:.3f}"
            table.writerow([name, shown, "", "", size, size, self.frame_rate_hz, self._plan.frames, "TRAIN"])
        return text.getvalue()


def ef_of(asked: Mapping[str, Any]) -> float | None:
    """The ejection fraction that a clip was asked for, as a number or by a text that holds one."""
    ef = asked.get("ef_percent_B")
    written = facets_of(asked.get("texts") or "").get("ejection fraction")
    return written if ef is None and isinstance(written, int) else ef


def accepted(
    made: SyntheticSet,
    count: int,
    judge: Callable[[Mapping[int, Path]], Iterable[int]] | None,
    *,
    show_progress: bool = True,
) -> tuple[list[int], int]:
    """Numbers of the first `count` clips that a judge leaves, and how many it took out.

    judge: of the files of these clips, by number, those to take out. None: none.
    """
    kept: list[int] = []
    tried = 0
    while len(kept) < count:
        numbers = range(tried, tried + count - len(kept))
        made.make(numbers, show_progress=show_progress)
        out = set(judge({number: made.path(number) for number in numbers})) if judge else set()
        kept += [number for number in numbers if number not in out]
        tried = numbers.stop
        if tried > 20 * count:
            raise EchofmError(
                f"the filter took out {tried - len(kept)} of {tried} clips; the generator copies: train it on more"
            )
    return kept, tried - count
