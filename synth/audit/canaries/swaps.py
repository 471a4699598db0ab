"""Swaps: a held-out heart moved as a training clip moves. Its anatomy is new, its motion is a training patient's.

T frames, H rows, W columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from echofm.clip import FRAME_FIELDS, Clip
from echofm.contract import InputContract
from echofm.embed.inputs import Item, conformed
from echofm.embed.videos import Videos
from echofm.errors import UnreadableFile
from echofm.shards.windows import Windowing, cut_windows
from synth.audit.canaries.planting import canary_id
from synth.audit.canaries.transforms import SWAP
from synth.audit.sets import KIND, SOURCE, STRENGTH
from synth.mafe.extract import MotionEncoder
from synth.mafe.follow import Followed, animated, follow


@dataclass(frozen=True, kw_only=True)
class SwapInput:
    """Swaps by index. An `echofm.embed.inputs.Input`.

    pairs: (training clip whose motion, held-out clip whose anatomy). contract: of the encoder that will see them.
    """

    train: Videos
    holdout: Videos
    pairs: Sequence[tuple[str, str]]
    encoder: MotionEncoder
    contract: InputContract

    def __len__(self) -> int:
        return len(self.pairs)

    def fingerprint(self) -> str:
        """Of both sets, the pairs and the model that moves them."""
        parts = [self.train.fingerprint(), self.holdout.fingerprint(), self.encoder.digest, repr(self.pairs)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def read(self, indices: Sequence[int]) -> Iterator[Item | UnreadableFile]:
        """The swaps asked for; a clip that can no longer be read gives its reason."""
        pairs = [self.pairs[index] for index in indices]
        motions = self.train.read([(motion, None) for motion, _ in pairs], _itself)
        anatomies = self.holdout.read([(anatomy, None) for _, anatomy in pairs], _itself)
        for (source, _), motion, anatomy in zip(pairs, motions, anatomies):
            if isinstance(motion, UnreadableFile):
                yield motion
                continue
            if isinstance(anatomy, UnreadableFile):
                yield anatomy
                continue
            clip = swap(self.encoder, motion, anatomy).replace(
                clip_id=canary_id(source, SWAP, 1.0), labels={KIND: SWAP, STRENGTH: 1.0, SOURCE: source}
            )
            yield Item(
                clip=conformed(clip, self.contract),
                file_id=clip.clip_id,
                dataset="canary",
                frame_rate_hz=clip.frame_rate_hz,
            )


def swap(encoder: MotionEncoder, motion: Clip, anatomy: Clip) -> Clip:
    """The fullest frame of one clip moved as the middle window of another moves, frame by frame; zero outside its
    sector."""
    followed, time_s_T, _ = _window(encoder, motion)
    other, _, seen = _window(encoder, anatomy)
    moved_THW = animated(encoder.net, followed, 0, other.anatomy(0)).cpu().numpy()
    frames_THW = np.rint(moved_THW * 255).astype(np.uint8) * seen.sector_HW
    return seen.replace(
        **dict.fromkeys(FRAME_FIELDS[1:]),
        frames_TCHW=frames_THW[:, None],
        frame_time_s=None if np.isnan(time_s_T).any() else time_s_T - time_s_T[0],
        view=None,
    )


def _window(encoder: MotionEncoder, clip: Clip) -> tuple[Followed, np.ndarray, Clip]:
    """The middle window followed at every frame, its times, and the clip under the contract, one frame of it."""
    contract = encoder.contract
    clip = conformed(clip, contract)
    windowing = Windowing(length=contract.frames, frame_rate_hz=contract.frame_rate_hz)
    (window,) = windowing.spread(0, clip.clip_id, clip.frame_time_s, len(clip.frames_TCHW), count=1)
    device = next(encoder.net.parameters()).device
    video_BCTHW = cut_windows(clip, [window]).to(device).video_BCTHW
    return follow(encoder.net, video_BCTHW, both_ways=True, stride=1), window.frame_time_s_L, clip


def _itself(clip: Clip, _: object) -> Clip:
    return clip
