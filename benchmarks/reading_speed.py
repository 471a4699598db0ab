"""`python -m benchmarks.reading_speed FILE ...`: reading a file against a plain decode of it to grey, alternating."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import av
import numpy as np

from echofm import read_clip

_ROUNDS = 7


def plain(path: Path) -> None:
    """Every frame of a video as a grey array, in one process, as PyAV gives it."""
    with av.open(str(path)) as container:
        np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(paths: list[str]) -> None:
    """One line a file: seconds of both and their ratio, medians of rounds after one that warms up."""
    for path in map(Path, paths):
        times = [(seconds(lambda p=path: plain(p)), seconds(lambda p=path: read_clip(p))) for _ in range(_ROUNDS + 1)]
        decode_s, read_s = (median(each) for each in zip(*times[1:]))
        print(f"{path.suffix[1:]:4} decode {decode_s:.3f} s  read {read_s:.3f} s  ratio {read_s / decode_s:.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
