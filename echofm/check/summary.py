"""The folder in numbers: what the terminal, the JSON file and the page all show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from echofm.check.facts import Facts
from echofm.check.findings import Finding
from echofm.errors import UnreadableFile

_META_BYTES = 2048
_TAR_BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One folder, examined. Everything in it may leave the machine: ids are hashes, no name, no path.

    set_aside: the files without a clip, also those that are intact but of another kind. unread: files whose kind is
    not read at all, by suffix. elapsed_s: wall time of reading, with `processes` at work.
    """

    data_set: str
    patient_rule: str
    facts: Sequence[Facts]
    set_aside: Sequence[UnreadableFile]
    findings: Sequence[Finding]
    splits: Sequence[str]
    elapsed_s: float
    processes: int
    unread: Mapping[str, int] = field(default_factory=dict)

    @property
    def has_problems(self) -> bool:
        """Whether a person should look."""
        return any(finding.is_problem for finding in self.findings)

    def counts(self) -> dict[str, dict[str, int]]:
        """Clips by what is told apart, the most frequent first; by kind every clip and every other file."""
        shown = {
            "kind": self._kinds(),
            "view": [one.view or "unknown" for one in self.facts],
            "split": [f"{name}{'' if one.split else ' (by hash)'}" for one, name in zip(self.facts, self.splits)],
            "codec": [one.codec for one in self.facts],
            "size": [f"{one.height} x {one.width}" for one in self.facts],
            "frame rate": [rate_name(one) for one in self.facts],
            "length": [length_name(one) for one in self.facts],
        }
        return {title: dict(Counter(values).most_common()) for title, values in shown.items()}

    def _kinds(self) -> list[str]:
        others = [error.kind or "unreadable" for error in self.set_aside]
        return [*(one.kind for one in self.facts), *others, *Counter(self.unread).elements()]

    def reasons(self) -> dict[str, int]:
        """Files by the reason why they cannot be used; those of another kind are counted by kind."""
        reasons = [error.reason for error in self.set_aside if error.kind in (None, "no_sector")]
        return dict(Counter(reasons).most_common())

    def labels(self) -> dict[str, list[Any]]:
        """Values of each label over the files that have it."""
        values = defaultdict(list)
        for one in self.facts:
            for name, value in one.labels.items():
                values[name].append(value)
        return dict(sorted(values.items()))

    def shard_bytes(self, *, size: int = 112, frame_rate_hz: float = 50.0) -> int:
        """Bytes of the shards that `echofm shards` would write of the greyscale cines by its defaults."""
        total = 0
        for one in self.facts:
            if one.kind not in ("bmode", "unknown"):
                continue
            frames = one.frames if one.seconds is None else max(1, round(one.seconds * frame_rate_hz))
            pictures = frames + frames * one.mask_share + 1
            members = 3 + 2 * (one.mask_share > 0) + one.has_phase + (one.seconds is not None)
            total += round(pictures * size * size) + _META_BYTES + members * 2 * _TAR_BLOCK
        return total

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        numbers = {name: _describe(values) for name, values in self.labels().items()}
        return {
            "schema_version": 1,
            "data_set": self.data_set,
            "patient_rule": self.patient_rule,
            "files": len({one.file_id for one in self.facts}) + len(self.set_aside) + sum(self.unread.values()),
            "clips": len(self.facts),
            "patients": len({one.patient_id for one in self.facts}),
            "counts": self.counts(),
            "labels": numbers,
            "set_aside": [
                {"file_id": error.file_id, "reason": error.reason, "kind": error.kind or "unreadable"}
                for error in self.set_aside
            ],
            "sectors": [
                {"file_id": one.file_id, "lit_outside": one.lit_outside, "trace_outside": one.trace_outside}
                for one in self.facts
            ],
            "findings": [
                {"code": f.code, "text": f.text, "is_problem": f.is_problem, "groups": [list(g) for g in f.groups]}
                for f in self.findings
            ],
            "shards_mb": round(self.shard_bytes() / 1e6, 1),
            "read_s": round(self.elapsed_s, 1),
            "processes": self.processes,
        }


def rate_name(one: Facts) -> str:
    """A clip's frame rate as counted: whole hertz."""
    if one.frames == 1:
        return "still"
    return "unknown" if one.frame_rate_hz is None else f"{one.frame_rate_hz:.0f} Hz"


def length_name(one: Facts) -> str:
    """A clip's length as counted: by doubling seconds, or frames where seconds are unknown."""
    if one.frames == 1:
        return "still"
    if one.seconds is None:
        return "seconds unknown"
    edges = (0.5, 1, 2, 4, 8, 16)
    place = int(np.searchsorted(edges, one.seconds, side="right"))
    if place == 0:
        return f"below {edges[0]:g} s"
    return f"{edges[place - 1]:g} s or more" if place == len(edges) else f"{edges[place - 1]:g} to {edges[place]:g} s"


def _describe(values: Sequence[Any]) -> dict[str, Any]:
    """Quantiles of a quantity, counts of a word."""
    if all(isinstance(value, int | float) for value in values):
        low, middle, high = np.quantile(values, [0, 0.5, 1])
        return {"clips": len(values), "min": float(low), "median": float(middle), "max": float(high)}
    return {"clips": len(values), "counts": dict(Counter(map(str, values)).most_common(20))}
