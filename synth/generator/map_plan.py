"""What a set made of label maps is asked for: of each number a heart in one view, at end-diastole and end-systole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from echofm.embed.inputs import ShardInput
from echofm.errors import EchofmError
from echofm.shards.read import ShardSet
from synth.condition import Condition
from synth.generator.model import Generator, draw_of
from synth.maps.pairs import MapPair, by_view, pairs_of
from synth.maps.shape_model import ShapeModel
from synth.text.grammar import Facet, Value, prompt_of
from synth.text.prompt import TIME_POINTS


class MapPlan:
    """Two frames of each number: patient number // views, view number % views.

    maps: SHARDS:SPLIT. shape_model: new maps are drawn from a shape model of these. text: prompts in turn; none: view,
    time point and image quality of each map. Raises EchofmError where the generator cannot be asked so.
    """

    frames = 1
    motion = None

    def __init__(
        self, generator: Generator, *, maps: str, shape_model: bool, text: Sequence[str] = (), seed: int = 0
    ) -> None:
        folder, _, split = maps.rpartition(":")
        self._taken = generator.denoiser.conditioner.taken
        if not folder or "label_map_BTHW" not in self._taken or generator.contract.frames != 1:
            raise EchofmError("--maps is SHARDS:SPLIT, for a generator of single frames trained with `label-map`")
        shards, size = ShardSet.open(folder), generator.contract.size
        self._generator, self._text, self._seed, self._size = generator, text, seed, size
        self.references = f"{ShardInput(shards, contract=generator.contract).fingerprint()} {split}"
        self._pairs = by_view(pairs_of(shards.split(split), maps, size=size))
        if not self._pairs:
            raise EchofmError(f"{maps}: no view is known of the clips with masks; give shards of a set that names them")
        self._models = [ShapeModel.fit(*each) for each in self._pairs.items()] if shape_model else None
        self.views = list(self._pairs)
        generator.check(self.condition([0]), 2, 1)

    def draw_B(self, numbers: Sequence[int]) -> torch.Tensor:
        """Seeds of these numbers' frames: one for both, so that they look like one recording."""
        one_B = torch.cat([draw_of(self._seed, range(number, number + 1)) for number in numbers])
        return one_B.repeat_interleave(len(TIME_POINTS))

    def source(self, number: int) -> str | None:
        """Id of the clip whose maps they are; None: the shape model's."""
        clip_id = self.pair(number).source.get("map_clip")
        return clip_id if isinstance(clip_id, str) else None

    def pair(self, number: int) -> MapPair:
        """The maps of a number; those of a split are taken in turn, each time with another texture."""
        patient, view = divmod(number, len(self.views))
        if self._models is not None:
            return self._models[view].drawn(int(self.draw_B([number])[0]), size=self._size)
        own = self._pairs[self.views[view]]
        return own[patient % len(own)]

    def prompts(self, number: int) -> list[str]:
        """Of both frames."""
        if self._text:
            return [self._text[number % len(self._text)]] * 2
        pair = self.pair(number)
        quality: dict[Facet, Value] = {} if pair.quality is None else {"image quality": pair.quality}
        return [prompt_of({"view": pair.view or "", "time point": each, **quality}) for each in TIME_POINTS]

    def about(self, number: int) -> dict[str, Any]:
        """View, prompts and where the maps come from; JSON-like."""
        pair = self.pair(number)
        return {"view": pair.view, "prompts": self.prompts(number), **pair.source}

    def condition(self, numbers: Sequence[int]) -> Condition:
        """Of these numbers' frames."""
        pairs = [self.pair(number) for number in numbers]
        maps = [each for pair in pairs for each in (pair.ed_HW, pair.es_HW)]
        asked: dict[str, Any] = {"label_map_BTHW": torch.from_numpy(np.stack(maps))[:, None]}
        if "texts" in self._taken:
            asked["texts"] = [prompt for number in numbers for prompt in self.prompts(number)]
        if "views" in self._taken:
            asked["views"] = [pair.view for pair in pairs for _ in TIME_POINTS]
        if "time_points" in self._taken:
            asked["time_points"] = [each for _ in pairs for each in TIME_POINTS]
        return Condition(**asked)
