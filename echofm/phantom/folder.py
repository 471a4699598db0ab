"""A folder of phantom clips in the layout of a public set, truth beside them, by as many processes as wanted.

Until it is whole OUT/phantom-unfinished.json holds the settings, OUT/unfinished/ a record of every clip, written after
the clip's own files. Then the records go and the settings are renamed to phantom.json, so that a killed command can go
on where it ended and a whole folder tells nothing of it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from echofm import __version__
from echofm.atomic import write_whole
from echofm.errors import EchofmError
from echofm.machine import processors
from echofm.phantom.acquisition import VIEWS
from echofm.phantom.anatomy import generator
from echofm.phantom.clip import render_clip, truth_arrays
from echofm.phantom.layout import Camus, EchoNetDynamic, EchoNetPediatric, Layout, write_csv
from echofm.phantom.layout_dicom import Dicom
from echofm.phantom.settings import Settings
from echofm.phantom.truth import FOLDER, FURTHER, truth_path, write_truth
from echofm.progress import progress_bar
from echofm.readers.limits import PLAUSIBLE_RATE_HZ

MARKER = "phantom.json"
_SETTINGS = "phantom-unfinished.json"
_RECORDS = "unfinished"
_KINDS: tuple[type[Layout], ...] = (EchoNetDynamic, EchoNetPediatric, Camus, Dicom)
_LAYOUTS = {kind.name: kind for kind in _KINDS}

Result = dict[str, Any]


def generate(
    out: str | Path,
    *,
    processes: int | None = None,
    device: str = "cpu",
    show_progress: bool = True,
    **settings: Any,
) -> None:
    """Make a folder of clips with known answers, or go on with one that was begun with the same settings.

    out: an empty or new folder, or one that a killed or failed call left behind: its whole clips are kept.
    settings: fields of `echofm.phantom.settings.Settings`, which has the options of `echofm phantom`.
    processes: None: one per core. The files' bytes do not depend on it.

    Raises EchofmError on a folder that holds something else, on views that the layout cannot hold, and on a size,
    length or rate that no clip has.
    """
    root, chosen = Path(out), _checked(Settings(**settings))
    _begin(root, {"phantom": True, "schema_version": 1, "echofm_version": __version__, **asdict(chosen)})
    jobs = [
        _Job(root, chosen, patient, clip, device)
        for patient in range(chosen.patients)
        for clip in range(chosen.clips_per_patient)
    ]
    (root / FOLDER).mkdir(exist_ok=True)
    done = _finished(jobs, processes or processors(), show_progress)
    _LAYOUTS[chosen.layout]().finish(root, [result["row"] for result in done])
    write_csv(root / FOLDER / "clips.csv", [result["index"] for result in done])
    # The marker last: a folder that has it is whole.
    shutil.rmtree(root / _RECORDS)
    os.replace(root / _SETTINGS, root / MARKER)


@dataclass(frozen=True)
class _Job:
    """One clip to render and write."""

    root: Path
    settings: Settings
    patient: int
    clip: int
    device: str

    @property
    def record(self) -> Path:
        """The record that its files are written."""
        return self.root / _RECORDS / f"{self.patient:06d}-{self.clip:03d}.json"

    def recorded(self) -> Result | None:
        """What `run` noted; None where it is still to be run."""
        return json.loads(self.record.read_text(encoding="utf-8")) if self.record.is_file() else None

    def run(self) -> Result:
        """Render and write; what the tables need is noted when the files are whole."""
        chosen = self.settings
        assert chosen.views is not None and chosen.size is not None, "settled when they were checked"
        clip = render_clip(
            self.patient,
            clip=self.clip,
            view=chosen.views[(self.patient + self.clip) % len(chosen.views)],
            seed=chosen.seed,
            size=chosen.size,
            frames=chosen.frames,
            frame_rate_hz=chosen.frame_rate_hz,
            colour=bool(generator(chosen.seed, "doppler", self.patient, self.clip).uniform() < chosen.colour_fraction),
            overlay=bool(chosen.overlay),
            spread=chosen.acquisitions,
            device=self.device,
            truth=chosen.truth,
        )
        split = patient_split(chosen.seed, self.patient)
        layout = _LAYOUTS[chosen.layout]()
        stem, clip = layout.prepare(clip)
        row = layout.write_clip(self.root, stem, clip, split)
        write_truth(truth_path(self.root, stem), truth_arrays(clip, chosen.truth))
        index = {"stem": stem, "patient": clip.patient.name, "view": clip.view, "kind": clip.kind, "split": split}
        # Read back as it will be when it is resumed: numpy's numbers are plain ones then.
        text = json.dumps({"row": row, "index": index}, default=lambda number: number.item())
        write_whole(self.record, text, durable=False)
        return json.loads(text)


def patient_split(seed: int, patient: int) -> str:
    """ "train" (70 %), "val" or "test" (15 % each), from the patient's number alone."""
    draw = generator(seed, "split", patient).uniform()
    return "train" if draw < 0.7 else "val" if draw < 0.85 else "test"


def _begin(root: Path, settings: dict[str, Any]) -> None:
    """Take an empty or new folder, or one that was begun with the same settings."""
    if root.exists() and not root.is_dir():
        raise EchofmError(f"{root}: is no folder; name an empty or a new one")
    path = root / _SETTINGS
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        wanted = json.loads(json.dumps(settings))
        name = next((name for name in {**known, **wanted} if known.get(name) != wanted.get(name)), None)
        if name is not None:
            raise EchofmError(
                f"{root}: begun with {name} {known.get(name)}, now {wanted.get(name)} is asked for; "
                "give the same options to finish it, or name another folder"
            )
    elif root.exists() and any(root.iterdir()):
        raise EchofmError(f"{root}: holds something already; name an empty or a new folder")
    root.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        write_whole(path, json.dumps(settings, indent=2) + "\n", durable=False)
    (root / _RECORDS).mkdir(exist_ok=True)


def _finished(jobs: list[_Job], processes: int, show_progress: bool) -> list[Result]:
    """The result of every job, in order: those recorded earlier, and the others' once they are run."""
    done = [job.recorded() for job in jobs]
    missing = [number for number, result in enumerate(done) if result is None]
    kept = len(jobs) - len(missing)
    with progress_bar("phantom", len(jobs), show=show_progress) as bar:
        bar.advance(kept, note=f"{kept} kept" if kept else None)
        for index, result in _run([jobs[number] for number in missing], processes):
            done[missing[index]] = result
            bar.advance()
    return [result for result in done if result is not None]


def _checked(asked: Settings) -> Settings:
    """The settings with the layout's own where nothing was asked. Raises EchofmError on what cannot be made."""
    kind = _LAYOUTS[asked.layout]
    views = tuple(asked.views or kind.views)
    _check_clips(kind, asked, views)
    _check_images(asked)
    if unknown := [name for name in asked.truth if name not in FURTHER]:
        raise EchofmError(f"no truth {unknown[0]!r}; the phantom has {', '.join(FURTHER)}")
    return replace(
        asked,
        views=views,
        size=asked.size or kind.size,
        overlay=kind.overlay if asked.overlay is None else asked.overlay,
        truth=tuple(name for name in FURTHER if name in asked.truth),
    )


def _check_clips(kind: type[Layout], asked: Settings, views: tuple[str, ...]) -> None:
    exactly = kind.clips_per_patient
    if asked.patients < 1 or asked.clips_per_patient < 1:
        raise EchofmError("a phantom needs at least one patient and one clip of each")
    if exactly not in (None, asked.clips_per_patient):
        raise EchofmError(f"layout {kind.name} has {exactly} clips of each patient; name that number")
    if asked.colour_fraction and not kind.colour:
        raise EchofmError(f"layout {kind.name} holds no colour Doppler; take --layout dicom or echonet-dynamic")
    if not 0 <= asked.colour_fraction <= 1:
        raise EchofmError(f"colour fraction {asked.colour_fraction}: a share of the clips, 0 to 1")
    if unknown := [view for view in views if view not in VIEWS]:
        raise EchofmError(f"no view {unknown[0]!r}; the phantom has {', '.join(VIEWS)}")
    foreign = [view for view in views if view not in kind.views]
    if foreign and not kind.other_views:
        raise EchofmError(
            f"layout {kind.name} holds {' and '.join(kind.views)}, not {foreign[0]}; "
            "take --layout dicom or echonet-dynamic for other views"
        )
    if exactly is not None and len(set(views)) < exactly:
        raise EchofmError(
            f"layout {kind.name} holds one clip of each view of a patient; take the views {', '.join(kind.views)}"
        )


def _check_images(asked: Settings) -> None:
    if asked.size is not None and asked.size < 1:
        raise EchofmError(f"size {asked.size}: an image has at least one pixel a side")
    # Colour and velocity are measured between a frame and the next.
    moving = asked.colour_fraction > 0 or "velocity" in asked.truth
    fewest = 2 if moving else 1
    if asked.frames is not None and asked.frames < fewest:
        clip = "a clip with colour or velocity" if moving else "a clip"
        raise EchofmError(f"frames {asked.frames}: {clip} has at least {fewest}")
    (low_hz, high_hz), rate_hz = PLAUSIBLE_RATE_HZ, asked.frame_rate_hz
    if rate_hz is not None and not low_hz <= rate_hz <= high_hz:
        raise EchofmError(f"frame rate {rate_hz:g} Hz: no reader takes one outside {low_hz:g} to {high_hz:g}")


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
