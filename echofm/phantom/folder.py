"""A folder of phantom clips in the layout of a public set, truth beside them, by as many processes as wanted."""

from __future__ import annotations

import csv
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echofm import __version__
from echofm.errors import EchofmError
from echofm.machine import processors
from echofm.phantom import LayoutName, unfinished
from echofm.phantom.acquisition import VIEWS, Spread
from echofm.phantom.clip import render_clip, truth_arrays
from echofm.phantom.layout import Layout
from echofm.phantom.layout_camus import Camus
from echofm.phantom.layout_dicom import Dicom
from echofm.phantom.layout_echonet import EchoNetDynamic, EchoNetPediatric
from echofm.phantom.seeds import generator
from echofm.phantom.truth import FOLDER, FURTHER, Truth, truth_path, write_truth
from echofm.progress import progress_bar
from echofm.readers.limits import PLAUSIBLE_RATE_HZ

_KINDS: tuple[type[Layout], ...] = (EchoNetDynamic, EchoNetPediatric, Camus, Dicom)
_LAYOUTS = {kind.name: kind for kind in _KINDS}


@dataclass(frozen=True, kw_only=True)
class _Job:
    root: Path
    layout: str
    seed: int
    patient: int
    clip: int
    view: str
    size: int
    frames: int | None
    frame_rate_hz: float | None
    colour: bool
    overlay: bool
    acquisitions: Spread
    truth: tuple[Truth, ...]
    device: str

    @property
    def name(self) -> str:
        """Of this clip's record."""
        return f"{self.patient:06d}-{self.clip:03d}"

    def run(self) -> dict[str, Any]:
        """Render and write one clip; what the tables need is noted when its files are whole."""
        clip = render_clip(
            self.patient,
            clip=self.clip,
            view=self.view,
            seed=self.seed,
            size=self.size,
            frames=self.frames,
            frame_rate_hz=self.frame_rate_hz,
            colour=self.colour,
            overlay=self.overlay,
            spread=self.acquisitions,
            device=self.device,
            truth=self.truth,
        )
        split = patient_split(self.seed, self.patient)
        layout = _LAYOUTS[self.layout]()
        stem, clip = layout.prepare(clip)
        row = layout.write_clip(self.root, stem, clip, split)
        write_truth(truth_path(self.root, stem), truth_arrays(clip, self.truth))
        index = {"stem": stem, "patient": clip.patient.name, "view": clip.view, "kind": clip.kind, "split": split}
        return unfinished.record(self.root, self.name, {"row": row, "index": index})


def patient_split(seed: int, patient: int) -> str:
    """ "train" (70 %), "val" or "test" (15 % each), from the patient's number alone."""
    draw = generator(seed, "split", patient).uniform()
    return "train" if draw < 0.7 else "val" if draw < 0.85 else "test"


def generate(
    out: str | Path,
    *,
    patients: int = 200,
    clips_per_patient: int = 2,
    views: Sequence[str] | None = None,
    layout: LayoutName = "echonet-dynamic",
    seed: int = 0,
    size: int | None = None,
    frames: int | None = None,
    frame_rate_hz: float | None = None,
    colour_fraction: float = 0.0,
    overlay: bool | None = None,
    acquisitions: Spread = "usual",
    truth: Sequence[Truth] = (),
    processes: int | None = None,
    device: str = "cpu",
    show_progress: bool = True,
) -> None:
    """Make a folder of clips with known answers, or go on with one that was begun with the same options.

    out: an empty or new folder, or one that a killed or failed call left behind: its whole clips are kept.
    views: of A4C, A2C, PLAX, PSAX, taken in turn; None: those that the layout's real set holds.
    size: pixels a side of the image; None: the layout's own. frames: per clip; None: as many as 2.4 beats take.
    frame_rate_hz: None: drawn per clip, 20 to 80 Hz. colour_fraction: share of clips with a colour-Doppler overlay.
    overlay: burned-in text and ECG trace; None: where the layout's real set has them.
    acquisitions: "usual", as of one laboratory, or "varied", as of many.
    truth: dense truth to keep as well, about 1 MB a clip each: "displacement"; "velocity", along the beam; "grey", of
        colour clips; "clean", the frames without noise (rendered once more).
    processes: None: one per core. The files' bytes do not depend on it.

    Raises EchofmError on a folder that holds something else, on views that the layout cannot hold, and on a size,
    length or rate that no clip has.
    """
    root = Path(out)
    kind = _LAYOUTS[layout]
    chosen = tuple(views or kind.views)
    _check(kind, chosen, patients, clips_per_patient, colour_fraction)
    moving = colour_fraction > 0 or "velocity" in truth
    _check_images(size=size, frames=frames, frame_rate_hz=frame_rate_hz, moving=moving)
    _check_truth(truth)
    shared: dict[str, Any] = {
        "layout": layout,
        "seed": seed,
        "size": size or kind.size,
        "frames": frames,
        "frame_rate_hz": frame_rate_hz,
        "overlay": kind.overlay if overlay is None else overlay,
        "acquisitions": acquisitions,
        "truth": tuple(name for name in FURTHER if name in truth),
    }
    folder = {"patients": patients, "clips_per_patient": clips_per_patient, "views": chosen}
    folder["colour_fraction"] = colour_fraction
    unfinished.begin(root, {"phantom": True, "schema_version": 1, "echofm_version": __version__, **shared, **folder})
    jobs = [
        _job(patient, clip, views=chosen, colour_fraction=colour_fraction, root=root, device=device, **shared)
        for patient in range(patients)
        for clip in range(clips_per_patient)
    ]
    _write(root, kind(), jobs, processes or processors(), show_progress)


def _job(patient: int, clip: int, *, views: tuple[str, ...], seed: int, colour_fraction: float, **others: Any) -> _Job:
    colour = bool(generator(seed, "doppler", patient, clip).uniform() < colour_fraction)
    view = views[(patient + clip) % len(views)]
    return _Job(patient=patient, clip=clip, view=view, seed=seed, colour=colour, **others)


def _write(root: Path, layout: Layout, jobs: list[_Job], processes: int, show_progress: bool) -> None:
    """The clips, then the tables, then the marker: a folder that has it is whole."""
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    done = _finished(root, jobs, processes, show_progress)
    layout.finish(root, [result["row"] for result in done])
    with (root / FOLDER / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(done[0]["index"]))
        writer.writeheader()
        writer.writerows(result["index"] for result in done)
    unfinished.finish(root)


def _finished(root: Path, jobs: list[_Job], processes: int, show_progress: bool) -> list[dict[str, Any]]:
    """The result of every job, in order: those recorded earlier, and the others' once they are run."""
    done = [unfinished.recorded(root, job.name) for job in jobs]
    missing = [number for number, result in enumerate(done) if result is None]
    with progress_bar("phantom", len(jobs), show=show_progress) as bar:
        bar.advance(
            len(jobs) - len(missing), note=f"{len(jobs) - len(missing)} kept" if len(missing) < len(jobs) else None
        )
        for index, result in _run([jobs[number] for number in missing], processes):
            done[missing[index]] = result
            bar.advance()
    return [result for result in done if result is not None]


def _check(kind: type[Layout], views: tuple[str, ...], patients: int, clips: int, colour_fraction: float) -> None:
    if patients < 1 or clips < 1:
        raise EchofmError("a phantom needs at least one patient and one clip of each")
    if kind.clips_per_patient not in (None, clips):
        raise EchofmError(f"layout {kind.name} has {kind.clips_per_patient} clips of each patient; name that number")
    if colour_fraction and not kind.colour:
        raise EchofmError(f"layout {kind.name} holds no colour Doppler; take --layout dicom or echonet-dynamic")
    if not 0 <= colour_fraction <= 1:
        raise EchofmError(f"colour fraction {colour_fraction}: a share of the clips, 0 to 1")
    unknown = [view for view in views if view not in VIEWS]
    if unknown:
        raise EchofmError(f"no view {unknown[0]!r}; the phantom has {', '.join(VIEWS)}")
    foreign = [view for view in views if view not in kind.views]
    if foreign and not kind.other_views:
        raise EchofmError(
            f"layout {kind.name} holds {' and '.join(kind.views)}, not {foreign[0]}; "
            "take --layout dicom or echonet-dynamic for other views"
        )
    if kind.clips_per_patient is not None and len(set(views)) < kind.clips_per_patient:
        raise EchofmError(
            f"layout {kind.name} holds one clip of each view of a patient; take the views {', '.join(kind.views)}"
        )


def _check_images(*, size: int | None, frames: int | None, frame_rate_hz: float | None, moving: bool) -> None:
    if size is not None and size < 1:
        raise EchofmError(f"size {size}: an image has at least one pixel a side")
    # Colour and velocity are measured between a frame and the next.
    fewest = 2 if moving else 1
    if frames is not None and frames < fewest:
        clip = "a clip with colour or velocity" if moving else "a clip"
        raise EchofmError(f"frames {frames}: {clip} has at least {fewest}")
    low_hz, high_hz = PLAUSIBLE_RATE_HZ
    if frame_rate_hz is not None and not low_hz <= frame_rate_hz <= high_hz:
        raise EchofmError(f"frame rate {frame_rate_hz:g} Hz: no reader takes one outside {low_hz:g} to {high_hz:g}")


def _check_truth(truth: Sequence[str]) -> None:
    unknown = [name for name in truth if name not in FURTHER]
    if unknown:
        raise EchofmError(f"no truth {unknown[0]!r}; the phantom has {', '.join(FURTHER)}")


def _run(jobs: list[_Job], processes: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Results as they come, with the job's number."""
    if processes == 1 or len(jobs) < 4:
        yield from ((index, job.run()) for index, job in enumerate(jobs))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_end_with_parent) as pool:
        futures = {pool.submit(job.run): index for index, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """Without this a worker of a killed command waits for ever: each holds the other end of its own queue open."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
