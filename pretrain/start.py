"""From a recipe and shards to a run: everything that must be built, in its order."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from echofm.clip import ClipBatch
from echofm.engine.environment import describe, git_sha
from echofm.engine.fit import fit
from echofm.engine.run import Run
from echofm.engine.update import Updater, processes
from echofm.errors import EchofmError
from echofm.hub import load_encoder, load_model
from echofm.model.mae import VideoMae
from echofm.progress import console
from echofm.shards.loader import train_batches
from echofm.shards.read import ShardSet
from pretrain.hooks import Snapshot, load_hook
from pretrain.monitor import HeldOut, Monitor
from pretrain.recipes import PretrainRecipe
from pretrain.task import PretrainTask, contract_of


def start(
    recipe: PretrainRecipe,
    *,
    data: Path,
    out: Path,
    init: str | None = None,
    resume: bool = False,
    argv: Sequence[str] = (),
) -> None:
    """Pretrain, or go on pretraining, into the run folder `out`. Every process of a launch calls it.

    init: an export to begin from. argv: the command, for env.json.
    """
    main = processes().is_main_process
    recipe.fit.micro_batch(processes().num_processes)
    shards = open_shards(recipe, data, show_progress=main)
    initial, began_from = initial_model(init, recipe)
    digests = {entry.name: entry.sha256 for entry in shards.manifest.tars} | began_from
    # Before the folder: a run that cannot start leaves none behind.
    monitor = make_monitor(recipe, shards, folder=out) if main and recipe.monitor.every else None
    run = Run.open(out, recipe, env=describe(argv, data=digests), resume=resume)
    task = PretrainTask(recipe, card=card_of(recipe, shards) | began_from, initial=initial, watcher=monitor)
    if main and run.start_step:
        console.print(f"going on from step {run.start_step} of {recipe.fit.steps}", highlight=False)
    done = fit(task, batches_of(recipe, shards, start_step=run.start_step), recipe.fit, run)
    if main:
        early = "" if done == recipe.fit.steps else f"stopped at step {done} (--resume goes on); "
        console.print(f"{early}the encoder is in export/", highlight=False)
    processes().wait_for_everyone()
    processes().destroy_process_group()


def dry_run(recipe: PretrainRecipe, *, data: Path, init: str | None = None) -> None:
    """Take two steps, the second one timed, and print what the run would be. Writes nothing."""
    world = processes().num_processes
    shards = open_shards(recipe, data, show_progress=processes().is_main_process)
    task = PretrainTask(recipe, card={}, initial=initial_model(init, recipe)[0])
    updater = Updater(task, recipe.fit)
    batches = batches_of(recipe, shards, start_step=0)
    for step in (1, 2):
        begun_s = time.perf_counter()
        batch = next(batches)
        waited_s = time.perf_counter() - begun_s
        update = updater(batch, lr=recipe.fit.lr_at(step))
        step_s = time.perf_counter() - begun_s
    if not processes().is_main_process:
        return
    clips, steps = len(shards.split("train")), recipe.fit.steps
    per_epoch = clips // recipe.fit.batch
    total = sum(parameter.numel() for parameter in task.net.parameters())
    encoder = sum(parameter.numel() for parameter in task.net.encoder.parameters())
    held = 4 + (1 if recipe.fit.ema_decay else 0)
    print(f"recipe      {recipe.name}: {steps} steps of {recipe.fit.batch} clips on {world} process(es)")
    print(f"parameters  {total / 1e6:.2f} M, encoder {encoder / 1e6:.2f} M")
    print(f"data        {clips} training clips, {per_epoch} steps an epoch, {steps / per_epoch:.1f} epochs")
    print(f"memory      {4 * held * total / 2**30:.2f} GiB weights, gradients and moments; peak {_peak()} a process")
    print(
        f"time        {step_s:.2f} s a step, {waited_s / step_s:.0%} of it waiting for data; {_hours(step_s * steps)}"
    )
    print(f"loss        {update.figures['loss']:.4f} after the first step")


def initial_model(source: str | None, recipe: PretrainRecipe) -> tuple[VideoMae | None, dict[str, str]]:
    """The export that a run begins from, and its digest for env.json and the card; None and nothing for random weights.

    Raises EchofmError where it is no export, or its network is not the recipe's.
    """
    if source is None:
        return None, {}
    model = load_model(source)
    for name, value in recipe.network.model_dump().items():
        own = getattr(model.network, name)
        # Another centring fits the same weights.
        if name != "phase_centre" and own != value:
            option = "--network." + name.replace("_", "-")
            raise EchofmError(
                f"--init: the network given has {name} {own}, the recipe {value}; add {option} {own} or take another "
                "recipe"
            )
    return model, {"initial weights": load_encoder(source).digest}


def open_shards(recipe: PretrainRecipe, data: Path, *, show_progress: bool = True) -> ShardSet:
    """The shards, checked against what the recipe takes."""
    if recipe.objective.clip_contrast.weight and recipe.fit.batch < 2:
        raise EchofmError(
            "--objective.clip-contrast.weight tells a clip from the batch's others: give --fit.batch 2 or more"
        )
    shards = ShardSet.open(data, show_progress=show_progress)
    if not shards.manifest.splits["train"].clips:
        raise EchofmError(
            "the shards hold no training clip: write them with other --fractions, --seed or --stratify, or with "
            "--split-by none"
        )
    stored = shards.manifest.settings.channels
    if stored == 3 and recipe.network.channels == 1:
        raise EchofmError(
            "the shards are in colour, the model is grey: write them with `echofm shards --channels 1`, or take "
            "--network.channels 3"
        )
    return shards


def batches_of(recipe: PretrainRecipe, shards: ShardSet, *, start_step: int) -> Iterator[ClipBatch]:
    """This process's slices of the global batches from `start_step` on."""
    return train_batches(
        shards,
        frames=recipe.network.frames,
        frame_rate_hz=recipe.data.frame_rate_hz,
        batch=recipe.fit.batch,
        rank=processes().process_index,
        world=processes().num_processes,
        workers=recipe.fit.workers,
        seed=recipe.fit.seed,
        start_step=start_step,
    )


def make_monitor(recipe: PretrainRecipe, shards: ShardSet, *, folder: Path) -> Monitor:
    """The monitor on clips of the val split."""
    contract = contract_of(recipe)
    return Monitor(
        HeldOut.of(shards.split("val"), contract, clips=recipe.monitor.clips),
        every=recipe.monitor.every,
        steps=recipe.fit.steps,
        snapshot=Snapshot(contract=contract, shards=shards, folder=folder),
        hooks={spec: load_hook(spec) for spec in recipe.monitor.hooks},
    )


def card_of(recipe: PretrainRecipe, shards: ShardSet) -> dict[str, object]:
    """Facts for the model card."""
    counts = shards.manifest.splits["train"]
    return {
        "recipe": recipe.name,
        "data": f"{shards.manifest.dataset}: {counts.clips} training clips of {counts.patients} patients",
        "steps": recipe.fit.steps,
        "clips per step": recipe.fit.batch,
        "seed": recipe.fit.seed,
        "precision": recipe.fit.precision,
        "git commit": git_sha() or "unknown",
    }


def _peak() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB of GPU memory"
    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return f"{peak / 2**30:.2f} GiB of memory"


def _hours(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min in all" if hours else f"{minutes} min in all"
