"""One update of the weights over the global batch, whatever the processes and parts into which it is cut."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, broadcast

from echofm.clip import ClipBatch
from echofm.engine.config import FitConfig
from echofm.engine.optim import Ema, make_optimizer
from echofm.engine.task import Rows, StepOutput, Task
from echofm.errors import EchofmError

_ID_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one update did.

    figures: loss, the task's logs and grad_norm, of the global batch.
    stop: some process was told to stop.
    culprits: ids of the clips whose loss or gradient is no number; then the weights are as before. Empty: all well.
    embedding_ND: this process's rows for rank and spread.
    """

    figures: dict[str, float]
    stop: bool
    culprits: Sequence[str]
    embedding_ND: torch.Tensor | None


def processes() -> PartialState:
    """This process among those that `torchrun` or `accelerate launch` started; joins them on the first call.

    Without a GPU accelerate has to be told so, or it takes each of torchrun's processes for the only one. Apple's GPUs
    are passed over: they have no float64, in which the global counts are added up.
    """
    device = torch.accelerator.current_accelerator(check_available=True)
    return PartialState(cpu=device is None or device.type in ("cpu", "mps"))


def on_main(action: Callable[[], None]) -> None:
    """Run on the main process while the others wait; where it raises EchofmError, they raise one too."""
    state, problem = processes(), None
    if state.is_main_process:
        try:
            action()
        except EchofmError as error:
            problem = error
    failed = broadcast(torch.tensor(int(problem is not None), device=state.device))
    if problem is not None:
        raise problem
    if failed:
        raise EchofmError("stopped: the first process says why")


class Updater:
    """Holds the network as trained (`net`: wrapped for the processes), the optimizer and the running mean."""

    def __init__(self, task: Task, config: FitConfig) -> None:
        processes()
        _determinism(config.deterministic)
        self.task, self.config = task, config
        self.accelerator = Accelerator(
            # Not accelerate's: it would change `net.forward` for good, and once for the whole process.
            mixed_precision="no",
            kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
        )
        config.micro_batch(self.accelerator.num_processes)
        torch.manual_seed(config.seed + self.accelerator.process_index)
        task.net.train()
        self.net = self.accelerator.prepare(task.net)
        if config.compile:
            self.net = torch.compile(self.net)
        self.optimizer = make_optimizer(task.net, config.optim)
        self.ema = Ema(task.net, config.ema_decay) if config.ema_decay else None

    def __call__(self, batch: ClipBatch, *, lr: float, stop: bool = False) -> Update:
        """Update on this process's slice of the global batch. Raises EchofmError with advice when memory runs out."""
        try:
            return self._update(batch, lr=lr, stop=stop)
        except (torch.OutOfMemoryError, MemoryError):
            raise self._out_of_memory() from None
        except RuntimeError as error:
            if "can't allocate memory" in str(error) or "not enough memory" in str(error):
                raise self._out_of_memory() from None
            raise

    def _update(self, batch: ClipBatch, *, lr: float, stop: bool) -> Update:
        parts = [self.task.prepare(part.to(self.accelerator.device)) for part in self._parts(batch)]
        with self._precision():
            counts_K = torch.stack([self.task.counts(part) for part in parts]).sum(0)
        totals_K = self.accelerator.reduce(counts_K, reduction="sum")
        shared = self._shared(parts)
        outputs = [self._backward(part, totals_K, shared, last=part is parts[-1]) for part in parts]
        limit = self.config.optim.clip_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.task.net.parameters(), limit)
        figures, bad, stopped = self._agree(outputs, norm, stop)
        culprits = self._culprits(parts, outputs) if bad else []
        if not bad:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
            if self.ema:
                self.ema.update(self.task.net)
        self.optimizer.zero_grad(set_to_none=True)
        return Update(figures=figures, stop=stopped, culprits=culprits, embedding_ND=outputs[-1].embedding_ND)

    def _parts(self, batch: ClipBatch) -> list[ClipBatch]:
        size = self.config.micro_batch(self.accelerator.num_processes)
        assert len(batch) == size * self.config.accumulate, "the loader gives this process's slice"
        return [batch[start : start + size] for start in range(0, len(batch), size)]

    @torch.no_grad()
    def _shared(self, parts: list[ClipBatch]) -> Rows | None:
        """The task's shared rows of the global batch; None where one part is all of it, which sees itself."""
        if len(parts) * self.accelerator.num_processes == 1:
            return None
        with self._precision():
            rows = [each for part in parts if (each := self.task.shared(part)) is not None]
        if not rows:
            return None
        return self.accelerator.gather({name: torch.cat([each[name] for each in rows]) for name in rows[0]})

    def _backward(self, part: ClipBatch, totals_K: torch.Tensor, shared: Rows | None, *, last: bool) -> StepOutput:
        wait = contextlib.nullcontext() if last else self.accelerator.no_sync(self.net)
        with wait:
            with self._precision():
                output = self.task.step(self.net, part, totals_K, shared)
            # DDP takes the mean of the processes' gradients; the losses here are shares that add up.
            self.accelerator.backward(output.loss * self.accelerator.num_processes)
        logs = {name: value.detach() for name, value in output.logs.items()}
        rows = None if output.embedding_ND is None else output.embedding_ND.detach()
        return StepOutput(loss=output.loss.detach(), logs=logs, embedding_ND=rows)

    def _precision(self) -> torch.autocast:
        bf16 = self.config.precision == "bf16"
        return torch.autocast(self.accelerator.device.type, dtype=torch.bfloat16, enabled=bf16)

    def _agree(self, outputs: list[StepOutput], norm: torch.Tensor, stop: bool) -> tuple[dict[str, float], bool, bool]:
        """Global figures, whether any is no number, whether anyone stops: one reduction, one wait for the device."""
        names = ["loss", *outputs[0].logs]
        own = torch.stack([torch.stack([o.loss, *o.logs.values()]).double() for o in outputs]).sum(0)
        flags = torch.stack([~(own[0].isfinite() & norm.isfinite()), torch.tensor(stop, device=own.device)]).double()
        # NaN survives a sum over the processes only in the figures; the flags count.
        values = self.accelerator.reduce(torch.cat([own, flags]), reduction="sum").tolist()
        figures = dict(zip(names, values)) | {"grad_norm": float(norm)}
        return figures, values[-2] > 0, values[-1] > 0

    def _culprits(self, parts: list[ClipBatch], outputs: list[StepOutput]) -> list[str]:
        """Ids of the clips in the micro-batches whose loss is no number; where all losses are fine, of every clip."""
        bad = [not bool(output.loss.isfinite()) for output in outputs]
        any_bad = self.accelerator.reduce(torch.tensor(sum(bad), device=self.accelerator.device), reduction="sum")
        rows = torch.zeros(sum(map(len, parts)), _ID_BYTES, dtype=torch.uint8)
        names = [(clip_id, is_bad) for part, is_bad in zip(parts, bad) for clip_id in part.clip_ids]
        for row, (clip_id, is_bad) in zip(rows, names):
            if is_bad or not any_bad:
                text = clip_id.encode()[:_ID_BYTES]
                row[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        gathered = self.accelerator.gather(rows.to(self.accelerator.device)).cpu().numpy()
        return [text for row in gathered if (text := row.tobytes().rstrip(b"\0").decode())]

    def _out_of_memory(self) -> EchofmError:
        clips = self.config.micro_batch(self.accelerator.num_processes)
        peak = f" after {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if torch.cuda.is_available() else ""
        halves = 2 * self.config.accumulate
        ways = [f"--fit.accumulate {halves} ({clips // 2} at a time, the same result)"] if clips > 1 else []
        ways += [self.task.advice()] if self.task.advice() else []
        ways += [f"--fit.batch {self.config.batch // 2}"] if self.config.batch > 1 else ["a smaller network"]
        return EchofmError(f"out of memory{peak} with {clips} clip(s) at a time per process; try {', or '.join(ways)}")


def _determinism(wanted: bool) -> None:
    if wanted:
        # cuBLAS reads it when it starts: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # A kernel without a deterministic form warns, loudly and once, rather than ending a run over a log figure.
    torch.use_deterministic_algorithms(wanted, warn_only=True)
