"""`echofm probe ENCODER --data SRC`: any backbone, its baselines, the cache, several encoders in one table."""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hearts import write_avi
from lookalikes import heart
from shardfolder import KEY, Hearts, read_heart

import probe.segmentation.probe
from echofm.conform import conform
from echofm.contract import InputContract
from echofm.embed.cache import embedded
from echofm.embed.inputs import Item
from echofm.embed.options import EmbedOptions
from echofm.embed.table import EmbeddingTable
from echofm.embed.videos import open_videos
from echofm.errors import EchofmError
from echofm.hub import save_model
from echofm.model.config import NetworkConfig
from echofm.model.mae import VideoMae
from echofm.readers import read_clip
from echofm.readers.options import ReadOptions
from echofm.shards.write import write_shards
from probe.baselines import component_scores, pixel_pca
from probe.cli import main, parse_fractions
from probe.inputs import open_inputs
from probe.report import write_report
from probe.result import ProbeResult
from probe.targets import ProbeRequest, probe_target, target_folder

TIMM = "timm:test_vit?random&frames=4&size=32"
MODULE = """
import torch
from echofm.contract import InputContract

class Net(torch.nn.Module):
    contract = InputContract(size=16, frames=8)
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(256, 8)
    def forward(self, video_BCTHW):
        # Sums over time let each moment know what came before it.
        return self.net(video_BCTHW[:, 0].unflatten(1, (4, 2)).mean(2).flatten(2).cumsum(1))

def build(pretrained=True):
    return Net()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    source = Hearts(folder / "files", 24, splits=True)
    write_shards(source, folder / "shards", size=32, frame_rate_hz=None, key=KEY, read=read_heart, show_progress=False)
    return folder / "shards"


@pytest.fixture
def command(data: Path, tmp_path: Path) -> list[str]:
    """All but the encoder."""
    words = ["--data", str(data), "--target", "view", "--kind", "knn", "--draws", "20", "--windows", "1"]
    return [*words, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]


def encoder(name: str, folder: Path) -> str:
    torch.manual_seed(11)
    if name == "timm":
        return TIMM
    if name == "own":
        (folder / "my_probed_encoder.py").write_text(MODULE)
        return "my_probed_encoder:build"
    if name == "ours":
        net = VideoMae(NetworkConfig(
            size=32, frames=8, channels=1, patch=8, tubelet=2, width=32, depth=1, heads=2,
            decoder_width=16, decoder_depth=1, decoder_heads=2, predicted_frames=4,
        ))  # fmt: skip
        return str(save_model(net, folder / "export", contract=InputContract(size=32, frames=8), card={}))
    transformers = pytest.importorskip("transformers")
    config = transformers.VideoMAEConfig(
        image_size=32, patch_size=16, num_frames=4, tubelet_size=2, hidden_size=32, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=64,
    )  # fmt: skip
    transformers.VideoMAEModel(config).save_pretrained(folder / "videomae")
    return f"hf:{folder / 'videomae'}"


@pytest.mark.parametrize("name", ["ours", "timm", "own", "hf"])
def test_any_backbone_probes_end_to_end(
    name: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if name != "ours":
        # Its pictures cost more than all the rest, and are the same for every encoder.
        monkeypatch.setattr("probe.report.write_report", lambda *_, **__: None)
    spec = encoder(name, tmp_path)
    code = main([spec, *command])
    printed = capsys.readouterr()
    result = ProbeResult.from_json(tmp_path / "out" / "view" / "probe.json")
    assert code == int(bool(result.sanity.problems)), printed.err
    methods = {score.method for score in result.scores}
    untrained = set() if name == "timm" else {"random init"}
    # The timm model is untrained already: it has no random init.
    assert methods == {"probe", "majority", "pixel PCA"} | untrained
    assert {check.name for check in result.sanity.checks} >= {"value range", "time", "gain", "collapse", "copies"}
    assert (tmp_path / "out" / "report.html").is_file() == (name == "ours")
    assert ("image model" in printed.err) == (name == "timm") == any("image model" in note for note in result.notes)


def test_embeddings_are_used_again_and_give_the_same(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("probe.report.write_report", lambda *_, **__: None)
    spec = encoder("own", tmp_path)
    main([spec, *command])
    assert "embedding 22 clips" in capsys.readouterr().err
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "view").iterdir()}
    main([spec, *command])
    printed = capsys.readouterr().err
    assert "taken from the cache" in printed and "embedding 22 clips" not in printed
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out" / "view").iterdir()}
    main([spec, *command, "--windows", "2"])
    assert "embedding 22 clips" in capsys.readouterr().err


def test_several_encoders_stand_in_one_table(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.report.write_report", lambda *_, **__: None)
    other = TIMM.replace("test_vit", "test_vit2")
    main([TIMM, other, "pixels?size=32&frames=8", *command, "--no-baselines"])
    result = ProbeResult.from_json(tmp_path / "out" / "view" / "probe.json")
    assert {score.method for score in result.scores} == {"probe", "majority", other, "pixels?size=32&frames=8"}
    assert {comparison.baseline for comparison in result.comparisons} >= {other, "pixels?size=32&frames=8"}


def test_pairs_are_a_target_too(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.report.write_report", lambda *_, **__: None)
    command[command.index("view")] = "retrieval:patient"
    main([encoder("ours", tmp_path), *command])
    result = ProbeResult.from_json(tmp_path / "out" / "retrieval-patient" / "probe.json")
    assert result.task == "retrieval"
    assert {"probe", "random init", "pixels"} <= {score.method for score in result.scores}
    assert {"time", "gain", "collapse"} <= {check.name for check in result.sanity.checks}


@pytest.mark.slow
def test_frames_and_masks_are_targets_too(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.report.write_report", lambda *_, **__: None)
    short = functools.partial(probe.segmentation.probe.probe_segmentation, steps=5)
    monkeypatch.setattr("probe.segmentation.probe.probe_segmentation", short)
    words = [word for word in command if word not in ("--kind", "knn")]
    words[words.index("view")] = "phase"
    asked = ("retrieval:phase", "mask")
    main([encoder("ours", tmp_path), *words, *(word for target in asked for word in ("--target", target))])
    found = {
        name: ProbeResult.from_json(tmp_path / "out" / name / "probe.json")
        for name in ("phase", "retrieval-phase", "mask")
    }
    for result in found.values():
        assert {"probe", "random init", "pixels"} <= {score.method for score in result.scores}
        assert {"time", "gain"} <= {check.name for check in result.sanity.checks}
    assert [result.task for result in found.values()] == ["phase", "retrieval", "segmentation"]


def test_an_attentive_probe_gets_its_tokens(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.report.write_report", lambda *_, **__: None)
    words = [{"knn": "attentive"}.get(word, word) for word in command]
    main([encoder("ours", tmp_path), *words, "--features", "tokens", "--seeds", "1", "--no-baselines"])
    result = ProbeResult.from_json(tmp_path / "out" / "view" / "probe.json")
    assert (result.kind, result.features) == ("attentive", "tokens")
    (meta,) = [json.loads(path.read_text()) for path in (tmp_path / "cache").glob("*/meta.json")]
    # The encoder's own grid is coarser than the 4 x 7 x 7 asked for.
    assert meta["tokens"] == [4, 4, 4, 32]


def test_masks_need_pixels(command: list[str], tmp_path: Path) -> None:
    table = EmbeddingTable.from_arrays(np.eye(3), clip_id="abc", patient_id="ppq", encoder_digest="e")
    table.save(tmp_path / "table")
    with pytest.raises(EchofmError, match="give an encoder and --data"):
        main([str(tmp_path / "table"), "--target", "mask", "--out", str(tmp_path / "out")])
    with pytest.raises(EchofmError, match="retrieval is of patient, view, phase"):
        main([str(tmp_path / "table"), "--target", "retrieval:heart", "--out", str(tmp_path / "out")])


def test_a_wrong_encoder_is_reported_before_any_figure(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    dead = MODULE.replace("my_", "").replace("return self.net(", "return 1 + 0 * self.net(")
    (tmp_path / "dead_encoder.py").write_text(dead)
    assert main(["dead_encoder:build", *command, "--no-baselines"]) == 1
    printed = capsys.readouterr().err
    assert printed.index("FAILED: answers: the encoder is collapsed") < printed.index("embedding 22 clips")
    assert printed.count("warning: the encoder is collapsed") == 1
    result = ProbeResult.from_json(tmp_path / "out" / "view" / "probe.json")
    assert "the encoder is collapsed" in result.sanity.problems[0]
    assert "the encoder is collapsed" in (tmp_path / "out" / "report.html").read_text()


def test_a_wrong_encoder_beside_the_probed_one_is_reported_with_its_name(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("probe.report.write_report", lambda *_, **__: None)
    dead = MODULE.replace("my_", "").replace("return self.net(", "return 1 + 0 * self.net(")
    (tmp_path / "dead_other.py").write_text(dead)
    assert main([encoder("ours", tmp_path), "dead_other:build", *command, "--no-baselines"]) == 1
    assert "FAILED: dead_other:build: the encoder is collapsed" in capsys.readouterr().err
    result = ProbeResult.from_json(tmp_path / "out" / "view" / "probe.json")
    assert any(problem.startswith("dead_other:build: the encoder is collapsed") for problem in result.sanity.problems)
    # Of a table, too, that somebody made elsewhere.
    alive = EmbeddingTable.load(next((tmp_path / "cache").glob("*/")))
    for name, features in (("alive", alive.video_ND), ("dead", np.ones_like(alive.video_ND))):
        replace(alive, video_ND=features, motion_NRCD=None, phase=None).save(tmp_path / name)
    words = ["--target", "view", "--features", "video", "--draws", "20", "--out", str(tmp_path / "tables")]
    main([str(tmp_path / "alive"), str(tmp_path / "dead"), *words])
    problems = ProbeResult.from_json(tmp_path / "tables" / "view" / "probe.json").sanity.problems
    assert any(problem.startswith("dead: the embedding is collapsed") for problem in problems)


def test_pixels_are_reduced_on_training_patients_alone(data: Path) -> None:
    rng = np.random.default_rng(0)
    video_ND = rng.normal(size=(40, 30)).astype(np.float32)
    train = np.arange(20)
    scores = component_scores(video_ND, train)
    changed = video_ND.copy()
    changed[20:] += 5
    np.testing.assert_allclose(component_scores(changed, train)[:20], scores[:20], atol=1e-4)
    # The first direction holds most of the training rows' variance.
    assert scores.shape == (40, 19) and (np.diff(scores[:20].var(0)) < 1e-3).all()
    ids = [f"c{n}" for n in range(120)]
    label = rng.normal(size=120)
    pixels = rng.normal(size=(120, 50)).astype(np.float32) * 0.1
    pixels[:, 3] += 3 * label
    table = EmbeddingTable.from_arrays(
        pixels, clip_id=ids, patient_id=ids, encoder_digest="pixels", labels={"ef_percent": label}
    )
    reduced = pixel_pca(table, target="ef_percent")
    assert reduced.dim == reduced.settings["components"] < 50 and reduced.phase is None and reduced.motion_NRCD is None
    assert abs(np.corrcoef(reduced.video_ND[:, 0], label)[0, 1]) > 0.99


@pytest.mark.parametrize(
    ("words", "fractions"), [(("0.01,0.1,1",), (0.01, 0.1, 1.0)), (("0.2", "1"), (0.2, 1.0)), (("1",), (1.0,))]
)
def test_label_fractions_as_people_write_them(words: tuple[str, ...], fractions: tuple[float, ...]) -> None:
    assert parse_fractions(words) == fractions


@pytest.mark.slow
def test_the_clips_of_a_folder_are_shown_as_film_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["path,patient,split,ef_percent"]
    for number in range(12):
        (tmp_path / "files").mkdir(exist_ok=True)
        write_avi(tmp_path / "files" / f"{number}.avi", heart(number))
        lines.append(f"{number}.avi,p{number},{('train', 'train', 'val', 'test')[number % 4]},{40 + number}")
    # What cannot be read and what comes twice have no row, so that rows and files are not numbered alike.
    (tmp_path / "files" / "broken.avi").write_bytes(b"RIFF")
    shutil.copy(tmp_path / "files" / "0.avi", tmp_path / "files" / "copy.avi")
    lines += ["broken.avi,p20,train,50", "copy.avi,p0,train,40"]
    (tmp_path / "files" / "manifest.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "id.key").write_bytes(b"a key for tests only")
    options = EmbedOptions(windows=1, processes=1, cache=tmp_path / "cache", id_key=tmp_path / "id.key")
    open_alone = functools.partial(open_inputs, with_baselines=False, show_progress=False)
    inputs = open_alone([encoder("ours", tmp_path)], data=tmp_path / "files", options=options)
    assert inputs.frames_of is not None and len(inputs.table) == 12
    # Whose a file is can be told as for the other commands.
    (tmp_path / "files" / "manifest.csv").rename(tmp_path / "labels.csv")
    alone = replace(options, patient_from="parent")
    printed = open_alone([encoder("ours", tmp_path)], data=tmp_path / "files", options=alone)
    assert len(set(printed.table.patient_id)) == 1
    with pytest.raises(EchofmError, match="no clip"):
        open_alone([encoder("ours", tmp_path)], data=tmp_path / "files", options=replace(alone, max_clip_mb=0.001))
    (tmp_path / "labels.csv").rename(tmp_path / "files" / "manifest.csv")
    for number in (0, 7):
        clip = read_clip(tmp_path / "files" / f"{number}.avi", key=KEY, patient=f"p{number}")
        shown = inputs.frames_of(clip.clip_id)
        assert shown is not None and np.array_equal(shown, conform(clip, size=32).frames_TCHW)
        assert inputs.table.select(clip_id=clip.clip_id).patient_id.tolist() == [clip.patient_id]
    assert inputs.frames_of("0" * 20) is None
    probed = probe_target(ProbeRequest(target="ef_percent", draws=20), inputs)
    write_report(tmp_path / "out", [probed], table=inputs.table, frames_of=inputs.frames_of)
    assert 'class="strip"' in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("words", [("0",), ("1.5",), ("ten",), ("",)])
def test_other_label_fractions_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(EchofmError, match=r"0\.01,0\.1,1"):
        parse_fractions(words)


def test_what_cannot_be_probed_is_reported(data: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out")]
    with pytest.raises(EchofmError, match="give its data too: --data"):
        main([TIMM, *out, "--target", "view"])
    with pytest.raises(EchofmError, match="name a table, or an encoder"):
        main([*out, "--target", "view"])
    with pytest.raises(EchofmError, match="the name"):
        main([TIMM, TIMM, "--data", str(data), *out, "--target", "view"])
    with pytest.raises(EchofmError, match="shards have no label 'ef_per_cent'; they have: "):
        main(["never opened", "--data", str(data), *out, "--target", "view", "--target", "ef_per_cent"])
    with pytest.raises(EchofmError, match="for segmentation"):
        main(["never opened", "--data", str(data), *out, "--target", "view", "--kind", "upsampling"])
    with pytest.raises(EchofmError, match="unknown kind"):
        main(["jimm:vit-small", "--data", str(data), *out, "--target", "view"])


def test_an_out_that_cannot_be_is_reported_before_anything_is_embedded(data: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(EchofmError, match=r"--out .*taken: no folder can be made there"):
        main(["never opened", "--data", str(data), "--out", str(taken), "--target", "view"])
    long = target_folder(tmp_path, "+".join(f"aortic_regurgitation_{number}" for number in range(14)))
    assert long.is_dir() and long != target_folder(tmp_path, "+".join(f"aortic_regurgitation_{n}" for n in range(15)))
    assert target_folder(tmp_path, "retrieval:view").name == "retrieval-view"


def test_the_cache_knows_data_and_encoder(data: Path, tmp_path: Path) -> None:

    from echofm.backbones import open_encoder
    from echofm.embed.extract import Extractor

    encoder = open_encoder(TIMM)
    source = open_videos(data, options=ReadOptions(key=KEY), show_progress=False).input(encoder.contract)
    printed: list[str] = []
    for extractor in (
        Extractor(encoder=encoder, windows=1),
        Extractor(encoder=encoder, windows=1),
        Extractor(encoder=encoder, windows=1, tokens=(2, 1, 1)),
        Extractor(encoder=open_encoder(TIMM, seed=1), windows=1),
    ):
        table = embedded(extractor, source, name="x", cache=tmp_path, say=printed.append, show_progress=False).table
    assert table.tokens is None and ["cache" in line for line in printed] == [False, True, False, False]
    # The leanest table that has what is asked for serves; with fewer features, and those under its own settings.
    plain = Extractor(encoder=encoder, windows=1, phase=False)
    found = embedded(plain, source, name="x", cache=tmp_path, say=printed.append, show_progress=False)
    whole = EmbeddingTable.load(found.folder)
    assert "cache" in printed[-1] and whole.phase is not None and whole.tokens is None
    made = plain.table(item for item in source.read(range(22)) if isinstance(item, Item))
    assert found.table.phase is None and np.array_equal(found.table.video_ND, made.video_ND)
    metas = [json.loads(path.read_text()) for path in tmp_path.glob("*/meta.json")]
    assert len(metas) == 3 and sum(meta["tokens"] is not None for meta in metas) == 1
