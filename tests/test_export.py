"""An encoder in other people's hands: as a graph for any number of clips, trained on, given files and arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hearts import beating_heart, write_avi

from echofm import read_clip
from echofm.backbones import PixelEncoder
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.hub import Encoder, config_of
from echofm.model.config import EncoderConfig
from echofm.model.export import _difference, export_encoder, main
from echofm.model.vit import VideoEncoder


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    config = EncoderConfig(size=32, frames=8, channels=1, patch=8, tubelet=2, width=32, depth=2, heads=2)
    net = VideoEncoder(config)
    contract = InputContract(size=32, frames=8, channels=1, frame_rate_hz=25)
    return Encoder(net, config=config_of(net, card={}, contract=contract))


def clips(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 8, 32, 32, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("form", ["torch", "onnx"])
def test_the_file_takes_any_number_of_clips(encoder: Encoder, tmp_path: Path, form: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    out = tmp_path / ("e.onnx" if form == "onnx" else "e.pt2")
    assert export_encoder(encoder, out, form=form) < 1e-5
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
        found = session.run(None, {"video_BCTHW": clips(3).numpy()})
    else:
        found = [each.detach().numpy() for each in torch.export.load(out).module()(clips(3))]
    encoding = encoder.encode(clips(3))
    for theirs, ours in zip(found, (encoding.video_BD, encoding.phase_BTD, encoding.tokens_BND), strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-5)
    assert json.loads((tmp_path / f"{out.name}.json").read_text())["contract"]["frames"] == 8


def test_a_wrong_suffix_is_refused_before_work(tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match=r"ends in \.onnx"):
        main(["no-such-encoder", "--out", str(tmp_path / "e.pt")])


def test_compiled_whole_and_traced(encoder: Encoder) -> None:
    seen = torch.compile(lambda video: encoder.encode(video).video_BD, fullgraph=True, backend="eager", dynamic=True)
    for count in (2, 3):
        torch.testing.assert_close(seen(clips(count)), encoder.encode(clips(count)).video_BD)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, video: torch.Tensor) -> torch.Tensor:
            return self.encoder.encode(video).video_BD

    traced = torch.jit.trace(Whole(), clips(2), check_trace=False)
    torch.testing.assert_close(traced(clips(3)), encoder.encode(clips(3)).video_BD, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_weights_where_asked(encoder: Encoder) -> None:
    assert not encoder(clips(2)).video_BD.requires_grad, "frozen: nothing is kept for a backward pass"
    encoder.requires_grad_(True).train()
    before = [each.detach().clone() for each in encoder.net.blocks.parameters()]
    step = torch.optim.SGD(encoder.parameters(), lr=0.1)
    encoder(clips(2)).video_BD.square().sum().backward()
    step.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, encoder.net.blocks.parameters()) if new.grad.any())
    with torch.no_grad():
        assert not encoder(clips(2)).video_BD.requires_grad
    with pytest.raises(EchofmError, match="pixel values"):
        encoder(clips(2) * 300)


def test_files_clips_and_arrays(encoder: Encoder, tmp_path: Path) -> None:
    path = write_avi(tmp_path / "one.avi", beating_heart(frames=40, size=64)[0])
    clip = read_clip(path)
    table = encoder.embed(path)
    assert table.clip_id.tolist() == [clip.clip_id]
    windows = encoder.encode(clip).video_BD
    np.testing.assert_allclose(windows.mean(0), table.video_ND[0], atol=1e-6)
    torch.testing.assert_close(encoder.encode(clips(2).numpy()).video_BD, encoder.encode(clips(2)).video_BD)
    with pytest.raises(EchofmError, match="no video"):
        encoder.encode(str(path))  # type: ignore[arg-type]
    assert repr(encoder).startswith("Encoder(2 blocks of 32, 8 frames of 32 x 32 at 25 Hz") and len(repr(encoder)) < 150
    pixels = PixelEncoder(encoder.contract)
    assert pixels.encode(clips(1)).video_BD.shape[0] == 1


def test_a_program_that_gives_no_numbers_is_not_taken_for_exact(encoder: Encoder) -> None:
    def run(video_BCTHW: torch.Tensor) -> list[torch.Tensor]:
        found = encoder.encode(video_BCTHW)
        return [each * torch.nan for each in (found.video_BD, found.phase_BTD, found.tokens_BND)]

    assert _difference(encoder, run) == float("inf")
