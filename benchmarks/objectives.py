"""Objectives at equal CPU minutes: each pretrained, embedded and probed in turn; tables for results-objectives.md.

    OMP_NUM_THREADS=1 python -m benchmarks.objectives OUT --shards varied=A usual=B     # resumes; --tables prints alone

A run whose result lies in OUT is not made again. Figures are of held-out patients, intervals over them.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from echofm.backbones import PixelEncoder, open_encoder, random_spec
from echofm.embed.cache import embedded
from echofm.embed.options import EmbedOptions
from echofm.embed.table import EmbeddingTable
from echofm.encoder import AnyEncoder
from echofm.intervals import Estimate
from probe.baselines import pixel_pca
from probe.comparison import compare
from probe.labels.evaluate import evaluate
from probe.phase.probe import probe_phase
from probe.result import ProbeResult

_COMMON = "--fit.precision bf16 --data.gain 0.3 --data.contrast 0.3 --fit.save-every 400 --monitor.every 400"
_NO_PERIODIC = "--objective.triplet.weight 0 --objective.cycle.weight 0"
_LATENT = "--objective.latent.weight 1 --objective.reconstruction.weight 0 --fit.ema-decay 0.99"
# By name: options beside the recipe `demo`, and CPU seconds a step (bf16, one thread, interleaved in one process).
OBJECTIVES: Mapping[str, tuple[str, float]] = {
    "default": ("", 0.129),
    "latent+periodic": (_LATENT, 0.301),
    "published": (
        "--network.phase-centre 0 --masking.decode-ratio 1 --fit.optim.base-lr 6e-3 --fit.optim.warmup-steps 100",
        0.180,
    ),
    "latent": (f"{_LATENT} {_NO_PERIODIC}", 0.300),
}
_TARGETS = {"ef_percent": "r2", "view": "balanced_accuracy", "heart_rate_bpm": "r2"}
_PHASE = ("phase_error_percent", "cycle_retrieval")
# Fewest labels first, as patients; then parts of all.
_FEW_PATIENTS, _PARTS, _DRAWS_OF_LABELS = 16, (0.05, 0.1, 1.0), 5
_UNTRAINED, _PIXELS = "untrained", "pixels"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One row of the tables: an objective on a phantom, or what stands beside it."""

    phantom: str
    objective: str
    seed: int = 0
    times: int = 1

    @property
    def name(self) -> str:
        """Of its folder."""
        longer = f"-x{self.times}" if self.times > 1 else ""
        return self.objective if self.objective in (_UNTRAINED, _PIXELS) else f"{self.objective}-s{self.seed}{longer}"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What is compared, where."""

    out: tyro.conf.Positional[Path]
    """Folder of runs and figures."""
    shards: dict[str, Path]
    """Of each phantom, 64 pixels."""
    minutes: float = 2.5
    """CPU minutes of a run."""
    seeds: int = 2
    """Training seeds."""
    longer: tuple[str, ...] = ()
    """Objectives trained four times as long, too."""
    tables: bool = False
    """Print the tables of what is there; run nothing."""


def plan(arguments: Arguments) -> Iterator[Run]:
    """What tells most, first."""
    for seed in range(arguments.seeds):
        for phantom in arguments.shards:
            beside = (_UNTRAINED, _PIXELS) if seed == 0 else ()
            first, *others = OBJECTIVES
            yield from (Run(phantom=phantom, objective=each, seed=seed) for each in (first, *beside, *others))
    for phantom in arguments.shards:
        yield from (Run(phantom=phantom, objective=each, times=4) for each in arguments.longer)


def train(run: Run, arguments: Arguments, folder: Path) -> None:
    """The run's export, by the command line; how many CPU seconds it took lies beside it."""
    words, step_s = OBJECTIVES[run.objective]
    steps = round(60 * arguments.minutes * run.times / step_s)
    command = [str(Path(sys.executable).with_name("echofm")), "pretrain", "demo", "--data"]
    command += [str(arguments.shards[run.phantom]), "--out", str(folder / "run"), "--fit.steps", str(steps)]
    command += [*_COMMON.split(), *words.split(), "--fit.seed", str(run.seed), "--resume"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (folder / "cost.json").write_text(json.dumps({"steps": steps, "cpu_s": round(cpu_s)}), encoding="utf-8")


def encoder_of(run: Run, arguments: Arguments) -> AnyEncoder:
    """The trained one, or what stands beside: of the architecture that the default has."""
    default = arguments.out / run.phantom / "default-s0" / "run" / "export"
    if run.objective == _UNTRAINED:
        return open_encoder(str(random_spec(str(default))), seed=0)
    if run.objective == _PIXELS:
        return PixelEncoder(open_encoder(str(default)).contract)
    return open_encoder(str(arguments.out / run.phantom / run.name / "run" / "export"))


def table_of(encoder: Any, shards: Path, *, phase: bool = True) -> EmbeddingTable:
    """Features of all clips, windows that cover them."""
    options = EmbedOptions(precision="bf16")
    source = options.videos(shards, show_progress=False).input(encoder.contract)
    return embedded(options.extractor(encoder, phase=phase), source, name="table", show_progress=False).table


def probe(run: Run, arguments: Arguments, folder: Path) -> None:
    """Every target that is not there yet."""
    encoder = encoder_of(run, arguments)
    table = table_of(encoder, arguments.shards[run.phantom], phase=run.objective != _PIXELS)
    fractions = (few(table), *_PARTS)
    for target in _TARGETS:
        if not (folder / target / "probe.json").is_file():
            read = pixel_pca(table, target=target) if run.objective == _PIXELS else table
            found = evaluate(read, target=target, label_fractions=fractions, seeds=_DRAWS_OF_LABELS)
            (folder / target).mkdir(exist_ok=True)
            found.result.save(folder / target, found.predictions)
    if run.objective != _PIXELS and not (folder / "phase" / "probe.json").is_file():
        found = probe_phase(table)
        (folder / "phase").mkdir(exist_ok=True)
        found.result.save(folder / "phase", found.predictions)


def few(table: EmbeddingTable) -> float:
    """Sixteen patients as a part of the training patients."""
    train = table.patient_id[table.rows["split"] == "train"]
    return _FEW_PATIENTS / len(set(train.tolist()))


def shown(found: Estimate) -> str:
    """ "0.81 [0.76, 0.86]" """
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def rows(folder: Path, runs: Sequence[Run]) -> Iterator[str]:
    """Markdown, a table a target: by labels, and minus the default of the seed, paired."""
    for target, metric in _TARGETS.items():
        heads = (f"{target}, {metric}", "16 patients", "5 %", "10 %", "100 %", "minus default, paired")
        yield f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|"
        for run in runs:
            path = folder / run.name / target / "probe.json"
            if not path.is_file():
                continue
            result = ProbeResult.from_json(path)
            by_labels = sorted({each.label_fraction for each in result.scores})
            cells = [shown(result.score(metric, label_fraction=part)) for part in by_labels]
            base = folder / f"default-s{run.seed}" / target
            apart = ""
            if base != path.parent and (base / "probe.json").is_file():
                found = {each.metric: each.difference for each in compare(path.parent, base).metrics}[metric]
                apart = "" if found is None else f"{found.value:+.3f} [{found.low:.3f}, {found.high:.3f}]"
            yield f"| {run.name} | {' | '.join(cells)} | {apart} |"
    yield f"\n| phase | {' | '.join(_PHASE)} |\n|---|---|---|"
    for run in runs:
        path = folder / run.name / "phase" / "probe.json"
        if path.is_file():
            result = ProbeResult.from_json(path)
            yield f"| {run.name} | {' | '.join(shown(result.score(each)) for each in _PHASE)} |"


def main(arguments: Arguments) -> None:
    """Make what is not there; print the tables."""
    torch.set_num_threads(1)
    runs = list(plan(arguments))
    for run in [] if arguments.tables else runs:
        folder = arguments.out / run.phantom / run.name
        folder.mkdir(parents=True, exist_ok=True)
        if run.objective in OBJECTIVES and not (folder / "cost.json").is_file():
            train(run, arguments, folder)
        probe(run, arguments, folder)
        print(f"{run.phantom} {run.name}: done", flush=True)
    for phantom in arguments.shards:
        print(f"\n## {phantom} phantom")
        print(*rows(arguments.out / phantom, [run for run in runs if run.phantom == phantom]), sep="\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
