"""Monitor: the task's own figures and those of hooks, every n steps, shared over the processes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from echofm.engine.hooks import Hook, Snapshot
from echofm.engine.parallel import exchanged, processes, together
from echofm.engine.task import Figure, Nets, Task


class Monitor:
    """Measures the networks every `every` steps, at step 0 (the untrained ones) and after the last step.

    Every process takes part: the task's `validate` shares the held-out clips among them, and each hook runs on one.
    They wait for one another as `echofm.engine.parallel` tells, so no collective times out.

    latest: the figures of the last measurement.
    """

    def __init__(
        self, task: Task, *, every: int, steps: int, snapshot: Snapshot | None = None, hooks: Mapping[str, Hook]
    ) -> None:
        self._task, self._every, self._steps = task, every, steps
        self._snapshot, self._hooks = snapshot, hooks
        self.latest: dict[str, float] = {}

    def __call__(self, nets: Nets, step: int) -> Mapping[str, Figure]:
        """Figures and pictures under "monitor/...", or nothing where none are due."""
        if step % self._every and step != self._steps:
            return {}
        with leaving_no_trace(nets):
            found = {**self._task.validate(nets, step), **self._by_hooks(nets, step)}
        figures = {f"monitor/{name}": value for name, value in found.items()}
        self.latest = {name: float(value) for name, value in figures.items() if isinstance(value, (int, float))}
        return figures

    def _by_hooks(self, nets: Nets, step: int) -> dict[str, float]:
        if not self._hooks:
            return {}
        assert self._snapshot is not None
        snapshot, figures = self._snapshot.at(nets, step), {}

        def measure() -> None:
            for number, (name, hook) in enumerate(self._hooks.items()):
                if number % processes().num_processes == processes().process_index:
                    figures.update({f"{name}/{key}": float(value) for key, value in hook(snapshot).items()})

        together(measure)
        for message in exchanged(json.dumps(figures).encode()):
            figures |= json.loads(message)
        return figures


@contextmanager
def leaving_no_trace(nets: Nets) -> Iterator[None]:
    """Within the block evaluation mode and no gradients; after it modes and random numbers are as before."""
    modes: dict[nn.Module, bool] = {module: module.training for net in nets.values() for module in net.modules()}
    device = next(parameter for net in nets.values() for parameter in net.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        for net in nets.values():
            net.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
