"""One target of a probe command: which probe answers it, and which baselines stand beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.checks.embedding import with_checks
from probe.encoders import PIXEL_PCA, PIXELS
from probe.inputs import ProbeInputs
from probe.labels.baselines import pixel_pca
from probe.labels.features import Features
from probe.result import Check, Kind, Probed, ProbeResult

if TYPE_CHECKING:
    from echofm.shards.read import ShardSet

RETRIEVAL, LV_AREA = "retrieval:", "retrieval:lv_area"


@dataclass(frozen=True, kw_only=True)
class ProbeRequest:
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


def probe_target(request: ProbeRequest, inputs: ProbeInputs, *, checks: Sequence[Check] = ()) -> Probed:
    """Probe it, with what was found of encoder and table (`checks`) in the result.

    Raises EchofmError where the table or the data cannot answer.
    """
    # A label of that name wins: somebody may have a column "phase".
    if request.target in inputs.table.rows.columns:
        probed = _label(request, inputs)
    elif request.target == "phase":
        probed = _phase(request, inputs)
    elif request.target == "mask":
        probed = _mask(request, inputs)
    elif request.target.startswith(RETRIEVAL):
        probed = _retrieval(request, inputs)
    else:
        probed = _label(request, inputs)
    notes = [check.says for check in checks if check.name == "time" and check.passed is None]
    result = probed.result
    if result.task in ("phase", "retrieval", "segmentation") and (unused := _for_labels(request, result)):
        notes.append(f"{', '.join(unused)}: for labels of clips alone, and not used here")
    result = result.model_copy(
        update={
            "sanity": with_checks(result.sanity, checks),
            "notes": [*notes, *result.notes],
        }
    )
    return replace(probed, result=result)


def _for_labels(request: ProbeRequest, result: ProbeResult) -> list[str]:
    """Options given that only a probe of a clip's label heeds."""
    given = {
        "--label-fractions": set(request.label_fractions) != {1.0},
        "--kind": request.kind != "linear" and result.task != "segmentation",
        "--features": request.features != "auto",
        "--task": request.task is not None,
    }
    return [option for option, there in given.items() if there]


def steps_of(request: ProbeRequest, inputs: ProbeInputs) -> int:
    """How many times `probe_target` calls `advance`, for a progress bar; of a mask about as many."""
    from probe.labels.evaluate import fits_of

    baselines = len(inputs.baselines) + (inputs.pixels is not None)
    if request.target in ("phase", "mask") or request.target.startswith(RETRIEVAL):
        return (2 if request.target == "mask" else 1) * (1 + baselines)
    return fits_of(kind=request.kind, label_fractions=request.label_fractions, seeds=request.seeds, baselines=baselines)


def _label(request: ProbeRequest, inputs: ProbeInputs) -> Probed:
    from probe.labels.evaluate import evaluate

    baselines: dict[str, EmbeddingTable] = dict(inputs.baselines)
    if inputs.pixels is not None and request.kind == "attentive":
        # Not reduced: the pixels' table has no tokens, and their one vector is read as one (the result says so).
        baselines[PIXELS] = inputs.pixels
    elif inputs.pixels is not None:
        baselines[PIXEL_PCA] = pixel_pca(
            inputs.pixels,
            target=request.target,
            task=request.task,
            order=request.order,
            test_clips=inputs.test_clips,
            seed=request.seed,
        )
    return evaluate(
        inputs.table,
        target=request.target,
        kind=request.kind,
        task=request.task,
        order=request.order,
        features=request.features,
        label_fractions=request.label_fractions,
        seeds=request.seeds,
        draws=request.draws,
        baselines=baselines,
        test_clips=inputs.test_clips,
        seed=request.seed,
        advance=request.advance,
    )


def _phase(request: ProbeRequest, inputs: ProbeInputs) -> Probed:
    from probe.phase.events import end_systole_phase
    from probe.phase.probe import probe_phase

    systole = None
    if inputs.clips is not None:
        found = ((clip.clip_id, end_systole_phase(clip)) for clip in inputs.clips())
        systole = {clip_id: phase for clip_id, phase in found if phase is not None}
    baselines = _timed_tables(inputs)
    return probe_phase(
        inputs.table,
        systole=systole,
        baselines=baselines,
        draws=request.draws,
        seed=request.seed,
        advance=request.advance,
    )


def _retrieval(request: ProbeRequest, inputs: ProbeInputs) -> Probed:
    from probe.retrieval.probe import What, probe_retrieval

    if request.target == LV_AREA:
        return _lv_area(request, inputs)
    what: What = request.target.removeprefix(RETRIEVAL)  # type: ignore[assignment]
    if what not in get_args(What):
        raise EchofmError(f"--target {request.target}: retrieval is of {', '.join(get_args(What))}, lv_area")
    baselines = _timed_tables(inputs) if what == "phase" else dict(inputs.baselines)
    if what != "phase" and inputs.pixels is not None:
        baselines[PIXELS] = inputs.pixels
    return probe_retrieval(
        inputs.table, what=what, baselines=baselines, draws=request.draws, seed=request.seed, advance=request.advance
    )


def _mask(request: ProbeRequest, inputs: ProbeInputs) -> Probed:
    from probe.segmentation.probe import probe_segmentation

    encoder, shards = _with_masks(request, inputs)
    if request.kind not in ("linear", "upsampling"):
        raise EchofmError(f"--target mask: a {request.kind} head cannot say masks; take --kind linear or upsampling")
    return probe_segmentation(
        encoder,
        shards,
        head=request.kind,
        baselines=cast(Any, inputs.baseline_encoders),
        device=inputs.device,
        draws=request.draws,
        seed=request.seed,
        advance=request.advance,
    )


def _lv_area(request: ProbeRequest, inputs: ProbeInputs) -> Probed:
    from probe.retrieval.lv_area_probe import probe_lv_area

    encoder, shards = _with_masks(request, inputs)
    return probe_lv_area(
        encoder,
        shards,
        inputs.table,
        test_on=None if request.test_on is None else _shards(request, request.test_on),
        baselines=cast(Any, inputs.baseline_encoders),
        device=inputs.device,
        draws=request.draws,
        seed=request.seed,
        advance=request.advance,
    )


def _with_masks(request: ProbeRequest, inputs: ProbeInputs) -> tuple[Any, ShardSet]:
    """The encoder, and the shards that masks are read from."""
    if inputs.encoder is None or request.data is None:
        raise EchofmError(
            f"--target {request.target}: masks are pixels, which a table has not; give an encoder and --data SHARDS"
        )
    return inputs.encoder, _shards(request, request.data)


def _shards(request: ProbeRequest, folder: Path) -> ShardSet:
    from echofm.shards.manifest import MANIFEST
    from echofm.shards.read import ShardSet

    if not (folder / MANIFEST).is_file():
        raise EchofmError(
            f"--target {request.target}: masks are read from shards; write the data with `echofm shards` first"
        )
    return ShardSet.open(folder, show_progress=False)


def _timed_tables(inputs: ProbeInputs) -> dict[str, EmbeddingTable]:
    """The baselines that have tokens by time, and the pixels of the same frames."""
    from probe.phase.pixels import pixel_table

    baselines = {name: table for name, table in inputs.baselines.items() if table.phase is not None}
    if inputs.pixels is not None and inputs.clips is not None and inputs.table.phase is not None:
        baselines[PIXELS] = pixel_table(inputs.table, inputs.clips())
    return baselines
