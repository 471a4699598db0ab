"""fit_head: heads on the training patients, the one that tells validation patients apart best is kept.

M samples, K components, E features out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from echofm.embed.table import EmbeddingTable
from echofm.engine.config import half_cosine
from echofm.errors import EchofmError
from synth.audit.reid.config import LevelConfig
from synth.audit.reid.discriminant import discriminants, weights_L
from synth.audit.reid.head import Components, Head, SiamesePairs, supervised_contrastive
from synth.audit.reid.model import LevelModel
from synth.audit.reid.options import WIDTH, FitOptions, Positives
from synth.audit.reid.samples import FIRST, SECOND, WHOLE, Samples, Sampling, blocks
from synth.audit.reid.verify import area, fewer_patients
from synth.audit.sets import text
from synth.audit.settings import Level

# Components and template are found on so many clips at most.
_MOST_CLIPS = 3000


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """A table and its samples as components, (M, K)."""

    table: EmbeddingTable
    samples: Samples

    @classmethod
    def of(cls, table: EmbeddingTable, sampling: Sampling, components: Components) -> _Seen:
        parts: list[Samples] = []
        for first, block in blocks(table):
            found = sampling.samples(block)
            with torch.no_grad():
                component_MK = components(torch.from_numpy(np.array(found.feature_MD))).numpy()
            parts.append(replace(found, feature_MD=component_MK, clip_M=first + found.clip_M))
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
        return cls(table=table, samples=Samples(**joined))

    def group_M(self, positives: Positives) -> npt.NDArray[np.int64]:
        """Samples of equal number shall meet: those of one patient, or of one patient in one view."""
        names = text(self.table.patient_id)
        if positives == "view":
            names = np.array([f"{patient}\0{view}" for patient, view in zip(names, text(self.table.view))])
        return np.unique(names, return_inverse=True)[1][self.samples.clip_M]

    def auc(self, head: Head) -> float:
        """Across acquisitions, else within one. Raises EchofmError where the clips allow neither."""
        head.eval()
        with torch.no_grad():
            feature_ME = head.from_components(torch.from_numpy(self.samples.feature_MD[:, : head.inputs])).numpy()
        whole = self.samples.recordings(self.table, feature_ME, WHOLE)
        found = area(whole, whole, setting="across acquisitions")
        if found is None:
            halves = (self.samples.recordings(self.table, feature_ME, part) for part in (FIRST, SECOND))
            found = area(*halves, setting="within acquisition")
        if found is None:
            raise EchofmError(
                "the validation patients offer no pair of clips or of parts of a clip, so no head can be chosen; "
                "give more validation patients or embed with --tokens 4,7,7"
            )
        return found


def fit_head(
    train: EmbeddingTable,
    validation: EmbeddingTable,
    level: Level,
    *,
    options: FitOptions,
    advance: Callable[[str], None] = lambda note: None,
) -> LevelModel:
    """Train a head at one level. Validation: AUC across acquisitions, within one where no patient has two clips.

    Of very many validation clips a drawn part of the patients is taken, as in `measure`: every look compares all pairs.
    The same tables, options and machine give the same weights. Raises EchofmError where nothing can be paired.
    """
    few = fewer_patients(text(validation.patient_id), seed=options.seed)
    validation = validation if few.all() else validation.select(few)
    with _one_thread():
        drawn = train.select(np.sort(np.random.default_rng(options.seed).permutation(len(train))[:_MOST_CLIPS]))
        sampling = Sampling.learned(drawn, level, bins=options.bins)
        components = Components.of(
            sampling.samples(drawn).feature_MD, components=max(options.components), seed=options.seed
        )
        learn, check = (_Seen.of(table, sampling, components) for table in (train, validation))
        group_M = learn.group_M(options.positives)
        if (np.bincount(group_M, minlength=1) < 2).all():
            raise EchofmError(
                f"no patient has two samples at the {level} level, so nothing can meet; "
                "embed with --tokens 4,7,7, which gives every clip several"
            )
        best: LevelModel | None = None
        begins = _begins(components, learn, check, group_M, options)
        for begin, hidden, decay in itertools.product(begins, options.hidden, options.weight_decay):
            head = begin.head(components, hidden=hidden, options=options)
            step, auc = _train(head, learn, check, group_M, decay=decay, options=options)
            if best is None or auc > best.config.validation_auc:
                config = LevelConfig(
                    level=level,
                    source=sampling.source,
                    bins=sampling.bins,
                    features=len(components.mean_D),
                    components=head.inputs,
                    hidden=hidden,
                    weight_decay=decay,
                    step=step,
                    validation_auc=auc,
                )
                best = LevelModel(config=config, head=head, sampling=sampling)
            advance(f"{level}: validation AUC {best.config.validation_auc:.4f}")
    assert best is not None
    return best


@dataclass(frozen=True, kw_only=True, eq=False)
class _Begin:
    """Where a head begins: at linear discriminants of so many components, or (None) at random."""

    components: int
    discriminants: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None

    def head(self, components: Components, *, hidden: int, options: FitOptions) -> Head:
        head = Head(components.leading(self.components), hidden=hidden, dropout=options.dropout, seed=options.seed)
        if self.discriminants is not None:
            head.begin_at(*self.discriminants)
        return head


def _begins(
    components: Components, learn: _Seen, check: _Seen, group_M: npt.NDArray[np.int64], options: FitOptions
) -> list[_Begin]:
    """The discriminants that tell validation patients apart best; begun at random, every number of components."""
    most = len(components.scale_K)
    widths = sorted({min(width, most) for width in options.components})
    if options.init == "random":
        return [_Begin(components=width) for width in widths]
    best: tuple[float, _Begin] | None = None
    component_MK = learn.samples.feature_MD
    for width, shrink in itertools.product(widths, options.shrink):
        map_LK, mean_K = discriminants(
            component_MK[:, :width], group_M, shrink=shrink, directions=max(options.directions)
        )
        # Weighed, or noise in weak directions counts as much as the patient in strong ones.
        map_LK = (
            weights_L((component_MK[:, :width] - mean_K) @ map_LK.T, learn.samples.clip_M, group_M)[:, None] * map_LK
        )
        for directions in sorted({min(each, len(map_LK)) for each in options.directions}):
            begin = _Begin(components=width, discriminants=(map_LK[:directions], mean_K))
            auc = check.auc(begin.head(components, hidden=0, options=options))
            if best is None or auc > best[0]:
                best = auc, begin
    assert best is not None
    return [best[1]]


def _train(
    head: Head,
    learn: _Seen,
    check: _Seen,
    group_M: npt.NDArray[np.int64],
    *,
    decay: float,
    options: FitOptions,
) -> tuple[int, float]:
    """Train in place; ends with the weights of the best look. Its step and validation AUC."""
    component_MK = torch.from_numpy(learn.samples.feature_MD)
    draw, rng = torch.Generator().manual_seed(options.seed), np.random.default_rng([options.seed, 1])
    pairs = SiamesePairs(WIDTH, seed=options.seed) if options.loss == "siamese" else None
    trained = [*head.trained(), *(pairs.parameters() if pairs is not None else ())]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=decay)
    looks = set(np.linspace(0, options.steps, min(20, options.steps) + 1).round().astype(int).tolist()) - {0}
    # What it begins at counts as well: training may make it worse.
    best_auc, best_step, kept = check.auc(head), 0, _copy(head)
    sizes = {"groups": options.patients_per_batch, "each": options.samples_per_patient}
    epochs = (batches(group_M, learn.samples.clip_M, **sizes, rng=rng) for _ in itertools.count())
    drawn = itertools.chain.from_iterable(epochs)
    for step, rows in zip(range(1, options.steps + 1), drawn):
        head.train()
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * half_cosine((step - 1) / options.steps)
        unit_ME = head.from_components(component_MK[rows, : head.inputs], draw=draw)
        together = torch.from_numpy(group_M[rows])
        if pairs is None:
            loss = supervised_contrastive(unit_ME, together, temperature=options.temperature)
        else:
            loss = pairs.loss(unit_ME * WIDTH**0.5, together, draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in looks:
            auc = check.auc(head)
            if auc > best_auc:
                best_auc, best_step, kept = auc, step, _copy(head)
    head.load_state_dict(kept)
    head.eval()
    return best_step, best_auc


def _copy(head: Head) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in head.state_dict().items()}


def batches(
    group_M: npt.NDArray[np.int64],
    clip_M: npt.NDArray[np.int64],
    *,
    groups: int,
    each: int,
    rng: np.random.Generator,
) -> Iterator[npt.NDArray[np.int64]]:
    """Row numbers of one epoch's batches: `groups` groups of two samples or more, `each` samples of each.

    A group's samples come from as many clips as it has: parts of one clip share its gain and its speckle, and a head
    that only ever brings those together learns these and not the patient.
    """
    order = np.lexsort((rng.random(len(group_M)), clip_M, group_M))
    clip, group = clip_M[order], group_M[order]
    starts = np.flatnonzero(np.append(True, (clip[1:] != clip[:-1]) | (group[1:] != group[:-1])))
    nth = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    order = order[np.lexsort((rng.random(len(order)), nth, group))]
    sizes = np.bincount(group_M)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    usable = rng.permutation(np.flatnonzero(sizes >= 2))
    for begin in range(0, len(usable), groups):
        chosen = usable[begin : begin + groups]
        if len(chosen) == 1 and begin > 0:
            return
        yield np.concatenate([order[first[one] : first[one] + min(each, sizes[one])] for one in chosen])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, whatever the number of cores: the same command gives the same bytes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
