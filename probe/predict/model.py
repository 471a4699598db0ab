"""LabelModel: a fitted linear probe of a clip's label, with all that new clips need; model.json, model.safetensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from echofm.atomic import whole_files
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError, os_errors_as
from echofm.estimators.logistic import BlockLogistic, OrdinalLogistic
from echofm.estimators.ridge import GramRidge
from echofm.estimators.rows import Rows
from echofm.saved import file_sha256
from echofm.schema import FrozenModel
from probe.labels.choose import Fitted, OneClass, Plan
from probe.labels.features import Scales, scaled_features
from probe.labels.target import ClipTask, Target
from probe.partition import Partition
from probe.predict.conformal import LEVEL, Margins

MODEL, WEIGHTS = "model.json", "model.safetensors"
_ESTIMATORS: Mapping[str, type] = {"ridge": GramRidge, "logistic": BlockLogistic, "ordinal": OrdinalLogistic}
_ONE_CLASS, _TRANSPOSED = "one class", ".T"


class ModelFacts(FrozenModel):
    """What a model is of, and which clips it was fitted on: others are refused."""

    target: str
    task: Literal["regression", "classification", "ordinal", "multilabel"]
    classes: tuple[str, ...] = ()
    encoder: str | None = None
    """Spec of the encoder; a folder's beside the model is named relative to it. None of a table."""
    encoder_digest: str
    embedding: dict[str, str | int] = pydantic.Field(default_factory=dict)
    """Settings under which clips were embedded."""
    views: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    frame_rate_hz: tuple[float, float] | None = None
    """Least and greatest of the training clips; None where some were unknown."""
    simulated: bool = False
    patients: dict[str, int] = pydantic.Field(default_factory=dict)

    @classmethod
    def of(cls, table: EmbeddingTable, goal: Target, part: Partition) -> ModelFacts:
        """Of the training clips."""
        rows = table.rows.iloc[part.train]
        rates = rows["frame_rate_hz"].to_numpy(np.float64)
        known = bool(len(rates)) and bool(np.isfinite(rates).all())
        views, kinds = (tuple(sorted(rows[name].dropna().unique())) for name in ("view", "kind"))
        return cls(
            target=goal.name,
            task=goal.task,
            classes=goal.classes,
            encoder_digest=table.encoder_digest,
            embedding={str(name): value for name, value in table.settings.items()},
            views=() if rows["view"].isna().any() else views,
            kinds=kinds,
            frame_rate_hz=(float(rates.min()), float(rates.max())) if known else None,
            simulated=bool(rows.get("simulated", rows["frames"] * 0).fillna(0).any()),
            patients={name: len(set(table.patient_id[rows])) for name, rows in _parts_of(part).items()},
        )


class _Stored(FrozenModel):
    schema_version: Literal[1] = 1
    facts: ModelFacts
    features: str
    sizes: tuple[float, ...]
    estimators: tuple[str, ...]
    margins: dict[str, float | None]
    """Half widths of the intervals at `level`, by what is predicted; null: too few validation patients."""
    level: float = LEVEL
    weights_sha256: str


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelModel:
    """fitted: of one label, or a Fitted for each of several. margins: see `probe.predict.conformal.margins_of`."""

    fitted: Fitted
    scales: Scales
    facts: ModelFacts
    margins: Margins = field(default_factory=dict)

    def predict(self, table: EmbeddingTable) -> npt.NDArray:
        """(N,) values or (N, K) probabilities of the clips of a table. Raises EchofmError on another encoder's, or one
        embedded otherwise."""
        if table.encoder_digest != self.facts.encoder_digest:
            raise EchofmError(
                "the table is another encoder's than the model's; embed with the encoder it was fitted on"
            )
        if {k: v for k, v in table.settings.items() if k != "tokens"} != {
            k: v for k, v in self.facts.embedding.items() if k != "tokens"
        }:
            raise EchofmError(f"the table was embedded with {table.settings}, the model with {self.facts.embedding}")
        return self.fitted.predict_each(Rows(features_ND=scaled_features(table, self.scales)))

    def save(self, folder: Path, *, encoder: str | None = None) -> None:
        """Write both files. encoder: its spec, for `echofm predict`."""
        models = self.fitted.model if isinstance(self.fitted.model, tuple) else (self.fitted,)
        names, arrays = [], dict[str, npt.NDArray]()
        for number, each in enumerate(models):
            name = next((name for name, kind in _ESTIMATORS.items() if isinstance(each.model, kind)), _ONE_CLASS)
            names.append(name)
            arrays |= {f"{number}.{key}": np.asarray(value) for key, value in _state(each.model).items()}
        given = {"usual_L": self.scales.usual_L, "position_TD": self.scales.position_TD}
        arrays |= {key: value for key, value in given.items() if value is not None}
        with (
            os_errors_as("the model cannot be written ({reason}); check --out"),
            whole_files([folder / WEIGHTS, folder / MODEL]) as (weights, described),
        ):
            save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, weights)
            stored = _Stored(
                facts=self.facts.model_copy(update={"encoder": encoder}),
                features=self.scales.name,
                sizes=self.scales.sizes,
                estimators=tuple(names),
                margins={name: value if math.isfinite(value) else None for name, value in self.margins.items()},
                weights_sha256=file_sha256(weights),
            )
            described.write_text(stored.to_json(), encoding="utf-8")

    @staticmethod
    def remove(folder: Path) -> None:
        """Take away what an earlier run has saved there, which would pass for this one's."""
        with os_errors_as("an earlier run's model cannot be removed ({reason}); check --out"):
            for name in (MODEL, WEIGHTS):
                (folder / name).unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path) -> LabelModel:
        """Raises EchofmError where there is none, or it is damaged."""
        if not (folder / MODEL).is_file():
            raise EchofmError(
                f"{folder}: no {MODEL} there; `echofm probe` and `echofm finetune` write OUT/TARGET/{MODEL}"
            )
        stored = _Stored.from_json(folder / MODEL)
        try:
            if file_sha256(folder / WEIGHTS) != stored.weights_sha256:
                raise EchofmError(f"{folder / WEIGHTS}: not the file that {MODEL} names; copy the folder again")
            arrays = load_file(folder / WEIGHTS)
        except (OSError, SafetensorError):
            raise EchofmError(f"{folder / WEIGHTS}: not there, or no safetensors file; copy the folder again") from None
        scales = Scales(
            name=stored.features,
            sizes=stored.sizes,
            usual_L=arrays.get("usual_L"),
            position_TD=arrays.get("position_TD"),
        )
        margins = {name: math.inf if value is None else value for name, value in stored.margins.items()}
        return cls(fitted=_restored(stored, arrays), scales=scales, facts=stored.facts, margins=margins)


def _parts_of(part: Partition) -> dict[str, npt.NDArray[np.int64]]:
    return {"train": part.train, "val": part.val, "test": part.test}


def _state(model: Any) -> dict[str, npt.NDArray]:
    """What fitting has set, by scikit-learn's rule: names that end in an underscore.

    A matrix that lies column by column is kept so, as its transpose: the last bit of a product depends on it.
    """
    found = {key: np.asarray(value) for key, value in vars(model).items() if key.endswith("_") and key != "n_iter_"}
    by_columns = {key for key, value in found.items() if value.ndim == 2 and not value.flags.c_contiguous}
    plain = {key: value for key, value in found.items() if key not in by_columns}
    return plain | {key + _TRANSPOSED: found[key].T for key in sorted(by_columns)}


def _restored(stored: _Stored, arrays: Mapping[str, npt.NDArray]) -> Fitted:
    facts = stored.facts
    task: ClipTask = facts.task
    plan = Plan(kind="linear", task=task, classes=len(facts.classes), tokens=1, seed=0)
    single = replace(plan, task="classification", classes=2) if task == "multilabel" else plan
    fits = []
    for number, name in enumerate(stored.estimators):
        prefix = f"{number}."
        state = {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
        if name == _ONE_CLASS:
            model: Any = OneClass(classes_=state["classes_"])
        elif name in _ESTIMATORS:
            model = _ESTIMATORS[name]()
            for key, value in state.items():
                plain = value.T if key.endswith(_TRANSPOSED) else value
                setattr(model, key.removesuffix(_TRANSPOSED), plain if value.ndim else value.item())
        else:
            raise EchofmError(f"{MODEL}: no kind of estimator {name!r}; update echofm")
        fits.append(Fitted(model=model, chosen={}, plan=single, score=math.nan))
    return Fitted(model=tuple(fits), chosen={}, plan=plan, score=math.nan) if task == "multilabel" else fits[0]
