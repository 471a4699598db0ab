"""Whether as many labels tell the view of a phantom's clips: from pixels, and from frozen tokens by place.

    python -m benchmarks.phantom_view ENCODER SHARDS

A few convolutions on each clip's middle window, trained on the training clips under drawn mirroring, turning, zoom and
shift: of the frames (their mean, spread and eight of them) and of the tokens' mean and log spread over time at each
place, of the encoder and of random init. Test clips count as they are and mirrored. A quarter of an hour of
processor time for `demo`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from benchmarks.real_cycle import with_random_weights
from echofm.hub import Encoder, load_encoder
from echofm.progress import progress_bar
from echofm.shards.read import ShardSet
from echofm.shards.windows import Windowing, read_windows

Maps = Callable[[torch.Tensor], torch.Tensor]
Examples = tuple[torch.Tensor, list[str]]
_EPOCHS, _BATCH, _SHOWN = 40, 32, 8


def pixel_maps(video_BCTHW: torch.Tensor) -> torch.Tensor:
    """(B, 10, H, W) mean and spread over time, and eight frames evenly spread."""
    grey_BTHW = video_BCTHW[:, 0]
    shown = torch.linspace(0, grey_BTHW.shape[1] - 1, _SHOWN).round().long()
    return torch.cat([grey_BTHW.mean(1, keepdim=True), 4 * grey_BTHW.std(1, keepdim=True), grey_BTHW[:, shown]], 1)


def token_maps(encoder: Encoder) -> Maps:
    """(B, 2 D, rows, columns) mean and log spread over time of the tokens at each place."""

    def maps(video_BCTHW: torch.Tensor) -> torch.Tensor:
        tokens_BTRCD = encoder.encode(video_BCTHW).tokens_BND.unflatten(1, tuple(encoder.grid))
        return torch.cat([tokens_BTRCD.mean(1), (tokens_BTRCD.std(1) + 1e-3).log()], -1).movedim(-1, 1)

    return maps


def read(shards: ShardSet, maps: Maps, windowing: Windowing) -> Examples:
    """(2, N, C, R, R) of every clip's middle window, as it is and mirrored, and the clips' views."""
    windows = []
    for number, record in enumerate(shards.records):
        time_s = shards.clip(number).frame_time_s
        windows += windowing.spread(number, record.clip_id, time_s, record.n_frames, count=1)
    parts = []
    for first in range(0, len(windows), _BATCH):
        video_BCTHW = read_windows(shards, windows[first : first + _BATCH]).video_BCTHW.float() / 255
        parts.append(torch.stack([maps(video_BCTHW), maps(video_BCTHW.flip(-1))]))
    return torch.cat(parts, 1), [str(record.meta.view) for record in shards.records]


def network(channels: int, classes: int, side: int) -> nn.Module:
    """Blocks of two convolutions until four places are left on a side, and a linear layer over 2 x 2 of them."""
    widths = [channels, *(32, 64, 96)[-max(1, int(np.log2(side)) - 2) :]]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        for width in (before, after):
            layers += [nn.Conv2d(width, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.4), nn.Linear(4 * widths[-1], classes)
    )


def varied(maps_BCRR: torch.Tensor) -> torch.Tensor:
    """Each turned by up to 17 degrees, zoomed by up to a quarter and moved by up to 7.5 %."""
    angle, zoom, across, down = torch.rand(4, len(maps_BCRR)) * 2 - 1
    angle, zoom = 0.3 * angle, torch.exp(0.25 * zoom)
    rows = [zoom * angle.cos(), -zoom * angle.sin(), 0.15 * across, zoom * angle.sin(), zoom * angle.cos(), 0.15 * down]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(maps_BCRR.shape), align_corners=False)
    return F.grid_sample(maps_BCRR, grid, align_corners=False)


def accuracy(train: Examples, test: Examples, *, seed: int) -> float:
    """Balanced accuracy of the test clips' views."""
    (train_2NCRR, views), (test_2NCRR, wanted) = train, test
    mean, deviation = train_2NCRR.mean((0, 1, 3, 4)), train_2NCRR.std((0, 1, 3, 4))
    train_2NCRR, test_2NCRR = (
        (each - mean[:, None, None]) / deviation[:, None, None] for each in (train_2NCRR, test_2NCRR)
    )
    names, number = np.unique(views, return_inverse=True)
    label_N, clips = torch.from_numpy(number), len(number)
    torch.manual_seed(seed)
    net = network(train_2NCRR.shape[2], len(names), train_2NCRR.shape[-1])
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    steps = _EPOCHS * (clips // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    with progress_bar("learning the view", steps) as bar:
        for _ in range(_EPOCHS):
            for rows in torch.randperm(clips)[: clips // _BATCH * _BATCH].split(_BATCH):
                mirrored = torch.randint(2, (len(rows),))
                predicted = net(varied(train_2NCRR[mirrored, rows]))
                optimizer.zero_grad()
                F.cross_entropy(predicted, label_N[rows], label_smoothing=0.05).backward()
                optimizer.step()
                schedule.step()
                bar.advance(1)
    net.eval()
    with torch.no_grad():
        predicted = torch.stack([net(each).softmax(1) for each in test_2NCRR]).sum(0).argmax(1)
    return float(balanced_accuracy_score(wanted, names[predicted.numpy()]))


def main(encoder: Path, shards: Path, /, *, seeds: int = 3, threads: int = 1) -> None:
    """Print a line for the pixels, the encoder and random init; mean over the seeds of the convolutions."""
    torch.set_num_threads(threads)
    trained, whole = load_encoder(encoder), ShardSet.open(shards)
    contract = trained.contract
    windowing = Windowing(length=contract.frames, frame_rate_hz=contract.frame_rate_hz)
    print(f"phantom, {len(whole.split('train'))} training and {len(whole.split('test'))} test clips")
    others = {"tokens": token_maps(trained), "tokens, untrained": token_maps(with_random_weights(trained))}
    for name, maps in {"pixels": pixel_maps, **others}.items():
        train, test = (read(whole.split(split), maps, windowing) for split in ("train", "test"))
        found = [accuracy(train, test, seed=seed) for seed in range(1 if name == "pixels" else seeds)]
        print(f"{name}: view, balanced accuracy {np.mean(found):.3f} ({', '.join(f'{each:.3f}' for each in found)})")


if __name__ == "__main__":
    tyro.cli(main)
