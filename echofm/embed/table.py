"""EmbeddingTable: the features of N clips from one encoder, and what is known about each clip.

N clips, D features, P phase tokens. The table is all that probing and auditing see of the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.phase import PhaseTokens
from echofm.embed.rows import COLUMNS, SIMULATED, check_columns, or_none, stack_rows, tidy_rows
from echofm.embed.store import load_parts, require_alike, require_one_encoder, save_tables
from echofm.embed.tokens import SpaceTimeTokens
from echofm.errors import EchofmError

# Checks run over blocks, so that a mapped table of many gigabytes is never held twice.
_BLOCK_NUMBERS = 1 << 23


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingTable:
    """Features of one encoder, a row per clip. Equal digests mean comparable features; others are refused.

    video_ND: float32, finite; may be mapped from disk and read-only.
    rows: N rows. clip_id (unique) and patient_id: text; split: "train", "val", "test" or missing; study_id, dataset,
        view, kind: text or missing; frame_rate_hz: of the source, missing where it does not tell, never assumed;
        frames: how many the encoder could choose from; windows: how many were averaged; simulated (may be absent): 1
        for the phantom's clips; then the labels, named as in `Clip.labels`.
    motion_NRCD: float32, how much each feature varies over time (standard deviation over a window's times, mean over
        windows) in each cell of a coarse grid of R x C, at most 4 x 4, rows downwards; 1 x 1 for an encoder without
        places, None for one without time. A mean over time hides how far the heart moves; this does not.
    phase: token-time features, None for an encoder without time.
    tokens: features by place and time of each clip's middle window, None unless they were asked for.
    encoder_digest: sha256 over the encoder's weights and configuration, or any name for someone else's encoder.
    phase_digest: of what decides the phase features beside that, "" where unknown; others are refused too.
    contract: the encoder's input contract as JSON data, None where unknown.
    settings: how the encoder was applied (windows per clip, precision); tables with other settings are refused too.
    """

    video_ND: npt.NDArray[np.float32]
    rows: pd.DataFrame
    encoder_digest: str
    motion_NRCD: npt.NDArray[np.float32] | None = None
    phase: PhaseTokens | None = None
    tokens: SpaceTimeTokens | None = None
    contract: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    phase_digest: str = ""

    def __post_init__(self) -> None:
        video, rows = self.video_ND, self.rows
        if video.ndim != 2 or video.dtype != np.float32:
            raise EchofmError(f"features are {video.dtype} {video.shape}; float32 (clips, features) is needed")
        if len(rows) != len(video):
            raise EchofmError(f"the table has {len(video)} feature rows, but {len(rows)} clips")
        motion = self.motion_NRCD
        if motion is not None and (motion.ndim != 4 or motion.dtype != np.float32 or len(motion) != len(video)):
            raise EchofmError(
                f"motion features are {motion.dtype} {motion.shape}; float32 (clips, rows, columns, features) is needed"
            )
        if self.phase is not None and len(self.phase) != len(rows):
            raise EchofmError(f"the table has {len(rows)} clips, but phase features of {len(self.phase)}")
        if self.tokens is not None and len(self.tokens) != len(rows):
            raise EchofmError(f"the table has {len(rows)} clips, but space-time tokens of {len(self.tokens)}")
        if not self.encoder_digest:
            raise EchofmError("the table does not name its encoder; give encoder_digest")
        check_columns(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Number of features, D."""
        return self.video_ND.shape[1]

    @property
    def clip_id(self) -> npt.NDArray[np.object_]:
        """(N,) text."""
        return self.rows["clip_id"].to_numpy(object)

    @property
    def patient_id(self) -> npt.NDArray[np.object_]:
        """(N,) text."""
        return self.rows["patient_id"].to_numpy(object)

    @property
    def split(self) -> npt.NDArray[np.object_]:
        """(N,) "train", "val", "test" or None."""
        return or_none(self.rows["split"])

    @property
    def view(self) -> npt.NDArray[np.object_]:
        """(N,) text or None."""
        return or_none(self.rows["view"])

    @property
    def labels(self) -> pd.DataFrame:
        """The label columns alone."""
        return self.rows[[name for name in self.rows.columns if name not in (*COLUMNS, SIMULATED)]]

    def select(self, rows: npt.ArrayLike | None = None, /, **equal: str) -> EmbeddingTable:
        """Some clips: by index or boolean mask, or by columns, `table.select(split="train", view="A4C")`."""
        chosen = np.ones(len(self), bool)
        for name, value in equal.items():
            if name not in self.rows.columns:
                raise EchofmError(f"the table has no column {name!r}; it has {', '.join(self.rows.columns)}")
            chosen &= (self.rows[name] == value).to_numpy(bool, na_value=False)
        index = np.arange(len(self)) if rows is None else np.arange(len(self))[np.asarray(rows)]
        index = index[chosen[index]]
        return replace(
            self,
            video_ND=self.video_ND[index],
            motion_NRCD=None if self.motion_NRCD is None else self.motion_NRCD[index],
            rows=self.rows.iloc[index].reset_index(drop=True),
            phase=None if self.phase is None else self.phase.take(index),
            tokens=None if self.tokens is None else self.tokens.take(index),
        )

    def with_labels(self, labels: pd.DataFrame, *, on: str = "clip_id") -> EmbeddingTable:
        """Add label columns, matched by clip_id or patient_id; clips that `labels` does not name get NaN.

        Raises EchofmError where ids are no text, missing or twice, none is the table's, or a column is there already.
        """
        if on not in ("clip_id", "patient_id") or on not in labels.columns:
            raise EchofmError("labels need a column clip_id or patient_id to be matched by; name it in `on`")
        if not pd.api.types.is_string_dtype(labels[on]):
            raise EchofmError(f"the labels' {on} is {labels[on].dtype}; the ids of a table are text, as it gives them")
        if labels[on].isna().any():
            raise EchofmError(f"{int(labels[on].isna().sum())} rows of the labels have no {on}; leave them out")
        if not labels[on].isin(self.rows[on]).any():
            raise EchofmError(
                f"the labels name no {on} of the table; its ids are keyed hashes of the names (`echofm.ids.load_key`)"
            )
        if labels[on].duplicated().any():
            raise EchofmError(f"labels name one {on} twice; give one row for each")
        taken = set(labels.columns) & set(self.rows.columns) - {on}
        if taken:
            raise EchofmError(f"the table has columns of these names already: {', '.join(sorted(taken))}")
        return replace(self, rows=tidy_rows(self.rows.merge(labels, on=on, how="left", validate="many_to_one")))

    def join(self, other: EmbeddingTable) -> EmbeddingTable:
        """The clips of both tables; a clip in both counts once. Refuses other encoders and unequal features."""
        require_one_encoder([self, other])
        position = pd.Index(self.rows["clip_id"]).get_indexer(other.rows["clip_id"])
        shared = np.flatnonzero(position >= 0)
        if not np.allclose(self.video_ND[position[shared]], other.video_ND[shared], rtol=1e-3, atol=1e-4):
            raise EchofmError("a clip of both tables has different features in each; embed it again with one command")
        return EmbeddingTable.concat([self, other.select(position < 0)])

    @staticmethod
    def concat(tables: Sequence[EmbeddingTable]) -> EmbeddingTable:
        """Tables of one encoder, one after another. Raises EchofmError where encoders differ or a clip occurs twice."""
        require_one_encoder(tables)
        require_alike(tables)
        return replace(
            tables[0],
            video_ND=np.concatenate([table.video_ND for table in tables]),
            rows=stack_rows([table.rows for table in tables]),
            motion_NRCD=None if tables[0].motion_NRCD is None else np.concatenate([t.motion_NRCD for t in tables]),
            phase=None if tables[0].phase is None else PhaseTokens.concat([t.phase for t in tables if t.phase]),
            tokens=None if tables[0].tokens is None else SpaceTimeTokens.concat([t.tokens for t in tables if t.tokens]),
        )

    @classmethod
    def from_arrays(
        cls,
        video_ND: npt.ArrayLike,
        *,
        clip_id: Sequence[str],
        patient_id: Sequence[str],
        encoder_digest: str,
        study_id: Sequence[str | None] | None = None,
        split: Sequence[str | None] | None = None,
        dataset: Sequence[str | None] | None = None,
        view: Sequence[str | None] | None = None,
        kind: Sequence[str | None] | None = None,
        frame_rate_hz: npt.ArrayLike | None = None,
        labels: pd.DataFrame | Mapping[str, Sequence[Any]] | None = None,
        motion_NRCD: npt.ArrayLike | None = None,
        phase: PhaseTokens | npt.ArrayLike | Sequence[npt.ArrayLike] | None = None,
        tokens: SpaceTimeTokens | npt.ArrayLike | None = None,
        contract: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> EmbeddingTable:
        """A table from plain arrays, for features of any encoder. Ids are kept as given: hash real names first."""
        video = np.ascontiguousarray(video_ND, np.float32)
        optional: dict[str, Any] = {"study_id": study_id, "split": split, "dataset": dataset, "view": view}
        optional |= {"kind": kind, "frame_rate_hz": frame_rate_hz, "frames": None, "windows": None}
        columns: dict[str, Any] = {"clip_id": clip_id, "patient_id": patient_id}
        columns |= {name: [None] * len(video) if values is None else values for name, values in optional.items()}
        columns |= {} if labels is None else {str(name): labels[name] for name in labels}
        lengths = {name: len(values) for name, values in columns.items() if len(values) != len(video)}
        if lengths:
            raise EchofmError(f"{len(video)} clips have features, but {lengths} were given")
        if phase is not None and not isinstance(phase, PhaseTokens):
            phase = PhaseTokens.from_arrays(phase)
        if tokens is not None and not isinstance(tokens, SpaceTimeTokens):
            tokens = SpaceTimeTokens(feature_NTRCD=np.ascontiguousarray(tokens, np.float32))
        table = cls(
            video_ND=video,
            rows=tidy_rows(pd.DataFrame({name: list(values) for name, values in columns.items()})),
            motion_NRCD=None if motion_NRCD is None else np.ascontiguousarray(motion_NRCD, np.float32),
            phase=phase,
            tokens=tokens,
            encoder_digest=encoder_digest,
            contract=contract,
            settings=settings or {},
        )
        table.check_finite()
        return table

    def check_finite(self) -> None:
        """Raises EchofmError naming the row whose features hold NaN or infinity; reads block by block."""
        named = {"features": self.video_ND, "motion features": self.motion_NRCD}
        named["phase features"] = None if self.phase is None else self.phase.feature_PD
        named["space-time tokens"] = None if self.tokens is None else self.tokens.feature_NTRCD
        for what, array in named.items():
            if array is None or not array.size:
                continue
            step = max(1, _BLOCK_NUMBERS // array[0].size)
            for first in range(0, len(array), step):
                block = array[first : first + step]
                finite = np.isfinite(block).reshape(len(block), -1).all(1)
                if not finite.all():
                    row = first + int(finite.argmin())
                    if self.phase is not None and what == "phase features":
                        row = int(np.searchsorted(self.phase.start_N1, row, "right")) - 1
                    raise EchofmError(f"the {what} of row {row} are not finite; embed the clip again or drop the row")

    def save(self, folder: str | Path) -> None:
        """Write features.safetensors, rows.parquet and meta.json; a table already there is replaced."""
        save_tables([self], Path(folder))

    @staticmethod
    def load(folder: str | Path) -> EmbeddingTable:
        """Read a table; features stay on disk, mapped. Raises EchofmError where anything does not fit together."""
        table = EmbeddingTable(**load_parts(Path(folder)))
        table.check_finite()
        return table
