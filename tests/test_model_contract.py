"""The input contract names what does not fit, and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from echofm.contract import InputContract
from echofm.errors import EchofmError

GREY = InputContract(size=16, frames=8, frame_rate_hz=50.0)


def clips(*shape: int) -> torch.Tensor:
    return torch.rand(*(shape or (2, 1, 8, 16, 16)), generator=torch.Generator().manual_seed(0))


def test_what_fits() -> None:
    GREY.check(clips())
    GREY.check(clips(), 50.0)
    GREY.check(clips(), 49.9)
    GREY.check(torch.zeros(1, 1, 8, 16, 16))
    GREY.model_copy(update={"frame_rate_hz": None}).check(clips(), 12.0)


@pytest.mark.parametrize(
    ("video", "rate", "message"),
    [
        (clips() * 255, None, "divide by 255"),
        ((clips() * 255).to(torch.uint8), None, "video.float\\(\\) / 255"),
        (clips() / 255, None, "divided by 255 twice"),
        (clips() * 4 - 2, None, "undo the mean"),
        (clips() * torch.nan, None, "NaN"),
        (clips(2, 3, 8, 16, 16), None, "3 channels, the encoder takes 1"),
        (clips(2, 1, 9, 16, 16), None, "9 frames of 16x16"),
        (clips(2, 1, 8, 16, 24), None, "8 frames of 16x24"),
        (clips(1, 8, 16, 16), None, "4 axes"),
        (clips(), 30.0, r"30 frames/s, .* trained at 50"),
    ],
)
def test_what_does_not(video: torch.Tensor, rate: float | None, message: str) -> None:
    with pytest.raises(EchofmError, match=message):
        GREY.check(video, rate)


def test_a_single_nan_is_found() -> None:
    video = clips()
    video[1, 0, 3, 2, 5] = torch.nan
    with pytest.raises(EchofmError, match="NaN"):
        GREY.check(video)


@pytest.mark.parametrize("change", [{"colour": "rgb"}, {"value_range": (1.0, 0.0)}, {"channels": 2}, {"size": 0}])
def test_contracts_that_contradict_themselves(tmp_path: Path, change: dict[str, object]) -> None:
    import json

    (tmp_path / "c.json").write_text(json.dumps(GREY.model_dump() | change))
    with pytest.raises(EchofmError):
        InputContract.from_json(tmp_path / "c.json")
