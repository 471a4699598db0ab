"""ClipWindows of real heart cycles: the pixel prior, its variant with differences, and encoders, on five real clips.

    python -m benchmarks.real_cycle ENCODER... --choose-on SHARDS

For every frame of each clip the most similar frame at least 0.5 s away: how far the left ventricle's areas are apart,
over the clip's range, and whether both frames fill or both eject (sign of the area 40 ms later minus 40 ms earlier).
The clips and their areas lie in ../shared/real (or $ECHOFM_REAL_CLIPS): EchoNet-Dynamic's public page, never shipped.

How an encoder's frames are read (`probe.retrieval.frames.Reading`) is chosen on clips of known masks, the
phantom's validation patients, and never on the real clips. Without --choose-on the plain reading is taken.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import tyro
from scipy.signal import savgol_coeffs, savgol_filter

from echofm.clip import Clip
from echofm.errors import EchofmError
from echofm.estimators.left_ventricle import AreaCurve, mask_area
from echofm.hub import Encoder, load_encoder
from echofm.ids import IdKey
from echofm.loss.periodic import along_trajectories
from echofm.model.vit import VideoEncoder
from echofm.progress import progress_bar
from echofm.readers.read import read_clip
from echofm.shards.read import ShardSet
from probe.retrieval.frames import ClipWindows, Reading, encode_windows
from probe.retrieval.lv_area import (
    AreaMatch,
    chance_of_matches,
    encoder_similarity,
    match_frames,
    prior_similarity,
    rate_readings,
)

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "real"
_APICAL = ("A4C", "A2C")
_REACHES = (1, 2, 4, 8, 12)
_SMOOTHED = (5, 7, 9, 11, 13)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Match the moments of real clips."""

    encoders: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of exported encoders."""
    choose_on: Path | None = None
    """Shards with masks; the reading of each encoder is chosen on their validation clips."""
    choose_clips: int = 24
    """Apical clips of the validation split to choose on."""
    real: Path = Path(os.environ.get("ECHOFM_REAL_CLIPS", _SHARED))
    """Folder of the five clips and their .phase.npz."""
    random: bool = True
    """Also take each encoder's architecture at random weights."""
    show_readings: int = 0
    """Print so many of the rated readings."""
    threads: int = 1


def real_curves(folder: Path, *, keep_outside: bool = False) -> list[tuple[Clip, AreaCurve]]:
    """The clips with the area per frame. Raises EchofmError where the folder is not there."""
    paths = sorted(folder.glob("*.avi"))
    if not paths:
        raise EchofmError("no real clips: put them where --real or $ECHOFM_REAL_CLIPS says; they are not distributed")
    found = []
    for path in paths:
        with np.load(path.with_suffix(".phase.npz"), allow_pickle=False) as truth:
            area, rate = truth["lv_area"].astype(np.float64), float(truth["fps"])
        clip = read_clip(path, channels=3 if keep_outside else 1, key=IdKey(bytes(16)), keep_outside=keep_outside)
        found.append((clip, AreaCurve(area_F=area, time_s_F=np.arange(len(area)) / rate)))
    return found


def area_similarity(curve: AreaCurve, *, reach: int) -> npt.NDArray[np.float64]:
    """(F, F) by the true areas, `reach` frames to either side: what the volume alone tells."""
    area = torch.from_numpy(curve.area_F)
    return along_trajectories(-(area[:, None] - area).square()[None], reach=reach)[0].numpy()


def smoothed_truth_similarity(curve: AreaCurve, *, frames: int) -> npt.NDArray[np.float64]:
    """(F, F) what a perfect reader of the ventricle would match by who is blind to changes shorter than `frames`.

    Area and rate of change by Savitzky and Golay's parabola (doi:10.1021/ac60214a047), each over its deviation.
    """
    level_F, rate_F = (savgol_filter(curve.area_F, frames, 2, deriv=order) for order in (0, 1))
    state_F2 = np.stack([level_F / level_F.std(), rate_F / rate_F.std()], 1)
    return -((state_F2[:, None] - state_F2) ** 2).sum(-1)


def noise_ceiling(curve: AreaCurve, *, frames: int, draws: int = 500, seed: int = 0) -> tuple[float, float, float]:
    """Where beats are alike and outlines err, what a perfect reader of the phase reaches: area difference, direction.

    The ventricle's course is the area smoothed by a parabola over `frames`; what that takes off, freed from the
    parabola's own share of it, is the error of a frame's outline. Both frames of a match show the same point of the
    course, each under an error of its own. Last the error's standard deviation, a share of the range like the first.
    """
    area_F = curve.area_F / np.ptp(curve.area_F)
    course_F = savgol_filter(area_F, frames, 2)
    own_weight = float(savgol_coeffs(frames, 2)[frames // 2])
    error_F = (area_F - course_F) / np.sqrt(1 - own_weight)
    rng = np.random.default_rng(seed)
    difference, same = [], []
    for _ in range(draws):
        pair = [replace(curve, area_F=course_F + rng.choice(error_F, len(error_F))) for _ in range(2)]
        difference.append(np.abs(pair[0].area_F - pair[1].area_F).mean())
        same.append((pair[0].direction_F() == pair[1].direction_F()).mean())
    return float(np.mean(difference)), float(np.mean(same)), float(error_F.std())


def with_random_weights(encoder: Encoder, *, seed: int = 0) -> Encoder:
    """The same architecture and contract, never trained."""
    torch.manual_seed(seed)
    return Encoder(VideoEncoder(encoder.net.config), config=encoder.config)


def choose_reading(encoder: Encoder, shards: ShardSet, *, clips: int, show: int = 0) -> Reading:
    """The best reading on validation clips of apical views, at most `clips` of them, one per patient first."""
    chosen: list[tuple[ClipWindows, AreaCurve]] = []
    val = shards.split("val")
    with progress_bar("choosing how to read frames", clips) as bar:
        for index, record in enumerate(val.records):
            if record.meta.view not in _APICAL or not record.n_masks:
                continue
            clip = val.clip(index)
            curve = mask_area(clip)
            if curve is None or curve.time_s_F[-1] < 1.1:
                continue
            chosen.append((encode_windows(encoder, clip), curve))
            bar.advance(1)
            if len(chosen) == clips:
                break
    rated = rate_readings(chosen)
    for row in rated.head(show).itertuples():
        print(f"    {row.merit:.3f} {row.area_difference:.3f} {row.same_direction:.1%} {row.reading}", file=sys.stderr)
    return rated["reading"][0]


@dataclass(frozen=True, kw_only=True)
class MatchFigures:
    """Means over clips. p values: part of random moves at least as good (see `chance_of_matches`)."""

    area_difference: float
    same_direction: float
    chance_area_difference: float
    chance_same_direction: float
    p_area_difference: float
    p_same_direction: float
    clips: int
    frames: int


def match_figures(matches: Sequence[AreaMatch], *, draws: int = 10_000) -> MatchFigures:
    """Figures over clips, with a permutation test."""
    p_area, p_direction = chance_of_matches(matches, draws=draws)
    return MatchFigures(
        area_difference=float(np.mean([each.difference_F.mean() for each in matches])),
        same_direction=float(np.mean([each.same_F.mean() for each in matches])),
        chance_area_difference=float(np.mean([each.chance_difference for each in matches])),
        chance_same_direction=float(np.mean([each.chance_same for each in matches])),
        p_area_difference=p_area,
        p_same_direction=p_direction,
        clips=len(matches),
        frames=sum(len(each.match_F) for each in matches),
    )


def paired_test(
    ours: Sequence[AreaMatch],
    theirs: Sequence[AreaMatch],
    *,
    block_s: float = 0.5,
    draws: int = 10_000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Ours minus theirs on the same clips: name -> (difference of the means, two-sided p).

    Under the null the two are exchangeable: their signs are drawn at random for whole blocks of `block_s` seconds,
    since frames beside one another fail together.
    """
    rng = np.random.default_rng(seed)
    sums: dict[str, list[float]] = {"area_difference": [], "same_direction": []}
    for own, other in zip(ours, theirs, strict=True):
        block = np.floor(own.curve.time_s_F / block_s).astype(np.int64)
        for name, ahead in (
            ("area_difference", own.difference_F - other.difference_F),
            ("same_direction", own.same_F.astype(float) - other.same_F),
        ):
            sums[name] += (np.bincount(block, ahead) / len(ahead) / len(ours)).tolist()
    result = {}
    for name, parts in sums.items():
        values = np.array(parts)
        flipped = rng.choice([-1.0, 1.0], size=(draws, len(values))) @ values
        result[name] = (
            float(values.sum()),
            float((1 + (np.abs(flipped) >= abs(values.sum()) - 1e-12).sum()) / (1 + draws)),
        )
    return result


def line(name: str, found: list[AreaMatch], baseline: list[AreaMatch] | None) -> str:
    """One row of the table."""
    each = match_figures(found)
    against = "-"
    if baseline is not None:
        paired = paired_test(found, baseline)
        against = ", ".join(f"{value:+.3f} (p {p:.3f})" for value, p in paired.values())
    return (
        f"| {name} | {each.area_difference:.3f} (p {each.p_area_difference:.4f}) "
        f"| {each.same_direction:.1%} (p {each.p_same_direction:.4f}) | {against} |"
    )


def main(arguments: Arguments) -> None:
    """Print the table."""
    torch.set_num_threads(arguments.threads)
    real, whole = real_curves(arguments.real), real_curves(arguments.real, keep_outside=True)
    prior = [match_frames(prior_similarity(clip), curve) for clip, curve in real]
    chance = match_figures(prior)
    print(f"{chance.clips} real clips, {chance.frames} frames; chance {chance.chance_area_difference:.3f} of the range")
    print(
        f"and {chance.chance_same_direction:.1%} the same way. p: all matches of a clip moved on together at random.\n"
    )
    print("| method | area off by, of the range | moves the same way | minus pixel prior: area, direction |")
    print("|---|---|---|---|")
    print(
        line(
            "pixel prior, frames as stored",
            [match_frames(prior_similarity(clip), curve) for clip, curve in whole],
            None,
        )
    )
    print(line("pixel prior, sector only", prior, None))
    for reach in (0, *_REACHES):
        found = [match_frames(prior_similarity(clip, motion=True, reach=reach), curve) for clip, curve in real]
        print(line(f"pixel+difference prior, {reach} frames either way", found, prior))
    for reach in _REACHES:
        found = [match_frames(area_similarity(curve, reach=reach), curve) for _, curve in real]
        print(line(f"the true areas, {reach} frames either way", found, prior))
    for frames in _SMOOTHED:
        found = [match_frames(smoothed_truth_similarity(curve, frames=frames), curve) for _, curve in real]
        print(line(f"the true area and its rate, smoothed over {frames} frames", found, prior))
    for frames in _SMOOTHED:
        difference, same, error = np.mean([noise_ceiling(curve, frames=frames) for _, curve in real], axis=0)
        name = f"a perfect reader of the phase, outlines erring by what {frames} frames smooth away ({error:.1%})"
        print(f"| {name} | {difference:.3f} | {same:.1%} | - |")
    shards = None if arguments.choose_on is None else ShardSet.open(arguments.choose_on)
    for folder in arguments.encoders:
        trained = load_encoder(folder)
        models = {str(folder): trained}
        if arguments.random:
            models[f"{folder}, random weights"] = with_random_weights(trained)
        for name, encoder in models.items():
            reading = Reading()
            if shards is not None:
                reading = choose_reading(encoder, shards, clips=arguments.choose_clips, show=arguments.show_readings)
            found = [
                match_frames(encoder_similarity(encode_windows(encoder, clip), reading), curve) for clip, curve in real
            ]
            print(line(f"{name}: {_short(reading)}", found, prior), flush=True)


def _short(reading: Reading) -> str:
    positions = ", places centred" if reading.centre_positions else ""
    motion = f", change {reading.motion_weight:g}" if reading.motion_weight else ""
    along = f", along {reading.along_s:g} s" if reading.along_s else ""
    return f"{reading.source}, {reading.windows} windows{positions}{motion}{along}"


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except EchofmError as error:
        sys.exit(f"error: {error}")
