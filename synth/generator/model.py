"""Generator: what is saved of a training and sampled from: the denoiser and the codec, in one file.

Shapes: B clips, C channels, T frames, H rows, W columns, of latents or of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pydantic
import torch

from echofm.contract import InputContract
from echofm.draws import Stream, integers, normal
from echofm.errors import EchofmError
from echofm.saveable import Saveable
from echofm.schema import FrozenModel
from echofm.shards.windows import draws
from synth.condition import Condition
from synth.condition_field import Sizes
from synth.generator.config import DataConfig, NetworkConfig, PathName
from synth.generator.denoiser import Denoiser
from synth.generator.path import Predict
from synth.generator.sampler import Guidance, Method, sample
from synth.generator.window import across
from synth.latent.codec import Codec, build_codec

_ABOUT = """# A generator of echocardiography clips

```python
import echofm
from synth.condition import Condition

generator = echofm.load_model("THIS FOLDER OR HUB ID")
condition = Condition.of(4, frames=16, ef_percent=[25, 40, 55, 70])
video_BCTHW = generator.sample(condition, steps=25, seed=0)  # (4, 1, 16, size, size) in [0, 1]
```

What it makes may resemble the patients that it was trained on: `echofm audit` tells how much."""


class GeneratorConfig(FrozenModel):
    """What decides a generator's tensors and what it computes."""

    network: NetworkConfig
    path: PathName
    shift: float = 1.0
    conditions: tuple[str, ...]
    control: tuple[str, ...] = ()
    sizes: Sizes
    data: DataConfig
    codec: dict[str, Any]
    motion: str | None = None
    """Digest of the motion network whose numbers it takes."""
    spread: dict[str, tuple[float, ...]] = pydantic.Field(default_factory=dict)
    """Of the training clips' labels, quantiles from 2.5 to 97.5 %: the ends are single patients'."""


class Generator(Saveable):
    """Clips from noise and a Condition; always in evaluation mode.

    contract: of the clips that it makes.
    """

    kind: ClassVar[str] = "generator"
    about: ClassVar[str] = _ABOUT
    schema: ClassVar[type[FrozenModel]] = GeneratorConfig
    config: GeneratorConfig

    def __init__(self, config: GeneratorConfig, denoiser: Denoiser, codec: Codec) -> None:
        super().__init__()
        self.config, self.denoiser, self.codec = config, denoiser, codec
        self.contract = InputContract(
            size=codec.contract.size, frames=config.data.frames, frame_rate_hz=config.data.frame_rate_hz
        )
        self.eval()

    @classmethod
    def build(cls, architecture: Mapping[str, Any], trained_for: Mapping[str, Any]) -> Generator:
        """From what was saved. Raises EchofmError naming the field that is wrong."""
        config = GeneratorConfig.checked(architecture, where="architecture")
        denoiser = Denoiser(
            config.network,
            path=config.path,
            shift=config.shift,
            conditions=config.conditions,
            sizes=config.sizes,
            control=config.control,
        )
        return cls(config, denoiser, build_codec(config.codec))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.denoiser.parameters()).device

    def train(self, mode: bool = True) -> Generator:
        """Stays in evaluation mode."""
        return super().train(False)

    def check(self, condition: Condition, clips: int, frames: int) -> Condition:
        """The condition completed for so many clips and frames. Raises EchofmError where it asks what cannot be."""
        rate_hz, asked_B = self.contract.frame_rate_hz, condition.frame_rate_hz_B
        if rate_hz is not None and asked_B is not None and ((asked_B / rate_hz - 1).abs() > 0.02).any():
            raise EchofmError(f"{float(asked_B[0]):g} frames a second are asked, the generator makes {rate_hz:g}")
        return self.denoiser.conditioner.complete(condition, clips, self.codec.latent_shape(frames))

    @torch.no_grad()
    def sample(
        self,
        condition: Condition | None = None,
        *,
        clips: int | None = None,
        frames: int | None = None,
        steps: int = 25,
        seed: int = 0,
        guidance: float | Guidance = 1.0,
        method: Method | None = None,
        draw_B: torch.Tensor | None = None,
        batch: int | None = None,
    ) -> torch.Tensor:
        """Clips (B, 1, T, H, W) in [0, 1] on the CPU.

        condition: what is asked; None: nothing, of `clips` clips. frames: None: as trained; longer clips are made of
            overlapping windows denoised together. steps: 1 of a generator of mean velocity is one call of its network.
        seed: with the clip's number decides its noise; draw_B: in its place, the seed of each clip.
        batch: clips denoised at a time; by default one on the CPU, where a clip's bits then do not depend on the
            others', and 16 elsewhere.
        Raises EchofmError where the condition does not fit the generator.
        """
        # Not `or`: a condition that asks for nothing has no length.
        condition = Condition() if condition is None else condition
        held = len(condition) if condition.held() else clips or (1 if draw_B is None else len(draw_B))
        if clips not in (None, held):
            raise EchofmError(f"{clips} clips of a condition of {held}; leave clips out")
        frames = frames or self.contract.frames
        condition = self.check(condition, held, frames)
        draw_B = draw_of(seed, range(held)) if draw_B is None else draw_B
        scale = guidance if isinstance(guidance, Guidance) else Guidance(scale=guidance)
        size = batch or (1 if self.device.type == "cpu" else 16)
        parts = [
            self._sampled(condition[part], draw_B[part], frames, steps, scale, method)
            for part in (slice(first, first + size) for first in range(0, held, size))
        ]
        return torch.cat(parts)

    def _sampled(
        self,
        condition: Condition,
        draw_B: torch.Tensor,
        frames: int,
        steps: int,
        guidance: Guidance,
        method: Method | None,
    ) -> torch.Tensor:
        draw_B, condition = draw_B.to(self.device), condition.to(self.device)
        shape = self.codec.latent_shape(frames)
        step_draw_BK = integers(draw_B, steps, high=2**62, stream=Stream.SAMPLER)
        latents = sample(
            self.denoiser.path,
            self.guided(condition, frames, guidance),
            self.denoiser.path.noise(draw_B, *shape),
            steps=steps,
            method=method,
            again=lambda step: normal(step_draw_BK[:, step], *shape, stream=Stream.NOISE),
        )
        return self.codec.decode(latents).cpu()

    def guided(self, condition: Condition, frames: int, guidance: Guidance) -> Predict:
        """The network under a complete condition, pushed away from what it says without: `Guidance`.

        A network of mean velocity, which may be called at time 1 alone, is guided there too.
        """
        if self.denoiser.path.two_times:
            guidance = replace(guidance, high=1.0)
        conditioner, window = self.denoiser.conditioner, self.contract.frames
        encoded = conditioner(condition, frames)
        asked = across(self.denoiser.predictor, encoded, window=window)
        unasked = across(
            self.denoiser.predictor, conditioner(condition.without(conditioner.guided), frames), window=window
        )

        def predict(noisy: torch.Tensor, time_B: torch.Tensor, interval_B: torch.Tensor) -> torch.Tensor:
            scale = guidance.scale_at(float(time_B[0]))
            output = asked(noisy, time_B, interval_B)
            if scale == 1:
                return output
            without = unasked(noisy, time_B, interval_B)
            return without + scale * (output - without)

        return predict


def draw_of(seed: int, numbers: range) -> torch.Tensor:
    """The seed of every draw about each clip of a set, by its number, whatever the others are."""
    return torch.tensor([draws(seed, 0, f"synthetic {number}")[1] for number in numbers], dtype=torch.int64)
