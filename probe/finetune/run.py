"""From an encoder and labelled shards to a fine-tuned encoder, its head, and both beside the frozen probe."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from echofm.embed.cache import embedded
from echofm.embed.options import EmbedOptions
from echofm.embed.table import EmbeddingTable
from echofm.engine.parallel import processes
from echofm.engine.train import start
from echofm.errors import EchofmError
from echofm.estimators.rows import Rows
from echofm.hub import Encoder, load_encoder
from echofm.shards.read import ShardSet
from probe.baselines import pixel_pca
from probe.finetune.head import FinetuneNet, Spread, linear_of, put_back
from probe.finetune.protocol import FROZEN, FinetuneProtocol
from probe.finetune.recipe import FinetuneRecipe
from probe.finetune.task import HEAD, FinetuneTask
from probe.inputs import ProbeInputs
from probe.labels.answers import truth_of
from probe.labels.choose import Labels, Plan, fit_best
from probe.labels.features import fit_scales, scaled_features
from probe.labels.target import Target, read_goal
from probe.names import PIXEL_PCA
from probe.partition import Partition
from probe.predict.model import LabelModel, ModelFacts
from probe.result import Probed

RUN, ENCODER = "run", "encoder"
# What the head reads: both carry gradients, and the ejection fraction lies in how far features move.
_FEATURES = "both"


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """Where a fine-tuning begins: the linear probe of the frozen encoder on its table. goal, part: whose labels."""

    table: EmbeddingTable
    goal: Target
    part: Partition
    model: LabelModel
    spread: Spread

    @classmethod
    def of(cls, table: EmbeddingTable, target: str, *, seed: int) -> Start:
        """Raises EchofmError where the label cannot be fine-tuned on, or the shards' splits cannot be used."""
        goal, part = read_goal(table, target, seed=seed)
        if goal.task not in ("regression", "classification"):
            raise EchofmError(
                f"--target {target}: {goal.task} labels are probed, not fine-tuned; give a number or classes"
            )
        if part.source != "table":
            why = part.notes[0] if part.notes else "the splits cannot be used"
            raise EchofmError(f"fine-tuning keeps the shards' splits, and here {why}")
        if table.motion_NRCD is None:
            raise EchofmError("this encoder has no tokens in time; fine-tuning is of video encoders")
        scales = fit_scales(table, _FEATURES, train=part.train)
        features_NF = scaled_features(table, scales)
        plan = Plan(kind="linear", task=goal.task, classes=len(goal.classes), tokens=1, seed=seed)
        train, val = (
            Labels(rows=Rows(features_ND=features_NF, index_M=rows), values=goal.of(rows))
            for rows in (part.train, part.val)
        )
        fitted = fit_best(plan, train, val)
        if not hasattr(fitted.model, "coef_"):
            raise EchofmError(f"--target {target}: the training clips hold one class alone")
        model = LabelModel(fitted=fitted, scales=scales, facts=ModelFacts.of(table, goal, part))
        seen = features_NF[part.train].astype(np.float64)
        scale_F = seen.std(0)
        spread = Spread(mean_F=seen.mean(0), scale_F=np.where(scale_F > 1e-9, scale_F, 1.0))
        if goal.task == "regression":
            spread = replace(spread, mean=float(train.values.mean()), scale=float(train.values.std()) or 1.0)
        return cls(table=table, goal=goal, part=part, model=model, spread=spread)

    @property
    def values(self) -> Mapping[str, float]:
        """Of the training clips, by id; of classes the place among those that the head tells apart."""
        rows = self.part.train
        values = self.goal.of(rows)
        if self.classes:
            values = np.searchsorted(self.model.fitted.model.classes_, values)
        return dict(zip(self.table.clip_id[rows].tolist(), values.tolist()))

    @property
    def classes(self) -> int:
        """How many the head tells apart: those of the training clips, as the probe that it begins from; 0 of a
        number."""
        return len(self.model.fitted.model.classes_) if self.goal.task == "classification" else 0

    def net(self, encoder: Encoder) -> FinetuneNet:
        """A copy of the encoder with the probe as its head."""
        return FinetuneNet(copy.deepcopy(encoder.net), self.model, self.spread)


def train(recipe: FinetuneRecipe, begin: Start, encoder: Encoder, *, data: Path, out: Path) -> bool:
    """Train, or go on training, on the engine; whether this is the process that goes on with the result."""
    main = processes().is_main_process

    def build(recipe: FinetuneRecipe, _: ShardSet) -> FinetuneTask:
        torch.manual_seed(recipe.fit.seed)
        return FinetuneTask(
            recipe,
            begin.net(encoder),
            contract=encoder.contract,
            values=begin.values,
            spread=begin.spread,
            classes=begin.classes,
        )

    start(recipe, build, data=data, out=out / RUN, resume=(out / RUN).exists())
    return main


def tuned_model(begin: Start, folder: Path) -> tuple[Encoder, LabelModel]:
    """The encoder that a run exported, and the head with it, for tables of that encoder."""
    encoder = load_encoder(folder)
    net = begin.net(encoder)
    net.head.load_state_dict(load_file(folder / HEAD))
    estimator = copy.deepcopy(begin.model.fitted.model)
    put_back(estimator, net, begin.spread)
    facts = begin.model.facts.model_copy(update={"encoder_digest": encoder.digest})
    assert linear_of(begin.model)[0].shape == net.head.weight.shape
    return encoder, replace(begin.model, fitted=replace(begin.model.fitted, model=estimator), facts=facts)


def beside_the_frozen_probe(
    begin: Start,
    encoder: Encoder,
    model: LabelModel,
    inputs: ProbeInputs,
    *,
    data: Path,
    options: EmbedOptions,
    draws: int,
    seed: int,
    say: Callable[[str], None],
) -> tuple[Probed, EmbeddingTable]:
    """The probe's result of the fine-tuned model, the frozen probe and its baselines in one table; and its features."""
    encoder.to(options.torch_device)
    source = options.videos(data).input(encoder.contract)
    found = embedded(
        options.extractor(encoder, phase=False), source, name="fine-tuned encoder", cache=options.cache, say=say
    )
    table = found.table
    target = begin.goal.name
    goal, part = read_goal(table, target, seed=seed)
    baselines = {FROZEN: begin.table, **inputs.baselines}
    if inputs.pixels is not None:
        baselines[PIXEL_PCA] = pixel_pca(inputs.pixels, target=target, seed=seed)
    protocol = FinetuneProtocol(
        table=table,
        goal=goal,
        part=part,
        truth=truth_of(table, goal, part),
        kind="linear",
        features="auto",
        fractions=(),
        seeds=1,
        draws=draws,
        seed=seed,
        tuned=model,
        notes=[f"`probe` is the fine-tuned encoder with its head; `{FROZEN}`: the encoder that it began from, frozen"],
    )
    probed = protocol.probe(table, baselines)
    named = {"encoder": f"{inputs.name}, fine-tuned", "data": inputs.data}
    return replace(probed, result=probed.result.of_one_split().model_copy(update=named)), table
