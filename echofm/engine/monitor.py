"""Monitor: the task's own figures and those of hooks, every n steps, shared over the processes.

Hooks are measurements that others bring: `--monitor module:function`, or `name:argument` of an installed monitor, which
is an entry point of the group "echofm.monitors": a function that takes the argument (a string, "" where there is none)
and returns the hook. So a package above or beside this one is used without being imported here.
"""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from echofm.engine.parallel import exchanged, processes, together
from echofm.engine.task import Figure, Nets, Task
from echofm.errors import EchofmError

if TYPE_CHECKING:
    from echofm.contract import InputContract
    from echofm.shards.read import ShardSet

GROUP = "echofm.monitors"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a hook gets: the model in evaluation mode, what it takes, the data and a folder for pictures.

    The model is the first player's network (its running mean, where there is one): leave its weights alone. `nets` are
    all players' networks by name. Gradients are off.
    """

    contract: InputContract
    shards: ShardSet
    folder: Path
    model: Any = None
    nets: Mapping[str, Any] | None = None
    step: int = 0

    def at(self, nets: Mapping[str, Any], step: int) -> Snapshot:
        """The same at a step."""
        return replace(self, model=next(iter(nets.values())), nets=nets, step=step)


Hook = Callable[[Snapshot], Mapping[str, float]]


def load_hook(spec: str) -> Hook:
    """The hook that `--monitor SPEC` names. Raises EchofmError where there is none."""
    name, _, rest = spec.partition(":")
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in installed:
        return installed[name].load()(rest)
    if not rest:
        close = difflib.get_close_matches(name, installed, n=1)
        known = f"did you mean {close[0]!r}?" if close else f"installed are: {', '.join(installed) or 'none'}"
        raise EchofmError(f"--monitor {spec}: no such monitor; {known} Else give module:function")
    try:
        hook = getattr(importlib.import_module(name), rest)
    except (ImportError, AttributeError) as error:
        raise EchofmError(f"--monitor {spec}: {error}; give module:function with the module importable") from None
    if not callable(hook):
        raise EchofmError(f"--monitor {spec}: not a function")
    return hook


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
