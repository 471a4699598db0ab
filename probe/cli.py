"""Linear probing: what a frozen encoder knows about a label, with intervals and baselines.

Exit codes: 0 done; 1 done, but a check of the encoder or its embedding failed (said first); 2 bad input.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from echofm.errors import EchofmError
from echofm.readers.patients import PatientFrom

if TYPE_CHECKING:
    from echofm.progress import Bar
    from probe.maker import Gathered
    from probe.report.frames import FramesOf
    from probe.result import ProbeResult
    from probe.targets import Ask

_TOKENS = "4,7,7"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Probe a table of embeddings (`echofm probe TABLE`), or an encoder on data (`echofm probe ENCODER --data SRC`).

    An encoder is looked at under its contract first; its untrained twin and the pixels' principal components are
    probed beside it. Features are kept in a cache and used again while encoder, data and options are the same.
    """

    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[TABLE|ENCODER ...]")] = ()
    """Folder of a table from `echofm embed`, or an encoder (docs/backbones.md). Any after the first stand beside it."""
    out: Path
    """Folder for report.html and, by target, probe.json and predictions.parquet."""
    target: Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
    """Label to predict (`a+b`: several 0/1 labels at once), view, kind, phase, mask, or retrieval:patient (view,
    phase); may be given several times."""
    encoder: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Encoder, as in the first place; may be given several times."""
    data: Path | None = None
    """Shards, folder or data set that encoders are probed on."""
    test_on: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Another set to test on, all of it: another hospital's data, or with tables its table of each encoder in the same
    order. Fitted and chosen is on the first set's training and validation patients."""
    kind: Literal["linear", "attentive", "knn", "upsampling"] = "linear"
    """linear: ridge or logistic regression; attentive: one learned query over a clip's tokens; knn: cosine nearest
    neighbours; upsampling: for mask, a few convolutions."""
    task: Literal["regression", "classification", "ordinal", "multilabel"] | None = None
    """Read off the label's values unless given."""
    order: tuple[str, ...] = ()
    """The levels' words, rising, of an ordinal label: --order none mild severe."""
    features: Literal["auto", "video", "motion", "both", "phase", "rhythm", "beat", "tokens"] = "auto"
    """What of a clip is read: its mean, how it moves in time, both, or tokens; auto chooses on validation patients."""
    label_fractions: tuple[str, ...] = ("1",)
    """Parts of the training patients whose labels are used: 0.01,0.1,1."""
    against: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Table of another encoder over the same clips, or with --data an encoder; may be given several times."""
    rivals: bool = True
    """Probe the untrained twin and the pixels as well, where an encoder is given."""
    windows: int | None = None
    """Windows per clip for encoders; by default as many as cover the clip."""
    tokens: Annotated[str, tyro.conf.arg(metavar="T,R,C")] | None = None
    """Keep tokens of places and times on this grid for encoders."""
    batch: int = 16
    """Windows per forward pass."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one."""
    processes: int = 2
    """Reader processes; shards need none."""
    dataset: str | None = None
    """Name of the public set in the folder; by default found by looking."""
    patient_from: PatientFrom | None = None
    """What tells patients apart in a plain folder."""
    max_clip_mb: float = 1024
    """Largest clip, decoded, in 10^6 bytes."""
    max_seconds: float = 120
    """Most seconds for reading one file."""
    cache: Path | None = None
    """Folder of embeddings made before; by default ~/.cache/echofm/embeddings."""
    id_key: Path | None = None
    """File with the key of the ids; by default your own."""
    trust_remote_code: bool = False
    """Run the code of a torchhub: repository."""
    seeds: int = 5
    """Draws of the labelled patients for each label fraction below 1."""
    draws: int = 1000
    """Redrawn test sets that an interval comes from."""
    seed: int = 0
    """Of the splits, the draws, the bootstrap and the untrained twin."""


def main(argv: list[str]) -> int:
    """Run the probes and write their report; `compare A.json B.json` compares two that ran."""
    if argv[:1] == ["compare"]:
        from probe.compare_cli import main as compare

        return compare(argv[1:])
    arguments = tyro.cli(Arguments, args=argv, prog="echofm probe")
    sources = (*arguments.sources, *arguments.encoder, *arguments.against)
    if not sources:
        raise EchofmError("name a table, or an encoder with --data")
    if not arguments.target:
        raise EchofmError("name a label to predict: --target ef_percent")
    fractions = parse_fractions(arguments.label_fractions)
    _require_counts(arguments)
    asks = [_ask(arguments, target, fractions) for target in arguments.target]
    # Only now, so that --help needs no torch.
    from echofm.embed.store import is_table
    from echofm.progress import progress_bar
    from probe.asked import check_before_embedding, check_before_probing, target_folder
    from probe.checks.embedding import check_embedding, problems_of
    from probe.report import write_report
    from probe.targets import probe_target, steps_of

    if not is_table(Path(sources[0])):
        check_before_embedding(asks, data=[each for each in (arguments.data, *arguments.test_on) if each is not None])
    folders = {ask.target: target_folder(arguments.out, ask.target) for ask in asks}
    gathered = _gathered(arguments, sources)
    check_before_probing(asks, gathered)
    checks = [*gathered.checks, *check_embedding(gathered.table).checks]
    told = problems_of(checks)
    for problem in told:
        _say(f"warning: {problem}")
    probes = []
    with progress_bar("probing", sum(steps_of(ask, gathered) for ask in asks)) as bar:
        for ask in asks:
            probed = probe_target(replace(ask, advance=partial(_advance, bar, ask.target)), gathered, checks=checks)
            probed.result.save(folders[ask.target], probed.predictions)
            probes.append(probed)
    problems = list(dict.fromkeys(problem for probed in probes for problem in probed.result.sanity.problems))
    for problem in problems:
        if problem not in told:
            _say(f"warning: {problem}")
    for probed in probes:
        for note in probed.result.notes:
            _say(f"note: {probed.result.target}: {note}")
        _print(probed.result)
    frames_of = gathered.frames_of or _frames_of(arguments.data)
    write_report(arguments.out, probes, table=gathered.table, frames_of=frames_of)
    _say(f"report: {arguments.out / 'report.html'}")
    return int(bool(problems))


def _require_counts(arguments: Arguments) -> None:
    from probe.protocol import require_counts, require_seed

    require_seed(arguments.seed)
    names = ("windows", "batch", "processes", "seeds", "draws")
    require_counts(**{f"--{name}": getattr(arguments, name) for name in names})


def _gathered(arguments: Arguments, sources: tuple[str, ...]) -> Gathered:
    """Tables, checked encoders, rivals."""
    from echofm.embed.tokens import parse_grid
    from echofm.ids import load_key
    from echofm.readers.limits import Limits
    from probe.gather import device_of, gather
    from probe.maker import Options

    # An attentive probe reads tokens; of an encoder they can be had.
    tokens = arguments.tokens or (_TOKENS if arguments.kind == "attentive" else None)
    options = Options(
        key=load_key(arguments.id_key),
        windows=arguments.windows,
        tokens=None if tokens is None else parse_grid(tokens),
        batch=arguments.batch,
        device=device_of(arguments.device),
        processes=arguments.processes,
        dataset=arguments.dataset,
        patient_from=arguments.patient_from,
        limits=Limits(max_clip_mb=arguments.max_clip_mb, max_seconds=arguments.max_seconds),
        cache=arguments.cache,
        trust_remote_code=arguments.trust_remote_code,
        with_rivals=arguments.rivals,
        seed=arguments.seed,
    )
    return gather(sources, data=arguments.data, test_on=arguments.test_on, options=options, say=_say)


def _ask(arguments: Arguments, target: str, fractions: tuple[float, ...]) -> Ask:
    from probe.targets import Ask

    return Ask(
        target=target,
        kind=arguments.kind,
        task=arguments.task,
        order=arguments.order,
        features=arguments.features,
        label_fractions=fractions,
        seeds=arguments.seeds,
        draws=arguments.draws,
        seed=arguments.seed,
        data=arguments.data,
    )


def _frames_of(data: Path | None) -> FramesOf | None:
    """Frames for the report's film strips where tables are probed: of shards alone, which tell a clip by its id."""
    from echofm.shards.manifest import MANIFEST
    from probe.report.frames import ShardFrames

    return ShardFrames(data) if data is not None and (data / MANIFEST).is_file() else None


def parse_fractions(words: tuple[str, ...]) -> tuple[float, ...]:
    """`0.01,0.1,1` or the same with blanks between. Raises EchofmError on anything but numbers above 0, at most 1."""
    try:
        fractions = tuple(float(part) for word in words for part in word.split(",") if part)
    except ValueError:
        fractions = ()
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise EchofmError(f"--label-fractions {' '.join(words)}: give numbers above 0 and at most 1, e.g. 0.01,0.1,1")
    return fractions


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _advance(bar: Bar, target: str, note: str) -> None:
    bar.advance(1, note=f"{target}, {note}")


def _print(result: ProbeResult) -> None:
    wide = max(10, *(len(score.method) for score in result.scores))
    for score in result.scores:
        if score.level == "clip":
            found, part = score.estimate, f"{100 * score.label_fraction:.3g}%"
            print(
                f"{result.target:<16} {score.method:<{wide}} {part:>5} of labels  "
                f"{f'{score.metric} {score.of}'.rstrip():<18} {found.value:8.3f}  [{found.low:.3f}, {found.high:.3f}]"
            )
