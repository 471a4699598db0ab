"""Peak memory of training, each side in a process of its own: `python -m benchmarks.memory ours base bf16`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import tyro

from benchmarks.baseline import PlainEchoFM, plain_optimizer
from benchmarks.pair import CONFIGS, Dtype, Size, autocast, fused_optimizer, make_clips, token_ids, training_step
from benchmarks.timing import Row
from echofm.errors import EchofmError
from echofm.model.mae import VideoMae
from echofm.model.official import configs_from_official
from echofm.progress import progress_bar

Side = Literal["baseline", "ours"]
_ROOT = Path(__file__).parents[1]


def memory_rows(size: Size, dtypes: Sequence[Dtype], *, threads: int) -> list[Row]:
    """Peak resident GB over two updates of two clips."""
    runs: list[tuple[Side, Dtype]] = [("baseline", "fp32"), *(("ours", dtype) for dtype in dtypes)]
    peaks: list[float] = []
    with progress_bar("peak memory", total=len(runs)) as bar:
        for side, dtype in runs:
            peaks.append(_measured(side, size, dtype, threads))
            bar.advance(note=f"{side} {dtype} {peaks[-1]:.2f} GB")
    return [
        Row(
            name=f"peak memory, step {size} {dtype}",
            unit="GB",
            baseline=peaks[0],
            variant=peak,
            ratios=[peaks[0] / peak],
            target="no higher",
            met=peak <= peaks[0],
            note="own processes",
        )
        for (_, dtype), peak in zip(runs[1:], peaks[1:], strict=True)
    ]


def _measured(side: Side, size: Size, dtype: Dtype, threads: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", side, size, dtype, "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT)
    if done.returncode:
        raise EchofmError(f"the memory benchmark's process failed ({done.returncode}): {done.stderr.strip()[-500:]}")
    return float(done.stdout)


def peak_gb() -> float:
    """High-water mark of this process's resident memory, 10^9 bytes.

    Not getrusage: its figure is inherited from the parent process across fork and exec. Linux only.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        raise EchofmError("peak memory is read from /proc/self/status, which is not here; run this part on Linux")
    (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e9


def train_two_steps(side: Side, size: Size, dtype: Dtype) -> None:
    """Two updates: the optimizer's state appears in the first, its coexistence with activations in the second."""
    torch.manual_seed(0)
    config = CONFIGS[size]
    video_BCTHW, visible_BL = make_clips(config, 2)
    if side == "baseline":
        plain = PlainEchoFM(config)
        optimizer = plain_optimizer(plain)
        for _ in range(2):
            training_step(plain, optimizer, lambda: plain(video_BCTHW, visible_BL).loss)
        return
    network, objective = configs_from_official(config)
    ours = VideoMae(network, objective=objective)
    optimizer, ids_BK = fused_optimizer(ours), token_ids(visible_BL, config)

    def loss() -> torch.Tensor:
        with autocast(dtype):
            return ours(video_BCTHW, ids_BK, hidden_only=True).loss

    for _ in range(2):
        training_step(ours, optimizer, loss)


def main(
    side: tyro.conf.Positional[Side],
    size: tyro.conf.Positional[Size],
    dtype: tyro.conf.Positional[Dtype],
    threads: int = 2,
) -> None:
    """Train two steps and print the peak resident memory in GB."""
    torch.set_num_threads(threads)
    train_two_steps(side, size, dtype)
    print(f"{peak_gb():.4f}")


if __name__ == "__main__":
    tyro.cli(main)
