"""What a benchmark came to, as its files hold it."""

from __future__ import annotations

from typing import Literal

from echofm.schema import FrozenModel
from probe.result import Comparison, Score


class TaskRecord(FrozenModel):
    """One task of one encoder; its probe.json and predictions.parquet lie in `folder`."""

    schema_version: Literal[1] = 1
    request: str
    """Digest of encoder, files, splits and options: with the same one nothing is done again."""
    task: str
    title: str
    set: str
    """Of one set; "" of the views, which are of all."""
    encoder: str
    encoder_digest: str
    folder: str
    """Below the output folder."""
    tests: dict[str, int]
    """Lines that CardioBench tests on, by set, here; views count clips."""
    published: dict[str, int]
    """The same in CardioBench."""
    own_splits: bool
    """Whether the splits are CardioBench's; without that there are no files for its evaluators."""
    files: list[str]
    """For its evaluators, of this probe and of its own, below the output folder."""
    level: Literal["clip", "study", "patient"]
    """At which CardioBench measures."""
    scores: list[Score]
    comparisons: list[Comparison]
    problems: list[str]
    notes: list[str]


class SetRecord(FrozenModel):
    """One set."""

    name: str
    title: str
    state: Literal["run", "missing", "failed"]
    says: str
    """Why it was not run, else what must be known of its files."""
    where: str
    """Where to get it."""


class Bench(FrozenModel):
    """bench.json."""

    schema_version: Literal[1] = 1
    encoders: list[str]
    sets: list[SetRecord]
    tasks: list[TaskRecord]
    failed: dict[str, str]
    """Tasks that were not run though their set is there, and why."""
