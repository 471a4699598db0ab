"""Privacy audit: does a synthetic set come closer to its training patients than to new ones, and could we tell?

Reads three embedding tables of one encoder (`echofm embed`). Exit codes: 0 done; 1 done, and the part of clips flagged
for removal exceeds `--fail-above`; 2 bad input.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import tyro

from echofm.errors import EchofmError
from echofm.split import SPLITS

if TYPE_CHECKING:
    from echofm.embed.table import EmbeddingTable


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Audit a synthetic set against the patients that its generator was trained on."""

    train: str
    """Table of the clips that the generator was trained on; `TABLE:train` takes one split of it."""
    holdout: str
    """Table of real clips of patients that the generator never saw, from the same hospital and protocol;
    `TABLE:val,test` takes two splits of it."""
    synthetic: str
    """Table of the synthetic clips."""
    out: Path
    """Folder for report.html, audit.json and samples.parquet."""
    alpha: float = 0.05
    """Level of the p-values and of the false flags among the flagged."""
    rule: Literal["conformal", "published"] = "conformal"
    """What flags a clip for removal; the published rule is biased and offered for comparison."""
    metric: Literal["cosine", "pearson"] = "cosine"
    """Similarity of two embeddings."""
    fail_above: float = 1.0
    """Exit with code 1 where a larger part of the clips is flagged for removal."""
    seed: int = 0
    """Of the bootstrap."""


def main(argv: list[str]) -> int:
    """Run the audit and write its report."""
    arguments = tyro.cli(Arguments, args=argv, prog="echofm audit")
    if not 0 < arguments.alpha < 1:
        raise EchofmError(f"--alpha {arguments.alpha:g} is no probability between 0 and 1")
    from synth.audit.audit import audit
    from synth.audit.report import page

    tables = [_load(each) for each in (arguments.train, arguments.holdout, arguments.synthetic)]
    audited = audit(*tables, alpha=arguments.alpha, rule=arguments.rule, metric=arguments.metric, seed=arguments.seed)
    audited.result.save(arguments.out, audited.samples)
    page(audited).save(arguments.out / "report.html")
    print(audited.result.verdict)
    print(f"report: {arguments.out / 'report.html'}", file=sys.stderr)
    return int(audited.result.flagged.decided > arguments.fail_above * audited.result.synthetic.clips)


def _load(asked: str) -> EmbeddingTable:
    """A table, or with `:split,split` the clips of these splits."""
    from echofm.embed.table import EmbeddingTable

    folder, colon, names = asked.rpartition(":")
    splits = names.split(",")
    if not colon or not set(splits) <= set(SPLITS):
        return EmbeddingTable.load(asked)
    table = EmbeddingTable.load(folder)
    return table.select(np.isin(table.split.astype(str), splits))
