"""Linear probing: what a frozen encoder knows about a label, with intervals and baselines.

Exit codes: 0 done; 1 done, but a check of the encoder or its embedding failed (said first); 2 bad input.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from echofm.embed.options import LabelledEmbedOptions
from echofm.errors import EchofmError

if TYPE_CHECKING:
    from echofm.intervals import Estimate
    from echofm.progress import Bar
    from probe.inputs import ProbeInputs
    from probe.perturb import Strengths
    from probe.report.clips import FramesOf
    from probe.result import ProbeResult
    from probe.targets import ProbeRequest

_TOKENS = "4,7,7"
# Options that every target's request takes as they are.
_REQUESTED = ("kind", "task", "order", "features", "seeds", "draws", "seed", "data", "cross_validate")


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Probe a table of embeddings (`echofm probe TABLE`), or an encoder on data (`echofm probe ENCODER --data SRC`).

    An encoder is looked at under its contract first; random weights and the pixels' principal components are probed
    beside it. Features are kept in a cache and used again while encoder, data and options are the same.
    """

    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[TABLE|ENCODER ...]")] = ()
    """Table of `echofm embed`, or an encoder (docs/backbones.md). The first is probed, the others stand beside it."""
    out: Path
    """Folder for report.html and, by target, probe.json and predictions.parquet."""
    target: Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
    """Label to predict (`a+b`: several 0/1 labels at once), view, kind, phase, ed_es, mask, or retrieval:patient
    (view, phase, lv_area); may be given several times."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="SRC")] = None
    """Shards, folder or data set that encoders are probed on."""
    test_on: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Another set to test on, all of it: another hospital's data, or with tables its table of each encoder in the same
    order. Fitted and chosen is on the first set's training and validation patients."""
    kind: Literal["linear", "attentive", "knn", "upsampling"] = "linear"
    """linear: ridge or logistic regression; attentive: one learned query over a clip's tokens; knn: cosine nearest
    neighbours; upsampling: for mask, a few convolutions."""
    task: Annotated[
        Literal["regression", "classification", "ordinal", "multilabel"] | None,
        tyro.conf.arg(metavar="regression|classification|ordinal|multilabel"),
    ] = None
    """Read off the label's values unless given."""
    order: tuple[str, ...] = ()
    """The levels' words, rising, of an ordinal label: --order none mild severe."""
    features: Literal["auto", "video", "motion", "both", "phase", "rhythm", "beat", "tokens"] = "auto"
    """What of a clip is read: its mean, how it moves in time, both, or tokens; auto chooses on validation patients."""
    label_fractions: tuple[str, ...] = ("1",)
    """Parts of the training patients whose labels are used: 0.01,0.1,1."""
    baselines: bool = True
    """Also probe the encoder's architecture at random weights, and the pixels."""
    perturb: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KIND:STRENGTH")] = ()
    """Also test on clips with a fault of the image, as `shadow:0.5` (`echofm embed --help` lists them; all:0.5 tries
    each): what every method loses by it; may be given several times."""
    cross_validate: Annotated[int | None, tyro.conf.arg(metavar="FOLDS")] = None
    """Test every patient in turn, in so many folds dealt by patient, `--seeds` times: for sets of few patients."""
    seeds: int = 5
    """Draws of the labelled patients for each label fraction below 1; repeats of a cross-validation."""
    draws: int = 1000
    """Redrawn test sets that an interval comes from."""
    seed: int = 0
    """Of the splits, the draws, the bootstrap and the random weights."""
    embed: tyro.conf.OmitArgPrefixes[LabelledEmbedOptions] = field(default_factory=LabelledEmbedOptions)


def main(argv: list[str]) -> int:
    """Run the probes and write their report; `compare A.json B.json` compares two that ran."""
    if argv[:1] == ["compare"]:
        from probe.compare_cli import main as compare

        return compare(argv[1:])
    arguments = tyro.cli(Arguments, args=argv, prog="echofm probe")
    if not arguments.sources:
        raise EchofmError("name a table, or an encoder with --data")
    if not arguments.target:
        raise EchofmError("name a label to predict: --target ef_percent")
    fractions = parse_fractions(arguments.label_fractions)
    # Only now, so that --help needs no torch.
    from echofm.embed.source import is_features
    from probe.labels.folds import require_folds
    from probe.perturb import parsed, require_perturbable
    from probe.protocol import require_request
    from probe.targets import ProbeRequest, check_before_embedding, target_folders

    arguments.embed.check()
    counts: dict[str, Any] = {"--seeds": arguments.seeds, "--draws": arguments.draws}
    require_request(seed=arguments.seed, **counts)
    require_folds(arguments.cross_validate)
    shared = {name: getattr(arguments, name) for name in _REQUESTED} | {"label_fractions": fractions}
    test_on = next(iter(arguments.test_on), None)
    requests = [ProbeRequest(target=target, test_on=test_on, **shared) for target in arguments.target]
    tables = is_features(Path(arguments.sources[0]))
    if strengths := parsed(arguments.perturb):
        require_perturbable(requests, encoder=arguments.data is not None and not tables)
    if not tables:
        own = arguments.embed.own_labels()
        data = [each for each in (arguments.data, *arguments.test_on) if each is not None]
        check_before_embedding(requests, data=data, own=() if own is None else own.names)
    with target_folders(arguments.out, arguments.target) as folders:
        return _probe(arguments, requests, folders, strengths)


def _probe(
    arguments: Arguments, requests: Sequence[ProbeRequest], folders: dict[str, Path], strengths: Strengths
) -> int:
    """Open what is probed, probe each target, print, write the report; the exit code."""
    from echofm.names import NAMES, write_names
    from echofm.progress import progress_bar
    from probe.checks.embedding import check_embedding, problems_of
    from probe.perturb import with_perturbed
    from probe.predict.model import LabelModel
    from probe.predict.rates import with_rates_as_read
    from probe.report import write_report
    from probe.report.clips import FileFrames
    from probe.targets import check_before_probing, probe_target, steps_of

    inputs = _opened(arguments)
    check_before_probing(requests, inputs)
    requests = with_perturbed(requests, inputs, strengths)
    checks = [*inputs.checks, *check_embedding(inputs.table).checks]
    stated = problems_of(checks)
    for problem in stated:
        _say(f"warning: {problem}")
    probes = []
    with progress_bar("probing", sum(steps_of(request, inputs) for request in requests)) as bar:
        for request in requests:
            advance = partial(_advance, bar, request.target)
            probed = probe_target(replace(request, advance=advance), inputs, checks=checks)
            LabelModel.remove(folders[request.target])
            probed.result.save(folders[request.target], probed.predictions)
            if probed.model is not None:
                model = with_rates_as_read(probed.model, arguments.data)
                model.save(folders[request.target], encoder=_spec_of(arguments))
            probes.append(probed)
    problems = list(dict.fromkeys(problem for probed in probes for problem in probed.result.sanity.problems))
    for problem in problems:
        if problem not in stated:
            _say(f"warning: {problem}")
    for probed in probes:
        for note in probed.result.notes:
            _say(f"note: {probed.result.target}: {note}")
        _print(probed.result)
    frames_of = inputs.frames_of or _frames_of(arguments.data)
    write_report(arguments.out, probes, table=inputs.table, frames_of=frames_of)
    if isinstance(frames_of, FileFrames):
        patients = dict(zip(inputs.table.clip_id.tolist(), inputs.table.patient_id.tolist()))
        write_names(arguments.out / NAMES, frames_of.names(patients))
    _say(f"report: {arguments.out / 'report.html'}")
    return int(bool(problems))


def _opened(arguments: Arguments) -> ProbeInputs:
    """Tables, checked encoders, baselines."""
    from probe.inputs import open_inputs

    options = arguments.embed
    # An attentive probe reads tokens; of an encoder they can be had.
    if arguments.kind == "attentive":
        options = replace(options, tokens=options.tokens or _TOKENS)
    return open_inputs(
        arguments.sources,
        data=arguments.data,
        test_on=arguments.test_on,
        options=options,
        with_baselines=arguments.baselines,
        seed=arguments.seed,
        say=_say,
    )


def _spec_of(arguments: Arguments) -> str | None:
    """The encoder's spec, for `echofm predict`; a folder by its whole path. None of a table."""
    from echofm.embed.source import is_features

    spec = arguments.sources[0]
    if is_features(Path(spec)):
        return None
    folder, mark, options = spec.partition("?")
    return f"{Path(folder).resolve()}{mark}{options}" if Path(folder).is_dir() else spec


def _frames_of(data: Path | None) -> FramesOf | None:
    """Frames for the report's film strips where tables are probed: of shards alone, which tell a clip by its id."""
    from echofm.shards.manifest import MANIFEST
    from probe.report.clips import ShardFrames

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
    metric_wide = max(18, *(len(f"{score.metric} {score.of}".rstrip()) for score in result.scores))
    for score in result.scores:
        if score.level == "clip":
            part, metric = f"{100 * score.label_fraction:.3g}%", f"{score.metric} {score.of}".rstrip()
            line = f"{result.target:<16} {score.method:<{wide}} {part:>5} of labels  {metric:<{metric_wide}}"
            print(f"{line} {_figure(score.estimate)}")
    for each in result.perturbed:
        if each.level == "clip" and each.metric == result.perturbed[0].metric:
            line = f"{result.target:<16} {each.method:<{wide}} {each.perturbation:<16} {each.metric:<{metric_wide}}"
            print(f"{line} {_figure(each.estimate)}  minus clean {_figure(each.change)}")


def _figure(found: Estimate) -> str:
    return " not defined" if isnan(found.value) else f"{found.value:8.3f}  [{found.low:.3f}, {found.high:.3f}]"
