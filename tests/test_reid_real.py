"""Re-identification from pixels: halves of clips that no head has seen are matched to their own patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hearts import beating_heart

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.extract import embed_clips
from echofm.embed.table import EmbeddingTable
from echofm.hub import Encoder, load_encoder, save_model
from echofm.model.config import NetworkConfig
from echofm.model.mae import VideoMae
from echofm.readers import read_clip
from synth.audit.reid import Reid, fit_reid
from synth.audit.reid.options import FitOptions

HEARTS = 30


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """Never trained: what is held here needs no weights that a test cannot make."""
    network = NetworkConfig(
        size=32, frames=16, channels=1, patch=8, tubelet=4, width=48, depth=1, heads=2,
        decoder_width=16, decoder_depth=1, decoder_heads=2, predicted_frames=4,
    )  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder")
    contract = InputContract(size=32, frames=16, frame_rate_hz=12.5)
    return load_encoder(save_model(VideoMae(network), folder, contract=contract, card={}))


@pytest.fixture(scope="module")
def reid(encoder: Encoder) -> Reid:
    hearts = [beating_heart(frames=64, size=64, seed=seed)[0] for seed in range(HEARTS)]
    clips = [
        Clip(
            frames_TCHW=frames[:, None],
            sector_HW=(frames > 0).any(0),
            clip_id=f"clip{number}",
            patient_id=f"heart{number}",
            frame_time_s=np.arange(len(frames)) / 50,
        )
        for number, frames in enumerate(hearts)
    ]
    table = _embedded(encoder, clips)
    rows = table.rows.assign(split=["train" if n < 20 else "val" for n in range(HEARTS)])
    rows["split"] = rows["split"].astype("string")
    table = EmbeddingTable(
        video_ND=table.video_ND,
        rows=rows,
        encoder_digest=table.encoder_digest,
        tokens=table.tokens,
        settings=table.settings,
    )
    return fit_reid(table, levels=("frame", "clip"), options=FitOptions(components=(16,), hidden=(0,), steps=20))


def _embedded(encoder: Encoder, clips: list[Clip]) -> EmbeddingTable:
    return embed_clips(encoder, clips, windows=1, tokens=(4, 4, 4), phase=False)


def _part(clip: Clip, part: slice, name: str) -> Clip:
    assert clip.frame_time_s is not None
    return clip.replace(
        frames_TCHW=clip.frames_TCHW[part],
        frame_time_s=clip.frame_time_s[part] - clip.frame_time_s[part][0],
        clip_id=f"{clip.clip_id}-{name}",
        phase_T=None,
        mask_THW=None,
    )


def test_halves_of_real_clips_are_matched_to_their_own_patient(real_clips: Path, encoder: Encoder, reid: Reid) -> None:
    clips = [read_clip(path) for path in sorted(real_clips.glob("*.avi"))]
    assert len(clips) == 5
    halves = [len(clip.frames_TCHW) // 2 for clip in clips]
    first, second = (
        _embedded(encoder, [_part(clip, cut(half), name) for clip, half in zip(clips, halves)])
        for name, cut in (("first", lambda half: slice(0, half)), ("second", lambda half: slice(half, 2 * half)))
    )
    for level in ("frame", "clip"):
        one, other = (reid.project(table, level=level).video_ND for table in (first, second))
        assert (one @ other.T).argmax(1).tolist() == [0, 1, 2, 3, 4], level
        assert (other @ one.T).argmax(1).tolist() == [0, 1, 2, 3, 4], level
