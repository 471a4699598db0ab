"""Does a clip move as the motion that it was given? On held-out anatomy, with its own and another patient's motion.

Shapes: B clips, one of a patient, T frames; N times of D numbers of motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import ClipBatch
from echofm.intervals import Estimate, patient_bootstrap
from echofm.progress import progress_bar
from synth.condition import Condition
from synth.generator.frozen import Seen
from synth.generator.model import Generator
from synth.measure.heart import HeartReader

Floats = npt.NDArray[np.float64]
_ORDERS = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Moved:
    """areas_BT: the left ventricle's area of whose motion a clip was given, and of the clip itself."""

    given_BT: Floats
    shown_BT: Floats
    video_BCTHW: torch.Tensor


@torch.no_grad()
def moved(
    generator: Generator,
    network: Seen,
    reader: HeartReader,
    batch: ClipBatch,
    *,
    another: bool,
    steps: int = 25,
    guidance: float = 1.0,
    seed: int = 0,
) -> Moved:
    """Each clip's anatomy, of one frame at no known time, moved as itself or as another patient.

    network: the motion network that the generator was trained with.
    """
    clips = len(batch)
    order = np.arange(clips)
    # Each patient the one half of the list further: never itself.
    order = np.roll(order, clips // 2) if another else order
    video = batch.video_BCTHW
    first = generator.codec.encode(video[:, :, :1].to(generator.device)).cpu()
    frames = video.shape[2]
    whole = Condition(
        motion_BND=torch.cat([network(video[[number]]).phase_BTD for number in order]).cpu(),
        reference_BCTHW=first.expand(-1, -1, frames, -1, -1),
        observed_BT=torch.zeros(clips, frames, dtype=torch.bool),
        views=batch.views if "views" in generator.denoiser.conditioner.taken else None,
    )
    made = []
    with progress_bar("another's motion" if another else "own motion", clips) as bar:
        for number in range(clips):
            one = whole[number : number + 1]
            made.append(generator.sample(one, frames=frames, steps=steps, guidance=guidance, seed=seed + number))
            bar.advance()
    shown = torch.cat(made)
    return Moved(given_BT=reader.areas_BT(video)[order], shown_BT=reader.areas_BT(shown), video_BCTHW=shown)


def followed(given_BT: Floats, shown_BT: Floats) -> dict[str, Estimate]:
    """Mean over clips of the correlation of both area curves, with its interval over patients; and the same of curves
    that were given to others, in 200 orders: their mean, and the range that holds 95 % of them."""
    own_B, rng = _correlations(given_BT, shown_BT), np.random.default_rng(0)
    names = np.arange(len(own_B)).astype(str)
    others = [float(_correlations(rng.permutation(given_BT), shown_BT).mean()) for _ in range(_ORDERS)]
    low, high = np.percentile(others, [2.5, 97.5])
    return {
        "correlation": patient_bootstrap(lambda values: float(values.mean()), {"values": (own_B, names)}),
        "shuffled": Estimate(value=float(np.mean(others)), low=float(low), high=float(high)),
    }


def _correlations(first_BT: Floats, second_BT: Floats) -> Floats:
    """(B,), 0 where a curve does not move."""
    first, second = (each - each.mean(1, keepdims=True) for each in (first_BT, second_BT))
    size_B = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / np.maximum(size_B, 1e-12)
