"""fit_head: heads on the training patients, the one that tells validation patients apart best is kept.

M samples, K components, E features out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from echofm.embed.table import EmbeddingTable
from echofm.engine.config import half_cosine
from echofm.errors import EchofmError
from synth.audit.reid.discriminant import discriminants, weights_L
from synth.audit.reid.head import WIDTH, Head
from synth.audit.reid.loss import SiamesePairs, supervised_contrastive
from synth.audit.reid.prepare import Positives, Preparation, Prepared, names
from synth.audit.reid.samples import BINS, Level, source_of
from synth.audit.reid.verify import area, fewer_patients

Loss = Literal["supcon", "siamese"]


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How heads are trained.

    Of components, shrink and directions all combinations are tried as linear discriminants, in closed form; from the
    best, heads of every `hidden` and `weight_decay` are trained. init "random" leaves the discriminants out.

    loss: "supcon" (arXiv 2004.11362) or the published "siamese" pairs (arXiv 2406.00808).
    positives: "view" brings a patient's clips of one view together, "patient" those of different views as well.
    components: principal components in. shrink, directions: see `discriminants`. hidden: width of the network beside
    the linear map, 0 for none. weight_decay: of AdamW.
    dropout: of components. steps: at most; the best of twenty looks on the way is kept. patients_per_batch: or of
    views of a patient. samples_per_patient: from different clips where there are.
    """

    loss: Loss = "supcon"
    positives: Positives = "view"
    init: Literal["discriminants", "random"] = "discriminants"
    components: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    shrink: tuple[float, ...] = (0.001, 0.01, 0.1, 0.3)
    directions: tuple[int, ...] = (8, 16, 32, 48, 64, 128)
    hidden: tuple[int, ...] = (0, 256)
    weight_decay: tuple[float, ...] = (0.1,)
    dropout: float = 0.1
    steps: int = 600
    patients_per_batch: int = 128
    samples_per_patient: int = 2
    learning_rate: float = 5e-4
    temperature: float = 0.1
    bins: int = BINS
    seed: int = 0

    def __post_init__(self) -> None:
        if min(*self.components, self.steps, self.bins) < 1 or min(self.hidden) < 0 or self.samples_per_patient < 2:
            raise EchofmError(
                "components, steps and bins must be positive, hidden not negative, samples_per_patient at least 2"
            )
        if not 0 <= self.dropout < 1:
            raise EchofmError("dropout must lie from 0 to below 1")
        if not all(0 < shrink <= 1 for shrink in self.shrink) or not all(1 <= d <= WIDTH for d in self.directions):
            raise EchofmError(f"shrink must lie above 0 and up to 1, directions from 1 to {WIDTH}")

    @property
    def tries(self) -> int:
        """Heads that are trained at each level."""
        begins = 1 if self.init == "discriminants" else len(self.components)
        return begins * len(self.hidden) * len(self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One combination of what is tried, and the step and validation AUC at which it was best."""

    components: int
    hidden: int
    weight_decay: float
    step: int
    validation_auc: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """The kept head, how its samples are made, what was chosen, and all that was tried."""

    head: Head
    preparation: Preparation
    choice: Choice
    tried: tuple[Choice, ...]


def fit_head(
    train: EmbeddingTable,
    validation: EmbeddingTable,
    level: Level,
    *,
    options: FitOptions,
    advance: Callable[[str], None] = lambda note: None,
) -> Fitted:
    """Train a head at one level. Validation: AUC across acquisitions, within one where no patient has two clips.

    Of very many validation clips a drawn part of the patients is taken, as in `measure`: every look compares all pairs.
    The same tables, options and machine give the same weights. Raises EchofmError where nothing can be paired.
    """
    few = fewer_patients(names(validation.patient_id), seed=options.seed)
    validation = validation if few.all() else validation.select(few)
    with _one_thread():
        preparation = Preparation.of(
            train,
            level,
            source=source_of(train, level),
            bins=options.bins,
            components=max(options.components),
            seed=options.seed,
        )
        learn, check = preparation.prepared(train), preparation.prepared(validation)
        group_M = learn.group_M(options.positives)
        if (np.bincount(group_M, minlength=1) < 2).all():
            raise EchofmError(
                f"no patient has two samples at the {level} level, so nothing can meet; "
                "embed with --tokens 4,7,7, which gives every clip several"
            )
        best: tuple[Choice, Head] | None = None
        tried = []
        begins = _begins(preparation, learn, check, group_M, options)
        for begin, hidden, decay in itertools.product(begins, options.hidden, options.weight_decay):
            head = begin.head(preparation, hidden=hidden, options=options)
            choice = _train(head, learn, check, group_M, decay=decay, hidden=hidden, options=options)
            tried.append(choice)
            if best is None or choice.validation_auc > best[0].validation_auc:
                best = choice, head
            advance(f"{level}: validation AUC {best[0].validation_auc:.4f}")
    assert best is not None
    return Fitted(head=best[1], preparation=preparation, choice=best[0], tried=tuple(tried))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Begin:
    """Where a head begins: at linear discriminants of so many components, or (None) at random."""

    components: int
    discriminants: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None

    def head(self, preparation: Preparation, *, hidden: int, options: FitOptions) -> Head:
        leading = preparation.components.leading(self.components)
        head = Head(leading, hidden=hidden, dropout=options.dropout, seed=options.seed)
        if self.discriminants is not None:
            head.begin_at(*self.discriminants)
        return head


def _begins(
    preparation: Preparation, learn: Prepared, check: Prepared, group_M: npt.NDArray[np.int64], options: FitOptions
) -> list[_Begin]:
    """The discriminants that tell validation patients apart best; begun at random, every number of components."""
    most = len(preparation.components.scale_K)
    widths = sorted({min(width, most) for width in options.components})
    if options.init == "random":
        return [_Begin(components=width) for width in widths]
    best: tuple[float, _Begin] | None = None
    component_MK = learn.component_MK.numpy()
    for width, shrink in itertools.product(widths, options.shrink):
        map_LK, mean_K = discriminants(
            component_MK[:, :width], group_M, shrink=shrink, directions=max(options.directions)
        )
        # Weighed, or noise in weak directions counts as much as the patient in strong ones.
        map_LK = weights_L((component_MK[:, :width] - mean_K) @ map_LK.T, learn.clip_M, group_M)[:, None] * map_LK
        for directions in sorted({min(each, len(map_LK)) for each in options.directions}):
            begin = _Begin(components=width, discriminants=(map_LK[:directions], mean_K))
            auc = validation_auc(begin.head(preparation, hidden=0, options=options), check)
            if best is None or auc > best[0]:
                best = auc, begin
    assert best is not None
    return [best[1]]


def _train(
    head: Head,
    learn: Prepared,
    check: Prepared,
    group_M: npt.NDArray[np.int64],
    *,
    decay: float,
    hidden: int,
    options: FitOptions,
) -> Choice:
    """Train in place; ends with the weights of the best look."""
    draw, rng = torch.Generator().manual_seed(options.seed), np.random.default_rng([options.seed, 1])
    pairs = SiamesePairs(WIDTH, seed=options.seed) if options.loss == "siamese" else None
    trained = [*head.trained(), *(pairs.parameters() if pairs is not None else ())]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=decay)
    looks = set(np.linspace(0, options.steps, min(20, options.steps) + 1).round().astype(int).tolist()) - {0}
    # What it begins at counts as well: training may make it worse.
    best_auc, best_step, kept = validation_auc(head, check), 0, _copy(head)
    drawn = endless_batches(
        group_M, learn.clip_M, groups=options.patients_per_batch, each=options.samples_per_patient, rng=rng
    )
    for step, rows in zip(range(1, options.steps + 1), drawn):
        head.train()
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * half_cosine((step - 1) / options.steps)
        unit_ME = head.from_components(learn.component_MK[rows, : head.inputs], draw=draw)
        together = torch.from_numpy(group_M[rows])
        if pairs is None:
            loss = supervised_contrastive(unit_ME, together, temperature=options.temperature)
        else:
            loss = pairs.loss(unit_ME * WIDTH**0.5, together, draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in looks:
            auc = validation_auc(head, check)
            if auc > best_auc:
                best_auc, best_step, kept = auc, step, _copy(head)
    head.load_state_dict(kept)
    head.eval()
    return Choice(components=head.inputs, hidden=hidden, weight_decay=decay, step=best_step, validation_auc=best_auc)


def _copy(head: Head) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in head.state_dict().items()}


def validation_auc(head: Head, check: Prepared) -> float:
    """AUC across acquisitions, else within one. Raises EchofmError where the validation clips allow neither."""
    feature_ME = check.projected(head)
    whole = check.recordings(feature_ME, None)
    found = area(whole, whole, setting="across acquisitions")
    if found is None:
        found = area(*check.halves(feature_ME), setting="within acquisition")
    if found is None:
        raise EchofmError(
            "the validation patients offer no pair of clips or of parts of a clip, so no head can be chosen; "
            "give more validation patients or embed with --tokens 4,7,7"
        )
    return found


def endless_batches(
    group_M: npt.NDArray[np.int64],
    clip_M: npt.NDArray[np.int64],
    *,
    groups: int,
    each: int,
    rng: np.random.Generator,
) -> Iterator[npt.NDArray[np.int64]]:
    """Epoch after epoch of `batches`."""
    while True:
        yield from batches(group_M, clip_M, groups=groups, each=each, rng=rng)


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
