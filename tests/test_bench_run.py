"""Every part of the benchmark runs from end to end on a tiny model, and says what it measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import loading, memory, model_speed
from benchmarks.avi_loader import decode_all, load_window
from benchmarks.gpu import forward_flops, gpu_rows
from benchmarks.pair import CONFIGS, make_clips, make_pair, require_equal, token_ids
from benchmarks.run import Options, run
from benchmarks.timing import Row, Variant, alternate, header
from echofm.errors import EchofmError
from echofm.model.config import SIZES, ObjectiveConfig
from echofm.model.official import configs_from_official

ROOT = Path(__file__).parents[1]


def test_step_and_embed_give_a_row_per_number_format() -> None:
    rows = list(run(Options(parts=("step", "embed"), size="tiny", rounds=1, clock="cpu")))
    assert [row.name for row in rows] == [
        "step tiny fp32",
        "step tiny bf16",
        "step tiny fast bf16",
        "embed tiny fp32",
        "embed tiny bf16",
    ]
    assert all(row.baseline > 0 and row.variant > 0 and row.met is not None for row in rows)


@pytest.mark.slow
def test_memory_is_measured_in_processes_of_their_own() -> None:
    (row,) = run(Options(parts=("memory",), size="tiny", dtype="bf16", threads=1))
    assert row.name == "peak memory, step tiny bf16" and row.met is not None
    # Python with torch takes a part of one GB; this process, which has trained here, is not what was measured.
    assert 0.1 < row.variant < 1.5 and 0.1 < row.baseline < 1.5


def test_load_gives_rates_of_the_same_clips() -> None:
    rows = loading.load_rows(videos=2, rounds=1, batch=2)
    assert [row.name for row in rows] == ["load 32 frames of 112^2, bytes", "load 32 frames of 112^2, float32"]
    for row in rows:
        assert row.unit == "clips/CPU-s" and row.variant > row.baseline > 0
        assert row.met is (row.variant >= loading.TARGET_CLIPS_PER_S)


def test_contrast_is_set_against_the_step_without_it() -> None:
    rows = list(run(Options(parts=("contrast",), rounds=1, clock="cpu")))
    assert [row.name for row in rows] == [f"step demo fp32, {views} views of each clip" for views in (4, 8)]
    assert all(row.baseline > 0 and row.variant > 0 and row.met is None for row in rows)


def test_gpu_part_runs_on_the_cpu() -> None:
    speed, share = gpu_rows("tiny", device="cpu", clips=2, rounds=1, product=64)
    assert speed.unit == "s/clip" and speed.variant > 0
    assert share.variant > 0 and share.ratios == [pytest.approx(share.variant / share.baseline)]


def test_gpu_part_without_a_gpu_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(EchofmError, match="needs a CUDA device"):
        list(run(Options(parts=("gpu",), size="tiny")))


@pytest.mark.slow
def test_command_line_prints_header_and_table() -> None:
    command = [sys.executable, "-m", "benchmarks.run", "embed", "--size", "tiny", "--dtype", "fp32", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert re.search(r"^date \d{4}-\d\d-\d\d .*UTC\nCPU .+\nPython .+ torch .+ 2 threads$", done.stdout, re.MULTILINE)
    assert re.search(r"^\| embed tiny fp32 \| .+ s/clip \| .+ s/clip \|", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("size", ["base", "large"])
def test_the_sizes_are_the_projects_own(size: str) -> None:
    assert configs_from_official(CONFIGS[size]) == (SIZES[size], ObjectiveConfig())


def test_a_wrong_model_is_not_timed() -> None:
    plain, ours = make_pair("tiny")
    video_BCTHW, visible_BL = make_clips(CONFIGS["tiny"], 1)
    assert require_equal(plain, ours, video_BCTHW, visible_BL) < 1e-5
    with torch.no_grad():
        ours.encoder.norm.weight.mul_(1.01)
    with pytest.raises(EchofmError, match="differ by"):
        require_equal(plain, ours, video_BCTHW, visible_BL)


def test_alternation_takes_ratios_within_a_round_and_skips_the_first() -> None:
    # The clock is read before and after each call: baseline, variant, in three rounds; the first is warm-up.
    spans = iter([100.0, 100.0, 4.0, 1.0, 6.0, 3.0])
    now, running = [0.0], [False]

    def clock() -> float:
        if running[0]:
            now[0] += next(spans)
        running[0] = not running[0]
        return now[0]

    calls: list[str] = []
    (row,) = alternate(
        Variant(name="baseline", run=lambda: calls.append("b"), clips=2),
        [Variant(name="ours", run=lambda: calls.append("o"), clips=1, target_ratio=1.6)],
        rounds=2,
        clock=clock,
    )
    assert calls == ["b", "o"] * 3
    assert row.ratios == [2.0, 1.0] and (row.baseline, row.variant) == (2.5, 2.0)
    assert row.met is False and "ratio >= 1.6: missed" in row.markdown()


def test_markdown_and_header() -> None:
    row = Row(name="x", unit="GB", baseline=4.0, variant=2.0, ratios=[2.0], target="no higher", met=True, note="n")
    assert row.markdown() == "| x | 4 GB | 2 GB | 2.00 (2.00-2.00) | no higher: met | n |"
    assert torch.__version__ in header()


def test_flops_are_those_of_the_products() -> None:
    _, ours = make_pair("tiny")
    config = CONFIGS["tiny"]
    video_BCTHW, visible_BL = make_clips(config, 1)
    counted = forward_flops(ours, video_BCTHW, token_ids(visible_BL, config))
    rows, width, blocks = 17, 64, 2
    encoder = blocks * (24 * rows * width**2 + 4 * rows**2 * width)
    rows, width = 65, 32
    decoder = blocks * (24 * rows * width**2 + 4 * rows**2 * width)
    assert 0.9 * (encoder + decoder) < counted < 2 * (encoder + decoder)


def test_peak_memory_counts_what_was_touched() -> None:
    before = memory.peak_gb()
    held = torch.ones(60_000_000)
    assert memory.peak_gb() >= before - 1e-3 and memory.peak_gb() * 1e9 > held.nbytes


def test_a_failing_memory_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(EchofmError, match=r"memory benchmark's process failed \(1\)"):
        memory.memory_rows("tiny", ("fp32",), threads=1)


def test_the_avi_baseline_cuts_and_resizes_the_video_it_decodes(tmp_path: Path) -> None:
    path = loading.write_video(tmp_path / "a.avi", seed=3)
    whole = decode_all(path)
    assert whole.shape == (loading.VIDEO_FRAMES, loading.SIZE, loading.SIZE, 3)
    window = load_window(path, frames=4, size=56, rng=np.random.default_rng(0))
    assert window.shape == (3, 4, 56, 56) and 0 <= float(window.min()) < float(window.max()) <= 1
    start = int(np.random.default_rng(0).integers(loading.VIDEO_FRAMES - 4 + 1))
    # Half the size by bilinear sampling at pixel corners is the mean of 2x2.
    expected = whole[start : start + 4].reshape(4, 56, 2, 56, 2, 3).mean((2, 4)).transpose(3, 0, 1, 2) / 255
    np.testing.assert_allclose(window.numpy(), expected, atol=1e-5)


def test_targets_are_those_of_the_project() -> None:
    assert model_speed.STEP_TARGET == {"fp32": 2.0, "bf16": 4.0}
    assert model_speed.EMBED_TARGET == {"fp32": 2.0, "bf16": 5.0}
