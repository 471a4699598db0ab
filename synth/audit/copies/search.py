"""Search a synthetic set for the training recordings themselves, by bytes and by speckle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

import echofm
from echofm.atomic import whole_files
from echofm.clip import Clip
from echofm.embed.options import EmbedOptions
from echofm.embed.source import open_set, parsed
from echofm.embed.videos import Videos
from echofm.errors import EchofmError, UnreadableFile, os_errors_as
from echofm.progress import progress_bar
from echofm.schema import FrozenModel
from synth.audit.duplicates import Prints, copied, prints_of
from synth.audit.result import SetSummary
from synth.audit.sets import set_name, shown

RESULT = "duplicates.json"


class DuplicatesResult(FrozenModel):
    """duplicates.json: how many synthetic clips show a training recording."""

    schema_version: Literal[1] = 1
    echofm_version: str
    verdict: str
    train: SetSummary
    synthetic: SetSummary
    exact: int
    """Of `removed`, those that are the training file byte for byte."""
    removed: int
    """Synthetic clips that show the very recording of a training clip."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundDuplicates:
    """samples: a row per synthetic clip, with the columns that `echofm audit filter` reads. videos: of both sets,
    ready to be read by id."""

    result: DuplicatesResult
    samples: pd.DataFrame
    videos: Mapping[str, Videos]
    simulated: bool = False

    def save(self, folder: Path) -> None:
        """Write samples.parquet and duplicates.json. Raises EchofmError where that cannot be done."""
        files = [folder / "samples.parquet", folder / RESULT]
        with (
            os_errors_as("the result cannot be written ({reason}); check --out"),
            whole_files(files) as (rows, figures),
        ):
            self.samples.to_parquet(rows, index=False)
            figures.write_text(self.result.to_json(), encoding="utf-8")
            # The filter reads the samples of whichever audit's figures lie there.
            # Nor may the page of an earlier search, perhaps signed, stand beside these.
            for name in (RESULT, "audit.json", "report.html", "report.pdf"):
                (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fingerprinted:
    """prints: by clip id. patients: clip id -> patient id."""

    prints: dict[str, Prints]
    patients: dict[str, str]
    summary: SetSummary
    videos: Videos
    simulated: bool


def search_duplicates(train: str | Path, synthetic: str | Path, *, options: EmbedOptions) -> FoundDuplicates:
    """Fingerprint every clip of two sets of videos or shards and find the training recordings among the synthetic.

    train, synthetic: as for `echofm audit`, `SET:train` too. options: how files are read.
    Raises EchofmError where a set is no videos, or holds none that can be read.
    """
    # Whose a clip is matters to its split alone; a copy is one whoever's it is.
    opened = {
        "training": open_set(train, name="training", options=options, has_patients=bool(parsed(str(train))[1])),
        "synthetic": open_set(synthetic, name="synthetic", options=options, has_patients=False),
    }
    for name, each in opened.items():
        if each.videos is None:
            raise EchofmError(f"the {name} set is a table; recordings are compared by their pixels: give the clips")
    ours, theirs = (
        _fingerprinted(each.videos, each.splits, name, set_name(given), options)
        for (name, each), given in zip(opened.items(), (train, synthetic))
        if each.videos is not None
    )
    known = copied(ours.prints, theirs.prints, processes=options.processes)
    # The id is a hash of the bytes; a file too plain to have speckle is found by it alone.
    exact = {each for each in theirs.prints if each in ours.prints}
    known |= {each: each for each in exact}
    samples = pd.DataFrame(
        {
            "row": np.arange(len(theirs.prints)),
            "clip_id": list(theirs.prints),
            "duplicate_of": [known.get(each, "") for each in theirs.prints],
            "patient": [ours.patients[known[each]] if each in known else "" for each in theirs.prints],
            "same_bytes": [each in exact for each in theirs.prints],
            "flagged": False,
            "q": np.nan,
            "removed": [each in known for each in theirs.prints],
        }
    )
    result = DuplicatesResult(
        echofm_version=echofm.__version__,
        verdict=decided(len(known), len(exact), len(samples)),
        train=ours.summary,
        synthetic=theirs.summary,
        exact=len(exact),
        removed=len(known),
    )
    videos = {"training": ours.videos, "synthetic": theirs.videos}
    return FoundDuplicates(result=result, samples=samples, videos=videos, simulated=ours.simulated)


def decided(removed: int, exact: int, clips: int) -> str:
    """What is to be done, in one sentence."""
    if not removed:
        return f"Nothing to remove among {clips} clips: none shows the very recording of a training clip"
    return (
        f"Remove {removed} of {clips}: {removed} show{'s' * (removed == 1)} the very recording of a training clip"
        + (f", {exact} byte for byte" if exact else "")
    )


def _fingerprinted(
    videos: Videos, splits: Sequence[str], name: str, title: str, options: EmbedOptions
) -> _Fingerprinted:
    prints: dict[str, Prints] = {}
    patients: dict[str, str] = {}
    set_aside, simulated = 0, False
    with progress_bar(f"{name} set", len(videos)) as bar:
        for each in videos.every(_examined, splits=splits, named=lambda clip: shown(clip, options.key)):
            bar.advance()
            if isinstance(each, UnreadableFile):
                set_aside += 1
                continue
            clip, patient, (found, is_simulated) = each
            set_aside, simulated = set_aside + (clip in prints), simulated or is_simulated
            prints[clip], patients[clip] = found, shown(patient, options.key)
    if not prints:
        raise EchofmError(f"the {name} set has no clip that can be read{' in these splits' * bool(splits)}")
    digest = hashlib.sha256("\n".join(prints).encode()).hexdigest()
    of = len(set(patients.values())) if name == "training" else None
    summary = SetSummary(name=title, clips=len(prints), patients=of, digest=digest, set_aside=set_aside)
    return _Fingerprinted(prints=prints, patients=patients, summary=summary, videos=videos, simulated=simulated)


def _examined(clip: Clip, _: object) -> tuple[Prints, bool]:
    return prints_of(clip), clip.simulated
