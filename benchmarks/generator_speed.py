"""Sampling and training of a generator against a plain loop of diffusers, both with the published kind of U-Net.

    python -m benchmarks.generator_speed

The loops are those of diffusers' examples: DDIM steps, and updates of AdamW on the velocity's squared error. Ours are
`Generator.sample` and the engine's update. One process, in turn, on the CPU's own time; memory in processes of their
own. Both give the same clips, to rounding. Loading is in neither.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch.nn import functional as F

from benchmarks.memory import peak_gb
from benchmarks.timing import TABLE_HEAD, Row, Variant, alternate, header
from echofm import cli
from echofm.engine.config import FitConfig, MonitorConfig, OptimConfig
from echofm.engine.update import Updater
from echofm.phantom import generate
from echofm.shards.read import ShardSet
from synth.condition import Condition
from synth.generator.config import DataConfig, GeneratorRecipe, NetworkConfig
from synth.generator.model import Generator
from synth.generator.task import GeneratorTask
from synth.latent.codec import PixelCodec

SIZE, FRAMES, CLIPS = 32, 8, 2
Work = Literal["sample", "train"]


@dataclass(frozen=True)
class Options:
    """What is measured, and how often."""

    rounds: int = 3
    """Timed rounds, after an untimed one."""
    steps: int = 5
    """Of sampling."""
    only: tuple[Work, Literal["plain", "ours"]] | None = None
    """Do this alone, twice, and print the peak memory in GB."""


class Pair:
    """A generator with a U-Net, a batch, and the same network in diffusers' own loops."""

    def __init__(self, folder: Path, *, steps: int) -> None:
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        generate(folder / "data", patients=12, clips_per_patient=1, views=("A4C",), frame_rate_hz=12.5, frames=FRAMES,
                 size=64, processes=1, show_progress=False)  # fmt: skip
        os.environ["ECHOFM_HOME"] = str(folder / "home")
        words = ["shards", str(folder / "data"), str(folder / "shards"), "--size", str(SIZE), "--fps", "native"]
        assert cli.main(words) == 0
        shards = ShardSet.open(folder / "shards", show_progress=False)
        optim = OptimConfig(base_lr=1e-4 * 256 / CLIPS, weight_decay=0.01, max_grad_norm=1.0)
        recipe = GeneratorRecipe(
            name="speed",
            network=NetworkConfig(kind="unet", width=32, depth=1),
            path="diffusion",
            conditions=("ef", "reference"),
            data=DataConfig(frames=FRAMES, frame_rate_hz=12.5),
            fit=FitConfig(steps=1000, batch=CLIPS, workers=0, optim=optim),
            monitor=MonitorConfig(every=0),
        )
        self.steps = steps
        self.task = GeneratorTask(recipe, shards, codec=PixelCodec(size=SIZE))
        self.updater = Updater(self.task, recipe.fit)
        self.batch: Any = next(self.task.batches(shards, recipe.fit, start_step=0))
        self.generator: Generator = self.task.generator(self.task.net)
        self.condition = self.generator.check(Condition(ef_percent_B=torch.full((CLIPS,), 50.0)), CLIPS, FRAMES)
        self.scheduler = DDIMScheduler(
            beta_start=1e-4, beta_end=0.02, beta_schedule="linear", prediction_type="v_prediction",
            timestep_spacing="trailing", clip_sample=True, clip_sample_range=4.0,
        )  # fmt: skip
        self.net: Any = self.task.net.network
        self.optimizer = torch.optim.AdamW(self.net.net.parameters(), lr=1e-4, weight_decay=0.01)

    def sample_ours(self) -> torch.Tensor:
        return self.generator.sample(self.condition, steps=self.steps, batch=CLIPS)

    @torch.no_grad()
    def sample_plain(self) -> torch.Tensor:
        """As diffusers' pipelines: channels beside the noisy ones, tokens, a step of the scheduler."""
        from synth.generator.model import draw_of

        self.net.eval()
        encoded = self.task.net.conditioner(self.condition, FRAMES)
        tokens, extra = self.net._tokens(encoded, torch.zeros(CLIPS), FRAMES), encoded.channels_BCTHW
        noisy = self.task.net.path.noise(draw_of(0, range(CLIPS)), *self.generator.codec.latent_shape(FRAMES))
        self.scheduler.set_timesteps(self.steps)
        for level in self.scheduler.timesteps:
            output = self._called(torch.cat([noisy, extra], 1), level.expand(CLIPS), tokens)
            noisy = self.scheduler.step(output, level, noisy).prev_sample
        return ((noisy + 1) / 2).clamp(0, 1)

    def train_ours(self) -> object:
        return self.updater(self.batch, step=1)

    def train_plain(self) -> object:
        """As diffusers' examples: an update of the U-Net, with tokens and channels as they are."""
        self.net.train()
        latents = self.batch.video_BCTHW
        with torch.no_grad():
            encoded = self.task.net.conditioner(self.task.condition_of(self.batch), FRAMES)
            tokens, extra = self.net._tokens(encoded, torch.zeros(CLIPS), FRAMES), encoded.channels_BCTHW
        noise, level = torch.randn_like(latents), torch.randint(0, 1000, (CLIPS,))
        noisy = self.scheduler.add_noise(latents, noise, level)
        output = self._called(torch.cat([noisy, extra], 1), level, tokens)
        F.mse_loss(output, self.scheduler.get_velocity(latents, noise, level)).backward()
        torch.nn.utils.clip_grad_norm_(self.net.net.parameters(), 1.0)
        self.optimizer.step()
        return self.optimizer.zero_grad()

    def _called(self, shown: torch.Tensor, level_B: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        ids = torch.zeros(CLIPS, 1)
        found = self.net.net(shown.transpose(1, 2), level_B, encoder_hidden_states=tokens, added_time_ids=ids)
        return found.sample.transpose(1, 2)

    def work(self, what: Work, side: str) -> Callable[[], object]:
        """One of the four."""
        return getattr(self, f"{what}_{side}")


def main(options: Options) -> list[Row]:
    """Measure; returns the rows."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(Path(folder), steps=options.steps)
        if options.only:
            for _ in range(2):
                pair.work(*options.only)()
            print(f"{peak_gb():.4f}")
            return []
        torch.testing.assert_close(pair.sample_ours(), pair.sample_plain(), atol=1e-4, rtol=0)
        rows = []
        for what in ("sample", "train"):
            variant = Variant(name=what, run=pair.work(what, "ours"), clips=CLIPS)
            plain = Variant(name="diffusers", run=pair.work(what, "plain"), clips=CLIPS)
            rows += alternate(plain, [variant], rounds=options.rounds, clock=time.process_time)
    return rows + [_memory(what) for what in ("sample", "train")]


def _memory(what: str) -> Row:
    command = [sys.executable, "-m", "benchmarks.generator_speed", "--only", what]
    plain, ours = (float(subprocess.check_output([*command, side], text=True)) for side in ("plain", "ours"))
    return Row(name=f"peak memory, {what}", unit="GB", baseline=plain, variant=ours, ratios=[plain / ours])


if __name__ == "__main__":
    found = main(tyro.cli(Options, description=__doc__))
    if found:
        print(header(), "\n".join([TABLE_HEAD, *(row.markdown() for row in found)]), sep="\n\n")
