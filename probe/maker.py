"""An encoder and data become tables: it is checked under its contract first; its untrained twin and pixels follow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from echofm.backbones import PixelEncoder, open_encoder, random_spec
from echofm.clip import Clip
from echofm.embed.extract import Extractor
from echofm.embed.inputs import FileInput, Input, Item, open_input
from echofm.embed.run import places_of
from echofm.embed.table import EmbeddingTable
from echofm.embed.tokens import TokenGrid
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from echofm.ids import IdKey
from echofm.readers.limits import Limits
from probe.checks.encoder import CLIPS, check_encoder, windows_of
from probe.embedded import embedded, folder_of
from probe.other_set import joined
from probe.report.frames import FileFrames, FramesOf, ShardFrames
from probe.result import Check

UNTRAINED, PIXELS, MOMENT_PIXELS = "random init", "pixel PCA", "pixels"
# Clips looked at for the checks: enough to meet 8 of different patients.
_LOOKED_AT = 64


@dataclass(frozen=True, kw_only=True)
class Options:
    """How encoders are applied; the fields are those of the command line."""

    key: IdKey
    windows: int | None = None
    tokens: TokenGrid | None = None
    batch: int = 16
    device: str = "cpu"
    processes: int = 2
    dataset: str | None = None
    patient_from: str | None = None
    limits: Limits = field(default_factory=Limits)
    cache: Path | None = None
    trust_remote_code: bool = False
    with_rivals: bool = True
    seed: int = 0
    show_progress: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """table: of the encoder that is probed. rivals: name -> table, of others and of its untrained twin.

    encoder, rival_encoders: the same before they were tables; None and empty for tables as given.
    pixels: not yet reduced (`probe.labels.baselines`); None where no data was given. checks: of the encoder under its
    contract, and those that another encoder given failed, with its name. clips: reads the data's clips under that
    contract; frames_of: one clip's frames, by its id; both None for a table alone. device: of the encoders.
    test_clips: ids of another set's clips, where those are tested on: tables then hold both sets' clips, and frames_of
    reads the other set's.
    """

    name: str
    table: EmbeddingTable
    rivals: dict[str, EmbeddingTable] = field(default_factory=dict)
    encoder: AnyEncoder | None = None
    rival_encoders: dict[str, AnyEncoder] = field(default_factory=dict)
    device: str = "cpu"
    pixels: EmbeddingTable | None = None
    checks: tuple[Check, ...] = ()
    clips: Callable[[], Iterator[Clip]] | None = None
    frames_of: FramesOf | None = None
    test_clips: Collection[str] | None = None


class TableMaker:
    """Encoders over one data source, and another to test on."""

    def __init__(
        self, data: Path, options: Options, say: Callable[[str], None], *, test_on: Path | None = None
    ) -> None:
        self._data, self._options, self._say, self._test_on = data, options, say, test_on

    def probed(self, spec: str, name: str) -> Gathered:
        """The encoder that the command is about: checked, embedded, its twin and pixels beside it."""
        options = self._options
        encoder = open_encoder(spec, trust_remote_code=options.trust_remote_code).to(options.device)
        source = self._input(encoder, self._data)
        checks = tuple(self._checks(encoder, source))
        for check in checks:
            if check.passed is False or (check.name == "time" and not encoder.sees_time):
                self._say(f"{'FAILED' if check.passed is False else 'note'}: {check.name}: {check.says}")
        tables = self._tables(encoder, name)
        shown = source if self._test_on is None else self._input(encoder, self._test_on)
        rivals, encoders, pixels = {}, {}, None
        if options.with_rivals:
            twin = self._twin(spec)
            if twin is not None:
                encoders[UNTRAINED] = twin.to(options.device)
                rivals[UNTRAINED] = self.table(twin, UNTRAINED)
            pixels = self.table(PixelEncoder(encoder.contract), PIXELS, plain=True)
        return Gathered(
            name=name,
            table=joined(tables),
            rivals=rivals,
            encoder=encoder,
            rival_encoders=encoders,
            device=options.device,
            pixels=pixels,
            checks=checks,
            clips=lambda: (item.clip for item in _items(source, range(len(source)))),
            frames_of=self._frames_of(encoder, shown, tables[-1]),
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
        return joined(self._tables(encoder, name, plain=plain))

    def _tables(self, encoder: Any, name: str, *, plain: bool = False) -> list[EmbeddingTable]:
        """Of the data, and of what is tested on."""
        options = self._options
        encoder = encoder.to(options.device)
        return [
            embedded(
                self._extractor(encoder, plain=plain),
                self._input(encoder, data),
                name=name,
                cache=options.cache,
                say=self._say,
                show_progress=options.show_progress,
            )
            for data in (self._data, self._test_on)
            if data is not None
        ]

    def _extractor(self, encoder: Any, *, plain: bool = False) -> Extractor:
        options = self._options
        return Extractor(
            encoder=encoder,
            windows=options.windows,
            batch=options.batch,
            device=options.device,
            phase=not plain,
            tokens=None if plain else _fitting(options.tokens, encoder),
        )

    def _frames_of(self, encoder: Any, source: Input, table: EmbeddingTable) -> FramesOf | None:
        if not isinstance(source, FileInput):
            return ShardFrames(self._test_on or self._data)
        folder = folder_of(self._extractor(encoder), source, cache=self._options.cache)
        try:
            return FileFrames(source, places_of(table, folder, source.file_ids))
        except EchofmError as error:
            # Pictures are no reason to lose the figures.
            self._say(f"no film strips: {error}")
            return None

    def _twin(self, spec: str) -> AnyEncoder | None:
        options, twin = self._options, random_spec(spec)
        if twin is None:
            return None
        try:
            return open_encoder(twin, seed=options.seed, trust_remote_code=options.trust_remote_code)
        except EchofmError as error:
            self._say(f"no untrained twin beside it: {error}")
            return None

    def _checks(self, encoder: AnyEncoder, source: Input) -> list[Check]:
        picked: dict[str, Item] = {}
        step = max(1, len(source) // _LOOKED_AT)
        for item in _items(source, range(0, len(source), step)):
            picked.setdefault(item.clip.patient_id, item)
            if len(picked) == CLIPS:
                break
        return check_encoder(encoder, windows_of(encoder, picked.values(), device=self._options.device))

    def _input(self, encoder: AnyEncoder, data: Path) -> Input:
        options = self._options
        return open_input(
            data,
            contract=encoder.contract,
            key=options.key,
            processes=options.processes,
            # What the other set is, is found by looking.
            dataset=options.dataset if data == self._data else None,
            patient_from=options.patient_from,
            limits=options.limits,
            show_progress=options.show_progress,
        )


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


def _fitting(asked: TokenGrid | None, encoder: AnyEncoder) -> TokenGrid | None:
    """The grid asked for, coarser where this encoder's own is; None where it has no tokens."""
    if asked is None or encoder.grid is None:
        return None
    times, rows, columns = (min(want, own) for want, own in zip(asked, encoder.grid))
    return times, rows, columns
