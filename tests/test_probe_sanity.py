"""Sanity before any figure: a wrong range, a collapsed encoder, an image model on shuffled frames, copies, lengths."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hearts import beating_heart

from echofm.backbones import open_encoder
from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.inputs import Item, conformed
from echofm.embed.table import EmbeddingTable
from echofm.model.vit import Encoding
from probe.checks.embedding import check_embedding, with_checks
from probe.checks.encoder import check_encoder, windows_of
from probe.result import Check, SanityFigures

IMAGE = "timm:test_vit?random&frames=4&size=32"
GREY = InputContract(size=16, frames=4)


def encoder(
    see: Callable[[torch.Tensor], torch.Tensor], *, contract: InputContract = GREY, sees_time: bool = True
) -> SimpleNamespace:
    """An encoder of one function from clips to vectors."""

    def encode(video_BCTHW: torch.Tensor, frame_rate_hz: float | None = None) -> Encoding:
        contract.check(video_BCTHW, frame_rate_hz)
        video_BD = see(video_BCTHW)
        none = video_BD.new_zeros(len(video_BD), 0, 1)
        return Encoding(tokens_BND=none, phase_BTD=none, video_BD=video_BD)

    return SimpleNamespace(contract=contract, digest="e", grid=None, sees_time=sees_time, encode=encode)


def pooled(video_BCTHW: torch.Tensor) -> torch.Tensor:
    """Every frame on a 4 x 4 grid: sees time."""
    return torch.nn.functional.adaptive_avg_pool3d(video_BCTHW.mean(1), (4, 4, 4)).flatten(1)


def hearts(contract: InputContract, *, clips: int = 4) -> torch.Tensor:
    items = []
    for seed in range(clips):
        frames, _ = beating_heart(frames=contract.frames * 2, size=48, seed=seed)
        clip = Clip(
            frames_TCHW=frames[:, None], sector_HW=frames.any(0), clip_id=f"c{seed}", patient_id=f"p{seed}",
            frame_time_s=np.arange(len(frames)) / 50,
        )  # fmt: skip
        items.append(Item(clip=conformed(clip, contract), file_id=clip.clip_id))
    return windows_of(encoder(pooled, contract=contract), items)


def named(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def copies_of(found: SanityFigures) -> float:
    """Clips of different patients with the same features."""
    return next(check for check in found.checks if check.name == "copies").figures["repeated"]


def test_a_sound_video_encoder_passes_everything() -> None:
    checks = named(check_encoder(encoder(pooled), hearts(GREY)))
    assert set(checks) == {"value range", "normalisation", "channel order", "answers", "time", "gain", "speckle"}
    assert all(check.passed for check in checks.values())
    assert checks["time"].figures["moved_by_reversing"] > 0.01 and checks["gain"].figures["moved"] > 0


def test_bytes_into_a_unit_contract_are_caught() -> None:
    checks = check_encoder(encoder(pooled), hearts(GREY) * 255)
    assert [check.passed for check in checks] == [False]
    assert "divide by 255" in checks[0].says


def test_normalised_and_twice_divided_pixels_are_caught() -> None:
    video_BCTHW = hearts(GREY)
    for spoilt, says in (((video_BCTHW - 0.5) / 0.2, "plain pixels"), (video_BCTHW / 255, "divided by 255 twice")):
        checks = check_encoder(encoder(pooled), spoilt)
        assert checks[0].passed is False and says in checks[0].says
    dim = named(check_encoder(encoder(pooled), video_BCTHW * 0.05))["value range"]
    assert dim.passed is False and "unused" in dim.says
    inverted = named(check_encoder(encoder(pooled), 1 - video_BCTHW * 0.01))["normalisation"]
    assert inverted.passed is False


def test_a_collapsed_encoder_is_caught() -> None:
    dead = encoder(lambda video: torch.ones(len(video), 8) + 1e-7 * video.mean((1, 2, 3, 4))[:, None])
    checks = check_encoder(dead, hearts(GREY))
    assert checks[-1].name == "answers" and checks[-1].passed is False and "collapsed" in checks[-1].says
    broken = encoder(lambda video: torch.full((len(video), 8), float("nan")))
    assert named(check_encoder(broken, hearts(GREY)))["finite features"].passed is False


def test_an_image_model_fed_shuffled_frames_is_caught() -> None:
    image = open_encoder(IMAGE)
    video_BCTHW = hearts(image.contract)
    stated = named(check_encoder(image, video_BCTHW))["time"]
    assert stated.passed is None and "image model" in stated.says and stated.figures["moved_by_shuffling"] < 1e-3
    # The same model passed off as a video model fails.
    posing = SimpleNamespace(**{name: getattr(image, name) for name in ("contract", "digest", "grid", "encode")})
    posing.sees_time = True
    caught = named(check_encoder(posing, video_BCTHW))["time"]
    assert caught.passed is False and "does not see time" in caught.says


def test_colour_into_a_grey_contract_is_caught() -> None:
    grey3 = InputContract(size=16, frames=4, channels=3)
    colour = InputContract(size=16, frames=4, channels=3, colour="rgb")
    video_BCTHW = hearts(GREY).repeat(1, 3, 1, 1, 1)
    by_channel = encoder(lambda video: video.mean((3, 4)).flatten(1), contract=grey3)
    assert named(check_encoder(by_channel, video_BCTHW))["channel order"].says == "three equal channels"
    video_BCTHW[:, 0] *= 0.5
    assert named(check_encoder(by_channel, video_BCTHW))["channel order"].passed is False
    by_channel = encoder(lambda video: video.mean((3, 4)).flatten(1), contract=colour)
    order = named(check_encoder(by_channel, video_BCTHW))["channel order"]
    assert order.passed and order.figures["moved_by_swapping"] > 0


def test_an_encoder_of_gain_alone_is_caught() -> None:
    gain = encoder(lambda video: video.mean((1, 3, 4)).mean(1, keepdim=True) ** 2 * 1e3 + 1e-3 * pooled(video)[:, :1])
    alike = hearts(GREY)[:1].repeat(4, 1, 1, 1, 1) * torch.tensor([1, 0.999, 0.998, 0.997]).view(4, 1, 1, 1, 1)
    caught = named(check_encoder(gain, alike))["gain"]
    assert caught.passed is False and "mostly about gain" in caught.says


def table(features: np.ndarray, **changes: object) -> EmbeddingTable:
    clips = len(features)
    return EmbeddingTable.from_arrays(
        features,
        **{
            "clip_id": [f"c{n}" for n in range(clips)],
            "patient_id": [f"p{n // 2}" for n in range(clips)],
            "split": ["train", "train", "val", "val", "test", "test"] * (clips // 6),
            "encoder_digest": "e",
        }
        | changes,
    )


def random(clips: int = 24, dim: int = 8) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(clips, dim)).astype(np.float32)


def test_a_sound_table_passes() -> None:
    found = check_embedding(table(random()))
    assert found.problems == [] and found.rankme > 4 and copies_of(found) == 0
    checks = {check.name: check.passed for check in found.checks}
    unknown = {"frame rate": None, "length": None}
    assert checks == {"collapse": True, "variance spectrum": True, "patients": True, "copies": True} | unknown


@pytest.mark.parametrize(
    "features",
    [np.ones((24, 8)) + 1e-6 * random(), 1 + 1e-4 * random(), random()[:, :1] * np.arange(1, 9) + 5e-3 * random()],
)
def test_collapsed_tables_are_caught(features: np.ndarray) -> None:
    assert any(
        "collapsed" in problem or "one number" in problem for problem in check_embedding(table(features)).problems
    )


def test_copies_between_train_and_test_are_named() -> None:
    features = random()
    features[4] = features[0] * (1 + 1e-8)
    found = check_embedding(table(features))
    assert copies_of(found) == 2 and "1 test clips have exactly the features of a training clip" in found.problems[0]
    same_patient = random()
    same_patient[1] = same_patient[0]
    assert check_embedding(table(same_patient)).problems == []


def test_a_clip_of_zeros_is_looked_at_like_any_other() -> None:
    features = random()
    features[5] = 0
    assert check_embedding(table(features)).problems == []
    features[20] = 0
    assert copies_of(check_embedding(table(features))) == 2


def test_unknown_rates_and_looped_clips_is_reported() -> None:
    contract = {"size": 16, "frames": 32, "frame_rate_hz": 50.0}
    unknown = table(random(), contract=contract)
    assert any("do not tell their frame rate" in problem for problem in check_embedding(unknown).problems)
    rated = table(random(), contract=contract, frame_rate_hz=[30.0] * 12 + [60.0] * 12)
    assert check_embedding(rated).problems == []
    rated.rows["frames"] = 10.0
    assert any("looped; 24 have less than half" in problem for problem in check_embedding(rated).problems)


def test_checks_come_first_and_nothing_is_reported_twice() -> None:
    failed = Check(name="value range", passed=False, says="wrong pixels")
    split = Check(name="near-duplicates", passed=False, says="a copy")
    known = SanityFigures(
        rankme=3,
        embedding_std=0.5,
        within_patient=None,
        between_patients=None,
        problems=["dead", "a copy"],
        checks=[split],
    )
    dead = Check(name="collapse", passed=False, says="dead")
    found = with_checks(known, [failed, dead])
    assert found.problems == ["wrong pixels", "dead", "a copy"] and found.checks == [failed, dead, split]
