"""Flow against the phantom's truth, the middle frame, and swaps read by the core's reader of the left ventricle.

T times, H rows, W columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.mafe_features import window_of
from echofm.clip import LEFT_VENTRICLE, MYOCARDIUM, Clip
from echofm.estimators.left_ventricle import LeftVentricleReader, fit_left_ventricle, traced_frames
from echofm.hub import Encoder
from echofm.intervals import Estimate, patient_bootstrap
from echofm.progress import progress_bar
from echofm.shards.read import ShardSet
from echofm.window import between
from synth.mafe.flow import dis_flow
from synth.mafe.follow import animated, follow
from synth.mafe.modes import clip_modes
from synth.mafe.network import Mafe
from synth.mafe.warp import resized, warp

Floats = npt.NDArray[np.floating]
_READER_CLIPS = 45


def _estimate(values: list[float], patients: list[str], *, median: bool = False) -> Estimate:
    middle = np.median if median else np.mean
    return patient_bootstrap(lambda value: float(middle(value)), {"value": (np.array(values), np.array(patients))})


def one_a_patient(shards: ShardSet) -> list[Clip]:
    """The first clip of each."""
    patients = [record.meta.patient_id for record in shards.records]
    return [shards.clip(patients.index(patient)) for patient in dict.fromkeys(patients)]


def ends_of(clip: Clip) -> tuple[int, int]:
    """The frames of the largest left ventricle and of the smallest within half a second after it."""
    assert clip.mask_THW is not None and clip.frame_time_s is not None
    area_T = (clip.mask_THW == LEFT_VENTRICLE).sum((1, 2)).astype(float)
    early = clip.frame_time_s < clip.frame_time_s[-1] - 0.5
    first = int(np.where(early, area_T, -1).argmax())
    after = (clip.frame_time_s > clip.frame_time_s[first]) & (clip.frame_time_s <= clip.frame_time_s[first] + 0.5)
    return first, int(np.where(after, area_T, np.inf).argmin())


def forth(net: Mafe, first: torch.Tensor, last_N1HW: torch.Tensor) -> Floats:
    """(N, 2, H, W): where what is at a pixel of the first frame lies in each other one."""
    with torch.no_grad():
        many = first.expand(len(last_N1HW), -1, -1, -1)
        found = net(many, last_N1HW, torch.zeros(len(last_N1HW)))
    return resized(found.flow_B4hw[:, 2:], 2).numpy()


def flow_errors(shards: ShardSet, net: Mafe, name: str) -> dict[str, Any]:
    """End-point error in the myocardium from end-diastole to end-systole, pixels; PSNR of the frame half-way."""
    errors: dict[str, list[float]] = {key: [] for key in ("model", "4 modes", "DIS", "zero")}
    psnr: dict[str, list[float]] = {key: [] for key in ("model", "mean of the ends", "warp by DIS")}
    patients = []
    for clip in one_a_patient(shards.split("test")):
        first, last = ends_of(clip)
        middle = (first + last) // 2
        frames_THW = clip.frames_TCHW[:, 0]
        tensor = torch.from_numpy(frames_THW[:, None].astype(np.float32) / 255)
        assert clip.displacement_px_T2HW is not None and clip.mask_THW is not None
        truth = between(clip.displacement_px_T2HW, np.array([first, last]))[0].astype(np.float32)
        muscle = (clip.mask_THW[first] == MYOCARDIUM) & np.isfinite(truth).all(0)
        span = tensor[first : last + 1]
        fields = forth(net, tensor[first][None], span)
        modes = clip_modes(fields, modes=4, phase_T=None)
        rank_4 = np.einsum("k,kdrc->drc", modes.course_KT[:, -1], modes.mode_K2RC)
        dis = dis_flow(frames_THW[first], frames_THW[last])
        for key, field in zip(errors, (fields[-1], rank_4, dis, np.zeros_like(dis))):
            errors[key].append(float(np.hypot(*(field - truth))[muscle].mean()))
        ends = tensor[[first]], tensor[[last]]
        share = torch.tensor([(middle - first) / (last - first)])
        with torch.no_grad():
            pred = net(*ends, share).pred[0, 0]
        back = torch.from_numpy(dis_flow(frames_THW[last], frames_THW[first]))[None]
        warps = warp(ends[0], share * back), warp(ends[1], (1 - share) * torch.from_numpy(dis)[None])
        guesses = (pred, *(((1 - share) * a + share * b)[0, 0] for a, b in (ends, warps)))
        inside = torch.from_numpy(clip.sector_HW)
        for key, guess in zip(psnr, guesses):
            error = (guess - tensor[middle, 0])[inside].square().mean().item()
            psnr[key].append(-10 * float(np.log10(error)))
        patients.append(clip.patient_id)
    row = {f"{key}: error, px": _estimate(values, patients) for key, values in errors.items()}
    return {name: row | {f"{key}: PSNR, dB": _estimate(values, patients) for key, values in psnr.items()}}


def reader_of(shards: ShardSet, encoder: Encoder) -> LeftVentricleReader:
    """The core's reader of the left ventricle, fitted on traced frames of other patients."""
    train = traced_frames(encoder, shards, split="train", clips=_READER_CLIPS, frames_per_clip=2)
    val = traced_frames(encoder, shards, split="val", clips=_READER_CLIPS // 3, frames_per_clip=2)
    return fit_left_ventricle(encoder, train, val, steps=300)


def area_curve(reader: LeftVentricleReader, frames_THW: torch.Tensor) -> Floats:
    """(T,) read from frames shown at half the encoder's rate, each twice."""
    video = frames_THW.repeat_interleave(2, 0)[None, None]
    grid = reader.encoder.grid
    tokens = reader.encoder.encode(video.clamp(0, 1)).tokens_BND[0].unflatten(0, tuple(grid))
    return reader.areas(tokens.numpy())


def swaps(shards: ShardSet, encoder: Encoder, net: Mafe, name: str, *, pairs: int) -> dict[str, Any]:
    """Median correlation of the moved anatomy's area curve with that of the motion's clip, and beside it.

    The fullest frame of clip A moved as clip B; all curves by the same reader. "own motion": A moved as A, with A's.
    "with A's own": the swap's curve with A's, which B's motion has nothing to do with.
    """
    reader, test = reader_of(shards, encoder), shards.split("test")
    clips = one_a_patient(test)
    followed = [follow(net, window_of(clip)[0], both_ways=True) for clip in clips]
    curves = [area_curve(reader, each.frames_BTHW[0]) for each in followed]
    found: dict[str, list[float]] = {key: [] for key in ("with B's", "with A's own", "own motion", "range over B's")}
    patients = []
    with progress_bar("swaps", pairs) as bar:
        for number in range(pairs):
            a = number % len(clips)
            b = (a + 1 + number // len(clips)) % len(clips)
            moved = area_curve(reader, animated(net, followed[b], 0, followed[a].anatomy(0)))
            own = area_curve(reader, animated(net, followed[a], 0, followed[a].anatomy(0)))
            found["with B's"].append(_correlation(moved, curves[b]))
            found["with A's own"].append(_correlation(moved, curves[a]))
            found["own motion"].append(_correlation(own, curves[a]))
            found["range over B's"].append(float(np.ptp(moved) / max(1e-9, np.ptp(curves[b]))))
            patients.append(clips[a].patient_id)
            bar.advance()
    return {name: {key: _estimate(values, patients, median=True) for key, values in found.items()}}


def _correlation(one: Floats, other: Floats) -> float:
    """0 where one does not change."""
    if one.std() < 1e-9 or other.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
