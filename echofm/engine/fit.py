"""fit: the one training loop. It knows no task's name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from echofm.clip import ClipBatch
from echofm.engine.config import FitConfig
from echofm.engine.run import Run
from echofm.engine.stopping import sigterm_noticed
from echofm.engine.task import Figure, Nets, Task
from echofm.engine.update import Update, Updater
from echofm.errors import EchofmError

# One bad clip is met once an epoch; this many bad batches in a row mean that the weights are lost.
_MOST_SKIPPED_IN_A_ROW = 10


class Measure(Protocol):
    """What looks at the networks after each update: a Monitor. `latest`: the figures found last."""

    latest: dict[str, float]

    def __call__(self, nets: Nets, step: int) -> Mapping[str, Figure]: ...


def fit(
    task: Task,
    batches: Iterator[ClipBatch],
    config: FitConfig,
    run: Run,
    *,
    monitor: Measure | None = None,
    card: Mapping[str, Any] | None = None,
) -> int:
    """Train from `run.start_step` to `config.steps`, saving and logging into `run`; export at the end.

    batches: this process's slices of the global batches, the first one that of step `run.start_step` + 1. Not
        prepared by accelerate, which would split again what is split already.
    card: facts for the export's card.
    Returns the last step done: fewer than `config.steps` where SIGTERM came; its state is then saved and exported.
    Raises EchofmError on a loss that is no number (`on_nonfinite`), when memory runs out, when the disk refuses.
    """
    updater = Updater(task, config)
    run.restore(updater.players, updater.accelerator)
    measure = monitor or _Nothing()
    skipped, step = 0, run.start_step
    with sigterm_noticed() as stopping, run.tracker(config) as tracker:
        if run.start_step == 0:
            with tracker.aside("measuring the untrained networks"):
                untrained = measure(updater.measured, 0)
            if untrained:
                tracker.log(0, untrained)
        for step in range(run.start_step + 1, config.steps + 1):
            with tracker.waiting_for_data(), stopping.at_once():
                batch = next(batches)
            update = updater(batch, step=step, stop=stopping.asked)
            skipped = skipped + 1 if update.nonfinite_clips else 0
            if update.nonfinite_clips and (config.on_nonfinite == "stop" or skipped == _MOST_SKIPPED_IN_A_ROW):
                raise _nonfinite(step, update, skipped)
            with tracker.aside("measuring"):
                measured = measure(updater.measured, step)
            # The steps logged are a function of the step alone: a resumed run's file is that of an unbroken one.
            if measured or update.nonfinite_clips or step in (1, config.steps) or step % config.log_every == 0:
                tracker.log(step, {**update.figures, **_on_log(update, run), **measured})
            tracker.advance()
            if update.stop or step == config.steps or step % config.save_every == 0:
                with tracker.aside("saving the state"):
                    tracker.settle()
                    run.save(step, updater.players, updater.accelerator, keep=config.keep_states)
            if update.stop:
                break
        nothing_left = run.start_step == step
        if nothing_left and not run.exported:
            # Killed between its last state and its export, which wants the figures of that step.
            with tracker.aside("measuring"):
                measure(updater.measured, step)
    if not (nothing_left and run.exported):
        stopped = {} if step == config.steps else {"steps": f"{step} of {config.steps}: the run was stopped"}
        run.export(task, updater.measured, step=step, card={**(card or {}), **measure.latest, **stopped})
    return step


class _Nothing:
    latest: dict[str, float] = {}  # noqa: RUF012

    def __call__(self, nets: Nets, step: int) -> Mapping[str, Figure]:
        return {}


def _on_log(update: Update, run: Run) -> Mapping[str, Any]:
    if update.nonfinite_clips:
        return {"skipped_clips": list(update.nonfinite_clips)}
    return update.on_log() if run.main else {}


def _nonfinite(step: int, update: Update, skipped: int) -> EchofmError:
    clips = update.nonfinite_clips
    shown = ", ".join(clips[:8]) + (", ..." if len(clips) > 8 else "")
    if skipped >= _MOST_SKIPPED_IN_A_ROW:
        return EchofmError(
            f"step {step}: loss or gradient is no number for the {skipped}th step in a row (last on clips {shown}); "
            "lower --fit.optim.base-lr or take --fit.precision fp32"
        )
    return EchofmError(
        f"step {step}: loss or gradient is no number on clips {shown}; look at these, or resume with "
        "--fit.on-nonfinite skip"
    )
