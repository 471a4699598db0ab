"""The command's work: open what was given, embed it, plant canaries, audit, and write what was found."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast, get_args

from echofm.embed.provenance import is_simulated
from echofm.embed.run import joined_ranks
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.progress import console
from synth.audit.assess import Audited, audit, require_comparable
from synth.audit.calibrate import require_holdout
from synth.audit.cli import Arguments
from synth.audit.duplicates import Duplicates, find_duplicates
from synth.audit.judging import Judge
from synth.audit.levels import Level
from synth.audit.models import are_separate, as_fitted, is_head, load_head, open_model, settings_of
from synth.audit.names import shown_digest
from synth.audit.planting import CanaryInput, sources, with_new_beats
from synth.audit.report import page
from synth.audit.scoring import Sets
from synth.audit.sources import Embedder, Side, open_side, table_of
from synth.audit.strips import Strip, closest_pairs, strips

if TYPE_CHECKING:
    from accelerate import PartialState

    from echofm.encoder import AnyEncoder
    from synth.audit.reid import Reid

_MOST_FOR_DUPLICATES = 20_000


@dataclass(kw_only=True)
class Given:
    """What was opened: the three sides, and the heads of filter and judge if there are any.

    second: the judge where it is an encoder.
    """

    train: Side
    holdout: Side
    synthetic: Side
    head: Reid | None
    judge: Reid | None
    second: AnyEncoder | None

    @property
    def sides(self) -> tuple[Side, Side, Side]:
        """In the order of the arguments."""
        return self.train, self.holdout, self.synthetic


def run(arguments: Arguments) -> int:
    """The whole command; its exit code."""
    with joined_ranks(arguments.embed.torch_device) as ranks:
        given = _open(arguments, show=ranks.is_main_process)
        sets = _embedded(arguments, given, ranks)
        judge = _judge(arguments, given, sets, ranks)
        if not ranks.is_main_process:
            return 0
    audited = audit(
        sets.train,
        sets.holdout,
        sets.synthetic,
        canaries=sets.canaries,
        head=given.head,
        judge=judge,
        alpha=arguments.alpha,
        rule=arguments.rule,
        levels=_levels(arguments.levels),
        decide=arguments.decide,
        metric=arguments.metric,
        moments=arguments.moments,
        index=arguments.index,
        duplicates=_duplicates(arguments, given, sets),
        set_aside=(given.train.set_aside, given.holdout.set_aside, given.synthetic.set_aside),
        seed=arguments.seed,
    )
    return _finish(arguments, given, audited, phantom=is_simulated(sets.train))


def _open(arguments: Arguments, *, show: bool) -> Given:
    sides = [
        open_side(given, name=name, options=arguments.embed, show_progress=show)
        for name, given in {
            "training": arguments.train,
            "held-out": arguments.holdout,
            "synthetic": arguments.synthetic,
        }.items()
    ]
    head = None if arguments.reid is None else load_head(arguments.reid)
    judge, second = None, None
    # Here, before anything is embedded: a name mistyped must not cost the hours of the first encoder.
    if arguments.judge is not None and is_head(arguments.judge):
        judge = load_head(arguments.judge)
    elif arguments.judge is not None:
        if any(side.given.videos is None for side in sides):
            raise EchofmError(
                "--judge is an encoder, but not all sets are videos or shards; give a re-identification head"
            )
        second = open_model(arguments.judge, trust_remote_code=arguments.embed.trust_remote_code)
    return Given(train=sides[0], holdout=sides[1], synthetic=sides[2], head=head, judge=judge, second=second)


def _embedded(arguments: Arguments, given: Given, ranks: PartialState, *, second: AnyEncoder | None = None) -> Sets:
    """The tables of all sets under one encoder, and canaries where the training set has pixels.

    second: the judge, in place of --encoder.
    """
    options = arguments.embed
    if all(side.given.table is not None for side in given.sides):
        train, holdout, synthetic = (table_of(side.given, options) for side in given.sides)
        return Sets(train=train, holdout=holdout, synthetic=synthetic, canaries=_canary_table(arguments, given))
    if arguments.encoder is None:
        raise EchofmError("videos and shards need an encoder to be compared by; give --encoder")
    # Heads read features made in one way alone.
    settings = settings_of([given.head, given.judge]) if second is None else {}
    encoder = second or open_model(arguments.encoder, trust_remote_code=arguments.embed.trust_remote_code)
    for side in given.sides:
        table = side.given.table
        if table is not None and table.encoder_digest != encoder.digest:
            raise EchofmError(
                f"the {side.given.name} table comes from another encoder ({shown_digest(table.encoder_digest)[:12]}) "
                f"than --encoder ({encoder.digest[:12]}); embed all data with one"
            )
    if settings:
        options = as_fitted(options, settings)
    extractor = options.extractor(encoder.to(ranks.device), device=ranks.device, tokens=options.grid)
    embedder = Embedder(extractor=extractor, options=options, ranks=ranks)
    train, holdout, synthetic = (embedder.side(side) for side in given.sides)
    # Before the canaries: what does not fit is said before any more time is spent.
    require_comparable(Sets(train=train, holdout=holdout, synthetic=synthetic))
    require_holdout(holdout.rows["patient_id"].nunique(), alpha=arguments.alpha)
    # Another encoder's features are no canaries of the judge.
    canaries = _canary_table(arguments, given) if second is None else None
    if canaries is None and given.train.given.videos is not None and arguments.canaries > 0:
        canaries = _plant(arguments, given, embedder, Sets(train=train, holdout=holdout, synthetic=synthetic))
    return Sets(train=train, holdout=holdout, synthetic=synthetic, canaries=canaries)


def _plant(arguments: Arguments, given: Given, embedder: Embedder, sets: Sets) -> EmbeddingTable:
    videos = given.train.given.videos
    assert videos is not None
    budget = sum(map(len, sets.tables()))
    planted = CanaryInput(
        videos=videos,
        source_ids=sources(sets.train, wanted=arguments.canaries, budget=budget, seed=arguments.seed),
        contract=embedder.extractor.encoder.contract,
        seed=arguments.seed,
    )
    table = embedder.embed(planted, title="canaries")
    return with_new_beats(table, sets.train, wanted=arguments.canaries, seed=arguments.seed)


def _canary_table(arguments: Arguments, given: Given) -> EmbeddingTable | None:
    if arguments.canary_table is None:
        return None
    side = open_side(arguments.canary_table, name="canary", options=arguments.embed)
    if side.given.table is None:
        raise EchofmError("--canary-table is no embedding table and no .npz; videos are planted by the audit itself")
    return table_of(side.given, arguments.embed)


def _judge(arguments: Arguments, given: Given, sets: Sets, ranks: PartialState) -> Judge | None:
    """The second model over the same clips."""
    if arguments.judge is None:
        return None
    if given.judge is not None:
        return Judge(sets=sets, head=given.judge, separate=are_separate(given.head, given.judge))
    second = _embedded(arguments, given, ranks, second=given.second)
    if second.train.encoder_digest == sets.train.encoder_digest and given.head is None:
        raise EchofmError("--judge is the encoder that filters already; give another one")
    return Judge(sets=second)


def _levels(asked: str | None) -> list[Level] | None:
    if asked is None:
        return None
    names = [each.strip() for each in asked.split(",")]
    unknown = [each for each in names if each not in get_args(Level)]
    if unknown or not names:
        raise EchofmError(f"--levels: {unknown[0]!r} is no level; choose of {', '.join(get_args(Level))}")
    return cast("list[Level]", names)


def _duplicates(arguments: Arguments, given: Given, sets: Sets) -> Duplicates | None:
    """None: only what the ids tell."""
    tables = {"training": sets.train, "held-out": sets.holdout, "synthetic": sets.synthetic}
    videos = {each.given.name: each.given.videos for each in given.sides if each.given.videos is not None}
    there = {name: table for name, table in tables.items() if name in videos}
    if arguments.duplicates == "off" or not {"training", "synthetic"} <= there.keys():
        if arguments.duplicates == "on":
            raise EchofmError("--duplicates on needs the training and the synthetic set as videos or shards")
        return None
    clips = sum(map(len, there.values()))
    if arguments.duplicates == "auto" and clips > _MOST_FOR_DUPLICATES:
        console.print(f"{clips} clips are too many to be read again for duplicates; --duplicates on does it", style="")
        return None
    return find_duplicates(videos, there, processes=arguments.embed.processes)


def _finish(arguments: Arguments, given: Given, audited: Audited, *, phantom: bool) -> int:
    result = audited.result
    # First what took long; a clip that cannot be shown costs no figure.
    result.save(arguments.out, audited.samples)
    # While the strips are read, an earlier audit's page must not stand beside these figures.
    (arguments.out / "report.html").unlink(missing_ok=True)
    shown: list[Strip] = []
    train, synthetic = given.train.given.videos, given.synthetic.given.videos
    if train is not None and synthetic is not None and arguments.strips > 0:
        level: Level = result.levels[0].level if arguments.decide == "any" else arguments.decide
        pairs = closest_pairs(audited.samples, level, most=arguments.strips)
        shown = strips(pairs, level, synthetic=synthetic, train=train)
    page(audited, shown, phantom=phantom).save(arguments.out / "report.html")
    print(result.verdict)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    for each in result.levels:
        if each.search_recall < 1:
            print(f"{each.level} level: searched by IVF-PQ, measured recall {each.search_recall:.4f}")
    print(f"report: {arguments.out / 'report.html'}", file=sys.stderr)
    too_many = result.removed > arguments.fail_above * result.synthetic.clips
    judged = result.judge.after if result.judge is not None else None
    excess = any(
        each.excess_p <= result.alpha and each.fraction.value - result.alpha > arguments.fail_above
        for each in (result.flagged, judged)
        if each is not None
    )
    return int(too_many or excess or result.sees_copies is False)
