"""One update of every player over the global batch, whatever the processes and parts into which it is cut."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from echofm.clip import ClipBatch
from echofm.engine.asking import MicroLoss, outputs
from echofm.engine.config import FitConfig
from echofm.engine.parallel import exchanged, processes
from echofm.engine.player import Trained
from echofm.engine.task import Nets, StepOutput, Task, Turn
from echofm.errors import EchofmError


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one update did.

    figures: loss, the task's logs, grad_norm and lr, of the global batch; with several players each under "name/".
    stop: some process was asked to stop.
    nonfinite_clips: ids of the clips whose loss or gradient is no number; the weights and buffers (running statistics)
        of that player, and of those whose turn comes after it, are then as before. Empty: all well.
    on_log: gives further figures.
    """

    figures: Mapping[str, float]
    stop: bool
    nonfinite_clips: Sequence[str]
    on_log: Callable[[], dict[str, float]]


class Updater:
    """Holds the players as trained, and the frozen networks on their device."""

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
        for net in task.frozen().values():
            net.to(self.accelerator.device).eval().requires_grad_(False)
        self.players = [Trained(player, self.accelerator, config) for player in task.players()]
        assert any(each.player.start_step == 1 for each in self.players), "one of the players begins at step 1"
        weights = [id(weight) for each in self.players for weight in each.weights]
        assert len(weights) == len(set(weights)), "a weight belongs to one player"

    @property
    def measured(self) -> Nets:
        """The networks that are validated and exported, by the players' names."""
        return {each.player.name: each.measured for each in self.players}

    def __call__(self, batch: ClipBatch, *, step: int, stop: bool = False) -> Update:
        """Update on this process's slice of the global batch. Raises EchofmError with advice when memory runs out."""
        try:
            return self._update(batch, step=step, stop=stop)
        except (torch.OutOfMemoryError, MemoryError):
            raise self._out_of_memory() from None
        except RuntimeError as error:
            if "can't allocate memory" in str(error) or "not enough memory" in str(error):
                raise self._out_of_memory() from None
            raise

    def _update(self, batch: ClipBatch, *, step: int, stop: bool) -> Update:
        with torch.no_grad():
            parts = [self.task.prepare(part.to(self.accelerator.device)) for part in self._parts(batch)]
        figures: dict[str, float] = {}
        further: list[Callable[[], dict[str, float]]] = []
        nonfinite_clips: list[str] = []
        for trained in self.players:
            if step < trained.player.start_step or nonfinite_clips:
                continue
            held = [(buffer, buffer.clone()) for each in self.players for buffer in each.player.net.buffers()]
            with self._alone_learning(trained):
                steps = [_detached(output) for output in self._backward(trained, parts, step)]
            limit = trained.player.optim.max_grad_norm or math.inf
            norm = torch.nn.utils.clip_grad_norm_(trained.weights, limit)
            own, bad, stop = self._agree(steps, norm, stop)
            if bad:
                nonfinite_clips = self._nonfinite_clips(parts, steps)
                with torch.no_grad():
                    for buffer, before in held:
                        buffer.copy_(before)
            else:
                own["lr"] = trained.step(step)
            trained.optimizer.zero_grad(set_to_none=True)
            prefix = f"{trained.player.name}/" if len(self.players) > 1 else ""
            figures |= {prefix + name: value for name, value in own.items()}
            further.append(functools.partial(_further, steps[-1], prefix))
        return Update(
            figures=figures,
            stop=stop,
            nonfinite_clips=nonfinite_clips,
            on_log=lambda: {name: value for each in further for name, value in each().items()},
        )

    def _parts(self, batch: ClipBatch) -> list[ClipBatch]:
        size = self.config.micro_batch(self.accelerator.num_processes)
        assert len(batch) == size * self.config.accumulate, "the loader gives this process's slice"
        return [batch[start : start + size] for start in range(0, len(batch), size)]

    @contextlib.contextmanager
    def _alone_learning(self, learner: Trained) -> Iterator[None]:
        """Within the block the other players' weights take no gradient."""
        others = [weight for each in self.players if each is not learner for weight in each.weights]
        for weight in others:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in others:
                weight.requires_grad_(True)

    def _backward(self, trained: Trained, parts: Sequence[ClipBatch], step: int) -> Iterator[StepOutput]:
        """Each micro-batch's output, its gradient added up; the processes exchange theirs with the last one."""
        turn = Turn(
            player=trained.player.name,
            step=step,
            net=trained.wrapped,
            nets={each.player.name: each.player.net for each in self.players},
            ema={each.player.name: each.ema.net for each in self.players if each.ema},
            whole=len(parts) * self.accelerator.num_processes == 1,
        )
        losses = [
            MicroLoss(
                functools.partial(self.task.loss, part, turn),
                within=functools.partial(self._within, trained),
            )
            for part in parts
        ]
        for output, part in zip(outputs(losses, self.accelerator), parts):
            last = part is parts[-1]
            # Not by the last forward pass: it may precede the first backward pass, which DDP would take for the last.
            exchange = self.accelerator.trigger_sync_in_backward if last else self.accelerator.no_sync
            with exchange(trained.ddp):
                # DDP takes the mean of the processes' gradients; the losses here are shares that add up.
                self.accelerator.backward(output.loss * self.accelerator.num_processes)
            yield output
        # The first process's buffers, such as running means, go around with the next forward pass.
        trained.ddp.require_forward_param_sync = True  # type: ignore[assignment]

    @contextlib.contextmanager
    def _within(self, trained: Trained) -> Iterator[None]:
        bf16 = self.config.precision == "bf16"
        precision = torch.autocast(self.accelerator.device.type, dtype=torch.bfloat16, enabled=bf16)
        with self.accelerator.no_sync(trained.ddp), precision:
            yield

    def _agree(
        self, steps: Sequence[StepOutput], norm: torch.Tensor, stop: bool
    ) -> tuple[dict[str, float], bool, bool]:
        """Global figures, whether any is no number, whether anyone stops: one reduction, one wait for the device."""
        names = ["loss", *steps[0].logs]
        own = torch.stack([torch.stack([each.loss, *each.logs.values()]).double() for each in steps]).sum(0)
        flags = torch.stack([~(own[0].isfinite() & norm.isfinite()), torch.tensor(stop, device=own.device)]).double()
        # NaN survives a sum over the processes only in the figures; the flags count.
        values = self.accelerator.reduce(torch.cat([own, flags]), reduction="sum").tolist()
        return dict(zip(names, values)) | {"grad_norm": float(norm)}, values[-2] > 0, values[-1] > 0

    def _nonfinite_clips(self, parts: Sequence[ClipBatch], steps: Sequence[StepOutput]) -> list[str]:
        """Ids of the clips in the micro-batches whose loss is no number; where all losses are fine, of every clip."""
        fine = [bool(each.loss.isfinite()) for each in steps]
        clips = [(clip_id, well) for part, well in zip(parts, fine) for clip_id in part.clip_ids]
        every = [clip for message in exchanged(json.dumps(clips).encode()) for clip in json.loads(message)]
        return [clip_id for clip_id, well in every if not well] or [clip_id for clip_id, _ in every]

    def _out_of_memory(self) -> EchofmError:
        clips = self.config.micro_batch(self.accelerator.num_processes)
        peak = f" after {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if torch.cuda.is_available() else ""
        # The fewest parts that divide them: three clips have no halves.
        parts = next((number for number in range(2, clips + 1) if clips % number == 0), 1)
        fewer, cut = clips // parts, parts * self.config.accumulate
        ways = [f"--fit.accumulate {cut} ({fewer} at a time, the same result)"] if clips > 1 else []
        ways += [self.task.advice()] if self.task.advice() else []
        ways += [f"--fit.batch {self.config.batch // parts}"] if clips > 1 else ["a smaller network"]
        return EchofmError(f"out of memory{peak} with {clips} clip(s) at a time per process; try {', or '.join(ways)}")


def _detached(output: StepOutput) -> StepOutput:
    logs = {name: value.detach() for name, value in output.logs.items()}
    return StepOutput(loss=output.loss.detach(), logs=logs, on_log=output.on_log)


def _further(output: StepOutput, prefix: str) -> dict[str, float]:
    figures = output.on_log() if output.on_log else {}
    return {prefix + name: float(value) for name, value in figures.items()}


def _determinism(wanted: bool) -> None:
    if wanted:
        # cuBLAS reads it when it starts: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # A kernel without a deterministic form warns, loudly and once, rather than ending a run over a log figure.
    torch.use_deterministic_algorithms(wanted, warn_only=True)
