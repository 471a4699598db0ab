"""Segmentation: what do an encoder's tokens tell of the heart's outlines? Small heads on frozen tokens.

F frames, R rows and C columns of tokens, H rows, W columns of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.estimators.head import HeadKind, fit_head
from echofm.estimators.left_ventricle import STRUCTURES, TracedFrames, traced_frames
from probe.checks.embedding import check_embedding
from probe.protocol import Answers, Entry, Key, ProbeProtocol, require_request
from probe.result import Overlay, Probed, ProbeResult
from probe.segmentation.frame_figures import METRICS, figures_of, frame_table

if TYPE_CHECKING:
    from echofm.hub import Encoder
    from echofm.shards.read import ShardSet

SPLITS = ("train", "val", "test")
MEAN_MASK, PIXELS = "mean mask", "pixels"
# Test frames drawn on the page.
_SHOWN = 6
Tokens = Mapping[str, npt.NDArray]


def probe_segmentation(
    encoder: Encoder,
    shards: ShardSet,
    *,
    head: HeadKind = "linear",
    baselines: Mapping[str, Encoder] | None = None,
    clips: int | None = 400,
    steps: int = 600,
    weight_decays: tuple[float, ...] = (1e-4, 1e-2, 1.0),
    device: torch.device | str = "cpu",
    draws: int = 1000,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """Train a head on the frozen tokens of annotated frames, and measure it on test patients.

    shards: clips with masks (`Clip.mask_THW`: CAMUS, EchoNet-Dynamic, the phantom) in the splits train, val and test.
    head: "linear", one linear layer a token; "upsampling", a few convolutions.
    baselines: other encoders of the same input, such as one of the same architecture with random weights.
    clips: at most so many with masks per split; of each its ED and ES.
    steps: of the head's training. weight_decays: to choose among, on validation patients.
    device: of the encoders; heads train on the CPU.

    Beside the encoder ("probe") and the baselines, the same head reads the frame's own pixels, patch by patch
    ("pixels"), and "mean mask" predicts the most common class of each pixel among the view's training frames.
    Scores, `of` a structure and as the mean over structures (`of` empty): dice, dice_ed, dice_es, hd95_px (pixels of
    the encoder's input), hd95_mm where pixel sizes are known, hd95_px_ed, ...; area_change_r, of the left ventricle:
    the correlation of (ED - ES area) / ED area with the truth, a clip each. Intervals redraw test patients.
    predictions: see `frame_table`. Raises EchofmError where a split has no masks.
    """
    require_request(baselines, seed=seed, draws=draws)

    def read(encoder: Encoder, name: str) -> dict[str, TracedFrames]:
        found = {split: traced_frames(encoder, shards, split=split, clips=clips, device=device) for split in SPLITS}
        advance(f"tokens of {name}")
        return found

    data = read(encoder, "probe")
    classes = [number for number in STRUCTURES if (data["train"].mask_FHW == number).any()]
    if not classes:
        raise EchofmError("the training masks show no structure; there is nothing to segment")
    others: dict[str, Tokens] = {PIXELS: {split: _patches(frames) for split, frames in data.items()}}
    for name, other in (baselines or {}).items():
        found = read(other, name)
        if found["test"].mask_FHW.shape != data["test"].mask_FHW.shape:
            raise EchofmError(f"encoder {name!r} takes frames of another size; compare encoders of one input size")
        others[name] = _tokens(found)
    protocol = SegmentationProtocol(
        encoder=encoder,
        data=data,
        classes=classes,
        head=head,
        steps=steps,
        weight_decays=weight_decays,
        notes=[*_left_out(shards, clips), *_notes(data, encoder.contract.size)],
        draws=draws,
        seed=seed,
        advance=advance,
    )
    return protocol.probe(_tokens(data), others)


def _tokens(data: Mapping[str, TracedFrames]) -> Tokens:
    return {split: frames.tokens_FRCD for split, frames in data.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationAnswers(Answers):
    """Of the test frames."""

    predicted_FHW: npt.NDArray[np.uint8]
    frame: pd.DataFrame


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationProtocol(ProbeProtocol[Tokens, SegmentationAnswers]):
    """One set of frames, on which every method is measured alike. A source is tokens (F, R, C, D) by split."""

    encoder: Encoder
    data: Mapping[str, TracedFrames]
    classes: list[int]
    head: HeadKind
    steps: int
    weight_decays: tuple[float, ...]
    notes: Sequence[str]

    @property
    def names(self) -> list[str]:
        return [STRUCTURES[number] for number in self.classes]

    def probed(self, own: SegmentationAnswers, scored: dict[str, Any]) -> Probed:
        """The result, a row per test frame, and some frames with their outlines."""
        data, encoder = self.data, self.encoder
        result = ProbeResult(
            target="mask",
            task="segmentation",
            kind=self.head,
            features="tokens",
            classes=self.names,
            encoder_digest=encoder.digest,
            splits_from="table",
            clips={split: each.rows["clip_id"].nunique() for split, each in data.items()},
            patients={split: each.rows["patient_id"].nunique() for split, each in data.items()},
            **scored,
            sanity=check_embedding(_mean_tokens(encoder, data)),
            notes=list(self.notes),
        )
        overlays = _overlays(data["test"], own.predicted_FHW, own.frame, self.names)
        return Probed(result=result, predictions=own.frame, overlays=overlays)

    def answer(self, method: str, source: Tokens) -> SegmentationAnswers:
        """Train heads, choose among them, predict the test frames."""
        train, val = ((source[split], self.data[split].mask_FHW) for split in ("train", "val"))
        fitted = fit_head(
            self.head,
            train,
            val,
            classes=max(self.classes) + 1,
            steps=self.steps,
            weight_decays=self.weight_decays,
            seed=self.seed,
        )
        self.advance(f"{self.head} head on {method}")
        return self._answers(
            fitted.predict(source["test"]),
            weight_decay=fitted.weight_decay,
            steps=float(fitted.steps),
            val_dice=fitted.merit,
        )

    def beside(self, own: SegmentationAnswers) -> Iterator[Entry]:
        """Each pixel's commonest class among the training frames of the view; of all views where it has none."""
        train, test = self.data["train"], self.data["test"]
        view, wanted = (frames.rows["view"].fillna("").to_numpy(str) for frames in (train, test))
        predicted = np.empty_like(test.mask_FHW)
        for name in np.unique(wanted):
            same = train.mask_FHW[view == name] if (view == name).any() else train.mask_FHW
            counts = np.stack([(same == number).sum(0) for number in range(max(self.classes) + 1)])
            predicted[wanted == name] = counts.argmax(0)
        yield Entry(method=MEAN_MASK, answers=self._answers(predicted))

    def comparable(self, key: Key) -> bool:
        """Overlap of all structures in all frames."""
        return not key.of and key.metric in METRICS

    def _answers(self, predicted_FHW: npt.NDArray[np.uint8], **chosen: float | str) -> SegmentationAnswers:
        frame = frame_table(self.data["test"], predicted_FHW, self.classes)
        return SegmentationAnswers(
            figures=figures_of(frame, self.names), chosen=chosen, predicted_FHW=predicted_FHW, frame=frame
        )


def _overlays(
    test: TracedFrames, predicted_FHW: npt.NDArray[np.uint8], frame: pd.DataFrame, names: Sequence[str]
) -> list[Overlay]:
    """Test frames from the best to the worst, evenly spread."""
    merit = frame[[f"dice_{name}" for name in names]].mean(axis=1)
    order = merit.dropna().sort_values(ascending=False, kind="stable").index
    indices = np.unique(np.linspace(0, len(order) - 1, min(_SHOWN, len(order))).round().astype(int))
    return [
        Overlay(
            name=f"Dice {merit[index]:.2f}",
            frame_HW=test.pixels_FHW[index],
            true_HW=test.mask_FHW[index],
            predicted_HW=predicted_FHW[index],
        )
        for index in order[indices]
    ]


def _patches(frames: TracedFrames) -> npt.NDArray[np.float16]:
    """(F, R, C, pixels): each frame's own pixels, cut by the encoder's token grid, or 8 x 8 where that tiles not."""
    count, height, width = frames.pixels_FHW.shape
    rows, columns = frames.tokens_FRCD.shape[1:3]
    if height % rows or width % columns:
        rows, columns = height // 8, width // 8
    down, across = height // rows, width // columns
    cut = frames.pixels_FHW[:, : rows * down, : columns * across].reshape(count, rows, down, columns, across)
    return (cut.transpose(0, 1, 3, 2, 4).reshape(count, rows, columns, down * across) / 255).astype(np.float16)


def _mean_tokens(encoder: Encoder, data: Mapping[str, TracedFrames]) -> EmbeddingTable:
    rows = pd.concat([each.rows for each in data.values()], ignore_index=True)
    features = np.concatenate([each.tokens_FRCD.astype(np.float32).mean((1, 2)) for each in data.values()])
    groups = rows.groupby("clip_id", sort=True).indices
    return EmbeddingTable.from_arrays(
        np.stack([features[index].mean(0) for index in groups.values()]),
        clip_id=list(groups),
        patient_id=[rows["patient_id"].iloc[index[0]] for index in groups.values()],
        encoder_digest=encoder.digest,
    )


def _left_out(shards: ShardSet, clips: int | None) -> list[str]:
    """What `clips` leaves unread."""
    counts = {split: sum(record.n_masks > 0 for record in shards.split(split).records) for split in SPLITS}
    over = [f"{counts[split]} of {split}" for split in SPLITS if clips is not None and counts[split] > clips]
    return [f"Of the clips with masks ({', '.join(over)}) the first {clips} of a split were read."] if over else []


def _notes(data: Mapping[str, TracedFrames], size: int) -> list[str]:
    test = data["test"].rows
    events = test["event"].value_counts()
    notes = [
        f"{len(data['train'].rows)} training and {len(test)} test frames ({events.get('ed', 0)} ED, "
        f"{events.get('es', 0)} ES); masks and outlines at {size} x {size} pixels, the encoder's own."
    ]
    if unknown := int(test["row_mm"].isna().sum()):
        notes.append(f"The size of a pixel is unknown in {unknown} test frames; hd95_mm leaves them out.")
    return notes
