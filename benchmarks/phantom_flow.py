"""The phantom's true displacement against OpenCV's DIS flow, region by region: `python -m benchmarks.phantom_flow`.

It rewrites the table of results-phantom.md. A field warps frame t + 1 back onto frame t; the mean absolute grey
difference is its error. DIS sees the frames as they are shown. It is judged three times: on those frames; on the same
clip with another draw of noise, so that what it fitted to noise no longer pays; and on the same clip without any, so
that neither does smoothing noise: a shift by half a pixel interpolates, hence blurs, and a blurred frame differs less
from a noisy one than a sharp one does.

Noise is what is new in every frame: electronic noise, and the scatterers of blood. Shapes: T frames, H rows, W columns.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from echofm.phantom import PhantomClip, render, render_clip
from echofm.phantom.acquisition import VIEWS
from echofm.phantom.anatomy import Patient
from echofm.phantom.clip import make_scan
from echofm.phantom.scene import BLOOD, Tissue

Mask = npt.NDArray[np.bool_]
Grey = npt.NDArray[np.float32]

REGIONS = ("myocardium", "all walls", "leaflets", "surroundings", "blood", "whole sector")
JUDGES = ("the same frames", "other noise", "no noise")
_DOCUMENT = Path(__file__).parent / "results-phantom.md"
_MARKS = ("<!-- flow: begin -->", "<!-- flow: end -->")
_PATIENTS = (1, 8, 40, 41, 42, 43)


def regions(clip: PhantomClip) -> dict[str, Mask]:
    """(T - 1, H, W) each, inside the sector. Leaflets: pixels that show one, over blood; blood: the rest of it."""
    scan = make_scan(clip.patient, clip.acquisition, clip.number, clip.time_s, clip.cycle, size=clip.sector.size)
    codes = scan.codes_THW[:-1]
    blood, outside = np.isin(codes, BLOOD), codes == Tissue.OUTSIDE
    tissue_field = render.pixel_truth(scan).displacement_T2HW
    leaflets = (tissue_field != clip.pixels.displacement_T2HW).any(1)
    found = (codes == Tissue.MYOCARDIUM, ~blood & ~outside, leaflets, outside, blood & ~leaflets, np.ones_like(blood))
    return {name: mask & clip.sector_HW for name, mask in zip(REGIONS, found, strict=True)}


def other_noise(patient: Patient, clip: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Noise of a draw of its own."""
    rng = np.random.default_rng([929, patient.number, clip])
    return torch.from_numpy(rng.standard_normal(shape, np.float32))


def warp(frame_HW: npt.NDArray[np.uint8], field_2HW: Grey) -> Grey:
    """The frame read, bilinearly, where the field (pixels right, down) points."""
    rows, columns = np.mgrid[: frame_HW.shape[0], : frame_HW.shape[1]].astype(np.float32)
    across, along = field_2HW
    return cv2.remap(frame_HW.astype(np.float32), columns + across, rows + along, cv2.INTER_LINEAR)


def dis_flow(frames_THW: npt.NDArray[np.uint8]) -> Grey:
    """(T - 1, 2, H, W) OpenCV's dense inverse search, medium preset."""
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    fields = [flow.calc(one, following, None) for one, following in itertools.pairwise(frames_THW)]
    return np.moveaxis(np.stack(fields), -1, 1)


def errors(
    frames_THW: npt.NDArray[np.uint8], field_T2HW: npt.NDArray[np.floating], where: dict[str, Mask]
) -> dict[str, float]:
    """Mean absolute grey difference of frame t and warped frame t + 1 in each region, over all its pixels."""
    field = field_T2HW.astype(np.float32)
    warped = np.stack([warp(frame, one) for frame, one in zip(frames_THW[1:], field)])
    difference = np.abs(warped - frames_THW[:-1])
    return {name: float(difference[mask].mean()) if mask.any() else np.nan for name, mask in where.items()}


def measure(number: int, view: str, frames: int = 24) -> dict[str, npt.NDArray[np.float64]]:
    """By region, (2 fields, 4): errors of truth and DIS under each judge, then the region's share or DIS's distance.

    The last of truth is the region's share of the sector; the last of DIS its mean distance from the truth, pixels.
    """
    clip = render_clip(number, view=view, frames=frames)
    where, shown = regions(clip), clip.frames_THWC[..., 0]
    truth, dis = clip.pixels.displacement_T2HW.astype(np.float32), dis_flow(shown)
    others = (render_clip(number, view=view, frames=frames, noise=noise) for noise in (other_noise, render.no_noise))
    judged = [shown, *(other.frames_THWC[..., 0] for other in others)]
    by_field = [[errors(judge, field, where) for judge in judged] for field in (truth, dis)]
    away = np.hypot(*np.moveaxis(dis - truth, 1, 0))
    whole = where["whole sector"].sum()
    return {
        name: np.array(
            [
                [*(error[name] for error in by_field[0]), mask.sum() / whole],
                [*(error[name] for error in by_field[1]), away[mask].mean() if mask.any() else np.nan],
            ]
        )
        for name, mask in where.items()
    }


def table(results: list[dict[str, npt.NDArray[np.float64]]]) -> str:
    """Markdown: a row for each region; "truth / DIS (clips in which truth is better)" for each judge."""
    head = [f"truth / DIS on {judge}" for judge in JUDGES]
    lines = ["| phantom | share of the sector | " + " | ".join(head) + " | DIS to truth |", "|---" * 6 + "|"]
    for name in REGIONS:
        values = np.stack([result[name] for result in results if np.isfinite(result[name]).all()])
        truth, dis = values.mean(0)
        wins = (values[:, 0] < values[:, 1]).sum(0)
        cells = [f"{truth[i]:.2f} / {dis[i]:.2f} ({wins[i]} of {len(values)})" for i in range(len(JUDGES))]
        lines.append(f"| {name} | {truth[-1]:.1%} | " + " | ".join(cells) + f" | {dis[-1]:.2f} px |")
    return "\n".join(lines)


def main() -> None:
    """Measure and put the table between the marks."""
    cv2.setNumThreads(1)
    text = table([measure(number, view) for view in VIEWS for number in _PATIENTS])
    print(text)
    document = _DOCUMENT.read_text(encoding="utf-8")
    before, rest = document.split(_MARKS[0])
    _, after = rest.split(_MARKS[1])
    _DOCUMENT.write_text(f"{before}{_MARKS[0]}\n{text}\n{_MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
