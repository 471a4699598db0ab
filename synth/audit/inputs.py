"""What an audit is given, opened and embedded: three sets, canaries planted among them, the models that look."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from echofm.backbones import open_encoder
from echofm.embed.cache import embedded
from echofm.embed.options import EmbedOptions
from echofm.embed.source import EchoSet, open_set
from echofm.embed.table import EmbeddingTable
from echofm.embed.videos import Videos
from echofm.errors import EchofmError
from echofm.hub import CONFIG
from synth.audit.canaries.planting import CanaryInput, sources, swap_pairs, with_new_beats
from synth.audit.canaries.swaps import SwapInput
from synth.audit.judging import Judge
from synth.audit.motion import MotionLevel, motion_encoder
from synth.audit.reid import Reid, load_reid
from synth.audit.reid.model import why_not_separate
from synth.audit.sets import Sets, require_comparable, safe_table, shown_digest
from synth.audit.settings import AuditSettings
from synth.audit.statistics.calibrate import require_holdout

if TYPE_CHECKING:
    from accelerate import PartialState

    from echofm.embed.extract import Extractor
    from echofm.encoder import AnyEncoder
    from synth.mafe.extract import MotionEncoder

Given = str | Path | EmbeddingTable
NAMES = ("training", "held-out", "synthetic")
_MOST_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """The arguments of `synth.audit.audit_sets`, which says what each means."""

    train: Given
    holdout: Given
    synthetic: Given
    encoder: str | Path | AnyEncoder | None
    reid: str | Path | Reid | None
    judge: str | Path | Reid | AnyEncoder | None
    canary_table: Given | None
    motion: str | Path | None
    settings: AuditSettings
    embed: EmbedOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """All as tables. set_aside: of each set, files without a row. videos: by set, where clips can be read again."""

    sets: Sets
    head: Reid | None
    motion: MotionLevel | None
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
    if request.settings.duplicates == "on" and not {"training", "synthetic"} <= videos.keys():
        raise EchofmError("--duplicates on needs the training and the synthetic set as videos or shards")
    head = None if request.reid is None else head_of(request.reid)
    # Here, before anything is embedded: a name mistyped must not cost the hours of the first encoder.
    second = None if request.judge is None else _judge_of(request.judge, request.embed)
    if not (second is None or isinstance(second, Reid)) and len(videos) < len(NAMES):
        raise EchofmError("--judge is an encoder, but not all sets are videos or shards; give a re-identification head")
    moving = None if request.motion is None else _motion_of(request, videos)
    options = as_fitted(request.embed, [each for each in (head, second) if isinstance(each, Reid)])
    planted = None if request.canary_table is None else _canary_table(request.canary_table, request.embed)
    if videos and request.encoder is None:
        raise EchofmError("videos and shards need an encoder to be compared by; give --encoder")
    if videos and request.encoder is not None:
        require_files_of_enough(given[1], alpha=request.settings.alpha)
        encoder = encoder_of(request.encoder, request.embed)
        sets, set_aside = _Embedder.of(encoder, options, request, ranks, moving).sets(given, planted)
    else:
        sets, set_aside = _named([_table(each, request.embed) for each in given], planted), (0, 0, 0)
    judge = None
    if isinstance(second, Reid):
        judge = Judge(sets=sets.seen_by(second), separate=head is None or why_not_separate(head, second) is None)
    elif second is not None:
        # Another encoder's features are no canaries of the judge, and its own are not those of a head.
        beside, _ = _Embedder.of(second, request.embed, request, ranks).sets(given, None)
        if beside.train.encoder_digest == sets.train.encoder_digest and head is None:
            raise EchofmError("--judge is the encoder that filters already; give another one")
        judge = Judge(sets=beside)
    motion = None
    if moving is not None:
        seen, _ = _Embedder.of(moving, request.embed, request, ranks, moving).sets(given, None)
        motion = MotionLevel.of(seen, head, frames=all(each.phase is not None for each in sets.tables()))
    return Inputs(sets=sets, head=head, motion=motion, judge=judge, set_aside=set_aside, videos=videos)


def encoder_of(given: str | Path | AnyEncoder, options: EmbedOptions) -> AnyEncoder:
    """An encoder by anything that `echofm embed` takes, or one already open."""
    if isinstance(given, str | Path):
        return open_encoder(given, trust_remote_code=options.trust_remote_code)
    return given


def head_of(given: str | Path | Reid) -> Reid:
    """A head from the folder that `echofm audit fit-reid` wrote, or one already loaded."""
    if isinstance(given, Reid):
        return given
    if not Path(given).is_dir():
        raise EchofmError("--reid or --judge names no folder with a re-identification head; make one by `fit-reid`")
    return load_reid(given)


def _motion_of(request: Request, videos: Mapping[str, Videos]) -> MotionEncoder:
    assert request.motion is not None
    if len(videos) < len(NAMES) or request.canary_table is not None:
        raise EchofmError("--motion looks at pixels: give all sets as videos or shards, and no --canary-table")
    return motion_encoder(request.motion)


def _judge_of(given: str | Path | Reid | AnyEncoder, options: EmbedOptions) -> Reid | AnyEncoder:
    """A head where the folder holds one, else an encoder."""
    if isinstance(given, str | Path):
        return load_reid(given) if is_head(given) else encoder_of(given, options)
    return given


def is_head(given: str | Path) -> bool:
    """Whether a folder holds a re-identification head and no encoder."""
    path = Path(given) / CONFIG
    if not path.is_file() or path.stat().st_size > _MOST_CONFIG_BYTES:
        return False
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(config, dict) and "reid" in str(config.get("format", ""))


def as_fitted(options: EmbedOptions, heads: list[Reid]) -> EmbedOptions:
    """The options that give features as the heads read them. Raises EchofmError where two heads differ in that."""
    fitted = [dict(each.config.settings) for each in heads]
    if not fitted:
        return options
    if any(each != fitted[0] for each in fitted):
        raise EchofmError(
            f"the heads of filter and judge read features made with {fitted[0]} and {fitted[1]}; fit them alike"
        )
    windows = fitted[0].get("windows", options.windows)
    return replace(
        options,
        windows=windows if isinstance(windows, int) else None,
        precision=fitted[0].get("precision", options.precision),
        tokens=fitted[0].get("tokens"),
    )


def require_files_of_enough(given: EchoSet, *, alpha: float) -> None:
    """Raises EchofmError before anything is embedded, where the files can be of too few patients."""
    patients = None if given.videos is None else given.videos.most_patients(given.splits)
    if patients is not None:
        require_holdout(patients, alpha=alpha)


def _named(tables: list[EmbeddingTable], canaries: EmbeddingTable | None) -> Sets:
    train, holdout, synthetic = tables
    return Sets(train=train, holdout=holdout, synthetic=synthetic, canaries=canaries)


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
    moving: MotionEncoder | None = None
    """Plants swaps, too."""

    @classmethod
    def of(
        cls,
        encoder: AnyEncoder,
        options: EmbedOptions,
        request: Request,
        ranks: PartialState | None,
        moving: MotionEncoder | None = None,
    ) -> _Embedder:
        device = options.torch_device if ranks is None else ranks.device
        extractor = options.extractor(encoder.to(device), device=device, tokens=options.grid)
        return cls(extractor=extractor, request=request, ranks=ranks, moving=moving)

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
        (train, without_train), (holdout, without_holdout), (synthetic, without) = map(self._set, given)
        sets = Sets(train=train, holdout=holdout, synthetic=synthetic)
        # Before the canaries: what does not fit is reported before any more time is spent.
        require_comparable(sets)
        require_holdout(holdout.rows["patient_id"].nunique(), alpha=self.request.settings.alpha)
        if planted is None and given[0].videos is not None and self.request.settings.canaries > 0:
            planted = self._plant(sets, given[0].videos, given[1].videos)
        return replace(sets, canaries=planted), (without_train, without_holdout, without)

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

    def _plant(self, sets: Sets, videos: Videos, holdout: Videos | None) -> EmbeddingTable:
        wanted, seed = self.request.settings.canaries, self.request.settings.seed
        contract, cache = self.extractor.encoder.contract, self.request.embed.cache
        source_ids = sources(sets.train, wanted=wanted, budget=sum(map(len, sets.tables())), seed=seed)
        source = CanaryInput(videos=videos, source_ids=source_ids, contract=contract, seed=seed)
        planted = embedded(self.extractor, source, name="canaries", cache=cache, ranks=self.ranks).table
        if self.moving is not None and holdout is not None:
            pairs = swap_pairs(source_ids, sets.holdout, seed=seed)
            swaps = SwapInput(train=videos, holdout=holdout, pairs=pairs, encoder=self.moving, contract=contract)
            moved = embedded(self.extractor, swaps, name="swaps", cache=cache, ranks=self.ranks).table
            planted = EmbeddingTable.concat([planted, moved])
        return with_new_beats(planted, sets.train, wanted=wanted, seed=seed)
