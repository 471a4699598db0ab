"""From a recipe and shards to a run: everything that must be built, in its order. A task is all that is added.

env.json says enough about a start to repeat it, and nothing that could name a patient.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

import echofm
from echofm.config import Recipe
from echofm.digest import tensor_digest
from echofm.engine.fit import fit
from echofm.engine.monitor import Monitor, Snapshot, load_hook
from echofm.engine.parallel import processes
from echofm.engine.run import Run
from echofm.engine.task import Task
from echofm.engine.update import Updater
from echofm.errors import EchofmError
from echofm.machine import peak_memory_bytes
from echofm.progress import console
from echofm.shards.read import ShardSet

R = TypeVar("R", bound=Recipe)

_PACKAGES = ("torch", "accelerate", "timm", "numpy", "safetensors", "webdataset")
HIDDEN = "<path>"


def start(
    recipe: R,
    build: Callable[[R, ShardSet], Task],
    *,
    data: Path,
    out: Path,
    resume: bool = False,
    argv: Sequence[str] = (),
    private: Collection[str] = (),
) -> None:
    """Train, or go on training, into the run folder `out`. Every process of a launch calls it.

    build: makes the task of a recipe on opened shards. argv: the command, for env.json. private: its options whose
        words may name a patient, beside --data, --out and --config.
    Raises EchofmError on bad input, before the folder is made.
    """
    main = processes().is_main_process
    recipe.fit.micro_batch(processes().num_processes)
    shards = _opened(data, recipe, show_progress=main)
    task = build(recipe, shards)
    networks = {**task.digests(), **{name: digest_of(net) for name, net in task.frozen().items()}}
    digests = {entry.name: entry.sha256 for entry in shards.manifest.tars} | networks
    monitor = _monitor(recipe, task, shards, folder=out) if recipe.monitor.every else None
    run = Run.open(out, recipe, env=describe(argv, data=digests, private=private), resume=resume)
    if main and run.start_step:
        console.print(f"going on from step {run.start_step} of {recipe.fit.steps}", highlight=False)
    batches = task.batches(shards, recipe.fit, start_step=run.start_step)
    card = {**card_of(recipe, shards), **networks}
    done = fit(task, batches, recipe.fit, run, monitor=monitor, card=card)
    if main:
        early = "" if done == recipe.fit.steps else f"stopped at step {done} (--resume goes on); "
        console.print(f"{early}the result is in export/", highlight=False)
    processes().wait_for_everyone()
    processes().destroy_process_group()


def dry_run(recipe: R, build: Callable[[R, ShardSet], Task], *, data: Path) -> None:
    """Take two steps, the second one timed, and print what the run would be. Writes nothing."""
    shards = _opened(data, recipe, show_progress=processes().is_main_process)
    task = build(recipe, shards)
    updater = Updater(task, recipe.fit)
    batches = task.batches(shards, recipe.fit, start_step=0)
    for step in (1, 2):
        begun_s = time.perf_counter()
        batch = next(batches)
        waited_s = time.perf_counter() - begun_s
        update = updater(batch, step=step)
        step_s = time.perf_counter() - begun_s
    if processes().is_main_process:
        print("\n".join(_outlook(recipe, shards, updater, update.figures, step_s=step_s, waited_s=waited_s)))


def _opened(data: Path, recipe: Recipe, *, show_progress: bool) -> ShardSet:
    shards = ShardSet.open(data, latents=None if recipe.takes_latents else False, show_progress=show_progress)
    if not shards.manifest.splits["train"].clips:
        raise EchofmError(
            "the shards hold no training clip: write them with --split-by hash or none, other --fractions, --seed or "
            "--stratify"
        )
    return shards


def card_of(recipe: Recipe, shards: ShardSet) -> dict[str, object]:
    """Facts for the card of what a run exports."""
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


def _monitor(recipe: Recipe, task: Task, shards: ShardSet, *, folder: Path) -> Monitor:
    return Monitor(
        task,
        every=recipe.monitor.every,
        steps=recipe.fit.steps,
        snapshot=Snapshot(contract=task.contract, shards=shards, folder=folder),
        hooks={spec: load_hook(spec) for spec in recipe.monitor.hooks},
    )


def _outlook(
    recipe: Recipe, shards: ShardSet, updater: Updater, figures: Mapping[str, Any], *, step_s: float, waited_s: float
) -> list[str]:
    clips, steps, world = len(shards.split("train")), recipe.fit.steps, processes().num_processes
    per_epoch = clips // recipe.fit.batch
    sizes = {
        each.player.name: sum(weight.numel() for weight in each.player.net.parameters()) for each in updater.players
    }
    # Weights, gradients, two optimizer states; a mean where there is one.
    held = sum(sizes[each.player.name] * (5 if each.ema else 4) for each in updater.players)
    losses = [f"{name} {value:.4f}" for name, value in figures.items() if name.rpartition("/")[2] == "loss"]
    return [
        f"recipe      {recipe.name}: {steps} steps of {recipe.fit.batch} clips on {world} process(es)",
        f"parameters  {', '.join(f'{name} {size / 1e6:.2f} M' for name, size in sizes.items())}",
        f"data        {clips} training clips, {per_epoch} steps an epoch, {steps / per_epoch:.1f} epochs",
        f"memory      {4 * held / 2**30:.2f} GiB weights, gradients and optimizer; peak {_peak()} a process",
        f"time        {step_s:.2f} s a step, {waited_s / step_s:.0%} of it waiting for data; {_hours(step_s * steps)}",
        f"first step  {', '.join(losses)}",
    ]


def _peak() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB of GPU memory"
    peak = peak_memory_bytes()
    return "memory unknown" if peak is None else f"{peak / 2**30:.2f} GiB of memory"


def _hours(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min in all" if hours else f"{minutes} min in all"


def describe(argv: Sequence[str], *, data: dict[str, Any], private: Collection[str] = ()) -> dict[str, Any]:
    """Versions, hardware and command of this start. `data`: digests of what it reads. `private`: see without_paths."""
    state = processes()
    device = torch.cuda.get_device_name() if state.device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "echofm": echofm.__version__,
        "git_sha": git_sha(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "device": device,
        "processes": state.num_processes,
        "threads": torch.get_num_threads(),
        "argv": without_paths(argv, private=private),
        "data": data,
    }


def without_paths(argv: Sequence[str], *, private: Collection[str] = ()) -> list[str]:
    """The command's words, each path replaced: folders and files of patients are often named after them.

    A word is a path if it follows --data, --out, --config or one of the options `private`, holds a separator, or names
    something that exists.
    """
    hiding = {"--data", "--out", "--config", *private}
    cleaned: list[str] = []
    previous = ""
    for word in argv:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if option and not equals:
            cleaned.append(word)
        elif (option or previous) in hiding or _looks_like_path(value):
            cleaned.append(f"{option}={HIDDEN}" if option else HIDDEN)
        else:
            cleaned.append(word)
        previous = word
    return cleaned


def _looks_like_path(word: str) -> bool:
    return os.sep in word or "\\" in word or os.path.exists(word)


def digest_of(net: nn.Module) -> str:
    """A frozen network's own `digest`, or the sha256 of its tensors and their names."""
    own = getattr(net, "digest", None)
    if isinstance(own, str):
        return own
    return tensor_digest(net.state_dict(), label=lambda name, each: f"{name} {each.dtype} {list(each.shape)};")


def git_sha() -> str | None:
    """Commit of the source tree that runs, "+changes" where files differ from it; None outside a checkout."""
    root = Path(echofm.__file__).parents[1]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
