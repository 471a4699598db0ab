"""What a probe command works on: tables as given, or encoders and data turned into tables, with their rivals.

Before anything is embedded the encoder is looked at under its contract (`probe.encoder_checks`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from echofm.backbones import PixelEncoder, open_encoder, random_spec
from echofm.clip import Clip
from echofm.embed.extract import Extractor
from echofm.embed.inputs import FileInput, Input, Item, open_input
from echofm.embed.run import places_of
from echofm.embed.store import is_table
from echofm.embed.table import EmbeddingTable
from echofm.embed.tokens import TokenGrid
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from echofm.ids import IdKey
from probe.embedded import embedded, folder_of
from probe.encoder_checks import CLIPS, check_encoder, windows_of
from probe.other_set import joined, paired_tables
from probe.report.frames import FileFrames, FramesOf, ShardFrames
from probe.result import Check
from probe.rivals import METHODS

UNTRAINED, PIXELS, MOMENT_PIXELS = "random init", "pixel PCA", "pixels"
# Rows of a result that a source's own name must not take the place of.
_TAKEN = METHODS | {UNTRAINED, PIXELS, MOMENT_PIXELS, "mean mask"}
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
    cache: Path | None = None
    trust_remote_code: bool = False
    with_rivals: bool = True
    seed: int = 0
    show_progress: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """table: of the encoder that is probed. rivals: name -> table, of others and of its untrained twin.

    encoder, rival_encoders: the same before they were tables; None and empty for tables as given.
    pixels: not yet reduced (`probe.pixel_pca`); None where no data was given. checks: of the encoder under its
    contract. clips: reads the data's clips under that contract; frames_of: one clip's frames, by its id; both None for
    a table alone. device: of the encoders. test_clips: ids of another set's clips, where those are tested on: tables
    then hold both sets' clips, and frames_of reads the other set's.
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


def gather(
    sources: Sequence[str],
    *,
    data: Path | None,
    test_on: Sequence[Path] = (),
    options: Options,
    say: Callable[[str], None] = lambda line: None,
) -> Gathered:
    """The first source is probed, the others are its rivals; each is a table's folder, or an encoder where data is
    given. With an encoder first come its untrained twin and its pixels as well.

    test_on: another set to test on: for encoders its data, for tables one of each encoder, in the order of `sources`.
    say: gets a line on each thing as it happens, failed checks among them, before anything is embedded.
    Raises EchofmError naming what cannot be had.
    """
    names = _names(sources)
    if test_on:
        tables = [is_table(Path(source)) for source in sources]
        if any(tables) and not all(tables):
            raise EchofmError("--test-on: give tables alone, or encoders alone")
        if all(tables):
            ours, theirs = paired_tables(sources, test_on)
            both = [joined(pair) for pair in zip(ours, theirs)]
            others = dict(zip(names[1:], both[1:]))
            return Gathered(name=names[0], table=both[0], rivals=others, test_clips=frozenset(theirs[0].clip_id))
        if len(test_on) > 1:
            raise EchofmError("--test-on: encoders are tested on one set; give it once")
    if is_table(Path(sources[0])):
        main = Gathered(name=names[0], table=EmbeddingTable.load(sources[0]))
        maker = None if data is None else _Maker(data, options, say)
    else:
        if data is None:
            raise EchofmError(
                f"{sources[0]}: no embedding table lies there; to probe an encoder give its data too: --data SRC"
            )
        maker = _Maker(data, options, say, test_on=test_on[0] if test_on else None)
        main = maker.probed(sources[0], names[0])
    rivals: dict[str, EmbeddingTable] = {}
    encoders: dict[str, AnyEncoder] = {}
    for source, name in zip(sources[1:], names[1:]):
        if is_table(Path(source)):
            rivals[name] = EmbeddingTable.load(source)
        elif maker is None:
            raise EchofmError(f"{source}: no embedding table lies there; for an encoder give --data SRC")
        else:
            encoders[name] = open_encoder(source, trust_remote_code=options.trust_remote_code).to(options.device)
            rivals[name] = maker.table(encoders[name], name)
    return replace(main, rivals=rivals | main.rivals, rival_encoders=encoders | main.rival_encoders)


class _Maker:
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
        checks = check_encoder(encoder, windows_of(encoder, picked.values(), device=self._options.device))
        for check in checks:
            if check.passed is False or (check.name == "time" and not encoder.sees_time):
                self._say(f"{'FAILED' if check.passed is False else 'note'}: {check.name}: {check.says}")
        return checks

    def _input(self, encoder: AnyEncoder, data: Path) -> Input:
        options = self._options
        return open_input(
            data,
            contract=encoder.contract,
            key=options.key,
            processes=options.processes,
            dataset=options.dataset if data == self._data else None,
            show_progress=options.show_progress,
        )


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


def _names(sources: Sequence[str]) -> list[str]:
    """A short name for each: the last part of a folder, two where that is `export`; a spec as it is written.

    " (given)" is added to a name that a result has for something else.
    """
    names = []
    for source in sources:
        parts = Path(source).parts
        if Path(source).is_dir() and parts:
            names.append("/".join(parts[-2:] if parts[-1] == "export" else parts[-1:]))
        else:
            head, _, tail = source.rpartition(":")
            names.append(f"{head}:{Path(tail).name}" if head and "/" in tail else source)
    names = [f"{name} (given)" if name in _TAKEN else name for name in names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EchofmError(f"two encoders or tables have the name {twice[0]!r}; rename a folder")
    return names


def device_of(name: str) -> str:
    """ "auto" is the GPU where there is one. Raises EchofmError where a GPU is asked for and none is there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise EchofmError("--device cuda: this torch sees no CUDA device; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
