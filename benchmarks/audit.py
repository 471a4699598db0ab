"""`python -m benchmarks.audit`: the audit's search and the whole audit, against the published rule's code path.

The published path (written here) holds the Pearson correlations of all synthetic with all training vectors, and of all
training with all held-out ones, as matrices; whole they need 45 GB at the default sizes, so they are computed a block
of rows at a time into a matrix on disk or, as here, dropped after their maxima are taken.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import tyro

from benchmarks.timing import header
from echofm.embed.table import EmbeddingTable
from echofm.machine import peak_memory_bytes
from echofm.nearest import nearest
from synth.audit.assess import audit
from synth.audit.settings import AuditSettings
from synth.audit.statistics.calibrate import conformal_p, flagged, published_threshold, q_values
from synth.audit.statistics.search import ApproximateIndex

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Sizes, and what to run."""

    synthetic: int = 10_000
    train: int = 100_000
    holdout: int = 10_000
    width: int = 768
    threads: int = 2
    large: int = 0
    """Rows of a mapped training set searched exactly and by IVF-PQ; e.g. 1000000."""
    queries: int | None = None
    """Mapped queries of the IVF-PQ search, a tenth of them near a training row; by default as many as `synthetic`. The
    first `synthetic` are searched exactly as well."""
    decay: float = 0.5
    """Of the mapped vectors' spread: the i-th direction's is i ** -decay, as directions of embeddings are not alike."""
    folder: Path | None = None
    """Where the mapped sets lie; by default the temporary folder."""
    whole: bool = True
    """Also time the whole audit with all attacks."""


def vectors(rows: int, width: int, seed: int, patients: int | None = None, *, decay: float = 0.0) -> Floats:
    """Patients as points, clips around them; written block by block so that memory holds one copy."""
    spread_D = np.arange(1, width + 1, dtype=np.float32) ** -decay
    rng = np.random.default_rng(seed)
    identity = rng.standard_normal((patients or rows, width), np.float32)
    drawn = np.empty((rows, width), np.float32)
    for first in range(0, rows, 8192):
        part = slice(first, min(first + 8192, rows))
        chosen = np.arange(part.start, part.stop) % len(identity)
        noise = rng.standard_normal((part.stop - part.start, width), np.float32)
        drawn[part] = (identity[chosen] + 0.3 * noise) * spread_D
    return drawn


def published(train: Floats, holdout: Floats, synthetic: Floats) -> npt.NDArray[np.bool_]:
    """Correlations in full rows, maxima, the 95th percentile of train -> held-out as the threshold."""

    def highest(rows: Floats, columns: Floats) -> npt.NDArray[np.float32]:
        standard = columns - columns.mean(1, keepdims=True)
        standard /= np.linalg.norm(standard, axis=1, keepdims=True)
        maxima = []
        for first in range(0, len(rows), 500):
            block = rows[first : first + 500] - rows[first : first + 500].mean(1, keepdims=True)
            block /= np.linalg.norm(block, axis=1, keepdims=True)
            correlation = block @ standard.T
            maxima.append(correlation.max(1))
        return np.concatenate(maxima)

    return highest(synthetic, train) > np.percentile(highest(train, holdout), 95)


def decisions(train: Floats, holdout: Floats, synthetic: Floats) -> npt.NDArray[np.bool_]:
    """What the audit decides by: synthetic and held-out clips searched in train, p, q, intervals."""
    score, null = (nearest(each, train, metric="pearson").similarity_QK[:, 0] for each in (synthetic, holdout))
    flagged(score, null)
    published_threshold(nearest(train, holdout, metric="pearson").similarity_QK[:, 0])
    return q_values(conformal_p(score, null)) <= 0.05


def rows(options: Options) -> Iterator[str]:
    """Table rows, each as soon as it is measured."""
    yield from _in_memory(options)
    if options.large:
        yield from _mapped(options)


def _in_memory(options: Options) -> Iterator[str]:
    train = vectors(options.train, options.width, 0, patients=options.train // 2)
    holdout = vectors(options.holdout, options.width, 1, patients=options.holdout // 2)
    synthetic = vectors(options.synthetic, options.width, 2)
    size = f"{options.synthetic:,} x {options.train:,} x {options.width}"
    copies = options.synthetic // 10
    synthetic[:copies] = train[:copies] + 0.02 * np.random.default_rng(3).standard_normal((copies, options.width))
    yield _row(f"one exact search, {size}", lambda: nearest(synthetic, train))
    flags, line = _timed(f"decisions (three searches), {size}", lambda: decisions(train, holdout, synthetic))
    yield line + f" flagged {flags[:copies].mean():.1%} of copies, {flags[copies:].mean():.2%} of the others |"
    flags, line = _timed(f"published rule's path, {size}", lambda: published(train, holdout, synthetic))
    yield line + f" flagged {flags[:copies].mean():.1%} of copies, {flags[copies:].mean():.2%} of the others |"
    if options.whole:
        tables = [
            _table(each, name, per) for each, name, per in ((train, "t", 2), (holdout, "h", 2), (synthetic, "s", 1))
        ]
        yield _row(
            f"whole audit with all attacks, {size}", lambda: audit(*tables, settings=AuditSettings(levels=("clip",)))
        )


def _mapped(options: Options) -> Iterator[str]:
    """A mapped training set: exact, then IVF-PQ with re-ranking, its recall against the exact neighbours."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        train = _written(Path(folder) / "train.npy", options.large, options, seed=10)
        queries = _written(Path(folder) / "queries.npy", options.queries or options.synthetic, options, seed=11)
        first = queries[: options.synthetic]
        is_copy = np.arange(len(first)) % 10 == 0
        for start in range(0, len(queries), 10):
            queries[start] = train[start % len(train)] + 0.1 * queries[start]
        size = f"{len(first):,} x {options.large:,} x {options.width}, mapped"
        truth, line = _timed(f"one exact search, {size}", lambda: nearest(first, train))
        yield line + " |"
        index, line = _timed(f"IVF-PQ: build, {options.large:,}", lambda: ApproximateIndex(train, folder=Path(folder)))
        yield line + " |"
        size = size.replace(f"{len(first):,}", f"{len(queries):,}", 1)
        found, line = _timed(f"IVF-PQ: search with exact re-ranking, {size}", lambda: index.nearest(queries))
        same = (found.index_QK[: len(first)] == truth.index_QK)[:, 0]
        yield line + f" recall@1 {same[is_copy].mean():.4f} of copies, {same[~is_copy].mean():.4f} of the others |"


def _written(path: Path, rows: int, options: Options, *, seed: int) -> Floats:
    mapped = np.lib.format.open_memmap(path, "w+", np.float32, (rows, options.width))
    for first in range(0, rows, 50_000):
        count = min(50_000, rows - first)
        block = vectors(count, options.width, seed + 10 * first, patients=max(1, count // 2), decay=options.decay)
        mapped[first : first + count] = block
    mapped.flush()
    return mapped


def _table(features: Floats, name: str, per_patient: int) -> EmbeddingTable:
    return EmbeddingTable.from_arrays(
        features,
        clip_id=[f"{name}{row}" for row in range(len(features))],
        patient_id=[f"{name}{row % max(1, len(features) // per_patient)}" for row in range(len(features))],
        encoder_digest="benchmark",
    )


def _row(what: str, work: Callable[[], object]) -> str:
    return _timed(what, work)[1] + " |"


def _timed(what: str, work: Callable[[], object]) -> tuple:  # type: ignore[type-arg]
    begun, begun_cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    peak = (peak_memory_bytes() or 0) / 1.024e9
    return result, f"| {what} | {wall:.1f} s | {cpu:.1f} s | {peak:.2f} GB |"


def main() -> None:
    """Print the header, then the rows as they are measured. Peak memory is the process's so far, data included."""
    options = tyro.cli(Options, description=__doc__)
    torch.set_num_threads(options.threads)
    import faiss

    faiss.omp_set_num_threads(options.threads)
    print(header(), "\n| what | wall | CPU | peak memory so far | |\n|---|---|---|---|---|", sep="\n", flush=True)
    for row in rows(options):
        print(row, flush=True)


if __name__ == "__main__":
    main()
