"""Privacy audit: does a synthetic set come closer to its training patients than to new ones, and could we tell?

Exit codes: 0 done; 1 done, and a larger part of the clips than `--fail-above` is to be removed, or the encoder misses
plain copies, so that nothing is cleared; 2 bad input. Also: `echofm audit fit-reid` and `echofm audit filter`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from echofm.embed.options import EmbedOptions
from echofm.errors import EchofmError


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Audit a synthetic set against the patients that its generator was trained on.

    Every set is a folder of videos, a data set, shards, an embedding table, or an .npz of arrays; `SET:train` or
    `SET:val,test` takes some of its splits. `echofm audit fit-reid --help` and `echofm audit filter --help` tell the
    rest. On several GPUs or cores: `torchrun --nproc_per_node 4 -m echofm.cli audit ...`.
    """

    train: str
    """The clips that the generator was trained on."""
    holdout: str
    """Real clips of patients that the generator never saw, from the same hospital and protocol."""
    synthetic: str
    """The synthetic clips."""
    out: Path
    """Folder for report.html, audit.json and samples.parquet."""
    encoder: str | None = None
    """What embeds videos and shards, as in `echofm embed`; tables need none."""
    reid: Path | None = None
    """Re-identification head (`echofm audit fit-reid`) that the features go through."""
    judge: str | None = None
    """A second head or encoder, asked the same of all clips and of those that stay."""
    alpha: float = 0.05
    """Level of the p-values and of the false flags among the flagged."""
    fail_above: float = 0.0
    """Exit with code 1 where a larger part of the clips is to be removed, or lies closer to the training set than new
    patients would; and where plain copies are missed."""
    rule: Literal["conformal", "published"] = "conformal"
    """What flags a clip for removal; the published rule is biased and offered for comparison."""
    levels: str | None = None
    """Comma-separated, of clip, frame, motion; by default all that the features offer."""
    decide: Literal["clip", "frame", "motion", "any"] = "clip"
    """The level that decides; any: all of them with Bonferroni's correction."""
    metric: Literal["cosine", "pearson"] = "cosine"
    """Similarity of two embeddings."""
    moments: int = 4
    """Moments of each clip compared at frame level."""
    index: Literal["auto", "exact", "ivfpq"] = "auto"
    """auto: exact up to a million training vectors, above by IVF-PQ with exact re-ranking, its recall stated."""
    canaries: int = 50
    """Training clips that are planted as copies, at most; 0 plants none and leaves the power unknown."""
    canary_table: str | None = None
    """A table or .npz of canaries that you embedded yourself, for sets that are tables."""
    duplicates: Literal["auto", "on", "off"] = "auto"
    """Look for the training recordings themselves by their speckle; auto: up to 20,000 clips in all."""
    strips: int = 20
    """Closest pairs shown as film strips; 0 keeps all pixels out of the report."""
    seed: int = 0
    """Of the canaries and the bootstrap."""
    embed: tyro.conf.OmitArgPrefixes[EmbedOptions] = field(default_factory=EmbedOptions)


def main(argv: list[str]) -> int:
    """`echofm audit`, and its sub-commands by the first word."""
    if argv and argv[0] == "fit-reid":
        from synth.audit.reid.cli import main as fit_reid

        return int(fit_reid(argv[1:]))
    if argv and argv[0] == "filter":
        from synth.audit.filter_cli import main as filter_set

        return filter_set(argv[1:])
    arguments = tyro.cli(Arguments, args=argv, prog="echofm audit", description=Arguments.__doc__)
    arguments.embed.check()
    if not 0 < arguments.alpha < 1:
        raise EchofmError(f"--alpha {arguments.alpha:g} is no probability between 0 and 1")
    if not 0 <= arguments.fail_above <= 1:
        raise EchofmError(f"--fail-above {arguments.fail_above:g} is no part of the clips, 0 to 1")
    if arguments.seed < 0:
        raise EchofmError(f"--seed {arguments.seed} is negative; give 0 or more")
    from synth.audit.command import run

    return run(arguments)
