"""The privacy audit end to end on phantom patients, from videos: three synthetic sets whose truth is known.

    echofm phantom real --patients 640 --views A4C,A2C,PLAX,PSAX
    echofm phantom fresh --patients 200 --clips-per-patient 1 --views A4C,A2C,PLAX,PSAX --seed 1001
    python examples/audit_phantom.py --real real --fresh fresh --encoder ENCODER --out audited

Of the patients in REAL some play the training set and others are held out. NEW: clips of other patients (FRESH), as an
honest generator would make them. MIXED: one clip in ten is a lightly changed copy of a training clip. COPIES: all are.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import tyro

from echofm import read_clip
from echofm.errors import EchofmError
from echofm.ids import load_key
from echofm.phantom.video import write_mjpeg
from echofm.progress import progress_bar
from echofm.schema import FrozenModel
from synth.audit.canaries.transforms import transformed
from synth.audit.cli import main as audit
from synth.audit.filter.write import clip_ids_of
from synth.audit.result import AuditResult

# What a generator that memorises might change of a clip; the MJPEG of the written video comes on top.
LIGHT = (("exact", 0.0), ("noise", 4.0), ("gain", 10.0), ("crop", 0.03), ("shift in time", 0.1), ("re-encoded", 10.0))


class Options(FrozenModel):
    """Make the three sets and audit each."""

    real: Path
    """Phantom folder in EchoNet-Dynamic's layout; its patients are shared out between training and held-out set."""
    fresh: Path
    """Phantom folder of another seed: patients whom nobody has seen."""
    encoder: str
    """What embeds the clips."""
    out: Path
    """Folder for the sets and the audits; must not hold any yet."""
    train_patients: int = 200
    """Of these the copies are made."""
    holdout_patients: int = 400
    """At least 199, or 10 % of copies cannot be flagged."""
    clips_per_patient: int = 1
    """At most."""
    synthetic: int = 200
    """Clips of each synthetic set, at most as many as FRESH has."""
    share: float = 0.1
    """Of copies in MIXED."""
    more: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A further word for `echofm audit`, e.g. --more=--reid=FOLDER; may be given again."""
    seed: int = 0
    """Of the shares and the changes."""


def make_sets(options: Options) -> dict[str, dict[str, str]]:
    """Write train, holdout, new, mixed and copies below OUT; of each synthetic set the copies: stem -> source stem."""
    listed = _listed(options.real)
    rng = np.random.default_rng(options.seed)
    patients = rng.permutation(sorted({_patient(row["FileName"]) for row in listed})).tolist()
    middle = options.train_patients
    train, holdout = (
        _some(listed, set(part), options.clips_per_patient)
        for part in (patients[:middle], patients[middle : middle + options.holdout_patients])
    )
    if not train or not holdout:
        raise EchofmError(f"REAL has {len(patients)} patients; give fewer --train-patients, so that some are held out")
    _write_real(options.real, options.out / "train", train)
    _write_real(options.real, options.out / "holdout", holdout)
    fresh = sorted((options.fresh / "Videos").glob("*.avi"))[: options.synthetic]
    fresh = [fresh[place] for place in rng.permutation(len(fresh))]
    copies = round(options.share * len(fresh))
    sources = [options.out / "train" / "Videos" / f"{row['FileName']}.avi" for row in train]
    sources = [sources[place] for place in rng.permutation(len(sources))]
    return {
        "new": _write_synthetic(options.out / "new", [], fresh, seed=options.seed),
        "mixed": _write_synthetic(options.out / "mixed", sources[:copies], fresh[copies:], seed=options.seed + 1),
        "copies": _write_synthetic(options.out / "copies", sources[: len(fresh)], [], seed=options.seed + 2),
    }


def _listed(folder: Path) -> list[dict[str, str]]:
    with open(folder / "FileList.csv", newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


def _some(listed: Sequence[dict[str, str]], patients: set[str], most: int) -> list[dict[str, str]]:
    """The first clips of some patients."""
    seen: Counter[str] = Counter()
    kept = []
    for row in listed:
        patient = _patient(row["FileName"])
        seen[patient] += 1
        if patient in patients and seen[patient] <= most:
            kept.append(row)
    return kept


def _patient(stem: str) -> str:
    return stem.split("-")[0]


def _write_real(source: Path, out: Path, rows: Sequence[dict[str, str]]) -> None:
    """Some patients of a phantom folder as one of its own; videos are linked, not copied, where the disk can."""
    (out / "Videos").mkdir(parents=True)
    shutil.copy(source / "phantom.json", out)
    _write_table(out / "FileList.csv", rows)
    for row in rows:
        name = f"{row['FileName']}.avi"
        try:
            os.link(source / "Videos" / name, out / "Videos" / name)
        except OSError:
            shutil.copy(source / "Videos" / name, out / "Videos" / name)


def _write_synthetic(out: Path, sources: Sequence[Path], fresh: Sequence[Path], *, seed: int) -> dict[str, str]:
    """A folder with a manifest: changed copies of `sources`, and `fresh` as they are, in mixed order."""
    (out / "Videos").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(sources) + len(fresh))
    copied, rows = {}, []
    with progress_bar(f"writing {out.name}", len(order)) as bar:
        for number, place in enumerate(order):
            stem = f"sample_{number:05d}"
            target = out / "Videos" / f"{stem}.avi"
            source = [*sources, *fresh][place]
            if place < len(sources):
                copied[stem] = source.stem
                _write_copy(source, target, LIGHT[int(rng.integers(len(LIGHT)))], seed=seed)
            else:
                shutil.copy(source, target)
            rows.append({"path": f"Videos/{target.name}", "view": source.stem.split("-")[-1]})
            bar.advance()
    _write_table(out / "manifest.csv", rows)
    return copied


def _write_copy(source: Path, target: Path, change: tuple[str, float], *, seed: int) -> None:
    clip = read_clip(source)
    changed = transformed(clip, *change, seed=seed)
    write_mjpeg(target, np.moveaxis(changed.frames_TCHW, 1, 3), clip.frame_rate_hz or 50.0)


def _write_table(path: Path, rows: Sequence[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def audits(options: Options, copied: dict[str, dict[str, str]]) -> Iterator[str]:
    """Audit each set; one line of figures each."""
    for name, copies in copied.items():
        words = [f"--{side}={options.out / side}" for side in ("train", "holdout")]
        words += [f"--synthetic={options.out / name}", f"--encoder={options.encoder}"]
        folder = options.out / f"audit-{name}"
        audit([*words, f"--out={folder}", f"--cache={options.out / 'cache'}", *options.more])
        yield f"{name}: {figures(folder, options.out / name, copies)}"


def figures(audited: Path, synthetic: Path, copies: dict[str, str]) -> str:
    """What the audit found, beside the truth."""
    result = AuditResult.from_json(audited / "audit.json")
    samples = pd.read_parquet(audited / "samples.parquet")
    key = load_key()
    ids = {clip_ids_of(synthetic / "Videos" / f"{stem}.avi", key)[0] for stem in copies}
    is_copy = samples["clip_id"].isin(ids).to_numpy()
    lines = []
    for column in ("flagged", "removed"):
        chosen = samples[column].to_numpy(bool)
        recall = f"{chosen[is_copy].mean():.3f}" if is_copy.any() else "-"
        precision = f"{is_copy[chosen].mean():.3f}" if chosen.any() else "-"
        lines.append(f"{column} {chosen.sum()} of {len(chosen)} (recall {recall}, precision {precision})")
    part, auc = result.flagged.fraction, result.attacks.membership_auc
    return (
        f"p <= {result.alpha:g}: {part.value:.3f} ({part.low:.3f} to {part.high:.3f}); {'; '.join(lines)}; "
        f"membership AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"
    )


def main() -> None:
    """Make, audit, and print the figures."""
    options = tyro.cli(Options, description=__doc__)
    truth = options.out / "copies.json"
    try:
        if truth.is_file():
            copied = json.loads(truth.read_text(encoding="utf-8"))
        else:
            copied = make_sets(options)
            truth.write_text(json.dumps(copied), encoding="utf-8")
        for line in audits(options, copied):
            print(f"\nphantom, {line}\n", flush=True)
    except EchofmError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
