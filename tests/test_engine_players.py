"""An adversarial pair and a flow in latents: however the batch is cut, killed and resumed, the same weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from pretrain_process import environments_of_two, finish, forked
from safetensors.torch import load_file
from test_engine_fit import config_of, metrics, train, weights
from toy_flow import ToyFlow
from toy_gan import START, ToyGan
from toy_task import ToyTask, toy_batches

from echofm.clip import ClipBatch
from echofm.engine.config import FitConfig
from echofm.engine.fit import fit
from echofm.engine.run import Run
from echofm.engine.task import Loss, StepOutput, Sum, Task, Turn
from echofm.engine.train import digest_of
from echofm.engine.update import Updater


class AskingLate(ToyTask):
    """Asks after its pass and keeps the graph, so that all passes of a cut batch precede the first backward pass."""

    def __init__(self, config: FitConfig) -> None:
        super().__init__(config)
        self.net.drop.p = 0.0

    def loss(self, batch: ClipBatch, turn: Turn) -> Loss:
        x_BTV = batch.video_BCTHW[:, 0].flatten(2)
        error_BT = (turn.net(x_BTV)[0] - x_BTV).square().mean(-1) * batch.valid_BT
        scored = yield Sum(batch.valid_BT.sum())
        return StepOutput(loss=error_BT.sum() / scored)


TASKS: dict[str, type[ToyGan] | type[ToyFlow] | type[AskingLate]] = {
    "gan": ToyGan,
    "flow": ToyFlow,
    "asking late": AskingLate,
}


def run_of(folder: Path, name: str, *, killed_at: int | None = None, resume: bool = False, **changes: object) -> None:
    config = config_of(ema_decay=0.9, **changes)
    train(folder, config=config, task=TASKS[name](config), killed_at=killed_at, resume=resume)


def same_figures(cut: Path, whole: Path) -> None:
    clock = {"clips_per_s", "data_wait_share", "eta_s"}
    for one, other in zip(metrics(cut), metrics(whole), strict=True):
        assert set(one) == set(other)
        for name in set(one) - clock:
            assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-6), (one["step"], name)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("parts", [2, 8])
def test_accumulation_equals_the_batch(name: str, parts: int, tmp_path: Path) -> None:
    run_of(tmp_path / "whole", name)
    run_of(tmp_path / "cut", name, accumulate=parts)
    same_figures(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_killed_and_resumed_is_bit_equal(name: str, accumulate: int, tmp_path: Path) -> None:
    run_of(tmp_path / "whole", name, accumulate=accumulate)
    for resume, killed_at in ((False, 8), (True, 12)):
        with pytest.raises(KeyboardInterrupt):
            run_of(tmp_path / "cut", name, accumulate=accumulate, killed_at=killed_at, resume=resume)
    run_of(tmp_path / "cut", name, accumulate=accumulate, resume=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    state = "state/step_00000012/{}.safetensors"
    for file in ("model", "ema", "optimizer"):
        cut, whole = (load_file(tmp_path / run / state.format(file)) for run in ("cut", "whole"))
        assert set(cut) == set(whole) and all(torch.equal(cut[key], whole[key]) for key in cut)


def one_of_two(environment: dict[str, str], folder: Path, name: str, parts: int) -> None:
    """Target of a process."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    config = config_of(ema_decay=0.9, accumulate=parts)
    run = Run.open(folder, config, env={"data": {}}, resume=False)
    fit(TASKS[name](config), toy_batches(8, rank=int(environment["RANK"]), world=2), config, run)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("name", TASKS)
def test_two_processes_equal_one(name: str, parts: int, tmp_path: Path) -> None:
    run_of(tmp_path / "one", name)
    finish(*[forked(one_of_two, environment, tmp_path / "two", name, parts) for environment in environments_of_two()])
    same_figures(tmp_path / "two", tmp_path / "one")


def test_the_discriminator_starts_late(tmp_path: Path) -> None:
    run_of(tmp_path, "gan")
    for record in metrics(tmp_path):
        assert ("discriminator/loss" in record) == ("generator/weight" in record) == (record["step"] >= START)
    started = next(record for record in metrics(tmp_path) if "discriminator/lr" in record)
    assert started["discriminator/lr"] > metrics(tmp_path)[-1]["discriminator/lr"] > 0


def first_update(task: Task, config: FitConfig, *, steps: int) -> Updater:
    updater, batches = Updater(task, config), toy_batches(8)
    for step in range(1, steps + 1):
        updater(next(batches), step=step)
    return updater


def test_players_leave_each_other_alone() -> None:
    task = ToyGan(config_of())
    before = [weight.clone() for weight in task.discriminator.parameters()]
    first_update(task, config_of(), steps=START - 1)
    assert all(torch.equal(*pair) for pair in zip(before, task.discriminator.parameters()))
    assert all(weight.requires_grad and weight.grad is None for weight in task.discriminator.parameters())
    first_update(task, config_of(), steps=START)
    assert not any(torch.equal(*pair) for pair in zip(before, task.discriminator.parameters()))


def test_frozen_networks_stay_and_are_in_no_state(tmp_path: Path) -> None:
    config = config_of()
    task = ToyFlow(config)
    digest = digest_of(task.codec)
    train(tmp_path, config=config, task=task)
    assert digest_of(task.codec) == digest and not task.codec.training
    assert not any(weight.requires_grad for weight in task.codec.parameters())
    for file in (tmp_path / "state/step_00000012").glob("*.safetensors"):
        assert not [name for name in load_file(file) if "codec" in name]
    task.codec.weight.data[0, 0] += 1
    assert digest_of(task.codec) != digest


def test_a_loss_that_begins_anew_draws_the_same_numbers(tmp_path: Path) -> None:
    """Dropout before a question that is asked again, in a batch that is cut."""

    class Asking(ToyTask):
        seen: list[float]

        def loss(self, batch, turn):  # type: ignore[no-untyped-def]
            self.seen.append(torch.rand(()).item())
            return (yield from super().loss(batch, turn))

    config = config_of(accumulate=2, steps=1)
    task = Asking(config)
    task.seen = []
    task.loss = rerunning(task.loss)  # type: ignore[method-assign]
    first_update(task, config, steps=1)
    assert task.seen[:2] == task.seen[2:] and task.seen[0] != task.seen[1]


def rerunning(loss):  # type: ignore[no-untyped-def]
    def asked_again(batch, turn):  # type: ignore[no-untyped-def]
        steps = loss(batch, turn)
        question = next(steps)
        answer = yield type(question)(question.value, rerun=True)
        try:
            steps.send(answer)
        except StopIteration as end:
            return end.value

    return asked_again
