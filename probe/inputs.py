"""What a probe command works on: tables as given, or encoders and data turned into tables, with baselines.

An encoder is looked at under its contract (`probe.checks.encoder`) before anything is embedded; random weights and
pixels follow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from echofm.acoustic import Kind
from echofm.backbones import PixelEncoder, open_encoder, random_spec
from echofm.clip import Clip
from echofm.embed.cache import Embedded, embedded
from echofm.embed.inputs import FileInput, Input
from echofm.embed.options import EmbedOptions
from echofm.embed.own_labels import say_notes, with_labels_of
from echofm.embed.set_aside import file_positions
from echofm.embed.source import is_features, load_features
from echofm.embed.table import EmbeddingTable
from echofm.embed.videos import Videos, open_videos
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from probe.checks.embedding import check_embedding
from probe.checks.encoder import check_encoder_on, readable
from probe.names import PIXEL_PCA, RANDOM_INIT, data_name, names_of
from probe.report.clips import FileFrames, FramesOf, ShardFrames
from probe.result import Check
from probe.sources import other_sets

# Of a table beside the probed one: the rest is said of the same clips already.
_OF_FEATURES = ("collapse", "variance spectrum")


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeInputs:
    """table: of the encoder that is probed. name, data: what both are called.

    baselines: name -> table, of other encoders and of random weights.
    encoder, baseline_encoders: the same before they were tables; None and empty for tables as given. pixels: not yet
    reduced (`pixel_pca`); None where no data was given. checks: of the encoder under its contract, and those that
    another encoder given failed, with its name. clips: reads the data's clips under that contract; every:
    does a task on each clip as it lies there (`Videos.every`), also of the other set; frames_of: one
    clip's frames, by its id; both None for a table alone. device: of the encoders. test_clips: ids of another set's
    clips, where those are tested on: tables then hold both sets' clips, and frames_of reads the other set's.
    embed_some: an encoder, its name, clips that are tested on and their perturbation give a table; None of tables.
    """

    table: EmbeddingTable
    name: str = ""
    data: str = ""
    baselines: dict[str, EmbeddingTable] = field(default_factory=dict)
    encoder: AnyEncoder | None = None
    baseline_encoders: dict[str, AnyEncoder] = field(default_factory=dict)
    device: str = "cpu"
    pixels: EmbeddingTable | None = None
    checks: tuple[Check, ...] = ()
    clips: Callable[[], Iterator[Clip]] | None = None
    every: Callable[[Callable[[Clip, Any], Any]], Iterator[Any]] | None = None
    frames_of: FramesOf | None = None
    test_clips: Collection[str] | None = None
    embed_some: Callable[[AnyEncoder, str, Collection[str], Mapping[Kind, float]], EmbeddingTable] | None = None


def open_inputs(
    sources: Sequence[str],
    *,
    data: Path | None,
    test_on: Sequence[Path] = (),
    options: EmbedOptions,
    with_baselines: bool = True,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    show_progress: bool = True,
) -> ProbeInputs:
    """The first source is probed, the others are baselines; each is a table's folder, or an encoder where data is
    given. With an encoder first come its architecture at random weights and its pixels as well.

    test_on: another set to test on: for encoders its data, for tables one of each encoder, in the order of `sources`.
    say: gets a line on each thing as it happens, failed checks among them, before anything is embedded.
    Raises EchofmError naming what cannot be had.
    """
    names, others = names_of(sources), other_sets(sources, data=data, test_on=test_on)
    tables = None
    if data is not None:
        tables = _EncoderTables(
            data=data,
            test_on=others[0],
            options=options,
            with_baselines=with_baselines,
            seed=seed,
            say=say,
            show_progress=show_progress,
        )
    main = _probed(sources[0], names[0], others[0], tables, options, say)
    baselines: dict[str, EmbeddingTable] = {}
    encoders: dict[str, AnyEncoder] = {}
    failed: list[Check] = []
    for source, name, other in zip(sources[1:], names[1:], others[1:]):
        if is_features(Path(source)):
            baselines[name] = _table_of(source, other)
        elif tables is None:
            raise EchofmError(f"{source}: no embedding table lies there; for an encoder give --data SRC")
        else:
            encoders[name] = tables.open(source)
            failed += tables.failed_checks(encoders[name], name)
            baselines[name] = tables.table(encoders[name], name)
    for name, table in baselines.items():
        of_table = check_embedding(table).checks
        failed += [check for check in _failed(name, of_table) if check.name.endswith(_OF_FEATURES)]
    return replace(
        main,
        name=names[0],
        data=data_name(data, others[0]),
        baselines=baselines | main.baselines,
        baseline_encoders=encoders | main.baseline_encoders,
        checks=(*main.checks, *failed),
    )


def _probed(
    source: str,
    name: str,
    other: Path | None,
    tables: _EncoderTables | None,
    options: EmbedOptions,
    say: Callable[[str], None],
) -> ProbeInputs:
    """Of the first source alone."""
    if is_features(Path(source)):
        test_clips = None if other is None else frozenset(load_features(other).clip_id)
        table = with_labels_of(_table_of(source, other), options, say=say)
        return ProbeInputs(table=table, test_clips=test_clips)
    if tables is None:
        raise EchofmError(f"{source}: no embedding table lies there; to probe an encoder give its data too: --data SRC")
    return tables.probed(source, name)


def _table_of(folder: str, other: Path | None) -> EmbeddingTable:
    """An encoder's table, with the clips of its table of the other set where there is one."""
    return _joined([load_features(each) for each in (folder, other) if each is not None])


@dataclass(frozen=True, kw_only=True)
class _EncoderTables:
    """Tables of encoders over one data source, and another to test on."""

    data: Path
    test_on: Path | None
    options: EmbedOptions
    with_baselines: bool
    seed: int
    say: Callable[[str], None]
    show_progress: bool

    def open(self, spec: str, **how: Any) -> AnyEncoder:
        encoder = open_encoder(spec, trust_remote_code=self.options.trust_remote_code, **how)
        return encoder.to(self.options.torch_device)

    def probed(self, spec: str, name: str) -> ProbeInputs:
        """The encoder that the command is about, and what stands beside it without being asked for."""
        encoder = self.open(spec)
        source = self._input(encoder, self.data)
        say_notes(self.options.own_labels(), self.say)
        checks = check_encoder_on(encoder, source, device=self.options.torch_device)
        for check in checks:
            if check.passed is False or (check.name == "time" and not encoder.sees_time):
                self.say(f"{'FAILED' if check.passed is False else 'note'}: {check.name}: {check.says}")
        found = self._embedded(encoder, name)
        shown = source if self.test_on is None else self._input(encoder, self.test_on)
        random = self._random_init(spec) if self.with_baselines else {}
        pixels = PixelEncoder(encoder.contract)
        return ProbeInputs(
            encoder=encoder,
            table=_joined([each.table for each in found]),
            baselines={name: self.table(each, name) for name, each in random.items()},
            baseline_encoders=random,
            device=self.options.torch_device,
            pixels=self.table(pixels, PIXEL_PCA, plain=True) if self.with_baselines else None,
            embed_some=functools.partial(self._some, found[-1]),
            checks=tuple(checks),
            clips=lambda: (
                item.clip for each in dict.fromkeys((source, shown)) for item in readable(each, range(len(each)))
            ),
            every=self._every,
            frames_of=self._frames_of(shown, found[-1]),
            test_clips=None if self.test_on is None else frozenset(found[-1].table.clip_id),
        )

    def failed_checks(self, encoder: AnyEncoder, name: str) -> list[Check]:
        """What an encoder beside the probed one fails: a comparison with one that is fed wrongly tells nothing."""
        source, device = self._input(encoder, self.data), self.options.torch_device
        failed = _failed(name, check_encoder_on(encoder, source, device=device))
        for check in failed:
            self.say(f"FAILED: {check.says}")
        return failed

    def table(self, encoder: Any, name: str, *, plain: bool = False) -> EmbeddingTable:
        """Embed, or take from the cache. plain: clip features alone."""
        return _joined([each.table for each in self._embedded(encoder, name, plain=plain)])

    def _embedded(self, encoder: Any, name: str, *, plain: bool = False) -> list[Embedded]:
        """Of the data, and of what is tested on."""
        sources = [self._input(encoder, data) for data in (self.data, self.test_on) if data is not None]
        return [self._embed(encoder, source, name, plain=plain) for source in sources]

    def _embed(
        self, encoder: Any, source: Input, name: str, *, plain: bool, perturb: Mapping[Kind, float] | None = None
    ) -> Embedded:
        options, tokens = self.options, None
        encoder = encoder.to(options.torch_device)
        if not plain and options.grid is not None and encoder.grid is not None:
            # Coarser than asked for where this encoder's own grid is.
            times, rows, columns = (min(want, own) for want, own in zip(options.grid, encoder.grid))
            tokens = times, rows, columns
        return embedded(
            options.extractor(encoder, phase=not plain, tokens=tokens, perturb=perturb),
            source,
            name=name,
            cache=options.cache,
            say=self.say,
            show_progress=self.show_progress,
        )

    def _some(
        self, whole: Embedded, encoder: Any, name: str, clips: Collection[str], perturb: Mapping[Kind, float]
    ) -> EmbeddingTable:
        """whole: of the set that is tested on, by any encoder."""
        videos = self._videos(self.test_on or self.data)
        videos.locate(whole.table.clip_id.tolist(), whole.folder)
        plain = isinstance(encoder, PixelEncoder)
        table = self._embed(encoder, videos.some(encoder.contract, clips), name, plain=plain, perturb=perturb).table
        return table.select(np.isin(table.clip_id.astype(str), list(clips)))

    def _frames_of(self, source: Input, found: Embedded) -> FramesOf | None:
        if not isinstance(source, FileInput):
            return ShardFrames(self.test_on or self.data)
        try:
            return FileFrames(source, file_positions(found.table.clip_id.tolist(), found.folder, source.file_ids))
        except EchofmError as error:
            # Pictures are no reason to lose the figures.
            self.say(f"no film strips: {error}")
            return None

    def _random_init(self, spec: str) -> dict[str, AnyEncoder]:
        """Its architecture at random weights, where it has one."""
        random = random_spec(spec)
        try:
            return {} if random is None else {RANDOM_INIT: self.open(random, seed=self.seed)}
        except EchofmError as error:
            self.say(f"no random init beside it: {error}")
            return {}

    def _input(self, encoder: AnyEncoder, data: Path) -> Input:
        return self._videos(data).input(encoder.contract)

    def _every(self, task: Callable[[Clip, Any], Any]) -> Iterator[Any]:
        return (
            each for data in (self.data, self.test_on) if data is not None for each in self._videos(data).every(task)
        )

    def _videos(self, data: Path) -> Videos:
        options, reading = self.options, self.options.reading
        return open_videos(
            data,
            # Labels of one's own are of the data; the other set brings its own.
            options=reading if data == self.data else replace(reading, labels=None),
            processes=options.processes,
            # What the other set is, is found by looking.
            dataset=options.dataset if data == self.data else None,
            patient_from=options.patient_from,
            show_progress=self.show_progress,
        )


def _joined(tables: Sequence[EmbeddingTable]) -> EmbeddingTable:
    """One table of one or two sets; one alone stays mapped from disk. Raises EchofmError where a clip is in both."""
    if len(tables) == 1:
        return tables[0]
    if shared := sorted(set(tables[0].clip_id) & set(tables[1].clip_id)):
        raise EchofmError(
            f"{len(shared)} clips are in both sets, first {shared[0]} (hashed): the test would be leaked to; --test-on "
            "takes a set of other patients"
        )
    return EmbeddingTable.concat(tables)


def _failed(name: str, checks: Sequence[Check]) -> list[Check]:
    """The failed ones, as of that encoder."""
    return [
        check.model_copy(update={"name": f"{name}: {check.name}", "says": f"{name}: {check.says}"})
        for check in checks
        if check.passed is False
    ]
