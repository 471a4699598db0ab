"""How real the phantom looks: `python -m benchmarks.phantom_realism` draws docs/img, and a table of results-phantom.md.

Frames are shown of the phantom and of the pydicom-data cine (MIT licence). The five clips of ../shared/real, where they
are, enter the table as numbers alone.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pydicom.data

from benchmarks.phantom_statistics import (
    BANDS,
    LAGS_S,
    PERCENTILES,
    ImageStatistics,
    image_statistics,
    speckle_statistics,
)
from echofm import Clip
from echofm.conform import conform
from echofm.phantom import PhantomClip, render_clip
from echofm.phantom.acquisition import VIEWS, Acquisition, Spread, draw_acquisition
from echofm.readers import read_clip

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_ROOT = Path(__file__).parents[1]
_DOCUMENT, _IMAGES = _ROOT / "benchmarks" / "results-phantom.md", _ROOT / "docs" / "img"
_REAL = _ROOT.parent / "shared" / "real"
_PATIENTS = range(8)
_MARKS = ("<!-- measured: begin -->", "<!-- measured: end -->")

Grey = npt.NDArray[np.uint8]


def main() -> None:
    """Measure, draw, and put the table between the marks."""
    cine = conform(read_clip(pydicom.data.get_testdata_file("color3d_jpeg_baseline.dcm")), size=112)
    real = [conform(read_clip(path), size=112) for path in sorted(_REAL.glob("*.avi"))]
    phantom = [render_clip(number, view="A4C", frame_rate_hz=50.0) for number in _PATIENTS]
    _IMAGES.mkdir(parents=True, exist_ok=True)
    _draw_views(_IMAGES / "phantom_views.png")
    _draw_spreads(_IMAGES / "phantom_varied.png")
    _draw_beside(_IMAGES / "phantom_beside_real.png", cine, phantom)
    text = _DOCUMENT.read_text(encoding="utf-8")
    head, rest = text.split(_MARKS[0])
    tail = rest.split(_MARKS[1])[1]
    table = _table(cine, real, phantom)
    _DOCUMENT.write_text(f"{head}{_MARKS[0]}\n{table}{_MARKS[1]}{tail}", encoding="utf-8")


def _of_clip(clip: Clip) -> ImageStatistics:
    assert clip.frame_rate_hz is not None
    return image_statistics(clip.frames_TCHW[:, 0], clip.sector_HW, clip.frame_rate_hz)


def _of_phantom(clip: PhantomClip) -> ImageStatistics:
    return image_statistics(clip.frames_THWC[..., 0], clip.sector_HW, clip.acquisition.frame_rate_hz)


def _table(cine: Clip, real: list[Clip], phantom: list[PhantomClip]) -> str:
    groups = {
        f"phantom, {len(phantom)} patients, A4C": [_of_phantom(clip) for clip in phantom],
        "pydicom-data cine": [_of_clip(cine)],
    }
    if real:
        groups[f"EchoNet-Dynamic's public page, {len(real)} clips"] = [_of_clip(clip) for clip in real]
    rows = [
        ("grey in the sector, percentiles " + ", ".join(map(str, PERCENTILES)), "grey", "{:.0f}"),
        ("texture half-width along the beam, near, middle, far (pixels)", "axial_px", "{:.1f}"),
        ("texture half-width across the beam (pixels)", "lateral_px", "{:.1f}"),
        (f"correlation of frames {', '.join(map(str, LAGS_S))} s apart", "similarity", "{:.2f}"),
    ]
    lines = ["| median over clips (range) | " + " | ".join(groups) + " |", "|---|" + "---|" * len(groups)]
    for title, field, form in rows:
        cells = [_cell(np.array([getattr(one, field) for one in members]), form) for members in groups.values()]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    speckle = [speckle_statistics(_acquisition(number)) for number in _PATIENTS]
    ks = max(one.rayleigh_ks for one in speckle)
    axial, lateral = (np.median([getattr(one, name) for one in speckle], 0) for name in ("axial_mm", "lateral_mm"))
    bands = ", ".join(f"{low:.0%} to {high:.0%}" for low, high in BANDS)
    lines += [
        "",
        f"Before compression, even tissue, {len(speckle)} acquisitions: Kolmogorov-Smirnov distance from a Rayleigh "
        f"law at most {ks:.3f}; full widths of the intensity's autocorrelation at half height, at {bands} of the "
        f"depth: along the beam {_listed(axial)} mm, across it {_listed(lateral)} mm (medians).",
        "",
    ]
    return "\n".join(lines)


def _listed(values: npt.NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _cell(values_NK: npt.NDArray[np.float64], form: str) -> str:
    parts = []
    for column in values_NK.T:
        spread = f" ({form.format(column.min())} to {form.format(column.max())})" if len(column) > 1 else ""
        parts.append(form.format(np.median(column)) + spread)
    return ", ".join(parts)


def _acquisition(number: int) -> Acquisition:
    return draw_acquisition(0, number, 0, view="A4C", frame_rate_hz=50.0, overlay=False, colour=False)


def _draw_views(path: Path) -> None:
    """A strip of each view: end-diastole, ejection, end-systole, filling; last the masks at end-diastole."""
    titles = ("end-diastole", "ejection", "end-systole", "rapid filling", "masks, end-diastole")
    rows = [(view, False) for view in VIEWS] + [("A4C", True)]
    figure, axes = plt.subplots(len(rows), 5, figsize=(10, 2 * len(rows)), facecolor="white")
    for (view, colour), line in zip(rows, axes, strict=True):
        clip = render_clip(7 if colour else 5, view=view, clip=1, size=160, colour=colour)
        cycle, mask = clip.cycle, clip.pixels.mask_THW
        frames = clip.frames_THWC if colour else clip.frames_THWC[..., 0]
        begin, end = clip.key_frames()
        filling = int(cycle.filling_T.argmax()) if colour else int(cycle.mitral_T.argmax())
        shown = [frames[index] for index in (begin, int(cycle.aortic_T.argmax()), end, filling)]
        for axis, image in zip(line, shown, strict=False):
            axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        line[4].imshow(mask[begin], cmap="inferno", vmin=0, vmax=3)
        line[0].set_ylabel(view + (" colour" if colour else ""))
    _finish(figure, axes, titles, path)


def _draw_spreads(path: Path) -> None:
    """End-diastole of four patients in every view, their usual acquisition and the varied one."""
    kinds: tuple[Spread, ...] = ("usual", "varied")
    figure, axes = plt.subplots(len(VIEWS), 8, figsize=(13, 6.6), facecolor="white")
    for view, line in zip(VIEWS, axes, strict=True):
        line[0].set_ylabel(view)
        for axis, (kind, number) in zip(line, itertools.product(kinds, range(4)), strict=True):
            clip = render_clip(number, view=view, frames=2, spread=kind)
            axis.imshow(clip.frames_THWC[0, ..., 0], cmap="gray", vmin=0, vmax=255)
    titles = [f"{kind}, patient {number}" for kind, number in itertools.product(kinds, range(4))]
    _finish(figure, axes, titles, path)


def _draw_beside(path: Path, cine: Clip, phantom: list[PhantomClip]) -> None:
    """Frames of the real cine and of three phantoms, then histograms and self-similarity of all."""
    figure, axes = plt.subplots(2, 4, figsize=(11, 5.6), facecolor="white")
    real = cine.frames_TCHW[:, 0]
    shown = [(real[0], "real: pydicom-data cine"), (real[24], "the same, later")]
    shown += [(clip.frames_THWC[clip.key_frames()[0], ..., 0], f"phantom {clip.patient.name}") for clip in phantom[5:7]]
    for axis, (image, title) in zip(axes[0], shown, strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    members = [("cine", real, cine.sector_HW, cine.frame_rate_hz or 0.0, "black")]
    members += [
        (f"phantom {c.patient.name}", c.frames_THWC[..., 0], c.sector_HW, c.acquisition.frame_rate_hz, colour)
        for c, colour in zip(phantom[4:7], ("tab:red", "tab:orange", "tab:purple"), strict=True)
    ]
    for name, frames, sector, rate_hz, colour in members:
        count, edges = np.histogram(frames[:, sector], 64, (0, 256), density=True)
        axes[1, 0].semilogy(edges[:-1], count + 1e-6, color=colour, label=name, lw=1)
        lags_s, curve = _self_similarity(frames[:, sector], rate_hz)
        axes[1, 1].plot(lags_s, curve, color=colour, lw=1)
        statistics = image_statistics(frames, sector, rate_hz)
        for axis, values in ((axes[1, 2], statistics.axial_px), (axes[1, 3], statistics.lateral_px)):
            axis.plot([100 * sum(band) / 2 for band in BANDS], values, "o-", color=colour, lw=1)
    labels = (
        ("grey", "density"),
        ("lag (s)", "correlation of frames"),
        ("depth (%)", "half-width along beam (px)"),
        ("depth (%)", "half-width across beam (px)"),
    )
    for axis, (across, up) in zip(axes[1], labels, strict=True):
        axis.set_xlabel(across, fontsize=8)
        axis.set_ylabel(up, fontsize=8)
        axis.tick_params(labelsize=7)
    axes[1, 0].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)


def _self_similarity(pixels_TP: Grey, frame_rate_hz: float) -> tuple[npt.NDArray[np.float64], list[float]]:
    moving = pixels_TP.astype(np.float32) - pixels_TP.mean(0, dtype=np.float32)
    moving /= np.linalg.norm(moving, axis=1, keepdims=True) + 1e-6
    lags = np.arange(1, len(moving) - 10)
    return lags / frame_rate_hz, [float((moving[:-lag] * moving[lag:]).sum(1).mean()) for lag in lags]


def _finish(figure: plt.Figure, axes: npt.NDArray[np.object_], titles: tuple[str, ...], path: Path) -> None:
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=70)
    plt.close(figure)


if __name__ == "__main__":
    main()
