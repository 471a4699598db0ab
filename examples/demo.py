"""From echo files to an encoder and a page about it, in a few minutes on two cores: what `make demo` runs.

    python examples/demo.py --out demo

Real input: two files of one public cine loop, from the packages pydicom and pydicom-data (MIT licence). The rest are
generated clips (`echofm phantom`). Every step is a command that you could type; the page shows them with their times.
"""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import pydicom.data
import pydicom.examples
import tyro
from demo_steps import Steps

from echofm.errors import EchofmError
from echofm.schema import FrozenModel

_MARK = "made-by-echofm-demo"


class Demo(FrozenModel):
    """From echo files to an encoder and a page about it."""

    out: Path = Path("demo")
    """Folder for everything; one of an earlier demo is replaced."""
    patients: int = 24
    """Generated patients, two clips each; the last quarter is held out."""
    steps: int | None = None
    """Training steps; by default those of the recipe `demo`."""


def main(argv: list[str]) -> int:
    """Run the demo; 0 when the page is written."""
    options = tyro.cli(Demo, args=argv, description=__doc__)
    out = _fresh(options.out)
    data, shards, run, table = (out / name for name in ("data", "shards", "run", "table"))
    steps = Steps(out)

    steps.echofm("phantom", data, "--patients", str(options.patients))
    real = add_real_cine(data)
    write_manifest(data, real, held_out=max(1, options.patients // 4))
    steps.echofm("shards", data, shards, "--dataset", "folder", "--size", "64", "--fps", "native")
    length = [] if options.steps is None else ["--fit.steps", str(options.steps)]
    steps.echofm("pretrain", "demo", "--data", shards, "--out", run, *length)
    steps.echofm("embed", run / "export", shards, table)

    # Only now: torch takes a moment to import.
    from demo_page import build

    steps.end(build(real=real[-1], shards=shards, run=run, table=table, commands=steps.done))
    return 0


def _fresh(out: Path) -> Path:
    if out.exists() and not (out / _MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise EchofmError(f"{out} is there already and no earlier demo; choose another folder with --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / _MARK).touch()
    return out


def add_real_cine(data: Path) -> list[Path]:
    """The public cine, twice as it is published: 30 frames of 320 x 240 and 120 frames of 640 x 480."""
    sources = [pydicom.examples.get_path("ybr_color"), pydicom.data.get_testdata_file("color3d_jpeg_baseline.dcm")]
    if None in sources:
        raise EchofmError("the public cine is not installed; `pip install pydicom-data`")
    (data / "real").mkdir()
    return [Path(shutil.copy(str(source), data / "real")) for source in sources]


def write_manifest(data: Path, real: list[Path], *, held_out: int) -> None:
    """One table over both kinds: this is how any folder of your own can be described (docs/datasets.md).

    The real cine's patient is left empty: the DICOM's own tag tells it, hashed before it leaves the reader.
    """
    with (data / "FileList.csv").open(newline="") as file:
        generated = list(csv.DictReader(file))
    patients = sorted({row["FileName"].partition("-")[0] for row in generated})
    with (data / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "patient", "split", "view", "ef_percent"])
        for row in generated:
            name = row["FileName"]
            patient, _, view = name.split("-")
            split = "val" if patient in patients[-held_out:] else "train"
            table.writerow([f"Videos/{name}.avi", patient, split, view, row["EF"]])
        for path in real:
            table.writerow([f"real/{path.name}", "", "train", "", ""])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except EchofmError as error:
        sys.exit(f"demo: {error}")
