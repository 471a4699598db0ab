"""Train an encoder further on a label of your shards, and set it beside its frozen probe.

Begins at the linear probe; deeper layers learn more slowly. The same command goes on after an interruption. Exit codes:
0 done; 1 done, but a check failed; 2 bad input.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from echofm.embed.options import EmbedOptions
from echofm.errors import EchofmError


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Fine-tune an encoder of echofm; `echofm predict OUT/TARGET ...` applies what comes out."""

    encoder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENCODER")]
    """Folder of an exported encoder, or its hub id."""
    data: Annotated[Path, tyro.conf.arg(metavar="SHARDS")]
    """Labelled shards, with their splits."""
    target: str
    """Label to learn: a number, or classes."""
    out: Path
    """Folder for report.html, TARGET/ (probe.json, predictions.parquet, the model) and run/, the training."""
    steps: int = 500
    """Updates of the weights."""
    train_batch: int = 16
    """Clips per update."""
    lr: float = 1e-4
    """Peak learning rate of head and last block."""
    layer_decay: float = 0.75
    """Learning rate of a block over that of the next one."""
    baselines: bool = True
    """Also probe random weights and the pixels."""
    draws: int = 1000
    """Redrawn test sets that an interval comes from."""
    seed: int = 0
    """Of the order of clips, their windows, and the bootstrap."""
    embed: tyro.conf.OmitArgPrefixes[EmbedOptions] = field(default_factory=EmbedOptions)


def main(argv: list[str]) -> int:
    """`echofm finetune`."""
    args = tyro.cli(Finetune, args=argv, prog="echofm finetune", description=__doc__)
    for name, low in (("steps", 1), ("train_batch", 1), ("draws", 1), ("seed", 0)):
        if getattr(args, name) < low:
            raise EchofmError(f"--{name.replace('_', '-')} is {getattr(args, name)}; give {low} or more")
    if not 0 < args.layer_decay <= 1 or not args.lr > 0:
        raise EchofmError(f"--layer-decay {args.layer_decay:g}, --lr {args.lr:g}: give above 0, the decay at most 1")
    if args.embed.tokens is not None:
        raise EchofmError("--tokens: fine-tuning reads none; leave it out")
    from echofm.shards.manifest import MANIFEST
    from probe.targets import ProbeRequest, check_before_embedding

    if not (args.data / MANIFEST).is_file():
        raise EchofmError(f"--data {args.data}: no shards; write them with `echofm shards SRC OUT`")
    request = ProbeRequest(target=args.target)
    if not request.is_label():
        raise EchofmError(f"--target {args.target}: fine-tuning is of a clip's label, a number or classes")
    check_before_embedding([request], data=[args.data])
    return _finetune(args)


def _finetune(args: Finetune) -> int:
    from echofm.hub import load_encoder
    from probe.finetune.recipe import default
    from probe.finetune.run import ENCODER, RUN, Start, beside_the_frozen_probe, train, tuned_model
    from probe.inputs import open_inputs
    from probe.predict.rates import with_rates_as_read
    from probe.report import write_report
    from probe.report.clips import ShardFrames
    from probe.targets import target_folder

    encoder = load_encoder(args.encoder)
    inputs = open_inputs(
        [args.encoder],
        data=args.data,
        options=args.embed,
        with_baselines=args.baselines,
        seed=args.seed,
        say=_say,
    )
    begin = Start.of(inputs.table, args.target, seed=args.seed)
    recipe = default(
        steps=args.steps, batch=args.train_batch, lr=args.lr, layer_decay=args.layer_decay, seed=args.seed, workers=2
    ).model_copy(update={"target": args.target, "encoder_digest": encoder.digest})
    if not train(recipe, begin, encoder, data=args.data, out=args.out):
        return 0
    tuned, model = tuned_model(begin, args.out / RUN / "export")
    how: dict[str, Any] = {"data": args.data, "options": args.embed, "draws": args.draws, "seed": args.seed}
    probed, table = beside_the_frozen_probe(begin, tuned, model, inputs, say=_say, **how)
    folder = target_folder(args.out, args.target)
    tuned.save_pretrained(folder / ENCODER)
    probed.result.save(folder, probed.predictions)
    with_rates_as_read(probed.model, args.data).save(folder, encoder=ENCODER)
    write_report(args.out, [probed], table=table, frames_of=ShardFrames(args.data), tuned=True)
    for note in probed.result.notes:
        _say(f"note: {note}")
    _print(probed.result)
    _say(f"report: {args.out / 'report.html'}; on new clips: echofm predict {folder} SRC --out predictions.csv")
    return int(bool(probed.result.sanity.problems))


def _print(result: Any) -> None:
    for score in result.main_scores:
        found, method = score.estimate, "fine-tuned" if score.method == "probe" else score.method
        figure = f"{found.value:8.3f}  [{found.low:.3f}, {found.high:.3f}]"
        print(f"{result.target:<16} {method:<14} {score.metric:<18} {figure}")
    for each in result.comparisons:
        apart = each.difference
        if each.level == "clip" and each.baseline == "frozen probe":
            print(f"fine-tuned - frozen probe: {each.metric} {apart.value:+.3f}  [{apart.low:+.3f}, {apart.high:+.3f}]")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
