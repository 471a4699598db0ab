"""The loop: equal results however the batch is cut, resuming, stopping, bad losses, full disks."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain_process import environments_of_two, finish, forked
from safetensors.torch import load_file
from torch import nn
from toy_task import ToyNet, ToyTask, toy_batches

from echofm.clip import ClipBatch
from echofm.engine import stopping
from echofm.engine.config import FitConfig, OptimConfig
from echofm.engine.fit import Measure, fit
from echofm.engine.run import Run
from echofm.engine.task import Nets, Task
from echofm.engine.update import Updater
from echofm.errors import EchofmError


def config_of(**changes: Any) -> FitConfig:
    optim = OptimConfig(base_lr=0.5, warmup_steps=2, max_grad_norm=0.5)
    return FitConfig(**{"steps": 12, "batch": 8, "log_every": 1, "save_every": 5, "optim": optim, **changes})


def train(
    folder: Path,
    *,
    config: FitConfig | None = None,
    task: Task | None = None,
    monitor: Measure | None = None,
    resume: bool = False,
    spoil: Sequence[int] = (),
    killed_at: int | None = None,
) -> int:
    """One run on toy batches; `spoil`: steps with a clip of NaN; `killed_at`: the loader dies before that step."""
    config = config or config_of()
    run = Run.open(folder, config, env={"data": {"toy": 1}}, resume=resume)

    def batches() -> Iterator[ClipBatch]:
        for step, batch in enumerate(toy_batches(8, start_step=run.start_step), run.start_step + 1):
            if step == killed_at:
                raise KeyboardInterrupt
            video = batch.video_BCTHW.float() / 255
            if step in spoil:
                video[3] = torch.nan
            yield replace(batch, video_BCTHW=video)

    return fit(task or ToyTask(config), batches(), config, run, monitor=monitor)


class Recorder:
    """A monitor that measures at some steps, and does what it is given at each."""

    def __init__(self, each: Callable[[int], None] = lambda step: None) -> None:
        self.latest: dict[str, float] = {}
        self.steps: list[int] = []
        self._each = each

    def __call__(self, nets: Nets, step: int) -> dict[str, float]:
        self.steps.append(step)
        self._each(step)
        if step in (0, 5, 10, 12):
            weight = nets["model"].get_parameter("encode.weight").sum().item()
            self.latest = {"monitor/step": step, "monitor/weight": weight}
        return {}


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((folder / "export").glob("*.safetensors")))


def test_accumulation_equals_the_large_batch(tmp_path: Path) -> None:
    for parts in (1, 2, 8):
        config = config_of(accumulate=parts)
        task = ToyTask(config)
        task.net.drop.p = 0.0
        train(tmp_path / str(parts), config=config, task=task)
    whole = metrics(tmp_path / "1")
    for parts in (2, 8):
        cut = metrics(tmp_path / str(parts))
        assert [r["loss"] for r in cut] == pytest.approx([r["loss"] for r in whole], abs=1e-6)
        assert [r["grad_norm"] for r in cut] == pytest.approx([r["grad_norm"] for r in whole], abs=1e-6)
    assert whole[-1]["loss"] < 0.6 * whole[0]["loss"]


def test_records_and_folder(tmp_path: Path) -> None:
    monitor = Recorder()
    assert train(tmp_path / "run", monitor=monitor, config=config_of(log_every=4)) == 12
    records = metrics(tmp_path / "run")
    assert [record["step"] for record in records] == [1, 4, 8, 12]
    expected = "step loss recon grad_norm lr code_std clips_per_s data_wait_share eta_s"
    assert all(set(record) == set(expected.split()) for record in records)
    assert 0 <= records[-1]["data_wait_share"] <= 1 and records[-1]["eta_s"] == 0
    assert monitor.steps == list(range(13))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "config.json", "env.json", "export", "metrics.jsonl", "state", "tensorboard",
    ]  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "run" / "state").iterdir()) == ["step_00000010", "step_00000012"]
    assert not [p for p in (tmp_path / "run").rglob("*") if p.suffix in (".pkl", ".pt", ".pth", ".bin")]


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"accumulate": 2}], ids=str)
def test_resumed_weights_are_bit_equal(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = config_of(**changes)
    train(tmp_path / "whole", config=config)
    for start, killed_at in ((False, 4), (True, 8), (True, None)):
        try:
            train(tmp_path / "cut", config=config, resume=start, killed_at=killed_at)
        except KeyboardInterrupt:
            continue
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert [r["step"] for r in metrics(tmp_path / "cut")] == list(range(1, 13))
    assert [r["loss"] for r in metrics(tmp_path / "cut")] == [r["loss"] for r in metrics(tmp_path / "whole")]
    assert len(json.loads((tmp_path / "cut" / "env.json").read_text())) == 3


def test_compiled_network_trains_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tracer but without a C++ compiler, which a test machine may lack."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    for name in ("plain", "compiled"):
        train(tmp_path / name, config=config_of(compile=name == "compiled"))
    assert weights(tmp_path / "compiled") == weights(tmp_path / "plain")


def test_the_running_mean_is_what_is_measured_and_exported(tmp_path: Path) -> None:
    config, monitor = config_of(ema_decay=0.9), Recorder()
    task = ToyTask(config)
    train(tmp_path / "run", config=config, task=task, monitor=monitor)
    mean = load_file(tmp_path / "run" / "state" / "step_00000012" / "ema.safetensors")
    exported = load_file(tmp_path / "run" / "export" / "model.safetensors")
    assert all(torch.equal(tensor, mean[f"model/{name}"]) for name, tensor in exported.items())
    assert not torch.equal(task.net.encode.weight, exported["encode.weight"])
    assert monitor.latest["monitor/weight"] == exported["encode.weight"].sum().item()


def test_sigterm_saves_and_ends(tmp_path: Path) -> None:
    def stop(step: int) -> None:
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert train(tmp_path / "cut", monitor=Recorder(stop)) == 7
    assert signal.getsignal(signal.SIGTERM) is before
    state, export = (tmp_path / "cut" / name / "model.safetensors" for name in ("state/step_00000007", "export"))
    exported, saved = load_file(export), load_file(state)
    assert all(torch.equal(exported[name], saved[f"model/{name}"]) for name in exported)
    assert train(tmp_path / "cut", resume=True) == 12
    train(tmp_path / "whole")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_finished_run_keeps_its_export(tmp_path: Path) -> None:
    train(tmp_path / "run", monitor=Recorder())
    card = tmp_path / "run" / "export" / "card.json"
    written = card.read_text(), card.stat().st_ino, card.stat().st_mtime_ns
    assert train(tmp_path / "run", monitor=Recorder(), resume=True) == 12
    assert (card.read_text(), card.stat().st_ino, card.stat().st_mtime_ns) == written
    card.parent.rename(tmp_path / "taken away")
    train(tmp_path / "run", monitor=Recorder(), resume=True)
    assert card.read_text() == written[0]


def test_killed_before_the_export_it_is_made_as_if_unbroken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "whole", monitor=Recorder())
    task = ToyTask(config_of())

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(task, "export", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", task=task, monitor=Recorder())
    # What an earlier stop exported must not pass for the end's.
    shutil.copytree(tmp_path / "whole" / "export", tmp_path / "cut" / "export")
    (tmp_path / "cut" / "export" / "card.json").write_text("7 steps")
    assert train(tmp_path / "cut", monitor=Recorder(), resume=True) == 12
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    cards = [(tmp_path / name / "export" / "card.json").read_text() for name in ("cut", "whole")]
    assert cards[0] == cards[1] and json.loads(cards[0])["monitor/step"] == 12


def test_bad_loss_stops_and_names_the_clips_of_its_part(tmp_path: Path) -> None:
    with pytest.raises(EchofmError) as caught:
        train(tmp_path / "run", config=config_of(accumulate=4), spoil=[7])
    assert re.findall(r"clip-\d+-\d+", str(caught.value)) == ["clip-6-2", "clip-6-3"]
    assert "step 7" in str(caught.value) and "--fit.on-nonfinite skip" in str(caught.value)
    assert (tmp_path / "run" / "state" / "step_00000005").is_dir()


def one_of_two(environment: dict[str, str], folder: Path) -> None:
    """Target of a process: in step 3 the second process has a clip of NaN."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    rank = int(environment["RANK"])
    run = Run.open(folder / "run", config_of(), env={"data": {}}, resume=False)

    def batches() -> Iterator[ClipBatch]:
        for step, batch in enumerate(toy_batches(8, rank=rank, world=2), 1):
            video = batch.video_BCTHW.float() / 255
            if step == 3 and rank == 1:
                video[0] = torch.nan
            yield replace(batch, video_BCTHW=video)

    try:
        fit(ToyTask(config_of()), batches(), config_of(), run)
    except EchofmError as error:
        (folder / environment["RANK"]).write_text(str(error))


def test_bad_loss_in_one_process_stops_both(tmp_path: Path) -> None:
    finish(*[forked(one_of_two, environment, tmp_path) for environment in environments_of_two()])
    messages = [(tmp_path / rank).read_text() for rank in "01"]
    assert messages[0] == messages[1]
    assert re.findall(r"clip-\d+-\d+", messages[0]) == [f"clip-2-{index}" for index in (4, 5, 6, 7)]


def test_bad_loss_skipped_leaves_the_weights(tmp_path: Path) -> None:
    train(tmp_path / "run", config=config_of(on_nonfinite="skip", log_every=100), spoil=[7])
    skipped = [record for record in metrics(tmp_path / "run") if "skipped_clips" in record]
    assert [record["step"] for record in skipped] == [7]
    assert skipped[0]["loss"] is None and "clip-6-3" in skipped[0]["skipped_clips"]
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "run/export/model.safetensors").values())
    states = [load_file(tmp_path / f"run/state/step_000000{step}/model.safetensors") for step in ("10", "12")]
    assert not torch.equal(states[0]["model/encode.weight"], states[1]["model/encode.weight"])


class Normed(ToyNet):
    """With running statistics, and a weight that stands under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.again = self.decode

    def forward(self, x_BTV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        code = self.norm(self.encode(x_BTV).flatten(0, 1)).view(*x_BTV.shape[:2], -1)
        return self.again(code), code


@pytest.mark.parametrize("parts", [1, 2])
def test_bad_loss_skipped_leaves_running_statistics(parts: int, tmp_path: Path) -> None:
    config = config_of(on_nonfinite="skip", accumulate=parts)
    task, seen = ToyTask(config), []
    task.net = Normed()
    train(
        tmp_path / "run",
        config=config,
        task=task,
        spoil=[7],
        monitor=Recorder(lambda step: seen.append(task.net.norm.running_mean.clone())),
    )
    assert torch.equal(seen[6], seen[7]) and not torch.equal(seen[5], seen[6]) and seen[-1].isfinite().all()


def test_tied_weights_are_saved_resumed_and_exported(tmp_path: Path) -> None:
    config = config_of(steps=12, save_every=5)
    for name, killed_at in (("whole", None), ("killed", 8)):
        task = ToyTask(config)
        task.net = Normed()
        with pytest.raises(KeyboardInterrupt) if killed_at else contextlib.nullcontext():
            train(tmp_path / name, config=config, task=task, killed_at=killed_at)
    task = ToyTask(config)
    task.net = Normed()
    train(tmp_path / "killed", config=config, task=task, resume=True)
    assert weights(tmp_path / "whole") == weights(tmp_path / "killed")
    exported = load_file(tmp_path / "whole/export/model.safetensors")
    assert torch.equal(exported["again.weight"], exported["decode.weight"])


def test_ten_bad_steps_in_a_row_stop_even_when_skipping(tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match="10th step in a row"):
        train(tmp_path / "run", config=config_of(on_nonfinite="skip"), spoil=range(2, 13))


def test_out_of_memory_comes_with_advice(tmp_path: Path) -> None:
    class Hungry(ToyTask):
        def prepare(self, batch: ClipBatch) -> ClipBatch:
            raise torch.OutOfMemoryError("CUDA out of memory")

    config = config_of(accumulate=2)
    with pytest.raises(EchofmError) as caught:
        train(tmp_path / "run", task=Hungry(config), config=config)
    for advice in ("4 clip(s) at a time", "--fit.accumulate 4 (2 at a time", "--toy.smaller", "--fit.batch 4"):
        assert advice in str(caught.value)


def test_advice_on_memory_names_numbers_that_divide() -> None:
    config = config_of(batch=9, accumulate=3)
    advice = str(Updater(ToyTask(config), config)._out_of_memory())
    assert "--fit.accumulate 9 (1 at a time" in advice and advice.endswith("--fit.batch 3")
    for fixed in (config_of(batch=9, accumulate=9), config_of(batch=3, accumulate=3)):
        fixed.micro_batch(1)


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    train(tmp_path / "run")
    with pytest.raises(EchofmError, match="--resume"):
        train(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(EchofmError, match="not empty"):
        train(tmp_path / "other", resume=True)


def test_resume_refuses_what_changes_the_weights(tmp_path: Path) -> None:
    train(tmp_path / "run")
    changed = config_of(optim=OptimConfig(base_lr=0.5, warmup_steps=3, max_grad_norm=0.5))
    with pytest.raises(EchofmError, match=r"optim\.warmup_steps = 2, asked for is 3"):
        train(tmp_path / "run", config=changed, resume=True)
    assert train(tmp_path / "run", config=config_of(save_every=7, workers=0), resume=True) == 12
    with pytest.raises(EchofmError, match="digests differ"):
        Run.open(tmp_path / "run", config_of(), env={"data": {"toy": 2}}, resume=True)


def test_what_helps_where_memory_ran_out_is_free_on_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("echofm.engine.run.console.print", lambda text, **_: lines.append(text))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", killed_at=8)
    assert train(tmp_path / "run", config=config_of(accumulate=2), resume=True) == 12
    noted = [text.partition(";")[0] for text in lines if "only to round-off" in text]
    assert noted == ["accumulate: 1 when this run began, 2 now"]


def waiting_for_ever(folder: Path) -> None:
    """Target of a process: its third batch never comes."""
    torch.set_num_threads(1)
    run = Run.open(folder, config_of(save_every=2), env={"data": {"toy": 1}}, resume=False)

    def batches() -> Iterator[ClipBatch]:
        yield from itertools.islice(toy_batches(8), 2)
        (folder / "waiting").touch()
        while True:
            time.sleep(0.05)

    stopping._GRACE_S = 0.2
    fit(ToyTask(config_of()), batches(), config_of(save_every=2), run)


def test_sigterm_ends_a_run_whose_clips_never_come(tmp_path: Path) -> None:
    process = forked(waiting_for_ever, tmp_path / "run")
    while not (tmp_path / "run" / "waiting").exists():
        assert process.is_alive()
        time.sleep(0.01)
    process.terminate()
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM
    assert train(tmp_path / "run", config=config_of(save_every=2), resume=True) == 12
    train(tmp_path / "whole", config=config_of(save_every=2))
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_a_second_sigterm_does_not_end_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun hands on the signal that a batch system sent to all processes already; and it may come before a wait."""
    ended: list[str] = []
    monkeypatch.setattr(stopping, "_GRACE_S", 0.05)
    monkeypatch.setattr(stopping, "_end", lambda: ended.append("ended"))
    notices = stopping.Stopping()
    with notices.at_once():
        notices.notice()
        notices.notice()
    time.sleep(0.1)
    assert notices.asked and not ended
    with notices.at_once():
        time.sleep(0.15)
    assert ended == ["ended"]


def test_damaged_state_is_named(tmp_path: Path) -> None:
    train(tmp_path / "run")
    path = tmp_path / "run" / "state" / "step_00000012" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(EchofmError, match="step_00000012 cannot be read"):
        train(tmp_path / "run", resume=True)


def test_what_a_kill_leaves_behind_is_cleared(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", killed_at=8)
    (tmp_path / "cut" / "state" / ".step_00000010.part").mkdir()
    with open(tmp_path / "cut" / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "lo')
    train(tmp_path / "cut", resume=True)
    assert [r["step"] for r in metrics(tmp_path / "cut")] == list(range(1, 13))
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert not list((tmp_path / "cut" / "state").glob(".*"))


def run_under_a_limit(folder: Path, message: Path) -> None:
    """Target of a process: from step 7 on no file may hold more than 2500 bytes."""
    torch.set_num_threads(1)

    def limit(step: int) -> None:
        if step == 7:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2500, resource.RLIM_INFINITY))

    try:
        train(folder, monitor=Recorder(limit), config=config_of(log_every=100))
    except EchofmError as error:
        message.write_text(str(error))


def test_file_size_limit_leaves_the_last_state_whole(tmp_path: Path) -> None:
    """As a full disk does: the write of a state fails half way."""
    finish(forked(run_under_a_limit, tmp_path / "run", tmp_path / "message"))
    message = (tmp_path / "message").read_text()
    assert "state of step 10 could not be written (" in message and "--resume" in message
    assert [p.name for p in (tmp_path / "run" / "state").iterdir()] == ["step_00000005"]
    train(tmp_path / "run", config=config_of(log_every=100), resume=True)
    train(tmp_path / "whole", config=config_of(log_every=100))
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
