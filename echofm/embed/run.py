"""An embedding run: parts on disk, shared out among processes, resumed after a kill, merged into one table.

A part is a fixed set of clips, batched by itself, so its features do not depend on how many processes there are.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
from accelerate import PartialState

from echofm import __version__
from echofm.atomic import whole_folder, write_whole
from echofm.embed.extract import Extractor
from echofm.embed.inputs import Input, Item
from echofm.embed.set_aside import SET_ASIDE, SetAside, read_set_aside, write_set_aside, write_several
from echofm.embed.store import is_table, save_tables
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError, UnreadableFile, os_errors_as
from echofm.progress import Bar, progress_bar
from echofm.schema import FrozenModel

PARTS, REQUEST, FILES = "parts", "request.json", "files.json"
_LEAST_CLIPS, _MOST_PARTS = 32, 4000
# A rank that has finished waits for the others; the default of half an hour would end a long run.
RANK_PATIENCE = timedelta(days=14)


class Request(FrozenModel):
    """What was asked for, so that a second call with the same words goes on, and with others stops."""

    encoder_digest: str
    phase_digest: str = ""
    """Of what else decides the phase vectors, of encoders that can be had without."""
    settings: dict[str, str | int]
    phase: bool
    input_fingerprint: str
    clips: int
    release: str = ""
    """Of echofm; what clips become changes with it, so parts of two make no table."""

    def serves(self, other: Request) -> bool:
        """Whether a table of the same encoder, clips and windows holds all that another request wants."""
        wanted = other.settings.get("tokens")
        return wanted in (None, self.settings.get("tokens")) and (self.phase or not other.phase)


@dataclass
class Outcome:
    """Rows written, files set aside, clips whose frame times nobody knows."""

    clips: int
    set_aside: list[SetAside]
    without_times: int

    @property
    def unused(self) -> list[SetAside]:
        """Files that a person should look at: all set aside but those that are intact and of another kind."""
        return [each for each in self.set_aside if each.kind in (None, "no_sector")]

    def summary(self, out: Path) -> str:
        """For the person at the terminal."""
        lines = [f"{out}: {self.clips} clips"]
        kinds = Counter(each.kind for each in self.set_aside if each.kind not in (None, "no_sector"))
        if kinds:
            lines.append(
                "no image of a heart: " + ", ".join(f"{kinds[kind]} {kind}" for kind in sorted(map(str, kinds)))
            )
        if self.unused:
            lines.append(f"{len(self.unused)} files set aside; {out / SET_ASIDE} says why")
        if self.without_times:
            lines.append(
                f"{self.without_times} clips have no frame times: their frames were taken one after another, "
                "and frame_rate_hz is empty in their rows"
            )
        return "\n".join(lines)


@dataclass
class EmbedRun:
    """One folder of output. `rank` of `world` processes does every world-th part."""

    out: Path
    input: Input
    extractor: Extractor
    rank: int = 0
    world: int = 1
    show_progress: bool = True
    _parts: list[range] = field(init=False)

    def __post_init__(self) -> None:
        clips = len(self.input)
        size = max(_LEAST_CLIPS, math.ceil(clips / _MOST_PARTS))
        self._parts = [range(first, min(first + size, clips)) for first in range(0, clips, size)]

    def prepare(self) -> None:
        """Rank 0, before the others begin: make the folder, or check that what is there came from the same request."""
        request, path = request_of(self.extractor, self.input), self.out / REQUEST
        found = Request.from_json(path) if path.is_file() else request
        if found.model_copy(update={"release": request.release}) != request:
            raise EchofmError(
                f"{self.out} holds a table of another encoder, input or option; remove it or choose another folder"
            )
        if found.release != request.release and not is_table(self.out):
            raise EchofmError(f"{self.out} was begun by another release of echofm; remove it and begin anew")
        if not path.is_file() and self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise EchofmError(f"{self.out} is there already and is no embedding run; choose another folder")
        if not is_table(self.out):
            (self.out / PARTS).mkdir(parents=True, exist_ok=True)
            write_whole(path, request.to_json())

    def embed(self) -> None:
        """Do this rank's parts that are not on disk yet."""
        mine = [number for number in range(len(self._parts)) if number % self.world == self.rank]
        todo = [number for number in mine if not self._part(number).is_dir()]
        title = "embedding" if self.world == 1 else f"embedding (process 1 of {self.world})"
        clips = sum(len(self._parts[number]) for number in mine)
        with progress_bar(title, clips, show=self.show_progress and self.rank == 0) as bar:
            bar.advance(clips - sum(len(self._parts[number]) for number in todo))
            results = self.input.read([index for number in todo for index in self._parts[number]])
            for number in todo:
                aside: list[SetAside] = []
                files: list[str] = []
                items = self._items(number, results, aside, files, bar)
                self._finish(number, self.extractor.table(items), aside, files)

    def _items(
        self,
        number: int,
        results: Iterator[Item | UnreadableFile],
        aside: list[SetAside],
        files: list[str],
        bar: Bar,
    ) -> Iterator[Item]:
        """The readable clips of a part, each once; notes the files that gave them and those that did not."""
        seen: set[str] = set()
        for _, result in zip(self._parts[number], results):
            bar.advance()
            if isinstance(result, UnreadableFile):
                aside.append(SetAside(result.file_id, result.reason, result.kind))
                continue
            for item in result.all:
                if item.clip.clip_id in seen:
                    aside.append(_copy(item.file_id, item.clip.clip_id))
                else:
                    seen.add(item.clip.clip_id)
                    files.append(item.file_id)
                    yield item

    def merge(self) -> Outcome:
        """Rank 0, after all: one table of all parts; a clip that comes again in a later part is set aside."""
        tables, aside, files, seen = [], [], list[str](), set[str]()
        for number in range(len(self._parts)):
            table = EmbeddingTable.load(self._part(number))
            aside += read_set_aside(self._part(number))
            fresh = np.array([clip not in seen for clip in table.clip_id], bool)
            here = json.loads((self._part(number) / FILES).read_text(encoding="utf-8"))
            files += [file for file, is_fresh in zip(here, fresh) if is_fresh]
            aside += [_copy(file, clip) for file, clip, is_fresh in zip(here, table.clip_id, fresh) if not is_fresh]
            seen.update(table.clip_id)
            tables.append(table if fresh.all() else table.select(fresh))
        tables = [table for table in tables if len(table)]
        if not tables:
            self._forget()
            if len(self.input) == 1:
                raise UnreadableFile(aside[0].file_id, aside[0].reason)
            raise EchofmError(f"none of the {len(self.input)} files can be read; the first reason: {aside[0].reason}")
        aside.sort(key=lambda each: (each.file_id, each.reason))
        write_set_aside(self.out, aside)
        write_several(self.out, files)
        save_tables(tables, self.out)
        without = sum(int(table.rows["frame_rate_hz"].isna().sum()) for table in tables)
        clips = sum(map(len, tables))
        # On Windows a mapped file cannot be removed.
        del tables, table
        shutil.rmtree(self.out / PARTS)
        return Outcome(clips, aside, without)

    def outcome(self) -> Outcome:
        """Of a run that is complete."""
        # Left over where the run was killed between its last two acts.
        shutil.rmtree(self.out / PARTS, ignore_errors=True)
        rows = EmbeddingTable.load(self.out).rows
        return Outcome(len(rows), read_set_aside(self.out), int(rows["frame_rate_hz"].isna().sum()))

    def _part(self, number: int) -> Path:
        return self.out / PARTS / f"{number:06d}"

    def _forget(self) -> None:
        """Leave nothing behind where there is nothing to keep."""
        shutil.rmtree(self.out / PARTS)
        (self.out / REQUEST).unlink()
        self.out.rmdir()

    def _finish(self, number: int, table: EmbeddingTable, aside: Sequence[SetAside], files: Sequence[str]) -> None:
        """A part appears whole or not at all."""
        with whole_folder(self._part(number)) as draft:
            table.save(draft)
            write_set_aside(draft, aside)
            (draft / FILES).write_text(json.dumps(files), encoding="utf-8")


def request_of(extractor: Extractor, source: Input) -> Request:
    """What a run of this extractor over this input asks for."""
    return Request(
        encoder_digest=extractor.encoder.digest,
        phase_digest=getattr(extractor.encoder, "phase_digest", ""),
        settings=extractor.settings,
        phase=extractor.phase,
        input_fingerprint=source.fingerprint(),
        clips=len(source),
        release=__version__,
    )


def _copy(file_id: str, clip_id: str) -> SetAside:
    return SetAside(file_id, f"an exact copy of clip {clip_id}")


@contextmanager
def joined_ranks(device: str) -> Iterator[PartialState]:
    """The processes of torchrun or accelerate; one where the command was started plainly. device: "cpu" or "cuda"."""
    # Without a GPU accelerate joins the processes of torchrun only if told that the CPU is meant.
    ranks = PartialState(cpu=device == "cpu", timeout=RANK_PATIENCE)
    try:
        yield ranks
    finally:
        ranks.destroy_process_group()


def carry_out(run: EmbedRun, ranks: PartialState | None = None) -> Outcome | None:
    """Prepare, embed and merge, every rank waiting for the others in between. Rank 0 gets the outcome, others None."""
    with writing(run.out):
        if run.rank == 0:
            run.prepare()
        wait(ranks)
        finished = is_table(run.out)
        if not finished:
            run.embed()
        wait(ranks)
        if run.rank > 0:
            return None
        return run.outcome() if finished else run.merge()


def writing(out: Path) -> AbstractContextManager[None]:
    """Turns an OSError into the one line that a user needs."""
    return os_errors_as(f"{out} cannot be written ({{reason}}); once that is mended the same command goes on from here")


def wait(ranks: PartialState | None) -> None:
    """Until all ranks are here; None: there is one alone."""
    if ranks is not None:
        ranks.wait_for_everyone()
