"""The processes of one training: who this one is, and how they exchange figures, errors and waits.

What is exchanged here goes over a group of its own, on the CPU, whose patience is a week. So a process may save, export
or measure for an hour while the others wait: no collective of the GPUs is pending meanwhile, and NCCL, which ends a
training whose collective takes longer than its time-out, has nothing to count.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from accelerate import PartialState
from safetensors.torch import load, save
from torch import distributed

from echofm.errors import EchofmError

T = TypeVar("T")

_PATIENCE = datetime.timedelta(days=7)


def processes() -> PartialState:
    """This process among those that `torchrun` or `accelerate launch` started; joins them on the first call.

    Without a GPU accelerate has to be told so, or it takes each of torchrun's processes for the only one. Apple's GPUs
    are passed over: they have no float64, in which sums over the global batch are taken.
    """
    device = torch.accelerator.current_accelerator(check_available=True)
    return PartialState(cpu=device is None or device.type in ("cpu", "mps"))


def own_share(count: int) -> slice:
    """Which of `count` things are this process's, in order; together they are all, the first process has some."""
    world, rank = processes().num_processes, processes().process_index
    return slice(-(-count * rank // world), -(-count * (rank + 1) // world))


def exchanged(message: bytes) -> list[bytes]:
    """Every process's message, in the order of the processes. Called by all; each waits for the last."""
    if processes().num_processes == 1:
        return [message]
    own = torch.frombuffer(bytearray(message) or bytearray(1), dtype=torch.uint8)
    length, lengths = torch.tensor([len(message)]), [torch.zeros(1, dtype=torch.int64) for _ in range(_world())]
    distributed.all_gather(lengths, length, group=_patient_group())
    padded = torch.zeros(max(1, *(int(each) for each in lengths)), dtype=torch.uint8)
    padded[: len(own)] = own
    messages = [torch.empty_like(padded) for _ in lengths]
    distributed.all_gather(messages, padded, group=_patient_group())
    return [each.numpy().tobytes()[: int(length)] for each, length in zip(messages, lengths)]


def joined_rows(rows: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rows of all processes, by name, on the CPU, in the order of the processes. One that has none gives {}."""
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in rows.items()}
    parts = [load(message) for message in exchanged(save(own) if own else b"") if message]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def together(action: Callable[[], T]) -> T:
    """Run on every process and wait for all; where one raises EchofmError, all do."""
    problem: EchofmError | None = None
    try:
        result = action()
    except EchofmError as error:
        problem = error
    failed = any(exchanged(b"" if problem is None else b"failed"))
    if problem is not None:
        raise problem
    if failed:
        raise EchofmError("stopped: another process says why")
    return result


def on_main(action: Callable[[], object]) -> None:
    """Run on the main process while the others wait; where it raises EchofmError, they raise one too."""
    together(action if processes().is_main_process else lambda: None)


def _world() -> int:
    return processes().num_processes


@functools.cache
def _patient_group() -> distributed.ProcessGroup:
    return distributed.new_group(backend="gloo", timeout=_PATIENCE)
