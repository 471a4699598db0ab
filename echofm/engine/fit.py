"""fit: the one training loop. It knows no task's name."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from echofm.clip import ClipBatch
from echofm.engine.config import FitConfig
from echofm.engine.run import Run
from echofm.engine.state import Trained
from echofm.engine.task import Task
from echofm.engine.update import Update, Updater
from echofm.errors import EchofmError
from echofm.metric.collapse import embedding_std, rankme

# One bad clip is met once an epoch; this many bad batches in a row mean that the weights are lost.
_MOST_SKIPPED_IN_A_ROW = 10


def fit(task: Task, batches: Iterator[ClipBatch], config: FitConfig, run: Run) -> int:
    """Train from `run.start_step` to `config.steps`, saving and logging into `run`; export at the end.

    batches: this process's slices of the global batches, the first one that of step `run.start_step` + 1. Not
        prepared by accelerate, which would split again what is split already.
    Returns the last step done: fewer than `config.steps` where SIGTERM came; its state is then saved and exported.
    Raises EchofmError on a loss that is no number (`on_nonfinite`), when memory runs out, when the disk refuses.
    """
    updater = Updater(task, config)
    trained = Trained(net=task.net, optimizer=updater.optimizer, ema=updater.ema)
    run.restore(trained, updater.accelerator)
    skipped, step = 0, run.start_step
    with _sigterm_noticed() as told_to_stop, run.tracker(config) as tracker:
        if run.start_step == 0:
            with tracker.aside("measuring the untrained model"):
                untrained = task.after_update(0)
            if untrained:
                tracker.log(0, untrained)
        for step in range(run.start_step + 1, config.steps + 1):
            with tracker.waiting_for_data():
                batch = next(batches)
            lr = config.lr_at(step)
            update = updater(batch, lr=lr, stop=told_to_stop())
            skipped = skipped + 1 if update.culprits else 0
            if update.culprits and (config.on_nonfinite == "stop" or skipped == _MOST_SKIPPED_IN_A_ROW):
                raise _nonfinite(step, update, skipped)
            with tracker.aside("measuring"):
                extra = task.after_update(step)
            # The steps logged are a function of the step alone: a resumed run's file is that of an unbroken one.
            if extra or update.culprits or step in (1, config.steps) or step % config.log_every == 0:
                tracker.log(step, {**update.figures, "lr": lr, **_living(update), **extra})
            tracker.advance()
            if update.stop or step == config.steps or step % config.save_every == 0:
                with tracker.aside("saving the state"):
                    tracker.settle()
                    run.save(step, trained, updater.accelerator, keep=config.keep_states)
            if update.stop:
                break
        nothing_left = run.start_step == step
        if nothing_left and not run.exported:
            # Killed between its last state and its export, which wants the figures of that step.
            with tracker.aside("measuring"):
                task.after_update(step)
    if run.main and not (nothing_left and run.exported):
        with updater.ema.applied(task.net) if updater.ema else nullcontext():
            run.export(task, step=step)
    return step


def _living(update: Update) -> dict[str, Any]:
    if update.culprits:
        return {"skipped_clips": list(update.culprits)}
    if update.embedding_ND is None:
        return {}
    return {"rankme": rankme(update.embedding_ND), "embedding_std": embedding_std(update.embedding_ND)}


def _nonfinite(step: int, update: Update, skipped: int) -> EchofmError:
    shown = ", ".join(update.culprits[:8]) + (", ..." if len(update.culprits) > 8 else "")
    if skipped >= _MOST_SKIPPED_IN_A_ROW:
        return EchofmError(
            f"step {step}: loss or gradient is no number for the {skipped}th step in a row (last on clips {shown}); "
            "lower --fit.optim.lr-per-256 or take --fit.precision fp32"
        )
    return EchofmError(
        f"step {step}: loss or gradient is no number on clips {shown}; look at these, or resume with "
        "--fit.on-nonfinite skip"
    )


@contextmanager
def _sigterm_noticed() -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM only sets a flag, so that the step in hand ends and is saved."""
    told: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may change what a signal does; elsewhere SIGTERM keeps its meaning.
        yield lambda: False
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        yield lambda: bool(told)
    finally:
        signal.signal(signal.SIGTERM, before)
