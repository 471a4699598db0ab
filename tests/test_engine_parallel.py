"""What processes exchange: messages, rows, figures of hooks, and errors; one of them may have nothing to say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from pretrain_process import environments_of_two, finish, forked

from echofm.contract import InputContract
from echofm.engine.monitor import Monitor, Snapshot
from echofm.engine.parallel import exchanged, joined_rows, on_main, own_share, processes, together
from echofm.engine.task import Nets, Task
from echofm.errors import EchofmError


class Sharing(Task):
    """Measures the mean of seven numbers, each process its share."""

    def validate(self, nets: Nets, step: int) -> dict[str, float]:
        share = own_share(7)
        rows = joined_rows({"value_N": torch.arange(7.0)[share]})
        return {"mean": float(rows["value_N"].mean()), "own": float(share.stop - share.start)}


def monitor_with_hooks() -> Monitor:
    snapshot = Snapshot(contract=InputContract(size=8, frames=2), shards=None, folder=Path())  # type: ignore[arg-type]
    hooks = {
        "first": lambda seen: {"rank": float(processes().process_index), "step": float(seen.step)},
        "second": lambda seen: {"rank": float(processes().process_index)},
    }
    return Monitor(Sharing(), every=2, steps=5, snapshot=snapshot, hooks=hooks)


def exchange(environment: dict[str, str], folder: Path) -> None:
    """Target of a process."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    rank = int(environment["RANK"])
    assert processes().process_index == rank
    assert exchanged(b"a" * 3 * rank) == [b"", b"aaa"]
    assert exchanged(b"") == [b"", b""]
    rows = joined_rows({"x_ND": torch.full((2, 3), 7.0)} if rank else {})
    assert rows["x_ND"].tolist() == [[7.0] * 3] * 2
    figures = monitor_with_hooks()({"model": torch.nn.Linear(1, 1)}, 4)
    assert {name: figures[name] for name in figures if name != "monitor/own"} == {
        "monitor/mean": 3.0, "monitor/first/rank": 0.0, "monitor/first/step": 4.0, "monitor/second/rank": 1.0,
    }  # fmt: skip
    assert figures["monitor/own"] == (4, 3)[rank]

    def fail() -> None:
        raise EchofmError("the disk is full")

    with pytest.raises(EchofmError, match="the disk is full" if rank == 0 else "another process says why"):
        on_main(fail)
    with pytest.raises(EchofmError, match="the disk is full" if rank == 1 else "another process says why"):
        together(fail if rank == 1 else lambda: None)
    (folder / str(rank)).touch()


def test_two_processes_exchange_and_fail_together(tmp_path: Path) -> None:
    finish(*[forked(exchange, environment, tmp_path) for environment in environments_of_two()])
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


def test_one_process_has_all() -> None:
    figures = monitor_with_hooks()({"model": torch.nn.Linear(1, 1)}, 5)
    assert figures["monitor/mean"] == 3.0 and figures["monitor/own"] == 7.0 and figures["monitor/second/rank"] == 0.0
    assert not monitor_with_hooks()({"model": torch.nn.Linear(1, 1)}, 3)
    assert exchanged(b"a") == [b"a"] and own_share(0) == slice(0, 0)


def test_measuring_leaves_modes_and_random_numbers() -> None:
    class Drawing(Sharing):
        def validate(self, nets: Nets, step: int) -> dict[str, float]:
            torch.rand(3)
            assert not nets["model"].training and not torch.is_grad_enabled()
            return {}

    net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout().eval())
    state = torch.get_rng_state()
    Monitor(Drawing(), every=1, steps=5, hooks={})({"model": net}, 1)
    assert torch.equal(state, torch.get_rng_state())
    assert net.training and net[0].training and not net[1].training
