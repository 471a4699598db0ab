"""A loss over micro-batches: runs each until it asks for something of the global batch, answers all, and goes on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate import Accelerator

from echofm.engine.task import Join, Loss, StepOutput, Sum


class MicroLoss:
    """The loss of one micro-batch, which stops where it asks.

    begin: starts it. within: the context (precision, gradients not yet exchanged) in which it runs.
    """

    def __init__(self, begin: Callable[[], Loss], *, within: Callable[[], AbstractContextManager[Any]]) -> None:
        self._begin, self._within = begin, within
        self._running: Generator[Sum | Join, Any, StepOutput] | None = None
        self._answered = 0
        self._random: tuple[torch.Tensor, ...] | None = None

    def advance(self, answers: Sequence[Any]) -> Sum | Join | StepOutput:
        """Go on with all the answers there are; what it asks next, or its output."""
        with self._within():
            try:
                if self._running is None:
                    self._same_random_numbers()
                    begun = self._begin()
                    if isinstance(begun, StepOutput):
                        return begun
                    self._running, self._answered = begun, 0
                    asked = next(begun)
                while self._answered < len(answers):
                    self._answered += 1
                    asked = self._running.send(answers[self._answered - 1])
            except StopIteration as end:
                return end.value
        return asked

    def forget(self) -> None:
        """Give up what it holds; it will begin anew."""
        if self._running is not None:
            self._running.close()
        self._running = None

    def _same_random_numbers(self) -> None:
        on_gpu = torch.cuda.is_available()
        if self._random is None:
            self._random = (torch.get_rng_state(), *([torch.cuda.get_rng_state()] if on_gpu else []))
            return
        torch.set_rng_state(self._random[0])
        if on_gpu:
            torch.cuda.set_rng_state(self._random[1])


def outputs(losses: Sequence[MicroLoss], accelerator: Accelerator) -> Iterator[StepOutput]:
    """The output of each micro-batch's loss, in order; the graph of one need not outlive its turn."""
    answers: list[Any] = []
    while not isinstance(asked := losses[0].advance(answers), StepOutput):
        all_asked = [asked, *(loss.advance(answers) for loss in losses[1:])]
        assert all(type(each) is type(asked) for each in all_asked), "every micro-batch asks the same"
        answers.append(_answer(all_asked, accelerator))
        if asked.rerun and len(losses) > 1:
            for loss in losses:
                loss.forget()
    yield asked
    for loss in losses[1:]:
        output = loss.advance(answers)
        assert isinstance(output, StepOutput), "every micro-batch asks the same"
        yield output


@torch.no_grad()
def _answer(asked: Sequence[Any], accelerator: Accelerator) -> Any:
    if isinstance(asked[0], Sum):
        # In float64, where counts are exact and the order of the processes does not show.
        total = torch.stack([each.value.detach().double() for each in asked]).sum(0)
        return accelerator.reduce(total, reduction="sum").to(asked[0].value.dtype)
    rows = {name: torch.cat([each.rows[name].detach() for each in asked]) for name in asked[0].rows}
    return accelerator.gather(rows) if accelerator.num_processes > 1 else rows
