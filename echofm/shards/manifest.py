"""What a shard folder says about itself: manifest.json for the folder, one .meta.json per clip. Strict both ways."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import Field, StringConstraints

from echofm.clip import LABEL_NAME
from echofm.errors import EchofmError
from echofm.fan import Fan

SCHEMA_VERSION: Literal[1] = 1
MANIFEST = "manifest.json"
SET_ASIDE = "set_aside.jsonl"
_MAX_MANIFEST_BYTES = 64 * 2**20

Split = Literal["train", "val", "test"]
SplitBy = Literal["patient", "hash", "none"]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{20}$")]
TarName = Annotated[str, StringConstraints(pattern=r"^(train|val|test)-[0-9]{6}\.tar$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
LabelName = Annotated[str, StringConstraints(pattern=LABEL_NAME)]
LabelValue = int | float | Annotated[str, StringConstraints(max_length=256)]
Count = Annotated[int, Field(ge=0)]
M = TypeVar("M", bound=pydantic.BaseModel)


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ClipMeta(_Strict):
    """`<clip_id>.meta.json`: everything about a clip that is no array."""

    schema_version: Literal[1] = SCHEMA_VERSION
    clip_id: Id
    patient_id: Id
    study_id: Id | None = None
    split: Split
    dataset: Annotated[str, StringConstraints(max_length=64)]
    view: Annotated[str, StringConstraints(max_length=64)] | None
    kind: Annotated[str, StringConstraints(max_length=32)]
    simulated: bool = False
    labels: Mapping[LabelName, LabelValue]
    frame_rate_hz: Annotated[float, Field(gt=0)] | None
    pixel_spacing_mm: tuple[float, float] | None
    fan: Fan | None = None


class Settings(_Strict):
    """The choices that the bytes of the shards depend on."""

    size: Annotated[int, Field(gt=0)]
    frame_rate_hz: Annotated[float, Field(gt=0)] | None
    channels: Literal[1, 3]
    split_by: SplitBy
    fractions: tuple[float, float, float]
    stratify: str | None = None
    kinds: tuple[str, ...]
    keep_outside: bool
    shard_mb: Annotated[float, Field(gt=0)]
    seed: int

    def selects(self, kind: str) -> bool:
        """Whether clips of a kind are written."""
        return kind in self.kinds or "all" in self.kinds


class Latents(_Strict):
    """What the arrays of shards of latents are: float16 (T, C, h, w), a codec's latents less `mean_C` over `std_C`.

    codec_digest: sha256 of the codec that made them and can decode them. scale: pixels a side for each latent.
    """

    codec_digest: Sha256
    scale: Annotated[int, Field(gt=0)]
    mean_C: tuple[float, ...]
    std_C: tuple[Annotated[float, Field(gt=0)], ...]


class TarEntry(_Strict):
    """One tar of the folder."""

    name: TarName
    split: Split
    clips: Count
    bytes: Count
    sha256: Sha256


class SplitCounts(_Strict):
    """One split of the folder."""

    clips: Count
    patients: Count
    frames: Count
    bytes: Count


class Manifest(_Strict):
    """`manifest.json`. Histograms are of the clips as read, before size and rate were changed."""

    schema_version: Literal[1] = SCHEMA_VERSION
    tool: str
    dataset: Annotated[str, StringConstraints(max_length=64)]
    settings: Settings
    # None: the arrays are pixels, uint8.
    latents: Latents | None = None
    splits: Mapping[Split, SplitCounts]
    # Proven when the folder was written: the splits' sets of patients do not meet, patients being told apart by this
    # rule. Patients by how each was known: "given" by the source, by "tag", "study" or file "name".
    patient_disjoint: Literal[True]
    patient_rule: str = ""
    patients_by: Mapping[str, Count] = Field(default_factory=dict)
    views: Mapping[str, Count]
    kinds: Mapping[str, Count]
    labels: Mapping[LabelName, Count]
    frame_rate_hz_histogram: Mapping[str, Count]
    size_histogram: Mapping[str, Count]
    not_selected: Mapping[str, Count]
    set_aside: Count
    # Frames before and after cines that are no echo, such as a patient's page: left out.
    dropped_frames: Count = 0
    # Cines whose sector leaves out more than 5 % of what changes on the screen.
    sector_loses: Count = 0
    tars: tuple[TarEntry, ...]

    @pydantic.model_validator(mode="after")
    def _tars_are_consistent(self) -> Manifest:
        names = [entry.name for entry in self.tars]
        if len(set(names)) != len(names):
            raise ValueError("a tar is listed twice")
        if any(not entry.name.startswith(f"{entry.split}-") for entry in self.tars):
            raise ValueError("a tar's name and split disagree")
        if self.latents is not None and len(self.latents.mean_C) != len(self.latents.std_C):
            raise ValueError("a mean and a standard deviation are needed for each channel")
        return self

    @property
    def content(self) -> str:
        """The member that holds a clip's frames: pixels or latents."""
        return "frames.npy" if self.latents is None else "latents.npy"

    def sizes(self, *, frames: int, masks: int) -> dict[str, int]:
        """What the shape letters of a clip's arrays stand for."""
        size, latents = self.settings.size, self.latents
        known = {"T": frames, "K": masks, "H": size, "W": size, "1": 1, "2": 2}
        if latents is None:
            return {**known, "C": self.settings.channels}
        return {**known, "C": len(latents.mean_C), "h": size // latents.scale, "w": size // latents.scale}


def read_manifest(folder: Path) -> Manifest:
    """The checked manifest of a shard folder. Raises EchofmError naming the field that is wrong."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise EchofmError(f"{MANIFEST}: larger than {_MAX_MANIFEST_BYTES >> 20} MiB; this is no shard folder")
        text = path.read_bytes()
    except FileNotFoundError:
        raise EchofmError(
            f"no {MANIFEST} in {folder}: not shards, or not finished; write them with `echofm shards SRC OUT`"
        ) from None
    except OSError as error:
        raise EchofmError(f"{MANIFEST} cannot be read ({error.strerror})") from None
    return parsed(Manifest, text, MANIFEST)


def parsed(model: type[M], text: bytes, name: str) -> M:
    """JSON under a schema. Raises EchofmError, one line that names `name` and the field, never the value."""
    try:
        return model.model_validate_json(text)
    except pydantic.ValidationError as error:
        raise _flaw(error, name) from None


def checked(model: type[M], name: str, /, **values: Any) -> M:
    """The same for values that come from Python."""
    try:
        return model(**values)
    except pydantic.ValidationError as error:
        raise _flaw(error, name) from None


def _flaw(error: pydantic.ValidationError, name: str) -> EchofmError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "file"
    return EchofmError(f"{name}: {where}: {first['msg']}")


def as_json(content: pydantic.BaseModel, *, indent: int | None = None) -> bytes:
    """One text per content: keys in the order of the class, mappings as they were built."""
    return content.model_dump_json(indent=indent).encode() + b"\n"
