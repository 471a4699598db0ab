"""Targets and reconstruction error against closed forms, SciPy and loops."""

from __future__ import annotations

import pytest
import scipy.ndimage
import torch

from echofm.loss import pixel


@pytest.mark.parametrize(
    ("frames", "predicted", "expected"),
    [
        (32, 8, [0, 4, 8, 13, 17, 22, 26, 31]),
        (16, 8, [0, 2, 4, 6, 8, 10, 12, 15]),
        (8, 4, [0, 2, 4, 7]),
        (8, 8, list(range(8))),
        (4, 1, [0]),
    ],
)
def test_target_frames(frames: int, predicted: int, expected: list[int]) -> None:
    assert pixel.target_frames(frames, predicted).tolist() == expected


def test_median_is_scipy_s() -> None:
    video = torch.rand(2, 3, 4, 9, 11, generator=torch.Generator().manual_seed(0))
    expected = scipy.ndimage.median_filter(video.numpy(), size=(1, 1, 1, 3, 3), mode="nearest")
    assert torch.equal(pixel.median_filtered(video), torch.from_numpy(expected))


def test_median_removes_a_speck() -> None:
    video = torch.full((1, 1, 1, 5, 5), 0.25)
    video[..., 2, 2] = 1.0
    assert torch.equal(pixel.median_filtered(video), torch.full((1, 1, 1, 5, 5), 0.25))


def test_patch_normalisation_has_a_closed_form() -> None:
    # Mean 2, unbiased variance ((1 + 0 + 1) / 2) = 1.
    target = torch.tensor([[[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]])
    expected = torch.tensor([[[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
    torch.testing.assert_close(pixel.patch_normalised(target), expected, rtol=0, atol=1e-6)


def test_reconstruction_is_the_mean_square_of_each_tubelet_summed() -> None:
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(2, 5, 7, generator=generator), torch.rand(2, 5, 7, generator=generator)
    weight = torch.tensor([[1.0, 0, 1, 1, 0], [0, 0, 0, 0, 1]])
    expected = sum(
        float(weight[clip, row]) * float(((pred[clip, row] - target[clip, row]) ** 2).sum()) / 7
        for clip in range(2)
        for row in range(5)
    )
    assert float(pixel.reconstruction_sum(pred, target, weight_BM=weight)) == pytest.approx(expected, rel=1e-6)
    assert float(pixel.reconstruction_sum(pred, pred + 0.5)) == pytest.approx(10 * 0.25, rel=1e-5)


def test_one_pixel_in_the_sector_is_enough() -> None:
    sector = torch.zeros(1, 8, 12, dtype=torch.bool)
    sector[0, 3, 4] = sector[0, 7, 11] = True
    assert pixel.touches_sector(sector, patch=4).tolist() == [[False, True, False, False, False, True]]
