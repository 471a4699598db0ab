"""Draw how a training run went: losses, held-out figures, pictures, and what to do next; RUN/report.html.

Of any trainer of echofm, while it trains or afterwards. Exit codes: 0 done; 1 done, but the encoder has collapsed or
the run stopped early (said first); 2 bad input.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from echofm.errors import EchofmError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from echofm.report.blocks import Block, Decision
    from echofm.report.page import Page

# Figure by step.
Curve = list[tuple[int, float]]
_MONITOR, _PACE = "monitor/", ("clips_per_s", "data_wait_share", "eta_s")
# As the warnings of a pretraining have it.
_ONLY_POSITIONS, _WAITS = 0.9, 0.2
_MEANINGS = {
    "prior_correlation": "how far time points that look alike are embedded alike",
    "position_share": "how much of what tells time points apart is their place in the window alone; high at first",
    "rankme": "directions that the time points of all clips spread over; near 1 is a collapse",
    "embedding_std": "how far they spread; near 0 is a collapse",
    "psnr_db": "reconstruction of what was hidden",
}


@dataclass(frozen=True, kw_only=True)
class Report:
    """The page of one run, from its own files."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder given as --out to a trainer."""
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write it; by default RUN/report.html."""


def main(argv: list[str]) -> int:
    """`echofm report`."""
    args = tyro.cli(Report, args=argv, prog="echofm report", description=__doc__)
    page = run_page(args.run)
    out = page.save(args.html or args.run / "report.html")
    assert page.decision is not None
    print(f"{page.decision.text}\nreport: {out}")
    return int(page.decision.level == "act")


def run_page(folder: Path) -> Page:
    """Raises EchofmError where no run lies there, or it has logged nothing yet."""
    from echofm.report.blocks import Prose
    from echofm.report.page import Page

    recipe, curves = _read(folder)
    page = Page(f"A training run: {recipe['name']}")
    page.decision = _decision(folder, recipe, curves)
    trained = {name: curve for name, curve in curves.items() if not name.startswith(_MONITOR) and name not in _PACE}
    held_out = {name.removeprefix(_MONITOR): curves[name] for name in curves if name.startswith(_MONITOR)}
    page.add("What to do next", Prose("\n\n".join(_advice(folder, recipe, curves))))
    page.add("Held-out clips", *_drawn(held_out), *_pictures(folder / "pictures"))
    page.add("Training", *_drawn(trained), _pace(curves))
    return page


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Curve]]:
    try:
        recipe = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        raise EchofmError(f"{folder}: no training run lies there; give the folder that was its --out") from None
    curves: dict[str, Curve] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            # The last line of a run that trains, or was killed.
            continue
        step = int(record.pop("step"))
        for name, value in record.items():
            if isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(name, []).append((step, float(value)))
    if not curves:
        raise EchofmError(f"{folder}: the run has logged nothing yet; wait for its first steps")
    return recipe, curves


def _last(curves: Mapping[str, Curve], name: str) -> float:
    return curves[name][-1][1] if name in curves else math.nan


def _step(curves: Mapping[str, Curve]) -> int:
    return max(curve[-1][0] for curve in curves.values())


def _losses(curves: Mapping[str, Curve]) -> list[str]:
    """The loss of each player."""
    return [name for name in curves if name.rpartition("/")[2] == "loss" and not name.startswith(_MONITOR)]


def _collapsed(curves: Mapping[str, Curve]) -> bool:
    return _last(curves, "monitor/collapsed") == 1


def _decision(folder: Path, recipe: Mapping[str, Any], curves: Mapping[str, Curve]) -> Decision:
    from echofm.report.blocks import Decision
    from echofm.report.page import today

    step, steps = _step(curves), recipe["fit"]["steps"]
    done = step >= steps
    text = f"{'Finished' if done else 'Not finished'}: step {step:,} of {steps:,}"
    if _collapsed(curves):
        text += "; the encoder has collapsed: no figure of it stands"
    spans = [(name, curves[name]) for name in _losses(curves)]
    facts = [(name, f"{curve[0][1]:.4g} at step {curve[0][0]}, {curve[-1][1]:.4g} at the end") for name, curve in spans]
    shown = [name for name in _MEANINGS if _MONITOR + name in curves]
    facts += [
        (f"held out: {name}", f"{curves[_MONITOR + name][0][1]:.3g} at first, {_last(curves, _MONITOR + name):.3g} now")
        for name in shown
    ]
    facts += [("Result", "export/" if (folder / "export").is_dir() else "none yet"), ("Date", today())]
    return Decision(f"{text}.", level="none" if done and not _collapsed(curves) else "act", facts=facts)


def _advice(folder: Path, recipe: Mapping[str, Any], curves: Mapping[str, Curve]) -> list[str]:
    found = []
    if _collapsed(curves):
        found.append(
            "Collapsed: all time points look alike. Lower `--fit.optim.base-lr`, lengthen `--fit.optim.warmup-steps`; "
            "the run's own warning says what else."
        )
    elif _last(curves, "monitor/position_share") > _ONLY_POSITIONS:
        found.append(
            "No heart yet: time points are told apart by their place in the window alone. Train longer; if that does "
            "not help, lower `--fit.optim.base-lr` or begin from a trained encoder (`--init`)."
        )
    if _step(curves) < recipe["fit"]["steps"]:
        found.append("The same command with `--resume` goes on from the last saved state.")
    waits = [value for _, value in curves.get("data_wait_share", [])[1:]]
    if waits and sum(waits) / len(waits) > _WAITS:
        share = sum(waits) / len(waits)
        found.append(f"{share:.0%} of the time was waiting for data: raise `--fit.workers`, or use a faster disk.")
    if (folder / "export" / "config.json").is_file():
        found.append(
            "What the encoder knows, beside random weights: `echofm probe RUN/export --data SHARDS --target LABEL "
            "--out OUT`. A loss alone tells nothing of that."
        )
    return found or ["Train on."]


def _drawn(curves: Mapping[str, Curve]) -> list[Block]:
    from echofm.report.blocks import Panels, Picture, Prose

    pictures = [
        Picture(
            draw=partial(_curve, name, curve),
            alt=f"{name} by step",
            caption=_MEANINGS.get(name, ""),
        )
        for name, curve in curves.items()
        if len({value for _, value in curve}) > 1
    ]
    still = [
        f"{name} is {curve[-1][1]:g} throughout" for name, curve in curves.items() if len({v for _, v in curve}) < 2
    ]
    blocks: list[Block] = [Panels(pictures=pictures)] if pictures else [Prose("Nothing was measured more than once.")]
    return [*blocks, Prose(f"{'; '.join(still)}.")] if still else blocks


def _curve(name: str, curve: Sequence[tuple[int, float]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.7, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([step for step, _ in curve], [value for _, value in curve], marker="o" if len(curve) < 12 else None)
    axes.set(xlabel="step", ylabel=name)
    return figure


def _pictures(folder: Path) -> list[Block]:
    """The first and the last of each kind."""
    import numpy as np
    from PIL import Image

    from echofm.report.blocks import FilmStrip

    kinds: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.png")) if folder.is_dir() else []:
        kinds.setdefault(path.stem.rpartition("_")[0], []).append(path)
    strips: list[Block] = []
    for kind, paths in kinds.items():
        ends = list(dict.fromkeys((paths[0], paths[-1])))
        frames = [np.asarray(Image.open(path).convert("RGB")) for path in ends]
        if len({frame.shape for frame in frames}) > 1:
            ends, frames = ends[1:], frames[1:]
        name = kind.replace("_", " ")
        strip = FilmStrip(
            rows={"": np.stack(frames)},
            columns=[f"step {int(path.stem.rpartition('_')[2])}" for path in ends],
            alt=f"{name} at the first and the last measurement",
            caption=f"{name.capitalize()}, at the first and the last measurement.",
        )
        strips.append(strip)
    return strips


def _pace(curves: Mapping[str, Curve]) -> Block:
    from echofm.report.blocks import Prose

    pace = sorted(value for _, value in curves.get("clips_per_s", [])[1:])
    return Prose(f"Half of the time faster than {pace[len(pace) // 2]:.3g} clips a second." if pace else "No pace yet.")
