"""The mean and deviation of a codec's latents over training clips, by channel."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import Clip
from echofm.conform import conform
from echofm.shards.latents import channel_statistics
from echofm.shards.read import ShardSet
from synth.latent.autoencoder import Autoencoder

_CLIPS, _FRAMES_AT_ONCE = 64, 64


def standardised(net: Autoencoder, train: ShardSet) -> Autoencoder:
    """A copy that knows mean and deviation of its latents over 64 evenly spread training clips.

    Raises EchofmError where a channel never changes.
    """
    indices = np.unique(np.linspace(0, len(train) - 1, _CLIPS).round().astype(int))
    chosen = replace(train, records=[train.records[index] for index in indices])
    mean_C, std_C = channel_statistics(chosen, lambda clip: latents_of(net, conform(clip, size=net.config.size)))
    known = copy.deepcopy(net)
    known.mean_C, known.std_C = (torch.tensor(each, device=net.mean_C.device) for each in (mean_C, std_C))
    return known


@torch.no_grad()
def latents_of(net: Autoencoder, clip: Clip) -> npt.NDArray[np.float32]:
    """The posterior's mean (T, C, h, w) of a grey clip's frames, not standardised."""
    video_TCHW = torch.from_numpy(clip.frames_TCHW).to(net.mean_C.device).float().div_(255)
    found = [net.posterior(net.seen(part))[0].float().cpu() for part in video_TCHW.split(_FRAMES_AT_ONCE)]
    return torch.cat(found).numpy()
