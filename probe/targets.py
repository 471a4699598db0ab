"""One target of a probe command: which probe answers it, and which baselines stand beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.checks.embedding import with_checks
from probe.labels.baselines import pixel_pca
from probe.labels.features import Features
from probe.maker import MOMENT_PIXELS, PIXELS, Gathered
from probe.result import Check, Kind, Probed, ProbeResult

if TYPE_CHECKING:
    from echofm.shards.read import ShardSet

RETRIEVAL, LV_AREA = "retrieval:", "retrieval:lv_area"


@dataclass(frozen=True, kw_only=True)
class Ask:
    """target: a label, `view`, `kind`, `phase`, `mask`, or `retrieval:` and patient, view or phase.

    data, test_on: the shards that masks are read from. The rest is as `probe.labels.evaluate.evaluate` takes it.
    """

    target: str
    kind: Kind = "linear"
    task: Any = None
    order: tuple[str, ...] = ()
    features: Features = "auto"
    label_fractions: tuple[float, ...] = (1.0,)
    seeds: int = 5
    draws: int = 1000
    seed: int = 0
    data: Path | None = None
    test_on: Path | None = None
    advance: Callable[[str], None] = lambda note: None


def probe_target(ask: Ask, gathered: Gathered, *, checks: Sequence[Check] = ()) -> Probed:
    """Probe it, with what was found of encoder and table (`checks`) in the result.

    Raises EchofmError where the table or the data cannot answer.
    """
    # A label of that name wins: somebody may have a column "phase".
    if ask.target in gathered.table.rows.columns:
        probed = _label(ask, gathered)
    elif ask.target == "phase":
        probed = _phase(ask, gathered)
    elif ask.target == "mask":
        probed = _mask(ask, gathered)
    elif ask.target.startswith(RETRIEVAL):
        probed = _retrieval(ask, gathered)
    else:
        probed = _label(ask, gathered)
    notes = [check.says for check in checks if check.name == "time" and check.passed is None]
    result = probed.result
    if result.task in ("phase", "retrieval", "segmentation") and (unused := _for_labels(ask, result)):
        notes.append(f"{', '.join(unused)}: for labels of clips alone, and not used here")
    result = result.model_copy(
        update={
            "sanity": with_checks(result.sanity, checks),
            "notes": [*notes, *result.notes],
        }
    )
    return replace(probed, result=result)


def _for_labels(ask: Ask, result: ProbeResult) -> list[str]:
    """Options given that only a probe of a clip's label heeds."""
    given = {
        "--label-fractions": set(ask.label_fractions) != {1.0},
        "--kind": ask.kind != "linear" and result.task != "segmentation",
        "--features": ask.features != "auto",
        "--task": ask.task is not None,
    }
    return [option for option, there in given.items() if there]


def steps_of(ask: Ask, gathered: Gathered) -> int:
    """How many times `probe_target` calls `advance`, for a progress bar; of a mask about as many."""
    from probe.labels.evaluate import fits_of

    baselines = len(gathered.rivals) + (gathered.pixels is not None)
    if ask.target in ("phase", "mask") or ask.target.startswith(RETRIEVAL):
        return (2 if ask.target == "mask" else 1) * (1 + baselines)
    return fits_of(kind=ask.kind, label_fractions=ask.label_fractions, seeds=ask.seeds, baselines=baselines)


def _label(ask: Ask, gathered: Gathered) -> Probed:
    from probe.labels.evaluate import evaluate

    baselines: dict[str, EmbeddingTable] = dict(gathered.rivals)
    if gathered.pixels is not None and ask.kind == "attentive":
        # Not reduced: the pixels' table has no tokens, and their one vector is read as one (the result says so).
        baselines[MOMENT_PIXELS] = gathered.pixels
    elif gathered.pixels is not None:
        baselines[PIXELS] = pixel_pca(
            gathered.pixels,
            target=ask.target,
            task=ask.task,
            order=ask.order,
            test_clips=gathered.test_clips,
            seed=ask.seed,
        )
    return evaluate(
        gathered.table,
        target=ask.target,
        kind=ask.kind,
        task=ask.task,
        order=ask.order,
        features=ask.features,
        label_fractions=ask.label_fractions,
        seeds=ask.seeds,
        draws=ask.draws,
        baselines=baselines,
        test_clips=gathered.test_clips,
        seed=ask.seed,
        advance=ask.advance,
    )


def _phase(ask: Ask, gathered: Gathered) -> Probed:
    from probe.phase.events import end_systole_phase
    from probe.phase.probe import probe_phase

    systole = None
    if gathered.clips is not None:
        found = ((clip.clip_id, end_systole_phase(clip)) for clip in gathered.clips())
        systole = {clip_id: phase for clip_id, phase in found if phase is not None}
    baselines = _timed_tables(gathered)
    return probe_phase(
        gathered.table, systole=systole, baselines=baselines, draws=ask.draws, seed=ask.seed, advance=ask.advance
    )


def _retrieval(ask: Ask, gathered: Gathered) -> Probed:
    from probe.retrieval.probe import What, probe_retrieval

    if ask.target == LV_AREA:
        return _lv_area(ask, gathered)
    what: What = ask.target.removeprefix(RETRIEVAL)  # type: ignore[assignment]
    if what not in get_args(What):
        raise EchofmError(f"--target {ask.target}: retrieval is of {', '.join(get_args(What))}, lv_area")
    baselines = _timed_tables(gathered) if what == "phase" else dict(gathered.rivals)
    if what != "phase" and gathered.pixels is not None:
        baselines[MOMENT_PIXELS] = gathered.pixels
    return probe_retrieval(
        gathered.table, what=what, baselines=baselines, draws=ask.draws, seed=ask.seed, advance=ask.advance
    )


def _mask(ask: Ask, gathered: Gathered) -> Probed:
    from probe.segmentation.probe import probe_segmentation

    encoder, shards = _with_masks(ask, gathered)
    if ask.kind not in ("linear", "upsampling"):
        raise EchofmError(f"--target mask: a {ask.kind} head cannot say masks; take --kind linear or upsampling")
    return probe_segmentation(
        encoder,
        shards,
        head=ask.kind,
        baselines=cast(Any, gathered.rival_encoders),
        device=gathered.device,
        draws=ask.draws,
        seed=ask.seed,
        advance=ask.advance,
    )


def _lv_area(ask: Ask, gathered: Gathered) -> Probed:
    from probe.retrieval.lv_area_probe import probe_lv_area

    encoder, shards = _with_masks(ask, gathered)
    return probe_lv_area(
        encoder,
        shards,
        gathered.table,
        test_on=None if ask.test_on is None else _shards(ask, ask.test_on),
        baselines=cast(Any, gathered.rival_encoders),
        device=gathered.device,
        draws=ask.draws,
        seed=ask.seed,
        advance=ask.advance,
    )


def _with_masks(ask: Ask, gathered: Gathered) -> tuple[Any, ShardSet]:
    """The encoder, and the shards that masks are read from."""
    if gathered.encoder is None or ask.data is None:
        raise EchofmError(
            f"--target {ask.target}: masks are pixels, which a table has not; give an encoder and --data SHARDS"
        )
    return gathered.encoder, _shards(ask, ask.data)


def _shards(ask: Ask, folder: Path) -> ShardSet:
    from echofm.shards.manifest import MANIFEST
    from echofm.shards.read import ShardSet

    if not (folder / MANIFEST).is_file():
        raise EchofmError(
            f"--target {ask.target}: masks are read from shards; write the data with `echofm shards` first"
        )
    return ShardSet.open(folder, show_progress=False)


def _timed_tables(gathered: Gathered) -> dict[str, EmbeddingTable]:
    """The baselines that have tokens by time, and the pixels of the same frames."""
    from probe.phase.pixels import pixel_table

    baselines = {name: table for name, table in gathered.rivals.items() if table.phase is not None}
    if gathered.pixels is not None and gathered.clips is not None and gathered.table.phase is not None:
        baselines[MOMENT_PIXELS] = pixel_table(gathered.table, gathered.clips())
    return baselines
