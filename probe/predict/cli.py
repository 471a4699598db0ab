"""Apply a fitted probe or a fine-tuned encoder to new echoes: a value per clip and per study, with its interval.

Exit codes: 0 every clip has a prediction; 1 some files or clips were refused (the table and standard error say why); 2
bad input.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from echofm.embed.options import EmbedOptions
from echofm.errors import EchofmError, os_errors_as

if TYPE_CHECKING:
    from echofm.embed.cache import Embedded
    from probe.predict.model import LabelModel


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Apply a model that `echofm probe` (linear probes of a clip's label) or `echofm finetune` has saved."""

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder of model.json: OUT/TARGET of `echofm probe` or `echofm finetune`."""
    src: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """A file, a folder, a data set, or shards."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.csv")]
    """Table to write; for files a names.csv beside it leads from ids back to them."""
    encoder: Annotated[str | None, tyro.conf.arg(metavar="ENCODER")] = None
    """The encoder that it was fitted on, where that is no longer where it was, or it was fitted on a table."""
    embed: tyro.conf.OmitArgPrefixes[EmbedOptions] = field(default_factory=EmbedOptions)


def main(argv: list[str]) -> int:
    """`echofm predict`."""
    args = tyro.cli(Predict, args=argv, prog="echofm predict", description=Predict.__doc__)
    args.embed.check()
    # Only now, so that --help needs no torch.
    from echofm.atomic import write_whole
    from echofm.names import NAMES, write_names
    from probe.predict.clips import predictions
    from probe.predict.model import LabelModel

    if args.out.name == NAMES:
        raise EchofmError(f"--out {args.out}: {NAMES} is what leads from ids back to files; name the table otherwise")
    model = LabelModel.load(args.model)
    found, names = _embedded(args, model)
    table = predictions(model, found.table)
    with os_errors_as(f"{args.out} cannot be written ({{reason}}); choose another path"):
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(args.out, table.to_csv(index=False, lineterminator="\n"))
    if names:
        write_names(args.out.with_name(NAMES), names)
    reasons = Counter(reason for reason in table.get("refused", []) if isinstance(reason, str) and reason)
    for reason, count in sorted(reasons.items()):
        print(f"refused: {count} clips: {reason}", file=sys.stderr)
    clips, studies = ((table["level"] == level).sum() for level in ("clip", "study"))
    print(f"{args.out}: {model.facts.target} of {clips - reasons.total()} clips, {studies} studies")
    return int(bool(reasons or found.set_aside))


def _embedded(args: Predict, model: LabelModel) -> tuple[Embedded, list[Any]]:
    """The source's features as the model reads them, and the files behind the clips."""
    from echofm.backbones import open_encoder
    from echofm.embed.cache import embedded
    from echofm.embed.inputs import FileInput
    from echofm.embed.set_aside import file_positions

    options = _options(args.embed, model)
    encoder = open_encoder(_spec(args, model), trust_remote_code=options.trust_remote_code).to(options.torch_device)
    if encoder.digest != model.facts.encoder_digest:
        raise EchofmError(
            "this is not the encoder that the model was fitted on (its digest differs); name it: --encoder"
        )
    source = options.videos(args.src).input(encoder.contract)
    extractor = options.extractor(encoder, phase=model.scales.name in ("phase", "rhythm", "beat"))
    found = embedded(
        extractor, source, name="clips", cache=options.cache, say=lambda line: print(line, file=sys.stderr)
    )
    if not isinstance(source, FileInput):
        return found, []
    positions = file_positions(found.table.clip_id.tolist(), found.folder, source.file_ids)
    return found, source.names(positions, dict(zip(found.table.clip_id.tolist(), found.table.patient_id.tolist())))


def _options(options: EmbedOptions, model: LabelModel) -> EmbedOptions:
    """Windows and precision are the model's. Raises EchofmError where others are asked for."""
    windows = model.facts.embedding.get("windows", "whole clip")
    ours = {"windows": None if isinstance(windows, str) else windows}
    ours["precision"] = model.facts.embedding.get("precision", "fp32")  # type: ignore[assignment]
    if options.windows not in (None, ours["windows"]) or options.tokens is not None:
        raise EchofmError("--windows, --tokens: clips are embedded as the model's were; leave these out")
    return replace(options, **ours)  # type: ignore[arg-type]


def _spec(args: Predict, model: LabelModel) -> str:
    spec = args.encoder or model.facts.encoder
    if spec is None:
        raise EchofmError("the model was fitted on a table, which names no encoder: give --encoder")
    beside = args.model / spec
    return str(beside) if args.encoder is None and beside.is_dir() else spec
