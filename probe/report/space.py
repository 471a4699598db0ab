"""The embedding itself: what was checked, and its clips as points of a plane."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.report.blocks import Block, Panels, Picture, Table
from probe.figures.canvas import in_words
from probe.figures.maps import feature_map
from probe.findings.plane import Plane, plane
from probe.result import ProbeResult, SanityFigures
from probe.target import class_name

_PASSED = {True: "passed", False: "FAILED", None: "not checked"}


def checks(found: SanityFigures) -> list[Block]:
    """What was looked at before any figure, failed ones first."""
    blocks: list[Block] = []
    if found.checks:
        order = sorted(found.checks, key=lambda each: {False: 0, None: 1, True: 2}[each.passed])
        rows = [(each.name, _PASSED[each.passed], each.says) for each in order]
        blocks.append(Table(columns=("check", "result", "what was found"), rows=rows))
    measures = [
        ("effective rank (RankMe)", f"{found.rankme:.1f}"),
        ("spread, 0 to 1", f"{found.spread:.3f}"),
        ("cosine within a patient, centred features", _or_unknown(found.within_patient)),
        ("cosine between patients, centred features", _or_unknown(found.between_patients)),
    ]
    caption = "Dead: rank near 1 or no spread. Sees identity: more cosine within a patient than between patients."
    return [*blocks, Table(columns=("measure", "value"), rows=measures, caption=caption)]


def maps(table: EmbeddingTable, results: Sequence[ProbeResult], *, seed: int = 0) -> list[Block]:
    """Principal components and t-SNE of the clip features, once per target that is a column; nothing for dead ones."""
    columns = {each.target: each for each in results if each.target in table.rows.columns}
    found = plane(table, seed=seed) if columns else None
    return [] if found is None else [_coloured(table, found, each) for each in columns.values()]


def _coloured(table: EmbeddingTable, found: Plane, result: ProbeResult) -> Panels:
    name, values = result.target, table.rows[result.target].iloc[found.rows_P].reset_index(drop=True)
    if result.task != "regression" and pd.api.types.is_numeric_dtype(values.dtype):
        values = values.map(lambda value: None if pd.isna(value) else class_name(value))
    draw = partial(feature_map, values_P=values, name=name, classes=result.classes)
    first, second = found.shares
    drawn = [
        Picture(
            draw=partial(draw, found.pca_P2, title="principal components", axis="component"),
            alt=f"principal components of the clip features, coloured by {in_words(name)}",
        ),
        Picture(
            draw=partial(draw, found.tsne_P2, title="t-SNE", axis="dimension"),
            alt=f"t-SNE of the clip features, coloured by {in_words(name)}",
        ),
    ]
    known = int(pd.Series(values).notna().sum())
    some = f"{len(values)} of {len(table)} clips" if len(values) < len(table) else f"All {len(table)} clips"
    return Panels(
        drawn,
        caption=f"{some}, {known} with {in_words(name)}. The two components hold {first:.0%} and {second:.0%} of the "
        "variance. In t-SNE only nearness tells; distances between groups do not.",
    )


def _or_unknown(value: float | None) -> str:
    return "no patient has two clips" if value is None else f"{value:.3f}"
