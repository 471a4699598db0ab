"""Segmentation probe: metrics against plain loops, heads that learn what tokens tell, the whole probe on shards."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.spatial.distance
import torch
from heart_shards import KEY

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.estimators.head import HEADS, PlacedHead, fit_head, segmentation_loss
from echofm.estimators.left_ventricle import _window_of, annotated_frames, traced_frames
from echofm.metric.overlap import dice, hausdorff_95, mean_dice
from echofm.model.tokens import Grid
from echofm.model.vit import Encoding
from echofm.readers.source import Row
from echofm.shards.read import ShardSet
from echofm.shards.windows import Windowing
from echofm.shards.write import write_shards
from probe.segmentation.probe import _left_out, probe_segmentation

SIZE, FRAMES = 16, 12


class Patches(torch.nn.Module):
    """An encoder whose token is the grey of its 4 x 4 patch and the square of it, or, blind, nothing."""

    def __init__(self, *, blind: bool = False) -> None:
        super().__init__()
        self.contract = InputContract(size=SIZE, frames=4, frame_rate_hz=25.0)
        self.digest, self.blind, self.grid = "blind" if blind else "patches", blind, Grid(2, 4, 4)

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        self.contract.check(video_BCTHW)
        cut = video_BCTHW[:, 0].unflatten(1, (2, 2)).mean(2).unflatten(3, (4, 4)).unflatten(2, (4, 4))
        tokens = cut.permute(0, 1, 2, 4, 3, 5).flatten(4).flatten(1, 3)
        tokens = tokens * 0 + 1 if self.blind else torch.cat([tokens, tokens**2], 2)
        return Encoding(tokens_BND=tokens, phase_BTD=tokens.unflatten(1, (2, -1)).mean(2), video_BD=tokens.mean(1))


def brute_hausdorff(true: np.ndarray, given: np.ndarray, spacing: tuple[float, float]) -> float:
    """Both outlines as points, every pair of them."""

    def edge(mask: np.ndarray) -> np.ndarray:
        rows, columns = mask.shape
        points = []
        for r in range(rows):
            for c in range(columns):
                beside = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
                inside = all(0 <= y < rows and 0 <= x < columns and mask[y, x] for y, x in beside)
                if mask[r, c] and not inside:
                    points.append((r * spacing[0], c * spacing[1]))
        return np.array(points)

    distances = scipy.spatial.distance.cdist(edge(true), edge(given))
    return max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))


def test_metrics_against_plain_loops() -> None:
    rng = np.random.default_rng(0)
    for spacing in ((1.0, 1.0), (0.5, 1.25)):
        for _ in range(8):
            true, given = (scipy.ndimage.gaussian_filter(rng.standard_normal((20, 17)), 2) > 0.02 for _ in range(2))
            overlap = sum(bool(a) and bool(b) for a, b in zip(true.ravel(), given.ravel()))
            assert dice(true, given) == pytest.approx(2 * overlap / (int(true.sum()) + int(given.sum())))
            assert hausdorff_95(true, given, spacing=spacing) == pytest.approx(brute_hausdorff(true, given, spacing))
    assert dice(true, true) == 1 and hausdorff_95(true, true) == 0
    nothing = np.zeros_like(true)
    assert np.isnan(dice(nothing, given)) and np.isnan(hausdorff_95(nothing, given))
    assert dice(true, nothing) == 0 and hausdorff_95(true, nothing) == pytest.approx(np.hypot(20, 17))
    square, moved = np.zeros((2, 20, 20), bool)
    square[5:10, 5:10] = moved[5:10, 8:13] = True
    assert hausdorff_95(square, moved, spacing=(1.0, 2.0)) == pytest.approx(6.0)


def test_loss_leaves_out_what_nobody_annotated() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 6, 6, requires_grad=True)
    mask = torch.randint(0, 3, (2, 6, 6))
    mask[:, :2] = 255
    loss = segmentation_loss(logits, mask)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[:, :, :2].abs().max() == 0 and gradient[:, :, 2:].abs().max() > 0
    known, truth = logits[:, :, 2:], mask[:, 2:]
    entropy = torch.nn.functional.cross_entropy(known, truth)
    soft = known.softmax(1)
    dices = [2 * soft[:, k][truth == k].sum() / (soft[:, k].sum() + (truth == k).sum()) for k in (1, 2)]
    assert loss.item() == pytest.approx((entropy + 1 - sum(dices) / 2).item(), rel=1e-5)


def test_mean_dice_is_the_mean_of_frames_and_structures() -> None:
    rng = np.random.default_rng(1)
    mask, given = rng.integers(0, 3, (2, 5, 9, 9)).astype(np.uint8)
    mask[0][mask[0] == 2] = 0
    mask[1, :4] = 255
    expected = [
        dice(mask[n] == k, (given[n] == k) & (mask[n] != 255)) for k in (1, 2) for n in range(5) if (mask[n] == k).any()
    ]
    assert mean_dice(mask, given, classes=3) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("kind", sorted(HEADS))
@pytest.mark.parametrize(("grid", "size"), [((4, 4), 32), ((3, 5), 30), ((4, 4), 18)])
def test_heads_give_maps_of_the_frames_size(kind: str, grid: tuple[int, int], size: int) -> None:
    head = HEADS[kind](width=7, classes=3, grid=grid, size=size)
    out = head(torch.randn(2, *grid, 7))
    assert out.shape == (2, 3, size, size)
    out.sum().backward()
    assert all(each.grad is not None for each in head.parameters())


def test_a_linear_head_sees_its_own_token_alone() -> None:
    head = HEADS["linear"](width=7, classes=3, grid=(4, 4), size=32)
    tokens = torch.randn(1, 4, 4, 7)
    other = tokens.clone()
    other[0, 1, 2] += 1
    changed = (head(tokens) != head(other)).any(1)[0]
    assert changed[8:16, 16:24].all() and changed.sum() == 64


def test_a_head_of_blind_tokens_says_the_commonest_class_of_each_place() -> None:
    mask = np.random.default_rng(0).integers(0, 3, (7, 32, 32)).astype(np.uint8)
    head = PlacedHead(HEADS["linear"](width=7, classes=3, grid=(4, 4), size=32), mask, classes=3)
    torch.nn.init.zeros_(head.head.layer.weight)
    torch.nn.init.zeros_(head.head.layer.bias)
    given = head(torch.randn(1, 4, 4, 7)).argmax(1)[0].numpy()
    counts = np.stack([(mask == number).sum(0) for number in range(3)])
    assert (np.take_along_axis(counts, given[None], 0)[0] == counts.max(0)).all()


@dataclass(frozen=True)
class Discs:
    """A bright disc whose size falls and rises: class 1, in a darker ring, class 2."""

    clips: int
    name: str = "discs"

    def rows(self) -> Iterator[Row]:
        for number in range(self.clips):
            split = "train" if number % 4 < 2 else "val" if number % 4 == 2 else "test"
            yield Row(path=Path(f"disc-{number}"), patient=f"Doe {number}", split=split)


def read_disc(row: Row, *, masks: bool) -> Clip:
    number = int(row.path.name.removeprefix("disc-"))
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    distance = np.hypot(y - rng.uniform(6, 10), x - rng.uniform(6, 10))
    swing = rng.uniform(0.5, 2.5)
    radius = 4.5 - swing * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAMES) / FRAMES))
    mask = np.where(distance < radius[:, None, None], 1, np.where(distance < radius[:, None, None] + 2, 2, 0))
    frames = np.array([20, 220, 120])[mask] + rng.integers(0, 20, mask.shape)
    if number % 2:
        # As EchoNet-Dynamic: two frames are annotated.
        mask[1:6] = mask[7:] = 255
    return Clip(
        frames_TCHW=frames.astype(np.uint8)[:, None],
        sector_HW=np.ones((SIZE, SIZE), bool),
        frame_time_s=np.arange(FRAMES) / 50,
        clip_id=KEY.clip(hashlib.sha256(frames.tobytes()).digest()),
        patient_id=KEY.patient(row.patient),
        kind="bmode",
        view="A4C",
        pixel_spacing_mm=(0.5, 0.5) if number % 3 else None,
        mask_THW=mask.astype(np.uint8) if masks else None,
    )


def disc_shards(folder: Path, *, clips: int = 32, masks: bool = True) -> ShardSet:
    read = functools.partial(read_disc, masks=masks)
    write_shards(Discs(clips), folder, size=SIZE, frame_rate_hz=None, key=KEY, read=read, show_progress=False)
    return ShardSet.open(folder, show_progress=False)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return disc_shards(tmp_path_factory.mktemp("discs") / "shards")


def test_frames_come_with_their_own_tokens(shards: ShardSet) -> None:
    frames = traced_frames(Patches(), shards, split="val", frames_per_clip=3)
    assert frames.tokens_FRCD.shape[1:] == (4, 4, 32) and frames.rows["patient_id"].nunique() == 8
    assert set(frames.rows["event"]) == {"ed", "es", ""}
    # At 25 frames/s a token sees frames t and t + 2 of the clip: the frame itself is one of the two.
    clips = {clip.clip_id: clip for clip in shards.split("val")}
    for token, row in zip(frames.tokens_FRCD[:, 1, 2, :16].astype(np.float32), frames.rows.itertuples()):
        grey = clips[row.clip_id].frames_TCHW[:, 0, 4:8, 8:12].reshape(FRAMES, 16) / 255
        pairs = [(grey[row.frame] + grey[other]) / 2 for other in (row.frame - 2, row.frame + 2) if 0 <= other < FRAMES]
        assert min(np.abs(pair - token).max() for pair in pairs) < 2e-3


@pytest.mark.parametrize("rate_hz", [25.0, 30.0, None])
@pytest.mark.parametrize("length", [2, 6, 9])
@pytest.mark.parametrize("timed", [True, False])
def test_every_frame_is_shown_however_short_the_clip(rate_hz: float | None, length: int, timed: bool) -> None:
    times = np.arange(FRAMES) / 50 if timed else None
    windowing = Windowing(length=length, frame_rate_hz=rate_hz)
    for frame in range(FRAMES):
        showing = list(windowing.showing(frame, 0, "clip", times, FRAMES))
        assert showing and all(window.indices_L[place] == frame and window.valid_L[place] for place, window in showing)
        window, time = _window_of(showing, times=1)
        assert time == 0 and (~window.valid_L).sum() == min((~each.valid_L).sum() for _, each in showing)


def test_frames_are_chosen_by_their_area() -> None:
    clip = read_disc(Row(path=Path("disc-2"), patient="x"), masks=True)
    assert annotated_frames(clip, at_most=2) == {0: "ed", 6: "es"}
    more = annotated_frames(clip, at_most=4)
    assert len(more) == 4 and list(more.values())[:2] == ["ed", "es"] and set(list(more.values())[2:]) == {""}
    traced = read_disc(Row(path=Path("disc-1"), patient="x"), masks=True)
    assert annotated_frames(traced, at_most=5) == {0: "ed", 6: "es"}
    assert clip.mask_THW is not None
    still = clip.replace(mask_THW=np.repeat(clip.mask_THW[:1], FRAMES, 0))
    assert set(annotated_frames(still, at_most=2).values()) == {""}


@pytest.mark.parametrize(("head", "steps"), [("linear", 300), ("upsampling", 80)])
def test_the_probe_finds_what_tokens_tell(shards: ShardSet, head: str, steps: int) -> None:
    blind = {"blind": Patches(blind=True)}
    probed = probe_segmentation(
        Patches(), shards, head=head, baselines=blind, steps=steps, weight_decays=(1e-2,), draws=50
    )
    result = probed.result
    assert result.task == "segmentation" and result.kind == head and result.classes == ["left_ventricle", "myocardium"]
    own, lost = result.score("dice"), result.score("dice", method="blind")
    merits = [float(each.name.removeprefix("Dice ")) for each in probed.overlays]
    assert (
        merits == sorted(merits, reverse=True) and all(each.predicted_HW.any() for each in probed.overlays) and merits
    )
    assert own.low > 0.85 and own.low > lost.high
    assert abs(own.value - result.score("dice", method="pixels").value) < 0.15
    assert result.score("dice", method="mean mask").value < own.value
    assert (
        result.score("hd95_px", of="left_ventricle").value
        < result.score("hd95_px", method="mean mask", of="left_ventricle").value
    )
    assert result.score("area_change_r", of="left_ventricle").value > 0.7
    rows = probed.predictions
    assert len(rows) == 16 and result.clips == {"train": 16, "val": 8, "test": 8}
    assert result.score("dice_ed", of="myocardium").value == pytest.approx(
        rows.loc[rows["event"] == "ed", "dice_myocardium"].mean()
    )
    known = rows["hd95_mm_myocardium"].notna()
    assert 0 < known.sum() < 16
    np.testing.assert_allclose(rows.loc[known, "hd95_mm_myocardium"], rows.loc[known, "hd95_px_myocardium"] / 2)
    gains = {(each.baseline, each.metric): each.difference for each in result.comparisons}
    assert gains["blind", "dice"].low > 0.1 and gains["blind", "hd95_px"].value < 0
    assert any("size of a pixel is unknown" in note for note in result.notes)


def test_clips_that_are_not_read_is_reported(shards: ShardSet) -> None:
    (note,) = _left_out(shards, 10)
    assert note == "Of the clips with masks (16 of train) the first 10 of a split were read."
    assert _left_out(shards, 400) == _left_out(shards, None) == []


def test_training_is_the_same_twice() -> None:
    rng = np.random.default_rng(0)
    tokens, mask = rng.standard_normal((6, 2, 2, 5)), rng.integers(0, 2, (6, 8, 8)).astype(np.uint8)
    first, again = (
        fit_head("upsampling", (tokens, mask), (tokens, mask), classes=2, steps=10, seed=3).predict(tokens)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


def test_data_without_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match="no clip of split 'train' has a mask"):
        probe_segmentation(Patches(), disc_shards(tmp_path / "s", clips=8, masks=False))
