"""What an audit is given, opened and embedded: three sets, canaries planted among them, the models that look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from echofm.embed.cache import embedded
from echofm.embed.options import EmbedOptions
from echofm.embed.source import EchoSet, open_set
from echofm.embed.table import EmbeddingTable
from echofm.embed.videos import Videos
from echofm.errors import EchofmError
from synth.audit.canaries.planting import CanaryInput, sources, with_new_beats
from synth.audit.heads import are_separate, as_fitted, encoder_of, head_of, judge_of
from synth.audit.judging import Judge
from synth.audit.names import safe_table, shown_digest
from synth.audit.reid import Reid
from synth.audit.sets import Sets, require_comparable
from synth.audit.settings import AuditSettings
from synth.audit.statistics.calibrate import require_holdout

if TYPE_CHECKING:
    from accelerate import PartialState

    from echofm.embed.extract import Extractor
    from echofm.embed.inputs import Input
    from echofm.encoder import AnyEncoder

Given = str | Path | EmbeddingTable
NAMES = ("training", "held-out", "synthetic")


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """The arguments of `synth.audit.audit_sets`, which says what each means."""

    train: Given
    holdout: Given
    synthetic: Given
    encoder: str | Path | AnyEncoder | None
    reid: str | Path | Reid | None
    judge: str | Path | Reid | AnyEncoder | None
    canaries: int
    canary_table: Given | None
    duplicates: Literal["auto", "on", "off"]
    strips: int
    settings: AuditSettings
    embed: EmbedOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """All as tables. set_aside: of each set, files without a row. videos: by set, where clips can be read again."""

    sets: Sets
    head: Reid | None
    judge: Judge | None
    set_aside: tuple[int, int, int]
    videos: Mapping[str, Videos]


def open_inputs(request: Request, *, ranks: PartialState | None = None) -> Inputs:
    """Open, embed and plant. ranks: the processes that share the embedding, every one of which must call this.

    Raises EchofmError on what cannot be had or does not fit, before what takes long.
    """
    request.settings.check()
    request.embed.check()
    show = ranks is None or ranks.is_main_process
    given = [
        open_set(each, name=name, options=request.embed, has_patients=name != "synthetic", show_progress=show)
        for name, each in zip(NAMES, (request.train, request.holdout, request.synthetic))
    ]
    videos = {each.name: each.videos for each in given if each.videos is not None}
    head = None if request.reid is None else head_of(request.reid)
    # Here, before anything is embedded: a name mistyped must not cost the hours of the first encoder.
    second_head, second = (None, None) if request.judge is None else judge_of(request.judge, request.embed)
    if second is not None and len(videos) < len(NAMES):
        raise EchofmError("--judge is an encoder, but not all sets are videos or shards; give a re-identification head")
    fitted = as_fitted(request.embed, [head, second_head])
    planted = None if request.canary_table is None else _canary_table(request.canary_table, request.embed)
    if not videos:
        sets, set_aside = Sets(**_named([_table(each, request.embed) for each in given]), canaries=planted), (0, 0, 0)
    else:
        if request.encoder is None:
            raise EchofmError("videos and shards need an encoder to be compared by; give --encoder")
        first = _Embedder.of(encoder_of(request.encoder, request.embed), fitted, request, ranks)
        sets, set_aside = first.sets(given, planted)
    judge = None
    if second_head is not None:
        judge = Judge(sets=sets, head=second_head, separate=are_separate(head, second_head))
    elif second is not None:
        # Another encoder's features are no canaries of the judge, and its own are not those of a head.
        beside, _ = _Embedder.of(second, request.embed, request, ranks).sets(given, None)
        if beside.train.encoder_digest == sets.train.encoder_digest and head is None:
            raise EchofmError("--judge is the encoder that filters already; give another one")
        judge = Judge(sets=beside)
    return Inputs(sets=sets, head=head, judge=judge, set_aside=set_aside, videos=videos)


def _named(tables: list[EmbeddingTable]) -> dict[str, EmbeddingTable]:
    return dict(zip(("train", "holdout", "synthetic"), tables))


def _table(given: EchoSet, options: EmbedOptions) -> EmbeddingTable:
    """The chosen splits of a set that is a table."""
    assert given.table is not None
    return given.chosen(safe_table(given.table, key=options.key))


def _canary_table(given: Given, options: EmbedOptions) -> EmbeddingTable:
    found = open_set(given, name="canary", options=options, has_patients=False)
    if found.table is None:
        raise EchofmError("--canary-table is no embedding table and no .npz; videos are planted by the audit itself")
    return _table(found, options)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Embedder:
    """One encoder over all sets."""

    extractor: Extractor
    request: Request
    ranks: PartialState | None

    @classmethod
    def of(cls, encoder: AnyEncoder, options: EmbedOptions, request: Request, ranks: PartialState | None) -> _Embedder:
        device = options.torch_device if ranks is None else ranks.device
        extractor = options.extractor(encoder.to(device), device=device, tokens=options.grid)
        return cls(extractor=extractor, request=request, ranks=ranks)

    def sets(self, given: list[EchoSet], planted: EmbeddingTable | None) -> tuple[Sets, tuple[int, int, int]]:
        """The tables, and of each the files set aside. planted: canaries as given; None: planted where there are
        pixels."""
        digest = self.extractor.encoder.digest
        for each in given:
            if each.table is not None and each.table.encoder_digest != digest:
                raise EchofmError(
                    f"the {each.name} table comes from another encoder "
                    f"({shown_digest(each.table.encoder_digest)[:12]}) than --encoder ({digest[:12]}); embed all data "
                    "with one"
                )
        found = [self._set(each) for each in given]
        sets = Sets(**_named([table for table, _ in found]), canaries=planted)
        # Before the canaries: what does not fit is reported before any more time is spent.
        require_comparable(replace(sets, canaries=None))
        require_holdout(sets.holdout.rows["patient_id"].nunique(), alpha=self.request.settings.alpha)
        if planted is None and given[0].videos is not None and self.request.canaries > 0:
            sets = replace(sets, canaries=self._plant(sets, given[0].videos))
        train, holdout, synthetic = (count for _, count in found)
        return sets, (train, holdout, synthetic)

    def _set(self, given: EchoSet) -> tuple[EmbeddingTable, int]:
        """The chosen splits of one set; its videos learn which file is which clip on the way."""
        if given.videos is None:
            return _table(given, self.request.embed), 0
        source = given.videos.input(self.extractor.encoder.contract)
        found = embedded(
            self.extractor, source, name=f"{given.name} set", cache=self.request.embed.cache, ranks=self.ranks
        )
        # Under the names of samples.parquet, by which clips are read again.
        table = safe_table(found.table, key=given.videos.options.key)
        given.videos.locate(table.clip_id.tolist(), found.folder)
        return given.chosen(table), len(found.set_aside)

    def _plant(self, sets: Sets, videos: Videos) -> EmbeddingTable:
        wanted, seed = self.request.canaries, self.request.settings.seed
        source: Input = CanaryInput(
            videos=videos,
            source_ids=sources(sets.train, wanted=wanted, budget=sum(map(len, sets.tables())), seed=seed),
            contract=self.extractor.encoder.contract,
            seed=seed,
        )
        found = embedded(self.extractor, source, name="canaries", cache=self.request.embed.cache, ranks=self.ranks)
        return with_new_beats(found.table, sets.train, wanted=wanted, seed=seed)
