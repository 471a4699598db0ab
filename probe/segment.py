"""Segmentation: what do an encoder's tokens tell of the heart's outlines? Small heads on frozen tokens.

F frames, R rows and C columns of tokens, D features, H rows, W columns of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from echofm.clip import NOT_ANNOTATED
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.estimators.head import FittedHead, HeadKind, fit_head
from echofm.intervals import Estimate, patient_bootstrap
from echofm.metric.overlap import dice, hausdorff_95
from probe.evaluate import sanity_figures
from probe.result import Comparison, Overlay, Probed, ProbeResult, Score
from probe.segment_data import STRUCTURES, Frames, gather_frames

if TYPE_CHECKING:
    from echofm.hub import Encoder
    from echofm.shards.read import ShardSet

SPLITS = ("train", "val", "test")
MEAN_MASK, PIXELS = "mean mask", "pixels"


def probe_segmentation(
    encoder: Encoder,
    shards: ShardSet,
    *,
    head: HeadKind = "linear",
    rivals: Mapping[str, Encoder] | None = None,
    clips: int | None = 400,
    frames_per_clip: int = 2,
    steps: int = 600,
    weight_decays: tuple[float, ...] = (1e-4, 1e-2, 1.0),
    batch: int = 16,
    device: torch.device | str = "cpu",
    draws: int = 1000,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """Train a head on the frozen tokens of annotated frames, and measure it on test patients.

    shards: clips with masks (`Clip.mask_THW`: CAMUS, EchoNet-Dynamic, the phantom) in the splits train, val and test.
    head: "linear", one linear layer a token; "upsampling", a few convolutions.
    rivals: other encoders of the same input, such as one of the same architecture with random weights.
    clips: at most so many with masks per split. frames_per_clip: ED and ES first, then others.
    steps: of the head's training. weight_decays: to choose among, on validation patients.
    device: of the encoders; heads train on the CPU.

    Beside the encoder ("probe") and the rivals, the same head reads the frame's own pixels, patch by patch ("pixels"),
    and the most common class of each pixel among the view's training frames is said of every frame ("mean mask").
    Scores, `of` a structure and as the mean over structures (`of` empty): dice, dice_ed, dice_es, hd95_px (pixels of
    the encoder's input), hd95_mm where pixel sizes are known, hd95_px_ed, ...; area_change_r, of the left ventricle:
    the correlation of (ED - ES area) / ED area with the truth, a clip each. Intervals redraw test patients.
    predictions: a row per test frame: clip_id, patient_id, view, frame, moment, then per structure dice_<name>,
    hd95_px_<name>, area_<name> and true_area_<name> (pixels). Raises EchofmError where a split has no masks.
    """
    data = {split: gather_frames(encoder, shards, split=split, clips=clips, frames_per_clip=frames_per_clip,
                                 batch=batch, device=device) for split in SPLITS}  # fmt: skip
    advance("tokens")
    classes = [number for number in STRUCTURES if (data["train"].mask_FHW == number).any()]
    if not classes:
        raise EchofmError("the training masks show no structure; there is nothing to segment")
    bench = _Bench(
        data=data, classes=classes, head=head, steps=steps, weight_decays=weight_decays, draws=draws, seed=seed
    )
    tokens = {"probe": {split: frames.tokens_FRCD for split, frames in data.items()}}
    tokens[PIXELS] = {split: _patches(frames) for split, frames in data.items()}
    for name, rival in (rivals or {}).items():
        found = {split: gather_frames(rival, shards, split=split, clips=clips, frames_per_clip=frames_per_clip,
                                      batch=batch, device=device) for split in SPLITS}  # fmt: skip
        if found["test"].mask_FHW.shape != data["test"].mask_FHW.shape:
            raise EchofmError(f"encoder {name!r} takes frames of another size; compare encoders of one input size")
        tokens[name] = {split: frames.tokens_FRCD for split, frames in found.items()}
        advance(f"tokens of {name}")
    said = {MEAN_MASK: bench.mean_mask()}
    chosen: dict[str, dict[str, float | str]] = {}
    for name, own in tokens.items():
        trained = bench.fit(own)
        said[name] = trained.predict(own["test"])
        chosen[name] = {"weight_decay": trained.weight_decay, "steps": float(trained.steps), "val_dice": trained.merit}
        advance(f"{head} head on {name}")
    frames = {name: bench.frame(each) for name, each in said.items()}
    result = ProbeResult(
        target="mask",
        task="segmentation",
        kind=head,
        features="tokens",
        classes=[STRUCTURES[number] for number in classes],
        encoder_digest=encoder.digest,
        splits_from="table",
        clips={split: each.rows["clip_id"].nunique() for split, each in data.items()},
        patients={split: each.rows["patient_id"].nunique() for split, each in data.items()},
        seeds=1,
        chosen=chosen,
        sanity=sanity_figures(_mean_tokens(encoder, data)),
        scores=[score for name, frame in frames.items() for score in bench.scores(name, frame)],
        comparisons=[
            each for name in frames if name != "probe" for each in bench.compare(name, frames["probe"], frames[name])
        ],
        notes=[*_left_out(shards, clips), *_notes(data["test"], data["train"], encoder.contract.size)],
    )
    overlays = _overlays(data["test"], said["probe"], frames["probe"], result.classes)
    return Probed(result=result, predictions=frames["probe"], overlays=overlays)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bench:
    """One set of frames, on which every method is measured alike."""

    data: Mapping[str, Frames]
    classes: list[int]
    head: HeadKind
    steps: int
    weight_decays: tuple[float, ...]
    draws: int
    seed: int

    def fit(self, tokens: Mapping[str, npt.NDArray]) -> FittedHead:
        parts = [(tokens[split], self.data[split].mask_FHW) for split in ("train", "val")]
        count = max(self.classes) + 1
        return fit_head(
            self.head, *parts, classes=count, steps=self.steps, weight_decays=self.weight_decays, seed=self.seed
        )

    def mean_mask(self) -> npt.NDArray[np.uint8]:
        """Each pixel's commonest class among the training frames of the view; of all views where it has none."""
        train, test = self.data["train"], self.data["test"]
        view, asked = (frames.rows["view"].fillna("").to_numpy(str) for frames in (train, test))
        said = np.empty_like(test.mask_FHW)
        for name in np.unique(asked):
            own = train.mask_FHW[view == name] if (view == name).any() else train.mask_FHW
            said[asked == name] = np.stack([(own == number).sum(0) for number in range(max(self.classes) + 1)]).argmax(
                0
            )
        return said

    def frame(self, said_FHW: npt.NDArray[np.uint8]) -> pd.DataFrame:
        """Every figure of every test frame."""
        test = self.data["test"]
        columns: dict[str, list[float]] = {}
        for place, (mask_HW, said_HW) in enumerate(zip(test.mask_FHW, said_FHW)):
            known_HW = mask_HW != NOT_ANNOTATED
            spacing = test.rows["row_mm"].iloc[place], test.rows["column_mm"].iloc[place]
            for number in self.classes:
                name, true, own = STRUCTURES[number], mask_HW == number, (said_HW == number) & known_HW
                figures = {
                    "dice": dice(true, own),
                    "hd95_px": hausdorff_95(true, own),
                    "hd95_mm": hausdorff_95(true, own, spacing=spacing) if np.isfinite(spacing).all() else np.nan,
                    "area": float(own.sum()),
                    "true_area": float(true.sum()),
                }
                for key, value in figures.items():
                    columns.setdefault(f"{key}_{name}", []).append(value)
        kept = test.rows[["clip_id", "patient_id", "view", "frame", "moment"]].reset_index(drop=True)
        return pd.concat([kept, pd.DataFrame(columns)], axis=1)

    def scores(self, method: str, frame: pd.DataFrame) -> list[Score]:
        names = [STRUCTURES[number] for number in self.classes]
        patients = frame["patient_id"].to_numpy(str)
        found = []
        for metric in ("dice", "hd95_px", "hd95_mm"):
            values = frame[[f"{metric}_{name}" for name in names]].to_numpy()
            for moment in ("", "ed", "es"):
                rows = np.ones(len(frame), bool) if not moment else (frame["moment"] == moment).to_numpy()
                for of, columns in (("", slice(None)), *((name, slice(n, n + 1)) for n, name in enumerate(names))):
                    some = values[rows][:, columns]
                    if np.isfinite(some).any():
                        label = f"{metric}_{moment}" if moment else metric
                        estimate = self._estimate(_mean, some, patients[rows])
                        found.append(Score(method=method, metric=label, of=of, estimate=estimate))
        change = _area_changes(frame, names[0])
        rows = change[["true", "said"]].to_numpy()
        if self.classes[0] == 1 and np.isfinite(_correlation(rows)):
            estimate = self._estimate(_correlation, rows, change["patient_id"].to_numpy(str))
            found.append(Score(method=method, metric="area_change_r", of=names[0], estimate=estimate))
        return found

    def compare(self, rival: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> list[Comparison]:
        found = []
        for metric in ("dice", "hd95_px", "hd95_mm"):
            columns = [f"{metric}_{STRUCTURES[number]}" for number in self.classes]
            difference = ours[columns].to_numpy() - theirs[columns].to_numpy()
            if np.isfinite(difference).any():
                estimate = self._estimate(_mean, difference, ours["patient_id"].to_numpy(str))
                found.append(Comparison(rival=rival, metric=metric, difference=estimate))
        return found

    def _estimate(
        self, statistic: Callable[..., float], values: npt.NDArray, patients: npt.NDArray[np.str_]
    ) -> Estimate:
        return patient_bootstrap(statistic, {"values": (values, patients)}, draws=self.draws, seed=self.seed)


def _mean(values: npt.NDArray) -> float:
    """Mean over structures of their means over the frames that show them."""
    known = np.isfinite(values)
    count = known.sum(0)
    sums = np.where(known, values, 0).sum(0)
    return float((sums[count > 0] / count[count > 0]).mean()) if count.any() else float("nan")


def _correlation(values: npt.NDArray) -> float:
    if len(values) < 3 or values.std(0).min() < 1e-9:
        return float("nan")
    return float(np.corrcoef(values[:, 0], values[:, 1])[0, 1])


def _overlays(
    test: Frames, said_FHW: npt.NDArray[np.uint8], frame: pd.DataFrame, names: Sequence[str], *, count: int = 6
) -> list[Overlay]:
    """Test frames from the best told to the worst, evenly spread."""
    merit = frame[[f"dice_{name}" for name in names]].mean(axis=1)
    order = merit.dropna().sort_values(ascending=False, kind="stable").index
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return [
        Overlay(
            name=f"Dice {merit[place]:.2f}",
            frame_HW=test.pixels_FHW[place],
            true_HW=test.mask_FHW[place],
            said_HW=said_FHW[place],
        )
        for place in order[places]
    ]


def _area_changes(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """(ED - ES area) / ED area of each clip, true and said; 0 where no ED area was said."""
    found = []
    for (patient, _), rows in frame.groupby(["patient_id", "clip_id"], sort=True):
        moments = rows.drop_duplicates("moment").set_index("moment")
        if {"ed", "es"} <= set(moments.index):
            pair = {}
            for key, column in (("true", f"true_area_{name}"), ("said", f"area_{name}")):
                first, last = moments.loc["ed", column], moments.loc["es", column]
                pair[key] = (first - last) / first if first > 0 else 0.0
            found.append({"patient_id": patient} | pair)
    return pd.DataFrame(found, columns=["patient_id", "true", "said"])


def _patches(frames: Frames) -> npt.NDArray[np.float16]:
    """(F, R, C, pixels): each frame's own pixels, cut by the encoder's token grid, or 8 x 8 where that tiles not."""
    count, height, width = frames.pixels_FHW.shape
    rows, columns = frames.tokens_FRCD.shape[1:3]
    if height % rows or width % columns:
        rows, columns = height // 8, width // 8
    down, across = height // rows, width // columns
    cut = frames.pixels_FHW[:, : rows * down, : columns * across].reshape(count, rows, down, columns, across)
    return (cut.transpose(0, 1, 3, 2, 4).reshape(count, rows, columns, down * across) / 255).astype(np.float16)


def _mean_tokens(encoder: Encoder, data: Mapping[str, Frames]) -> EmbeddingTable:
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


def _notes(test: Frames, train: Frames, size: int) -> list[str]:
    moments = test.rows["moment"].value_counts()
    notes = [
        f"{len(train.rows)} training and {len(test.rows)} test frames ({moments.get('ed', 0)} ED, "
        f"{moments.get('es', 0)} ES); masks and outlines at {size} x {size} pixels, the encoder's own."
    ]
    unknown = int(test.rows["row_mm"].isna().sum())
    if unknown:
        notes.append(f"The size of a pixel is unknown in {unknown} test frames; hd95_mm leaves them out.")
    return notes
