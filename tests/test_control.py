"""ControlNet: a branch begins as nothing at all, learns, and leaves the generator that it is for as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from labelled_hearts import write_labelled_hearts
from test_generator_task import recipe_of
from tiny_generator import tiny_generator

from echofm.engine.update import Updater
from echofm.errors import EchofmError
from echofm.hub import load_model
from echofm.shards.read import ShardSet
from synth.condition import Condition
from synth.generator.model import Generator
from synth.generator.task import GeneratorTask


def task_on(base: Generator | None, hearts: Path, **changes: Any) -> GeneratorTask:
    recipe = recipe_of("control").model_copy(update=changes)
    codec = tiny_generator(("text",), frames=1).codec
    return GeneratorTask(recipe, ShardSet.open(hearts, show_progress=False), codec=codec, base=base)


def test_it_begins_equal_to_its_base_learns_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    hearts = write_labelled_hearts(tmp_path / "hearts")
    torch.manual_seed(0)
    base = tiny_generator(("text",), frames=1)
    before = {name: weight.clone() for name, weight in base.denoiser.state_dict().items()}
    task = task_on(base, hearts)
    shards = ShardSet.open(hearts, show_progress=False)
    updater, batches = (
        Updater(task, recipe_of("control").fit),
        task.batches(shards, recipe_of("control").fit, start_step=0),
    )
    batch = next(batches)
    condition = task.condition_of(task.prepare(batch.to("cpu")))
    texts = Condition(texts=condition.texts)

    def made(generator: Generator, asked: Condition) -> torch.Tensor:
        return generator.sample(asked, steps=3, seed=1, frames=1, guidance=2.0)

    begun = task.generator(task.net)
    assert torch.equal(made(begun, condition), made(base, texts))
    for step in range(1, 6):
        updater(batch, step=step)
    learning = {name for name, weight in task.net.named_parameters() if weight.requires_grad}
    assert learning and all(name.startswith(("network.control.", "conditioner.parts.label-map")) for name in learning)
    task.export(tmp_path / "export", updater.measured, card={})
    exported = load_model(tmp_path / "export")
    assert isinstance(exported, Generator)
    held = exported.denoiser.state_dict()
    assert held.keys() > before.keys() and all(torch.equal(held[name], weight) for name, weight in before.items())
    assert all(torch.equal(base.denoiser.state_dict()[name], weight) for name, weight in before.items())
    asked = made(exported, condition)
    assert not torch.equal(asked, made(base, texts))
    assert condition.label_map_BTHW is not None
    other = replace(condition, label_map_BTHW=condition.label_map_BTHW.flip(-1))
    assert not torch.equal(made(exported, other), asked)


@pytest.mark.parametrize(
    ("conditions", "changes", "words"),
    [
        (None, {}, "go together"),
        (("text",), {"control": ()}, "go together"),
        (("text", "label-map"), {}, "takes text, label-map already"),
        (("view",), {"control": ("text",)}, "--control text"),
    ],
)
def test_what_does_not_fit_is_refused(
    conditions: tuple[str, ...] | None, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    hearts = write_labelled_hearts(tmp_path / "hearts")
    with pytest.raises(EchofmError, match=words):
        task_on(None if conditions is None else tiny_generator(conditions, frames=1), hearts, **changes)
