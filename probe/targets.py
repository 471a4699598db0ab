"""One target of a probe command: what is wrong with it, which probe answers it, which baselines stand beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from echofm.embed.rows import COLUMNS
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError, UnreadableFile
from echofm.readers.datasets.labels import has_unit, number
from echofm.shards.manifest import MANIFEST, read_manifest
from probe.baselines import pixel_pca
from probe.checks.embedding import with_checks
from probe.inputs import ProbeInputs
from probe.labels.evaluate import evaluate, fits_of, require_clip_kind
from probe.labels.features import Features, feature_choices
from probe.labels.folds import folds
from probe.labels.target import read_goal, read_target
from probe.names import PIXEL_PCA, PIXELS
from probe.perturb import replaced
from probe.result import Check, Kind, Probed, ProbeResult
from probe.retrieval.probe import What, probe_retrieval

if TYPE_CHECKING:
    from echofm.shards.read import ShardSet

# What is asked of time points, of pixels and of pairs, not of a clip's label.
_RETRIEVAL, _LV_AREA, _ED_ES = "retrieval:", "retrieval:lv_area", "ed_es"
_OTHERS = ("phase", "mask", _ED_ES, _LV_AREA, *(f"{_RETRIEVAL}{what}" for what in get_args(What)))
# File systems take 255 bytes a name; of a longer one so many characters and a hash are kept.
_LONGEST_BYTES, _KEPT = 200, 48


@dataclass(frozen=True, kw_only=True)
class ProbeRequest:
    """target: a label, `view`, `kind`, `phase`, `mask`, or `retrieval:` and patient, view, phase or lv_area.

    data, test_on: the shards that masks are read from. perturbed: by perturbation and method, test
    clips, as `probe.perturb.with_perturbed` adds them. The rest is as `probe.labels.evaluate.evaluate` takes it.
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
    cross_validate: int | None = None
    data: Path | None = None
    test_on: Path | None = None
    perturbed: Mapping[str, Mapping[str, EmbeddingTable]] = field(default_factory=dict)
    advance: Callable[[str], None] = lambda note: None

    def asked(self, *names: str, seed: bool = True) -> dict[str, Any]:
        """Some of it, as the probes' functions take it."""
        return {name: getattr(self, name) for name in (*names, *(["seed"] if seed else []))}

    def is_label(self, columns: Sequence[str] = ()) -> bool:
        """Whether a clip's label is asked for; a column of that name wins: somebody may have a column "phase".

        Raises EchofmError on a retrieval that there is none of.
        """
        if self.target in columns:
            return True
        if self.target.startswith(_RETRIEVAL) and self.target not in _OTHERS:
            raise EchofmError(f"--target {self.target}: retrieval is of {', '.join(get_args(What))}, lv_area")
        return self.target not in _OTHERS


def target_folder(out: Path, target: str) -> Path:
    """The folder of a target's result, made. Raises EchofmError where it cannot be."""
    name = target.replace(":", "-")
    if len(name.encode()) > _LONGEST_BYTES:
        name = f"{name[:_KEPT]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    try:
        (out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EchofmError(f"--out {out}: no folder can be made there ({error.strerror}); name another") from None
    return out / name


@contextmanager
def target_folders(out: Path, targets: Sequence[str]) -> Iterator[dict[str, Path]]:
    """`target_folder` of each target; where nothing comes into them they are gone afterwards."""
    new = not out.exists()
    folders = {target: target_folder(out, target) for target in targets}
    try:
        yield folders
    finally:
        for folder in (*folders.values(), *([out] if new else [])):
            with suppress(OSError):
                folder.rmdir()


def check_before_embedding(
    requests: Sequence[ProbeRequest], *, data: Sequence[Path], own: Collection[str] = ()
) -> None:
    """Raises EchofmError on a target that an encoder's table over the data cannot have.

    data: all that is to be embedded; a second one is another set to test on. The labels of shards are known; those of
    a folder are when it is read. own: names of the labels that the user's own table adds.
    """
    known = [set(read_manifest(each).labels) for each in data if (each / MANIFEST).is_file()]
    for request in requests:
        if len(data) > 1 and request.cross_validate is not None:
            raise EchofmError("--cross-validate tests every patient of one set; leave out --test-on, or it")
        if not request.is_label():
            _require_one_set(request, others=len(data) > 1)
            continue
        require_clip_kind(request.kind)
        if request.order and has_unit(request.target) and any(number(word) is None for word in request.order):
            raise EchofmError(f"--order is of words that are levels, and {request.target} is a number; leave it out")
        for labels in known:
            strange = [name for name in request.target.split("+") if name not in {*labels, *COLUMNS, *own}]
            if strange:
                raise EchofmError(
                    f"--target {request.target}: the shards have no label {strange[0]!r}; they have: "
                    f"{', '.join(sorted(labels)) or 'none'}"
                )


def check_before_probing(requests: Sequence[ProbeRequest], inputs: ProbeInputs) -> None:
    """Raises EchofmError on a clip's label that the table cannot answer, before the first probe of any target."""
    for request in requests:
        if not request.is_label(inputs.table.rows.columns):
            _require_one_set(request, others=inputs.test_clips is not None)
            continue
        require_clip_kind(request.kind)
        try:
            _read(inputs.table, request, inputs.test_clips)
        except EchofmError as error:
            # It speaks of "this label", and several may be asked for.
            raise EchofmError(f"--target {request.target}: {error}") from None
        feature_choices(inputs.table, request.features, kind=request.kind)


def _read(table: EmbeddingTable, request: ProbeRequest, test_clips: Collection[str] | None) -> None:
    """Raises EchofmError where the target or its splits cannot be had."""
    if request.cross_validate is None:
        read_goal(table, request.target, test_clips=test_clips, **request.asked("task", "order"))
        return
    goal = read_target(table, request.target, **request.asked("task", "order", seed=False))
    folds(table, goal, count=request.cross_validate, repeats=1, seed=request.seed)


def _require_one_set(request: ProbeRequest, *, others: bool) -> None:
    if others and request.target not in (_LV_AREA, _ED_ES):
        raise EchofmError(f"--test-on is for labels of clips; ask for {request.target} on the other set by itself")


def probe_target(request: ProbeRequest, inputs: ProbeInputs, *, checks: Sequence[Check] = ()) -> Probed:
    """Probe it, with what was found of encoder and table (`checks`) in the result.

    Raises EchofmError where the table or the data cannot answer.
    """
    probes = {"phase": _phase, "mask": _mask, _ED_ES: _ed_es, _LV_AREA: _lv_area}
    is_label = request.is_label(inputs.table.rows.columns)
    probed = (_label if is_label else probes.get(request.target, _retrieval))(request, inputs)
    result = probed.result
    notes = [check.says for check in checks if check.name == "time" and check.passed is None]
    if not is_label and (unused := _for_labels(request, result)):
        notes.append(f"{', '.join(unused)}: for labels of clips alone, and not used here")
    update = {
        "encoder": inputs.name,
        "data": inputs.data,
        "sanity": with_checks(result.sanity, checks),
        "notes": [*notes, *result.notes],
    }
    return replace(probed, result=result.model_copy(update=update))


def _for_labels(request: ProbeRequest, result: ProbeResult) -> list[str]:
    """Options given that only a probe of a clip's label heeds."""
    given = {
        "--label-fractions": set(request.label_fractions) != {1.0},
        "--kind": request.kind != "linear" and result.task != "segmentation",
        "--features": request.features != "auto",
        "--task": request.task is not None,
        "--cross-validate": request.cross_validate is not None,
    }
    return [option for option, there in given.items() if there]


def steps_of(request: ProbeRequest, inputs: ProbeInputs) -> int:
    """How many times `probe_target` calls `advance`, for a progress bar; of a mask about as many."""
    baselines = len(inputs.baselines) + (inputs.pixels is not None)
    if not request.is_label():
        return (2 if request.target == "mask" else 1 + len(request.perturbed)) * (1 + baselines)
    return fits_of(
        baselines=baselines,
        perturbed=len(request.perturbed),
        **request.asked("kind", "label_fractions", "seeds", "cross_validate", seed=False),
    )


def _label(request: ProbeRequest, inputs: ProbeInputs) -> Probed:
    asked = request.asked("target", "task", "order") | {"test_clips": inputs.test_clips}
    # An attentive probe reads their one vector, and says so; in a cross-validation every fold reduces them anew.
    folded, pixels = request.cross_validate is not None, PIXELS if request.kind == "attentive" else PIXEL_PCA
    clean = {"probe": inputs.table, **inputs.baselines} | ({} if inputs.pixels is None else {pixels: inputs.pixels})
    perturbed = {name: replaced(clean, tables) for name, tables in request.perturbed.items()}
    for tables in (clean, *perturbed.values()):
        if PIXEL_PCA in tables and not folded:
            tables[PIXEL_PCA] = pixel_pca(tables[PIXEL_PCA], **asked)
    names = ("kind", "features", "label_fractions", "seeds", "draws", "cross_validate", "advance")
    asked |= {"perturbed": perturbed, "reduce": [PIXEL_PCA] if folded else []}
    return evaluate(clean.pop("probe"), baselines=clean, **request.asked(*names, seed=False), **asked)


def _phase(request: ProbeRequest, inputs: ProbeInputs) -> Probed:
    from probe.phase.answers import systole_phases
    from probe.phase.probe import probe_phase

    systole = None if inputs.clips is None else systole_phases(inputs.clips())
    baselines = _timed_tables(inputs)
    clean = {"probe": inputs.table, **baselines}
    perturbed = {name: replaced(clean, tables) for name, tables in request.perturbed.items()}
    asked = request.asked("draws", "advance") | {"perturbed": perturbed}
    return probe_phase(inputs.table, systole=systole, baselines=baselines, **asked)


def _ed_es(request: ProbeRequest, inputs: ProbeInputs) -> Probed:
    from probe.phase.ed_es import probe_ed_es, traced

    if inputs.every is None:
        raise EchofmError("--target ed_es: traced frames are masks, which a table has not; give an encoder and --data")
    read = (each for each in inputs.every(traced) if not isinstance(each, UnreadableFile))
    found = {clip: truth for clip, _, truth in read if truth is not None}
    asked = request.asked("draws", "advance")
    return probe_ed_es(inputs.table, found, baselines=_timed_tables(inputs), test_clips=inputs.test_clips, **asked)


def _retrieval(request: ProbeRequest, inputs: ProbeInputs) -> Probed:
    what: Any = request.target.removeprefix(_RETRIEVAL)
    baselines = _timed_tables(inputs) if what == "phase" else dict(inputs.baselines)
    if what != "phase" and inputs.pixels is not None:
        baselines[PIXELS] = inputs.pixels
    return probe_retrieval(inputs.table, what=what, baselines=baselines, **request.asked("draws", "advance"))


def _mask(request: ProbeRequest, inputs: ProbeInputs) -> Probed:
    from probe.segmentation.probe import probe_segmentation

    encoder, shards = _with_masks(request, inputs)
    if request.kind not in ("linear", "upsampling"):
        raise EchofmError(f"--target mask: a {request.kind} head cannot say masks; take --kind linear or upsampling")
    baselines, asked = cast(Any, inputs.baseline_encoders), request.asked("draws", "advance")
    return probe_segmentation(encoder, shards, head=request.kind, baselines=baselines, device=inputs.device, **asked)


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
        **request.asked("draws", "advance"),
    )


def _with_masks(request: ProbeRequest, inputs: ProbeInputs) -> tuple[Any, ShardSet]:
    """The encoder, and the shards that masks are read from."""
    if inputs.encoder is None or request.data is None:
        raise EchofmError(
            f"--target {request.target}: masks are pixels, which a table has not; give an encoder and --data SHARDS"
        )
    return inputs.encoder, _shards(request, request.data)


def _shards(request: ProbeRequest, folder: Path) -> ShardSet:
    from echofm.shards.read import ShardSet

    if not (folder / MANIFEST).is_file():
        raise EchofmError(
            f"--target {request.target}: masks are read from shards; write the data with `echofm shards` first"
        )
    return ShardSet.open(folder, show_progress=False)


def _timed_tables(inputs: ProbeInputs) -> dict[str, EmbeddingTable]:
    """The baselines that have tokens by time, and the pixels of the same frames."""
    from probe.baselines import pixel_table

    baselines = {name: table for name, table in inputs.baselines.items() if table.phase is not None}
    if inputs.pixels is not None and inputs.clips is not None and inputs.table.phase is not None:
        baselines[PIXELS] = pixel_table(inputs.table, inputs.clips())
    return baselines
