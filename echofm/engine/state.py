"""What a run needs to go on as if it had never stopped, as safetensors and JSON: nothing in it can run code.

state/step_00000100/
    model.safetensors       "<player>/<name>" of each network's state_dict
    ema.safetensors         the same of the running means, where there are some
    optimizer.safetensors   "<player>/<weight>/<tensor>": exp_avg, exp_avg_sq, step
    rng.safetensors         "cpu" and "device": (processes, bytes) states of torch's generators
    state.json              format, step, and whether export/ was written from it
The learning rate is a function of the step and the order of the clips one of (seed, step), so neither is here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from echofm.atomic import sync, whole_file, write_whole
from echofm.engine.player import Trained
from echofm.errors import EchofmError
from echofm.saved import apart

FORMAT = 2


def rng_of_this_process(device: torch.device) -> dict[str, torch.Tensor]:
    """States of torch's generators: "cpu", and "device" where that is another one; (1, bytes) uint8 each."""
    states = {"cpu": torch.get_rng_state()[None]}
    if device.type == "cuda":
        states["device"] = torch.cuda.get_rng_state(device)[None]
    return states


def write_state(folder: Path, players: Sequence[Trained], *, step: int, rng: dict[str, torch.Tensor]) -> None:
    """Write every file into an existing empty folder and wait until the disk has them."""
    _save(_by_player({each: each.player.net.state_dict() for each in players}), folder / "model.safetensors")
    _save(_by_player({each: each.optimizer_state() for each in players}), folder / "optimizer.safetensors")
    if means := _by_player({each: each.ema.state() for each in players if each.ema}):
        _save(means, folder / "ema.safetensors")
    _save(rng, folder / "rng.safetensors")
    write_whole(folder / "state.json", state_json(step=step, exported=False))
    sync(folder)


def _by_player(tensors: dict[Trained, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {f"{each.player.name}/{name}": tensor for each, own in tensors.items() for name, tensor in own.items()}


def _of_player(tensors: dict[str, torch.Tensor], trained: Trained) -> dict[str, torch.Tensor]:
    prefix = f"{trained.player.name}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def state_json(*, step: int, exported: bool) -> str:
    """The text of state.json."""
    return json.dumps({"format": FORMAT, "step": step, "exported": exported}) + "\n"


def is_exported(folder: Path) -> bool:
    """Whether a saved state says that the export was written from it; states of earlier versions do not."""
    try:
        return json.loads((folder / "state.json").read_text(encoding="utf-8")).get("exported") is True
    except (OSError, ValueError, AttributeError):
        # What is damaged, `read_state` tells.
        return False


def read_state(folder: Path, players: Sequence[Trained], *, process: int, device: torch.device) -> None:
    """Load every tensor in place. Raises EchofmError where the state is damaged or of another network.

    A process that the saved run did not have takes the first one's generators: every draw about a clip is a
    function of the clip and the seed, so only dropout-like layers would notice.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise EchofmError(f"{folder.name} has state format {state['format']}, this version reads {FORMAT}")
        networks, optimizers = load_file(folder / "model.safetensors"), load_file(folder / "optimizer.safetensors")
        means = load_file(folder / "ema.safetensors") if any(each.ema for each in players) else {}
        rng = load_file(folder / "rng.safetensors")
        for each in players:
            each.player.net.load_state_dict(_of_player(networks, each))
            each.load_optimizer_state(_of_player(optimizers, each))
            if each.ema:
                each.ema.load(_of_player(means, each))
    except (OSError, SafetensorError, RuntimeError, KeyError, json.JSONDecodeError) as error:
        raise EchofmError(
            f"{folder.name} cannot be read ({type(error).__name__}); remove that folder to go on from the one before"
        ) from error
    row = process if process < len(rng["cpu"]) else 0
    # A copy: torch reads a state as 8-byte words, and a row of the mapped file may lie at any address.
    torch.set_rng_state(rng["cpu"][row].clone())
    if device.type == "cuda" and "device" in rng:
        torch.cuda.set_rng_state(rng["device"][row].clone(), device)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn a disk's refusal in the block into an EchofmError that says what is safe and what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise EchofmError(
            f"{what} could not be written ({reason}); what was saved before is whole: make room, then --resume"
        ) from None


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    with whole_file(path) as part:
        save_file(apart(tensors), part)
