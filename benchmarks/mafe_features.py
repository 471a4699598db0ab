"""What motion and what appearance tell: ejection fraction, heart rate, phase, the patient; for any maker of both.

T times of a clip's middle window, D features, N clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from echofm.clip import Clip
from echofm.embed.inputs import conformed
from echofm.embed.rhythm import repetition
from echofm.estimators.ridge import ridge_path
from echofm.estimators.rows import Rows
from echofm.hub import Encoder
from echofm.intervals import Estimate, patient_bootstrap
from echofm.metric.circular import circular_distance
from echofm.nearest import unit_rows
from echofm.progress import progress_bar
from echofm.shards.read import ShardSet
from echofm.shards.windows import Windowing, cut_windows
from synth.mafe.appearance import COMPONENTS
from synth.mafe.extract import of_followed
from synth.mafe.follow import STRIDE, follow
from synth.mafe.network import Mafe
from synth.mafe.published.condition import pooled_motion
from synth.mafe.published.network import PublishedMafe

Floats = npt.NDArray[np.floating]
Read = dict[str, Any]
Reader = Callable[[torch.Tensor], dict[str, Floats]]
"""(1, 1, 32, H, W) -> motion (D,), appearance (D,), motion_T and appearance_T (T, D)."""
_FRAMES, _RATE_HZ, _LAGS = 32, 25.0, 12


def of_mafe(net: Mafe) -> Reader:
    """The coarse grid's deviation over time, as a table's `motion_NRCD`; the appearance vector."""

    def read(video: torch.Tensor) -> dict[str, Floats]:
        followed = follow(net, video)
        found = of_followed(net, followed)
        return {
            "motion": found.motion_BTRCD[0].std(0, correction=0).flatten().numpy(),
            "appearance": found.appearance_BD[0].numpy(),
            "motion_T": found.motion_BTRCD[0].flatten(1).numpy(),
            "appearance_T": followed.looks_BTD[0].numpy(),
        }

    return read


def of_published(net: PublishedMafe) -> Reader:
    """Pooled motion of the two most unlike frames, as its condition for generators is; the last stage's mean."""

    @torch.no_grad()
    def read(video: torch.Tensor) -> dict[str, Floats]:
        frames = video[0, 0, ::STRIDE][:, None].expand(-1, 3, -1, -1)
        small = F.adaptive_avg_pool2d(frames[:, :1], 32).flatten(1)
        course = torch.linalg.svd((small - small.mean(0)).double())[0][:, 0]
        ends = [frames[int(course.argmax())], frames[int(course.argmin())]]
        first = ends[0][None]
        pair = net(first, ends[1][None])
        every = net(first.expand(len(frames), -1, -1, -1), frames)
        motion_T = torch.cat(pooled_motion(every).chunk(2), 1)
        looks = every.appearance[-1].mean((2, 3)).chunk(2)[1]
        return {
            "motion": pooled_motion(pair).flatten().numpy(),
            "appearance": pair.appearance[-1].mean((0, 2, 3)).numpy(),
            "motion_T": motion_T.numpy(),
            "appearance_T": looks.numpy(),
        }

    return read


def of_encoder(encoder: Encoder) -> Reader:
    """The encoder's own motion map and mean."""

    def read(video: torch.Tensor) -> dict[str, Floats]:
        found = encoder.encode(video)
        tokens = found.tokens_BND[0].unflatten(0, tuple(encoder.grid))
        moved = F.adaptive_avg_pool2d(tokens.std(0, correction=0).permute(2, 0, 1), 4)
        return {
            "motion": moved.flatten().numpy(),
            "appearance": found.video_BD[0].numpy(),
            "motion_T": found.phase_BTD[0].numpy(),
            "appearance_T": tokens.mean((1, 2)).numpy(),
        }

    return read


def of_tokens(net: Mafe) -> Reader:
    """What the appearance is read from, as it is: the pooled tokens of frames. No motion."""

    @torch.no_grad()
    def read(video: torch.Tensor) -> dict[str, Floats]:
        looks = net.frame(video[0, 0, ::STRIDE][:, None]).tokens_NF.numpy()
        empty = np.empty((len(looks), 0))
        return {"motion": empty[0], "motion_T": empty, "appearance": looks.mean(0), "appearance_T": looks}

    return read


def of_pixels(video: torch.Tensor) -> dict[str, Floats]:
    """16 x 16 places: their deviation over time, and their mean."""
    small = F.adaptive_avg_pool2d(video[0, 0, ::STRIDE], 16).flatten(1)
    change = (small - small.mean(0)).numpy()
    return {
        "motion": small.std(0).numpy(),
        "appearance": small.mean(0).numpy(),
        "motion_T": change,
        "appearance_T": small.numpy(),
    }


def window_of(clip: Clip) -> tuple[torch.Tensor, npt.NDArray[np.int64], Clip]:
    """The middle window (1, 1, 32, H, W), its frames of the clip at 25 Hz, and that clip."""
    from echofm.contract import InputContract

    clip = conformed(clip, InputContract(size=clip.frames_TCHW.shape[-1], frames=_FRAMES, frame_rate_hz=_RATE_HZ))
    windowing = Windowing(length=_FRAMES, frame_rate_hz=_RATE_HZ)
    (window,) = windowing.spread(0, clip.clip_id, clip.frame_time_s, len(clip.frames_TCHW), count=1)
    return cut_windows(clip, [window]).to("cpu").video_BCTHW, window.indices_L, clip


def read_all(shards: ShardSet, reader: Reader) -> list[Read]:
    """Every clip's features, and what is true of it."""
    found = []
    with progress_bar("features", len(shards)) as bar:
        for record, stored in zip(shards.records, shards):
            video, index_L, clip = window_of(stored)
            read: Read = dict(reader(video))
            times = len(read["motion_T"])
            assert clip.phase_T is not None
            read |= {
                "split": record.meta.split,
                "patient": clip.patient_id,
                "ef": clip.labels["ef_percent"],
                "rate": clip.labels["heart_rate_bpm"],
                "phase_T": clip.phase_T[index_L][:: _FRAMES // times],
            }
            found.append(read)
            bar.advance()
    return found


def figures(found: Sequence[Read], part: str) -> dict[str, Estimate]:
    """R2 of ejection fraction and heart rate, error of the phase in cycles, patients found, on test patients."""
    rate = np.stack([_repetition(each[f"{part}_T"]) for each in found])
    result = {
        "EF R2": _r2(found, np.stack([each[part] for each in found]), "ef"),
        "heart rate R2": _r2(found, rate, "rate"),
        "phase error": _phase_error(found, f"{part}_T"),
        "patient recall@1": _recall(found, part, whitened=False),
        "the same, whitened": _recall(found, part, whitened=True),
    }
    return result


def _repetition(feature_TD: Floats) -> Floats:
    """How alike times are that lie 1 .. 12 steps apart: what a rate can be read from, whatever the features."""
    made = repetition(feature_TD, np.arange(len(feature_TD), dtype=np.float64))
    assert made is not None
    return made[1][1 : _LAGS + 1]


def _rows(found: Sequence[Read], split: str) -> npt.NDArray[np.int64]:
    return np.array([number for number, each in enumerate(found) if each["split"] == split])


def _r2(found: Sequence[Read], X_ND: Floats, target: str) -> Estimate:
    y_N = np.array([each[target] for each in found], np.float64)
    train, val, test = (_rows(found, split) for split in ("train", "val", "test"))
    models = ridge_path(Rows(features_ND=X_ND[train].astype(np.float64)), y_N[train])
    best = min(models, key=lambda model: np.square(model.predict(X_ND[val]) - y_N[val]).mean())
    pair_N2 = np.stack([best.predict(X_ND[test]), y_N[test]], 1)
    patients = np.array([found[number]["patient"] for number in test])

    def r2(pair: Floats) -> float:
        return float(1 - np.square(pair[:, 0] - pair[:, 1]).sum() / np.square(pair[:, 1] - pair[:, 1].mean()).sum())

    return patient_bootstrap(r2, {"pair": (pair_N2, patients)})


def _phase_error(found: Sequence[Read], name: str) -> Estimate:
    """Mean distance in cycles (chance .25) of a ridge on a time and its neighbours, less the window's mean."""

    def inputs(each: Read) -> Floats:
        x_TD = each[name] - each[name].mean(0)
        around = np.arange(len(x_TD))[:, None] + np.arange(-1, 2)
        return x_TD[around.clip(0, len(x_TD) - 1)].reshape(len(x_TD), -1)

    def rows(split: str) -> tuple[Floats, Floats]:
        chosen = [found[number] for number in _rows(found, split)]
        return np.concatenate([inputs(each) for each in chosen]), np.concatenate([each["phase_T"] for each in chosen])

    (X, phase), (V, val_phase) = rows("train"), rows("val")
    circle = np.stack([np.cos(2 * np.pi * phase), np.sin(2 * np.pi * phase)], 1)

    def errors(model: Any, X_ND: Floats, truth: Floats) -> Floats:
        plane = model.predict(X_ND)
        return circular_distance(np.arctan2(plane[:, 1], plane[:, 0]) / (2 * np.pi), truth)

    best = min(
        ridge_path(Rows(features_ND=X.astype(np.float64)), circle), key=lambda model: errors(model, V, val_phase).mean()
    )
    test = [found[number] for number in _rows(found, "test")]
    by_clip = np.array([errors(best, inputs(each), each["phase_T"]).mean() for each in test])
    return patient_bootstrap(
        lambda error: float(error.mean()), {"error": (by_clip, np.array([each["patient"] for each in test]))}
    )


def _recall(found: Sequence[Read], part: str, *, whitened: bool) -> Estimate:
    """Of test clips, how many have another clip of their patient as the nearest other clip (cosine of z-scores).

    whitened: the leading components of training clips, as many as an appearance has, each to unit variance.
    """
    train, test = _rows(found, "train"), _rows(found, "test")
    X_ND = np.stack([each[part] for each in found]).astype(np.float64)
    centred_ND = X_ND - X_ND[train].mean(0)
    if whitened:
        _, value_K, right_KD = np.linalg.svd(centred_ND[train], full_matrices=False)
        known = (value_K > 1e-6 * value_K[0]) & (np.arange(len(value_K)) < COMPONENTS)
        z_ND = unit_rows(centred_ND[test] @ (right_KD[known] / value_K[known, None]).T)
    else:
        z_ND = unit_rows(centred_ND[test] / (X_ND[train].std(0) + 1e-9))
    patients = np.array([found[number]["patient"] for number in test])
    similarity = z_ND @ z_ND.T
    np.fill_diagonal(similarity, -np.inf)
    hit = (patients[similarity.argmax(1)] == patients).astype(np.float64)
    return patient_bootstrap(lambda hit: float(hit.mean()), {"hit": (hit, patients)})
