"""The page of the demo of generators: clips that play, figures beside their controls, what was run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from demo_synth_figures import RESULTS

from echofm.readers.limits import Limits
from echofm.readers.video import decode_video
from echofm.report.blocks import Cines, Commands, Prose, Table
from echofm.report.page import Page
from echofm.shards.read import ShardSet

_SHOWN = 12


def build(out: Path, *, commands: list[tuple[str, float]]) -> Page:
    """The page of a finished demo."""
    results = json.loads((out / RESULTS).read_text(encoding="utf-8"))
    lines = (out / "set" / "provenance.jsonl").read_text(encoding="utf-8").splitlines()
    page = Page(
        "EchoFM: from phantom hearts to an audited synthetic set",
        f"{len(lines)} clips of a generator that was trained for minutes on two cores. Made by `make demo-synth`.",
    )
    page.warn(
        "The training clips are a phantom's: no figure here says anything about patients. The networks are small and "
        "briefly trained, to show that every step works and what is measured."
    )
    made = {_title(json.loads(line)): _frames(out / "set" / "Videos" / json.loads(line)["file"]) for line in lines}
    page.add(
        "Synthetic clips",
        _cines(
            dict(list(made.items())[:_SHOWN]), "Each begins with a held-out frame; below: what was asked.", "generated"
        ),
        _cines(_real(out), "Clips of the phantom, as the generator was trained on.", "phantom"),
    )
    for name in ("codec", "ejection fraction", "motion", "one step"):
        page.add(name.capitalize(), _table(results[name], _ABOUT[name]))
    page.add("The filter and the audit", Prose("\n\n".join(results["set"]["verdict"])), _table(*_set(results)))
    typed = "\n".join(shown for shown, _ in commands)
    rows = [[shown.split(" --")[0], f"{seconds / 60:.1f}"] for shown, seconds in commands]
    return page.add("What was run", Commands(typed), Table(columns=["command", "minutes"], rows=rows))


_ABOUT = {
    "codec": "Held-out clips as they are, as the autoencoder gives them back, and blurred. `ef_apart`, `ef_bias`: of "
    "the ejection fraction read in the original by the same reader, in points.",
    "ejection fraction": "Asked against shown. Beside it requests in 200 other orders (`shuffled`: their mean, "
    "and where 95 % of them lie), what the real frame's own heart has, and the reader's figures on real clips.",
    "motion": "Correlation of the left ventricle's area curve with that of the clip whose motion was given; "
    "`shuffled`: with the curves given to others.",
    "one step": "A network of mean velocity called once, beside the flow in many steps and in one. `floor`: real "
    "training patients. `area with phase`: of the area curve with the phases that were asked for.",
}


def _table(results: dict[str, Any], caption: str) -> Table:
    """A row for each group of figures, an estimate in each cell."""
    rows = [(name, figures) for name, figures in _groups(results)]
    columns = list(dict.fromkeys(column for _, figures in rows for column in figures))
    cells = [[name, *(_shown(figures.get(column)) for column in columns)] for name, figures in rows]
    return Table(columns=["", *columns], rows=cells, caption=f"{caption} Intervals: 95 %, patients redrawn.")


def _set(results: dict[str, Any]) -> tuple[dict[str, Any], str]:
    made = results["set"]
    caption = (
        f"{made['taken out by the filter']} clips were taken out by the filter before, and others made in their place."
    )
    return {"audit": made["audit"]}, caption


def _groups(results: dict[str, Any], above: str = "") -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    if any(_is_estimate(each) for each in results.values()):
        found.append((above, {name: each for name, each in results.items() if _is_estimate(each)}))
    for name, each in results.items():
        if not _is_estimate(each):
            found += _groups(each, f"{above}, {name}" if above else name)
    return found


def _is_estimate(each: dict[str, Any]) -> bool:
    return set(each) == {"value", "low", "high"}


def _shown(each: dict[str, float] | None) -> str:
    if each is None or any(value is None for value in each.values()):
        return "–"
    return f"{each['value']:.3g} [{each['low']:.3g}, {each['high']:.3g}]"


def _cines(clips: dict[str, npt.NDArray[np.uint8]], caption: str, tag: str) -> Cines:
    return Cines(clips=clips, frame_rate_hz=12.5, alt=f"{len(clips)} clips that play", caption=caption, tag=tag)


def _real(out: Path) -> dict[str, npt.NDArray[np.uint8]]:
    shards = ShardSet.open(out / "shards", show_progress=False).split("train")
    clips = [shards.clip(index) for index in range(min(_SHOWN // 2, len(shards)))]
    return {f"EF {clip.labels['ef_percent']:.0f} %, {n}": clip.frames_TCHW[:, 0] for n, clip in enumerate(clips, 1)}


def _title(provenance: dict[str, Any]) -> str:
    return f"EF {provenance['condition']['ef_percent_B']:.0f} %, {provenance['number']}"


def _frames(path: Path) -> npt.NDArray[np.uint8]:
    with path.open("rb") as source:
        return decode_video(source, container="avi", channels=1, limits=Limits()).frames_TCHW[:, 0]
