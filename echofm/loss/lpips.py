"""LPIPS, the distance of two images in VGG-16's features, with weights that the user has.

N images, C channels, H rows, W columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from echofm.errors import EchofmError

# Convolutions of VGG-16 and after which of its layers features are taken (Simonyan and Zisserman 2015).
_TAKEN = (3, 8, 15, 22, 29)
_WIDTHS = (64, 128, 256, 512, 512)
_MEAN, _STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """Weighed squared distance of VGG-16's features, each of length 1 (Zhang et al. 2018, arXiv 1801.03924), v0.1.

    weights: the state of `lpips.LPIPS(net="vgg")` (torch.save of its `state_dict()`). Raises EchofmError on others.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, weights: str | Path) -> None:
        from torchvision.models import vgg16

        super().__init__()
        self.features = vgg16(weights=None).features[: _TAKEN[-1] + 1]
        self.linear = nn.ParameterList(nn.Parameter(torch.empty(1, width, 1, 1)) for width in _WIDTHS)
        for name, values in (("mean", _MEAN), ("std", _STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None])
        self.load_state_dict(_renamed(weights), strict=False)

    def forward(self, output_NCHW: torch.Tensor, target_NCHW: torch.Tensor) -> torch.Tensor:
        """(N,) distances of images with values in [-1, 1]; grey is repeated over three channels."""
        pairs = zip(self._features(output_NCHW), self._features(target_NCHW), self.linear)
        return torch.stack([((a - b).square() * weight).sum(1).mean((1, 2)) for a, b, weight in pairs]).sum(0)

    def _features(self, images_NCHW: torch.Tensor) -> list[torch.Tensor]:
        x, found = (images_NCHW.expand(-1, 3, -1, -1) - self.mean) / self.std, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in _TAKEN:
                # Its gradient at 0, where nothing is seen, is 0; that of a root of squares is not.
                found.append(x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10))
        return found


def _renamed(weights: str | Path) -> dict[str, Any]:
    """The published names in ours. Raises EchofmError where the file is another one."""
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        convolutions = {name.split(".", 2)[2]: tensor for name, tensor in state.items() if name.startswith("net.slice")}
        linear = {f"linear.{level}": state[f"lin{level}.model.1.weight"] for level in range(len(_WIDTHS))}
    except FileNotFoundError:
        raise EchofmError("the file of LPIPS weights given is not there") from None
    except Exception:  # whatever a file that is none gives
        convolutions, linear = {}, {}
    if len(convolutions) != 2 * 13 or len(linear) != len(_WIDTHS):
        raise EchofmError(
            "the file given holds no LPIPS weights of VGG-16; make it by "
            "torch.save(lpips.LPIPS(net='vgg').state_dict(), FILE), from `pip install lpips`"
        )
    return {f"features.{name}": tensor for name, tensor in convolutions.items()} | linear
