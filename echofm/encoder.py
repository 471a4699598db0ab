"""AnyEncoder: what everything that embeds clips asks of an encoder, whoever made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from echofm.contract import InputContract
    from echofm.model.tokens import Grid
    from echofm.model.vit import Encoding


class AnyEncoder(Protocol):
    """A frozen encoder: `echofm.hub.Encoder`, or any model through `echofm.backbones.open_encoder`.

    Where `grid` is None, `encode` gives tokens_BND with N = 0; where the model has no time, phase_BTD with T = 0.
    """

    @property
    def contract(self) -> InputContract:
        """What clips it takes; checked at every call."""
        ...

    @property
    def digest(self) -> str:
        """sha256 of all that decides its token and clip vectors: equal digests, comparable features."""
        ...

    @property
    def grid(self) -> Grid | None:
        """Times, rows and columns of tokens_BND, time outermost; None without. Of image models times are frames."""
        ...

    @property
    def sees_time(self) -> bool:
        """False for a model of single images, whose clip vector cannot depend on the order of frames."""
        ...

    def encode(self, video_BCTHW: torch.Tensor, frame_rate_hz: float | None = None) -> Encoding:
        """Embed clips that fit the contract. Raises EchofmError naming what does not."""
        ...

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """To a device, as torch modules do."""
        ...
