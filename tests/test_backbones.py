"""Any backbone under one face: contract, normalisation once, digest, grid; what is refused."""

from __future__ import annotations

import importlib
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from echofm.backbones import FrozenEncoder, PixelEncoder, open_encoder, random_spec
from echofm.backbones import frozen as frozen_module
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.hub import load_encoder, save_model
from echofm.model.config import NetworkConfig
from echofm.model.mae import VideoMae

VIT = "timm:test_vit?random&frames=4&size=32"


def video(encoder: object, *, clips: int = 2, seed: int = 0) -> torch.Tensor:
    contract = encoder.contract  # type: ignore[attr-defined]
    shape = (clips, contract.channels, contract.frames, contract.size, contract.size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Not 0: an untrained twin's seed.
    torch.manual_seed(11)
    net = VideoMae(NetworkConfig(
        size=32, frames=8, channels=1, patch=8, tubelet=2, width=32, depth=2, heads=2,
        decoder_width=16, decoder_depth=1, decoder_heads=2, predicted_frames=4,
    ))  # fmt: skip
    contract = InputContract(size=32, frames=8, frame_rate_hz=25.0)
    return save_model(net, tmp_path_factory.mktemp("encoder"), contract=contract, card={})


def test_an_export_of_ours_and_its_untrained_untrained(export: Path) -> None:
    ours = open_encoder(export)
    assert ours.digest == load_encoder(export).digest and ours.sees_time and ours.grid == (4, 4, 4)
    assert random_spec(export) == f"random:{export}"
    untrained, again, other = (open_encoder(f"random:{export}", seed=seed) for seed in (0, 0, 1))
    assert untrained.contract == ours.contract and untrained.grid == ours.grid
    assert untrained.digest == again.digest and len({ours.digest, untrained.digest, other.digest}) == 3
    assert random_spec(f"random:{export}") is None and random_spec("pixels") is None


def test_drawing_weights_leaves_the_generator_alone(export: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    open_encoder(f"random:{export}")
    open_encoder(VIT)
    assert torch.equal(torch.rand(3), expected)


def test_timm_sees_each_frame_normalised_once() -> None:
    encoder = open_encoder(VIT)
    assert isinstance(encoder, FrozenEncoder) and encoder.sees_time is False and encoder.grid == (4, 2, 2)
    assert encoder.contract == InputContract(size=32, frames=4, channels=3)
    clips = video(encoder)
    found = encoder.encode(clips)
    model = encoder.net.model
    frame = (clips[1, :, 2] - 0.5) / 0.5
    by_hand = model.forward_head(model.forward_features(frame[None]), pre_logits=True)[0]
    torch.testing.assert_close(found.phase_BTD[1, 2], by_hand)
    torch.testing.assert_close(found.video_BD, found.phase_BTD.mean(1))
    tokens = model.forward_features(frame[None])[0, 1:]
    torch.testing.assert_close(found.tokens_BND[1].unflatten(0, (4, 4))[2], tokens)
    # A grey clip is repeated.
    torch.testing.assert_close(
        encoder.encode(clips[:, :1]).video_BD, encoder.encode(clips[:, :1].repeat(1, 3, 1, 1, 1)).video_BD
    )
    assert not any(each.requires_grad for each in encoder.parameters()) and not encoder.net.training


def test_frames_pass_in_bounded_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = open_encoder(VIT)
    clips = video(encoder, clips=3)
    whole = encoder.encode(clips)
    seen: list[int] = []
    plain = encoder.net.model.forward_features
    monkeypatch.setattr(encoder.net.model, "forward_features", lambda x: (seen.append(len(x)), plain(x))[1])
    monkeypatch.setattr(frozen_module, "FRAMES_AT_ONCE", 5)
    torch.testing.assert_close(encoder.encode(clips).tokens_BND, whole.tokens_BND)
    assert seen == [5, 5, 2]


def test_a_convolutional_timm_model_has_a_grid_too() -> None:
    encoder = open_encoder("timm:test_resnet?random&frames=2&size=64")
    found = encoder.encode(video(encoder))
    assert encoder.grid is not None and found.tokens_BND.shape[1] == encoder.grid.tokens == 2 * 2 * 2
    assert open_encoder("random:timm:test_resnet?frames=2&size=64").digest == encoder.digest


def test_the_digest_knows_weights_and_settings() -> None:
    specs = [VIT, VIT.replace("frames=4", "frames=2"), VIT.replace("test_vit", "test_vit2")]
    digests = [open_encoder(spec).digest for spec in specs] + [open_encoder(VIT, seed=1).digest]
    assert len(set(digests)) == 4 and open_encoder(VIT).digest == digests[0]


def test_other_pixels_are_refused() -> None:
    encoder = open_encoder(VIT)
    with pytest.raises(EchofmError, match="divide by 255"):
        encoder.encode(video(encoder) * 255)
    with pytest.raises(EchofmError, match="plain pixels"):
        encoder.encode((video(encoder) - 0.5) / 0.2)


def test_pixels_have_no_parameters() -> None:
    encoder = open_encoder("pixels?size=28&frames=32")
    assert isinstance(encoder, PixelEncoder) and encoder.grid == (16, 14, 14) and not list(encoder.parameters())
    clips = video(encoder)
    found = encoder.encode(clips)
    by_hand = clips[:, 0].unflatten(1, (16, 2)).unflatten(3, (14, 2)).unflatten(5, (14, 2)).mean((2, 4, 6))
    torch.testing.assert_close(found.video_BD.unflatten(1, (16, 14, 14)), by_hand)
    torch.testing.assert_close(found.phase_BTD, by_hand.flatten(2))
    # Times divide the window.
    assert PixelEncoder(InputContract(size=112, frames=20)).grid == (10, 14, 14)


MODULE = """
import torch
from echofm.contract import InputContract
from echofm.model.vit import Encoding

class Net(torch.nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.contract = {"size": 16, "frames": 8, "channels": 1}
        self.shape = shape
        self.weight = torch.nn.Parameter(torch.rand(1))
    def forward(self, video):
        x = video[:, 0] * self.weight
        if self.shape == "video":
            return x.mean((1, 2, 3))[:, None]
        if self.shape == "times":
            return x.unflatten(1, (4, 2)).mean((2, 3, 4))[..., None]
        if self.shape == "places":
            return x.unflatten(1, (4, 2)).unflatten(3, (2, 8)).unflatten(5, (2, 8)).mean((2, 4, 6))[..., None]
        return x.unflatten(1, (3, -1)) if self.shape == "broken" else x.mean(0)

def video(pretrained=True):
    return Net("video")
def times():
    return Net("times")
def places():
    return Net("places")
def broken():
    return Net("broken")
def odd():
    return Net("odd")
def bare():
    net = Net("video"); del net.contract; return net
def nothing():
    return 3
def needs(path):
    return Net("video")

class Whole:
    contract = InputContract(size=16, frames=8)
    digest = "mine"
    sees_time = False
    def encode(self, video_BCTHW):
        return video_BCTHW.mean((1, 3, 4))[:, :, None]
def whole():
    return Whole()
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_encoders.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("mine")
def test_ones_own_function_is_read_by_its_output() -> None:
    plain, times, places = (open_encoder(f"my_encoders:{name}") for name in ("video", "times", "places"))
    clips = video(plain)
    assert (plain.grid, times.grid, places.grid) == (None, (4, 1, 1), (4, 2, 2))
    found = plain.encode(clips)
    assert found.video_BD.shape == (2, 1) and found.phase_BTD.shape[1] == found.tokens_BND.shape[1] == 0
    assert times.encode(clips).phase_BTD.shape == (2, 4, 1)
    found = places.encode(clips)
    assert found.tokens_BND.shape == (2, 16, 1)
    torch.testing.assert_close(
        found.tokens_BND[0].view(4, 2, 2)[1, 0, 1], clips[0, 0, 2:4, :8, 8:].mean() * places.net.net.weight[0]
    )
    assert plain.digest == open_encoder("my_encoders:video").digest != times.digest
    assert open_encoder("random:my_encoders:video", seed=3).digest != plain.digest
    whole = open_encoder("my_encoders:whole")
    assert whole.digest == "mine" and whole.sees_time is False and whole.encode(clips).phase_BTD.shape == (2, 8, 1)


def test_ones_own_code_belongs_to_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of the code as it was must not come out of the cache for the code as it is."""
    monkeypatch.chdir(tmp_path)
    layer = "import torch\nclass Scale(torch.nn.Module):\n    def forward(self, x):\n        return x * {by}\n"
    module = (
        MODULE
        + "\nfrom my_layer import Scale\ndef scaled():\n    net = Net('video'); net.scale = Scale(); return net\n"
    )
    digests = []
    for by, more in ((1, ""), (1, ""), (-3, ""), (1, "# another line\n")):
        (tmp_path / "my_layer.py").write_text(layer.format(by=by))
        (tmp_path / "my_scaled.py").write_text(module + more)
        for name in ("my_layer", "my_scaled"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        digests.append(open_encoder("my_scaled:scaled").digest)
    assert digests[0] == digests[1] and len(set(digests)) == 3


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("my_encoders:nothing", "returned a int"),
        ("my_encoders:bare", "no InputContract"),
        ("my_encoders:needs", "cannot be called: TypeError"),
        ("my_encoders:broken", "fails on a clip of its own contract"),
        ("my_encoders:odd", r"needed is \(clips, D\)"),
        ("my_encoders:missing", "no function 'missing'"),
        ("no_such_module_here:f", "neither a module"),
        ("random:my_encoders:times", "no parameter `pretrained`"),
        ("timm:no_such_model", "Unknown model"),
        ("timm:test_vit?colour=3", "no option 'colour'"),
        ("timm:test_vit?random&frames=many", "no whole number"),
        ("timm:", "nothing follows"),
        ("jimm:vit", "neither a module.*timm:"),
        ("jimm:vit-small", "unknown kind 'jimm'"),
        ("torchhub:owner/repo:model", "--trust-remote-code"),
        ("official:no.pth", "no such file"),
        ("echoprime:no.pt", "no such file"),
        ("panecho:no.pt", "no such file"),
        ("nobody", "no such folder"),
    ],
)
def test_what_cannot_be_opened_is_reported_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(EchofmError, match=message) as caught:
        open_encoder(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def build(:", r"cannot be imported: SyntaxError: .*line 1"),
        ("{}['weights']", r"cannot be imported: KeyError: 'weights'"),
        ("import torch\ntorch.no_such_thing", "cannot be imported: AttributeError: .*no_such_thing"),
        ("import no_such_dependency", "cannot be imported: ModuleNotFoundError: .*no_such_dependency"),
    ],
)
def test_a_fault_of_ones_own_module_is_reported_as_such(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty_encoders.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    # A half-imported module is not kept, but the folder's listing may be.
    importlib.invalidate_caches()
    with pytest.raises(EchofmError, match=f"module 'faulty_encoders' {message}"):
        open_encoder("faulty_encoders:build")


UNSTEADY = """
import torch
from echofm.contract import InputContract

class Net(torch.nn.Module):
    contract = InputContract(size=16, frames=8)
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.dropout = torch.nn.Dropout(0.5)
    def forward(self, video_BCTHW):
        x = video_BCTHW.mean((1, 3, 4))
        if self.kind == "functional":
            return torch.nn.functional.dropout(x)
        if self.kind == "batch":
            return x - x.mean(0)
        if self.kind == "tokens":
            return x.repeat(1, 3)[..., None]
        if self.kind == "wide":
            return x.unflatten(1, (8, 1, 1))[..., None].expand(-1, -1, 2, 8, 3)
        return self.dropout(x)

class Whole:
    contract, digest = Net.contract, "mine"
    def __init__(self, module):
        self.module = module
    def encode(self, video_BCTHW):
        return self.module(video_BCTHW)

class WholeModule(Net):
    digest = "mine"
    def encode(self, video_BCTHW):
        return self.forward(video_BCTHW)

def functional():
    return Net("functional")
def batch():
    return Net("batch")
def tokens():
    return Net("tokens")
def wide():
    return Net("wide")
def module():
    return Net("dropout")
def whole():
    return Whole(Net("dropout"))
def failing():
    whole = Whole(None)
    whole.encode = lambda video_BCTHW: {}["no such key"]
    return whole
def elsewhere():
    whole = Whole(None)
    whole.encode = lambda video_BCTHW: video_BCTHW @ torch.empty(2, 2, device="meta")
    return whole
def whole_module():
    return WholeModule("dropout")
def large():
    return InputContract(size=4096, frames=8)
"""


@pytest.fixture
def unsteady(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unsteady_encoders.py").write_text(UNSTEADY)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()


@pytest.mark.usefixtures("unsteady")
@pytest.mark.parametrize("name", ["functional", "batch", "whole"])
def test_an_encoder_whose_features_change_from_call_to_call_is_refused(name: str) -> None:
    with pytest.raises(EchofmError, match=f"unsteady_encoders:{name} gives one clip other features .*dropout"):
        open_encoder(f"unsteady_encoders:{name}")


@pytest.mark.usefixtures("unsteady")
@pytest.mark.parametrize("name", ["module", "whole_module"])
def test_ones_own_module_is_put_into_evaluation_mode(name: str) -> None:
    encoder = open_encoder(f"unsteady_encoders:{name}")
    clips = video(encoder)
    assert torch.equal(encoder.encode(clips).video_BD, encoder.encode(clips).video_BD)


@pytest.mark.usefixtures("unsteady")
def test_an_encoder_on_a_device_of_its_own_is_opened() -> None:
    assert open_encoder("unsteady_encoders:elsewhere").digest == "mine"


@pytest.mark.usefixtures("unsteady")
def test_places_of_an_output_with_axes_are_not_guessed() -> None:
    """Two rows of eight columns are as many places as four of four."""
    assert open_encoder("unsteady_encoders:wide").grid == (8, 2, 8)


@pytest.mark.usefixtures("unsteady")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("failing", "failing fails on a clip of its own contract: KeyError"),
        ("tokens", r"24 times do not divide.*\(clips, times, rows, columns, D\)"),
        ("large", "InputContract: size: .*1024"),
    ],
)
def test_what_is_wrong_with_ones_own_encoder_is_named(name: str, message: str) -> None:
    with pytest.raises(EchofmError, match=message):
        open_encoder(f"unsteady_encoders:{name}")


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EchofmError, match=r"cannot be fetched.*\?random"):
        open_encoder("timm:test_vit")
    with pytest.raises(EchofmError, match="hub gave no"):
        open_encoder("hf:nobody/nothing")


def test_torchhub_runs_code_only_when_reported(tmp_path: Path) -> None:
    (tmp_path / "hubconf.py").write_text(
        textwrap.dedent("""
        import torch
        def tiny(pretrained=True):
            return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
        """)
    )
    spec = f"torchhub:{tmp_path}:tiny?image&frames=4&size=16&mean=0,0,0&std=1,1,1"
    with pytest.raises(EchofmError, match="would run code"):
        open_encoder(spec)
    encoder = open_encoder(spec, trust_remote_code=True)
    assert encoder.sees_time is False and encoder.grid is None
    clips = video(encoder)
    by_hand = clips[0, :, 1].unflatten(1, (2, 8)).unflatten(3, (2, 8)).mean((2, 4)).flatten()
    torch.testing.assert_close(encoder.encode(clips).phase_BTD[0, 1], by_hand)
