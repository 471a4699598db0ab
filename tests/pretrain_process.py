"""Pretraining in processes of its own, which can be killed, for the tests of resuming and of several processes.

A fork server imports torch once; each run is forked from it, clean of any thread pool, in a tenth of a second.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["echofm.engine.train", "pretrain.task", "torch.utils.tensorboard"])

# A model that makes a step in milliseconds; every feature on that the run folder or the state could miss.
# Little of the features: the gradient of an absolute error jumps where it passes 0, and round-off with it.
_TINY_SETTINGS = {
    "network": "size 32 frames 8 patch 8 tubelet 2 width 32 depth 1 heads 2 predicted-frames 4 "
    "decoder-width 16 decoder-depth 1 decoder-heads 2",
    "objective.clip-contrast": "weight 0.5 views 2",
    "objective.latent": "weight 0.02",
    "masking": "kind block",
    "data": "gain 0.2 contrast 0.3 acoustic 0.5",
    "fit": "batch 4 ema-decay 0.9 save-every 5 log-every 1 workers 0 optim.warmup-steps 3",
    "monitor": "every 10 clips 2",
}


def tiny_words() -> list[str]:
    """The settings as words of the command line."""
    words: list[str] = []
    for group, text in _TINY_SETTINGS.items():
        pairs = text.split()
        for name, value in zip(pairs[::2], pairs[1::2]):
            words += [f"--{group}.{name}", value]
    return words


def forked(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Start a function of a test module in a process."""
    process = _FORKSERVER.Process(target=target, args=arguments)
    process.start()
    return process


def pretrain_here(argv: list[str], log: Path | None, environment: dict[str, str]) -> None:
    """Target of a forked process: the command, on one thread, its errors into a file if one is given."""
    # A group of its own, which its loaders share: what a batch system signals.
    os.setpgid(0, 0)
    os.environ.update(environment)
    if log:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600), sys.stderr.fileno())
    import torch

    from pretrain.cli import main

    torch.set_num_threads(1)
    sys.exit(main(argv))


def launch(argv: list[str], *, log: Path | None = None, **environment: str) -> ForkServerProcess:
    """Start `pretrain ARGV` in a process."""
    return forked(pretrain_here, argv, log, environment)


def launch_two(argv: list[str]) -> list[ForkServerProcess]:
    """Start it as two processes that know each other as torchrun's do."""
    return [launch(argv, **environment) for environment in environments_of_two()]


def environments_of_two() -> list[dict[str, str]]:
    """What torchrun tells each of two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]


def finish(*processes: ForkServerProcess) -> None:
    """Wait for success."""
    for process in processes:
        process.join(300)
        assert process.exitcode == 0, process.exitcode


def wait_for_step(run: Path, step: int, *processes: ForkServerProcess) -> None:
    """Wait until the run has logged a step."""
    deadline = time.monotonic() + 300
    while not any(record["step"] >= step for record in records(run, whole=False)):
        assert time.monotonic() < deadline and all(process.is_alive() for process in processes), "it ended too early"
        time.sleep(0.002)


def records(run: Path, *, whole: bool = True) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; without `whole` the last one may still be half written, and is left out."""
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n") if path.exists() else [""]
    assert not whole or lines[-1] == ""
    return [json.loads(line) for line in lines[:-1]]


def weights_sha256(run: Path) -> str:
    return hashlib.sha256((run / "export" / "model.safetensors").read_bytes()).hexdigest()
