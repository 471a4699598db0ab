"""An encoder and data become a table: it is checked under its contract first; random weights and pixels follow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echofm.backbones import PixelEncoder, open_encoder, random_spec
from echofm.clip import Clip
from echofm.embed.cache import Embedded, embedded
from echofm.embed.inputs import FileInput, Input, Item
from echofm.embed.options import EmbedOptions
from echofm.embed.set_aside import file_positions
from echofm.embed.table import EmbeddingTable
from echofm.embed.tokens import TokenGrid
from echofm.embed.videos import open_videos
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from probe.checks.encoder import CLIPS, check_encoder, windows_of
from probe.report.frames import FileFrames, FramesOf, ShardFrames
from probe.result import Check

RANDOM_INIT, PIXEL_PCA, PIXELS = "random init", "pixel PCA", "pixels"
# Clips looked at for the checks: enough to meet 8 of different patients.
_LOOKED_AT = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderInput:
    """An encoder over data, and what stands beside it without being asked for.

    table: of the data, and of what is tested on. baselines, baseline_encoders: its architecture at random weights,
    where it has one. pixels: not yet reduced (`pixel_pca`). checks: of the encoder under its contract. clips: reads
    the data's clips under that contract. frames_of: one clip's frames, by its id.
    """

    encoder: AnyEncoder
    table: EmbeddingTable
    baselines: dict[str, EmbeddingTable]
    baseline_encoders: dict[str, AnyEncoder]
    pixels: EmbeddingTable | None
    checks: tuple[Check, ...]
    clips: Callable[[], Iterator[Clip]]
    frames_of: FramesOf | None
    test_clips: Collection[str] | None


class EncoderTables:
    """Tables of encoders over one data source, and another to test on."""

    def __init__(
        self,
        data: Path,
        options: EmbedOptions,
        *,
        test_on: Path | None = None,
        with_baselines: bool = True,
        seed: int = 0,
        say: Callable[[str], None],
        show_progress: bool = True,
    ) -> None:
        self._data, self._options, self._say, self._test_on = data, options, say, test_on
        self._with_baselines, self._seed, self._show_progress = with_baselines, seed, show_progress

    def probed(self, spec: str, name: str) -> EncoderInput:
        """The encoder that the command is about."""
        device = self._options.torch_device
        encoder = open_encoder(spec, trust_remote_code=self._options.trust_remote_code).to(device)
        source = self._input(encoder, self._data)
        checks = tuple(self._checks(encoder, source))
        for check in checks:
            if check.passed is False or (check.name == "time" and not encoder.sees_time):
                self._say(f"{'FAILED' if check.passed is False else 'note'}: {check.name}: {check.says}")
        found = self._embedded(encoder, name)
        tables = [each.table for each in found]
        shown = source if self._test_on is None else self._input(encoder, self._test_on)
        encoders: dict[str, AnyEncoder] = {}
        pixels = None
        if self._with_baselines:
            random = self._random_init(spec)
            encoders = {} if random is None else {RANDOM_INIT: random.to(device)}
        baselines = {name: self.table(each, name) for name, each in encoders.items()}
        if self._with_baselines:
            pixels = self.table(PixelEncoder(encoder.contract), PIXEL_PCA, plain=True)
        return EncoderInput(
            encoder=encoder,
            table=joined(tables),
            baselines=baselines,
            baseline_encoders=encoders,
            pixels=pixels,
            checks=checks,
            clips=lambda: (item.clip for item in _items(source, range(len(source)))),
            frames_of=self._frames_of(shown, found[-1]),
            test_clips=None if self._test_on is None else frozenset(tables[-1].clip_id),
        )

    def failed_checks(self, encoder: AnyEncoder, name: str) -> list[Check]:
        """What an encoder beside the probed one fails: a comparison with one that is fed wrongly tells nothing."""
        failed = failed_of(name, self._checks(encoder, self._input(encoder, self._data)))
        for check in failed:
            self._say(f"FAILED: {check.says}")
        return failed

    def table(self, encoder: Any, name: str, *, plain: bool = False) -> EmbeddingTable:
        """Embed, or take from the cache. plain: clip features alone."""
        return joined([each.table for each in self._embedded(encoder, name, plain=plain)])

    def _embedded(self, encoder: Any, name: str, *, plain: bool = False) -> list[Embedded]:
        """Of the data, and of what is tested on."""
        options = self._options
        encoder = encoder.to(options.torch_device)
        tokens = None if plain else _fitting(options.grid, encoder)
        return [
            embedded(
                options.extractor(encoder, phase=not plain, tokens=tokens),
                self._input(encoder, data),
                name=name,
                cache=options.cache,
                say=self._say,
                show_progress=self._show_progress,
            )
            for data in (self._data, self._test_on)
            if data is not None
        ]

    def _frames_of(self, source: Input, found: Embedded) -> FramesOf | None:
        if not isinstance(source, FileInput):
            return ShardFrames(self._test_on or self._data)
        try:
            return FileFrames(source, file_positions(found.table.clip_id.tolist(), found.folder, source.file_ids))
        except EchofmError as error:
            # Pictures are no reason to lose the figures.
            self._say(f"no film strips: {error}")
            return None

    def _random_init(self, spec: str) -> AnyEncoder | None:
        random = random_spec(spec)
        if random is None:
            return None
        try:
            return open_encoder(random, seed=self._seed, trust_remote_code=self._options.trust_remote_code)
        except EchofmError as error:
            self._say(f"no random init beside it: {error}")
            return None

    def _checks(self, encoder: AnyEncoder, source: Input) -> list[Check]:
        picked: dict[str, Item] = {}
        step = max(1, len(source) // _LOOKED_AT)
        for item in _items(source, range(0, len(source), step)):
            picked.setdefault(item.clip.patient_id, item)
            if len(picked) == CLIPS:
                break
        return check_encoder(encoder, windows_of(encoder, picked.values(), device=self._options.torch_device))

    def _input(self, encoder: AnyEncoder, data: Path) -> Input:
        options = self._options
        videos = open_videos(
            data,
            options=options.reading,
            processes=options.processes,
            # What the other set is, is found by looking.
            dataset=options.dataset if data == self._data else None,
            patient_from=options.patient_from,
            show_progress=self._show_progress,
        )
        return videos.input(encoder.contract)


def joined(tables: Sequence[EmbeddingTable]) -> EmbeddingTable:
    """One table of one or two sets; one alone stays mapped from disk. Raises EchofmError where a clip is in both."""
    if len(tables) == 1:
        return tables[0]
    if shared := sorted(set(tables[0].clip_id) & set(tables[1].clip_id)):
        raise EchofmError(
            f"{len(shared)} clips are in both sets, first {shared[0]} (hashed): the test would be leaked to; --test-on "
            "takes a set of other patients"
        )
    return EmbeddingTable.concat(tables)


def failed_of(name: str, checks: Sequence[Check]) -> list[Check]:
    """The failed ones, as of that encoder."""
    return [
        check.model_copy(update={"name": f"{name}: {check.name}", "says": f"{name}: {check.says}"})
        for check in checks
        if check.passed is False
    ]


def _items(source: Input, indices: range) -> Iterator[Item]:
    """Readable clips alone: what cannot be read is told when it is embedded."""
    for result in source.read(indices):
        if isinstance(result, Item):
            yield result


def _fitting(grid: TokenGrid | None, encoder: AnyEncoder) -> TokenGrid | None:
    """The grid asked for, coarser where this encoder's own is; None where it has no tokens."""
    if grid is None or encoder.grid is None:
        return None
    times, rows, columns = (min(want, own) for want, own in zip(grid, encoder.grid))
    return times, rows, columns
