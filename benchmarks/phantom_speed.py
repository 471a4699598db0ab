"""Phantom clips a minute of one CPU core, or of a GPU: `python -m benchmarks.phantom_speed [DEVICE]`.

On the CPU processor time is counted, so that a busy machine misleads less. 112 x 112 pixels, 64 frames; rendering,
truth, Motion-JPEG and packed truth on the disk.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch

from echofm.phantom import render_clip, truth_arrays
from echofm.phantom.acquisition import VIEWS
from echofm.phantom.truth import write_truth
from echofm.phantom.video import write_mjpeg

_CLIPS = 4


def main(device: str = "cpu") -> None:
    """Print a line for each view."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    torch.set_num_threads(1)
    render_clip(0, frames=8, device=device)
    print(f"{'view':<8}{'seconds a clip':>16}{'clips a minute':>16}   ({device})")
    with tempfile.TemporaryDirectory() as folder:
        for view, colour in [(view, False) for view in VIEWS] + [("A4C", True)]:
            begin = clock()
            for number in range(_CLIPS):
                clip = render_clip(number, view=view, frames=64, colour=colour, device=device)
                write_mjpeg(Path(folder) / "clip.avi", clip.frames_THWC, 50.0)
                write_truth(Path(folder) / "clip.npz", truth_arrays(clip))
            seconds = (clock() - begin) / _CLIPS
            print(f"{view + (' CFD' if colour else ''):<8}{seconds:>16.2f}{60 / seconds:>16.0f}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
