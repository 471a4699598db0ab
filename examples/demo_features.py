"""What the demo's encoder makes of two clips, one generated and one real, followed through the page.

T token times, F frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import demo_figures as figures
import numpy as np
import torch

from echofm.augment import fit_to
from echofm.clip import Clip, ClipBatch
from echofm.contract import InputContract
from echofm.embed.extract import embed_clips
from echofm.embed.table import EmbeddingTable
from echofm.hub import Encoder
from echofm.loss.periodic import cosine_similarity, pixel_prior
from echofm.model.mae import VideoMae
from echofm.report.blocks import Block, Notice, Panels, Picture, Prose, Table
from echofm.shards.loader import window_batches
from echofm.shards.read import ShardSet

GENERATED, REAL = "generated", "real"


@dataclass(frozen=True)
class Example:
    """A clip that the page follows through: its middle window, fitted to the model, on the CPU."""

    name: str
    tag: str
    clip: Clip
    batch: ClipBatch


def example_of(split: ShardSet, contract: InputContract, *, name: str, tag: str) -> Example:
    """The longest clip of a kind; only generated clips have a true phase."""
    clips = [clip for clip in split if (clip.phase_T is not None) == (tag == GENERATED)]
    clip = max(clips, key=lambda each: 0 if each.frame_time_s is None else each.frame_time_s[-1])
    windows = window_batches(
        [clip], frames=contract.frames, frame_rate_hz=contract.frame_rate_hz, windows_per_clip=1, batch=1
    )
    return Example(name, tag, clip, fit_to(next(iter(windows)).to("cpu"), contract))


def similarities(trained: VideoMae, untrained: VideoMae, examples: list[Example]) -> list[Block]:
    blocks: list[Block] = [
        Prose(
            "Each map compares every moment of a clip with every other. The pixel prior looks at the pictures "
            "themselves; it is what the periodic loss learns from. Stripes parallel to the diagonal are later beats "
            "that look like earlier ones."
        )
    ]
    for example in examples:
        video = example.batch.video_BCTHW
        prior = pixel_prior(video, tubelet=trained.encoder.tubelet)[0]
        with torch.inference_mode():
            after, before = (cosine_similarity(model.encode(video).phase_BTD)[0] for model in (trained, untrained))
        gap_s = float(example.batch.frame_time_s_BT[0, 1]) * trained.encoder.tubelet
        draw = partial(figures.similarity_map, token_s=None if np.isnan(gap_s) else gap_s)
        maps = {"pixel prior": prior, "embedding": after, "embedding, untrained": before}
        blocks.append(
            Panels(
                [
                    Picture(partial(draw, map_TT.numpy(), title=name), f"Self-similarity of a clip: {name}")
                    for name, map_TT in maps.items()
                ],
                caption=f"{example.name}: correlation of embedding and prior {_correlation(after, prior):.2f}, of the "
                f"untrained network's embedding {_correlation(before, prior):.2f}.",
                tag=example.tag,
            )
        )
    blocks.append(
        Notice(
            "Agreement with the prior means that the encoder, which learnt with three quarters of the picture hidden, "
            "sees how full the heart is. The prior cannot tell filling from ejection at equal volume, and agreement "
            "with it is no proof that the encoder can."
        )
    )
    return blocks


def _correlation(one_TT: torch.Tensor, other_TT: torch.Tensor) -> float:
    rows, columns = torch.triu_indices(len(one_TT), len(one_TT), offset=1)
    return float(np.corrcoef(one_TT[rows, columns], other_TT[rows, columns])[0, 1])


def paths(encoder: Encoder, examples: list[Example]) -> list[Block]:
    blocks: list[Block] = []
    for example in examples:
        # A window from every frame: each moment is taken from a window centred on it, so that a moment's place in its
        # window cannot pass for its phase. The first and last windows, whose other moments are kept too, are left out.
        tokens = embed_clips(encoder, [example.clip], windows=len(example.clip.frames_TCHW)).phase
        assert tokens is not None
        inner = (tokens.window_P > 0) & (tokens.window_P < tokens.window_P.max())
        feature, time_s, cycle = tokens.feature_PD[inner], tokens.time_s_P[inner], tokens.cycle_P[inner]
        truth = (
            "Colour is the true phase, 0 at end-diastole, which the encoder never saw. A path that goes round in the "
            "order of the colours knows the cycle; one that goes out and back along itself knows how full the heart "
            "is, but not whether it fills or empties."
            if np.isfinite(cycle).any()
            else "No truth is known for this clip, so the moments carry no colour. The beat shows as a rhythm as far "
            "as the features follow it, which so short a training on one real recording may not reach."
        )
        pictures = [
            Picture(
                partial(figures.phase_trajectory, feature, cycle, title="path"),
                "The clip's features in their first two principal components",
            ),
            Picture(
                partial(figures.time_course, feature, time_s, cycle, title="in time"),
                "The first principal component over time",
            ),
        ]
        window = f"each from a window of {encoder.contract.frames} frames centred on it. "
        caption = f"{example.name}: {len(feature)} moments, {window}{truth}"
        blocks.append(Panels(pictures, caption=caption, tag=example.tag))
    return blocks


def table_of(rows: EmbeddingTable, folder: Path) -> list[Block]:
    points, shares = figures.principal_components(rows.video_ND)
    kinds = np.where(rows.labels["ef_percent"].isna(), REAL, GENERATED)
    order = np.argsort(kinds == GENERATED, kind="stable")[:8]
    return [
        Table(
            ["clip", "patient", "origin", "split", "frames/s", "windows", "EF (%)"],
            [
                [
                    row.clip_id[:8],
                    row.patient_id[:8],
                    kinds[place],
                    row.split,
                    row.frame_rate_hz,
                    int(row.windows),
                    row.ef_percent,
                ]
                for place, row in ((place, rows.rows.iloc[place]) for place in order)
            ],
            caption=f"The first rows of `{folder.name}`: {len(rows)} clips, {rows.dim} numbers each, averaged over "
            f"windows that cover the clip; encoder `{rows.encoder_digest[:12]}`. Ids are keyed hashes.",
        ),
        Picture(
            partial(
                figures.scatter_by_group,
                points,
                kinds,
                title="all clips",
                x_label=f"component 1 ({100 * shares[0]:.0f} % of variance)",
                y_label=f"component 2 ({100 * shares[1]:.0f} % of variance)",
            ),
            "All clips in the first two principal components of their features",
            caption="Where real and generated clips lie apart, they look different to the encoder.",
        ),
    ]
