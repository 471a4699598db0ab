"""CardioBench's own probe: one linear layer on a clip's mean features at length 1, trained by AdamW.

As its code (e0bc185, src/linear_probe) has it: squared error of the plain value, or cross-entropy; learning rate 1e-4,
weight decay 0.01, batches of 64, until the validation loss has not fallen by 0.001 for 20 epochs, 1,000 at most; the
epoch of the least validation loss. N clips, D features, O outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from probe.labels.target import Target
from probe.partition import Partition

NAME = "CardioBench's probe"
_LR, _DECAY, _BATCH, _EPOCHS, _PATIENCE, _LEAST_GAIN = 1e-4, 1e-2, 64, 1000, 20, 1e-3


def linear_probe(
    features_ND: npt.NDArray[np.float32], goal: Target, part: Partition, *, seed: int
) -> npt.NDArray[np.float64]:
    """(N,) values or (N, K) probabilities of the test clips of `part`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _learnt(features_ND, goal, part)


def _learnt(features_ND: npt.NDArray[np.float32], goal: Target, part: Partition) -> npt.NDArray[np.float64]:
    regressed, classes = goal.task == "regression", len(goal.classes)
    head = nn.Linear(features_ND.shape[1], 1 if regressed or classes == 2 else classes)

    def rows(index: npt.NDArray[np.int64]) -> torch.Tensor:
        return F.normalize(torch.from_numpy(np.ascontiguousarray(features_ND[index])), dim=1)

    def truth(index: npt.NDArray[np.int64]) -> torch.Tensor:
        values = torch.from_numpy(np.asarray(goal.of(index)))
        return values.float() if head.out_features == 1 else values.long()

    def loss(given: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        output_NO = head(given)
        if regressed:
            return F.mse_loss(output_NO[:, 0], true)
        if classes == 2:
            return F.binary_cross_entropy_with_logits(output_NO[:, 0], true)
        return F.cross_entropy(output_NO, true)

    _fit(head, loss, (rows(part.train), truth(part.train)), (rows(part.val), truth(part.val)))
    with torch.inference_mode():
        output_NO = head(rows(part.test)).double()
    if regressed:
        return output_NO[:, 0].numpy()
    if classes == 2:
        yes_N = torch.sigmoid(output_NO[:, 0])
        return torch.stack([1 - yes_N, yes_N], 1).numpy()
    return torch.softmax(output_NO, 1).numpy()


Part = tuple[torch.Tensor, torch.Tensor]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _fit(head: nn.Linear, loss: Loss, train: Part, val: Part) -> None:
    """Leaves the weights of the best epoch in the head."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=_LR, weight_decay=_DECAY, fused=True)
    best, kept, mark, waited = float("inf"), head.state_dict(), float("inf"), 0
    for _ in range(_EPOCHS):
        order = torch.randperm(len(train[1]))
        # A last batch that is not full is dropped, unless it is the only one.
        full = max(1, len(order) // _BATCH)
        for chosen in order.split(_BATCH)[:full]:
            optimizer.zero_grad()
            loss(train[0][chosen], train[1][chosen]).backward()
            optimizer.step()
        with torch.inference_mode():
            found = float(loss(*val))
        if found < best:
            best, kept = found, copy.deepcopy(head.state_dict())
        waited = 0 if found < mark - _LEAST_GAIN else waited + 1
        if waited == 0:
            mark = found
        elif waited >= _PATIENCE:
            break
    head.load_state_dict(kept)
