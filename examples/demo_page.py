"""The demo's page: what went in, what the encoder learnt, and what that does and does not mean.

B clips, C channels, T frames, F predicted frames, H rows, W columns.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import demo_figures as figures
import numpy as np
import numpy.typing as npt
import pydicom
import torch
from demo_features import GENERATED, REAL, Example, example_of, paths, similarities, table_of
from PIL import Image

import echofm
from echofm.embed.table import EmbeddingTable
from echofm.hub import load_encoder, load_model
from echofm.model.mae import VideoMae
from echofm.model.picture import reconstruct
from echofm.report.blocks import Block, Commands, FilmStrip, Panels, Picture, Table
from echofm.report.page import Page
from echofm.shards.read import ShardSet


def build(*, real: Path, shards: Path, run: Path, table: Path, commands: list[tuple[str, float]]) -> Page:
    """The page of a finished demo. real: the public DICOM, the only file shown before its sector is cut out."""
    data, rows = ShardSet.open(shards, show_progress=False), EmbeddingTable.load(table)
    trained, encoder = load_model(run / "export").eval(), load_encoder(run / "export")
    torch.manual_seed(json.loads((run / "config.json").read_text())["fit"]["seed"])
    untrained = VideoMae(trained.config).eval()
    examples = [
        example_of(data.split("val"), encoder.contract, name="A held-out generated clip", tag=GENERATED),
        example_of(data.split("train"), encoder.contract, name="The real clip, seen in training", tag=REAL),
    ]
    page = Page(
        "EchoFM: from echo files to an encoder",
        "Real DICOM input and generated clips, a small masked video transformer with periodic contrastive learning, "
        "and what its features say about the heart cycle. Made by `make demo`.",
    )
    page.warn(
        "A demonstration that every step works. The encoder saw one real recording and a handful of generated ones for "
        "minutes on a CPU; it is no model to build on."
    )
    page.add("What was run", *_commands(commands, data, rows))
    page.add("The input, before and after the sector mask", *_inputs(real, examples[0]))
    page.add("Training", *_training(run))
    page.add("Hidden patches and what the model makes of them", *[_filled(trained, each) for each in examples])
    page.add("Which moments are alike?", *similarities(trained, untrained, examples))
    page.add("The heart cycle as a path", *paths(encoder, examples))
    page.add("The table of embeddings", *table_of(rows, table))
    return page


def _commands(commands: list[tuple[str, float]], data: ShardSet, rows: EmbeddingTable) -> list[Block]:
    counts = data.manifest.splits
    return [
        Commands("\n".join(command for command, _ in commands)),
        Table(
            ["step", "seconds on this machine"],
            [[command.split()[1], f"{seconds:.0f}"] for command, seconds in commands],
            caption=f"{counts['train'].clips} clips to train on (patients: {counts['train'].patients}), "
            f"{counts['val'].clips} held out (patients: {counts['val'].patients}, none of them trained on), "
            f"{len(rows)} embedded. Two files are real: one public cine in two sizes. All others are generated.",
        ),
    ]


def _inputs(real: Path, generated: Example) -> list[Block]:
    before_THW3 = pydicom.dcmread(real).pixel_array
    after = echofm.read_clip(real, channels=3)
    chosen = np.linspace(0, len(before_THW3) - 1, 5).astype(int)
    times_s = chosen if after.frame_time_s is None else after.frame_time_s[chosen]
    strip = FilmStrip(
        {
            "as stored": np.stack([_small(before_THW3[index]) for index in chosen]),
            "as read": np.stack([_small(after.frames_TCHW[index].transpose(1, 2, 0)) for index in chosen]),
        },
        "Five frames of a real ultrasound recording, with the scanner's text and without it",
        [f"{time_s:.2f} s" for time_s in times_s],
        caption="A public sample DICOM as its file stores it, and as `echofm.read_clip` hands it over. The ultrasound "
        "sector is found, and everything outside it is zero in every frame: no burned-in text can go any further. "
        f"Frame times come from the file: {after.frame_rate_hz or float('nan'):.1f} frames/s.",
        tag=REAL,
    )
    frames_THW = (generated.batch.video_BCTHW[0, 0].numpy() * 255).round().astype(np.uint8)
    seen = np.linspace(0, len(frames_THW) - 1, 8).astype(int)
    clip = FilmStrip(
        {"frames": frames_THW[seen]},
        "Eight frames of a generated clip",
        [f"{time_s:.2f} s" for time_s in generated.batch.frame_time_s_BT[0, seen].tolist()],
        caption="A clip of the built-in generator, which knows the true phase of every frame. As the model sees it: "
        f"{frames_THW.shape[1]} x {frames_THW.shape[2]} pixels.",
        tag=GENERATED,
    )
    return [strip, clip]


def _training(run: Path) -> list[Block]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = {"loss": "total", "recon": "reconstruction", "cycle": "cycle", "triplet": "triplet"}
    curves = {shown: _series(lines, name) for name, shown in names.items()}
    watched = {
        "with the pixel prior": _series(lines, "monitor/prior_correlation"),
        "same minus opposite phase": _series(lines, "monitor/phase_contrast"),
    }
    first, last = (_monitored(lines)[place] for place in (0, -1))
    share = last["monitor/phase_contrast_positive"]
    return [
        Panels(
            [
                Picture(partial(figures.loss_curves, curves), "Training losses by step", caption="Training losses."),
                Picture(
                    partial(figures.loss_curves, watched, y_label="correlation, contrast"),
                    "Correlation with the prior and phase contrast on held-out clips by step",
                    caption="On held-out clips: correlation of the embedding's self-similarity with the pixel prior's, "
                    "and mean similarity of same-phase minus opposite-phase moments.",
                    tag=GENERATED,
                ),
            ]
        ),
        Table(
            ["on held-out generated clips", "untrained", "trained"],
            [
                ["correlation with the pixel prior", *(each["monitor/prior_correlation"] for each in (first, last))],
                ["phase contrast, mean", *(each["monitor/phase_contrast"] for each in (first, last))],
                ["phase contrast, worst clip", *(each["monitor/phase_contrast_min"] for each in (first, last))],
                ["hidden patches, PSNR (dB)", *(each["monitor/psnr_db"] for each in (first, last))],
                ["rank of the phase features", *(each["monitor/rankme"] for each in (first, last))],
            ],
            caption=f"Phase contrast is positive on {100 * share:.0f} % of the held-out clips after training. It is "
            "measured with the generator's true phases, which training never sees. A rank near 1 would be a collapse.",
        ),
    ]


def _monitored(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    return [line for line in lines if "monitor/prior_correlation" in line]


def _series(lines: list[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    with_it = [line for line in lines if name in line]
    return [line["step"] for line in with_it], [line[name] for line in with_it]


def _filled(model: VideoMae, example: Example) -> Block:
    batch = example.batch
    made = reconstruct(model, batch.video_BCTHW, batch.draw_B, sector_BHW=batch.sector_BHW)
    shown = np.linspace(0, len(made.frames_F) - 1, 8).astype(int)
    rows = {"input": made.target_BCFHW, "visible": made.seen_BCFHW, "filled in": made.filled_BCFHW}
    times_s = batch.frame_time_s_BT[0, made.frames_F[shown]].tolist()
    return FilmStrip(
        {name: (frames[0, 0, shown].numpy() * 255).round().astype(np.uint8) for name, frames in rows.items()},
        "Frames as they are, with three quarters hidden, and with the hidden parts as predicted",
        ["" if np.isnan(time_s) else f"{time_s:.2f} s" for time_s in times_s],
        caption=f"{example.name}. {100 * model.masking.ratio:.0f} % of the patches are hidden (grey), the same places "
        "at all times; below, the model's prediction in their place. It predicts each patch's texture, to which the "
        "patch's own true brightness and contrast are added back. PSNR over the hidden patches "
        f"{made.psnr_db_B[0]:.1f} dB.",
        tag=example.tag,
    )


def _small(frame_HW3: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    picture = Image.fromarray(frame_HW3)
    picture.thumbnail((320, 240))
    return np.asarray(picture)
