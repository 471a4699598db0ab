"""Text as a field of a Condition: words to tokens, by a small transformer that is trained along with the generator.

Shapes: B clips, N words, D the network's width.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from echofm.clip import ClipBatch
from echofm.errors import EchofmError
from synth.condition import Condition
from synth.condition_field import Field, Sizes
from synth.text.grammar import UnknownWord, unknown_words, words_of
from synth.text.prompt import prompts

_LONGEST, _LAYERS, _HEADS, _WAVES = 32, 2, 2, 5
_PAD, _NUMBER, _FIRST = 0, 1, 2
# Of a number's slowest wave; ejection fractions and heart rates lie within half of it.
_SCALE = 400


class Text(Field):
    """text: words of synth.text.grammar, attended to; nothing to download."""

    field, carry, way = "texts", ("labels", "view", "emptying"), "tokens"

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.known = sizes.words
        self.words = nn.Embedding(_FIRST + len(self.known), width)
        self.place = nn.Parameter(0.02 * torch.randn(_LONGEST, width))
        self.number = nn.Linear(2 * _WAVES, width)
        layer = nn.TransformerEncoderLayer(
            width, _HEADS, dim_feedforward=4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.null = nn.Parameter(0.02 * torch.randn(_LONGEST, width))

    @staticmethod
    def read(batch: ClipBatch) -> dict[str, Any]:
        return {"texts": prompts(batch)}

    def unknown(self, clips: int, latent_shape: Sequence[int]) -> dict[str, Any]:
        return {"texts": [None] * clips}

    def check(self, condition: Condition) -> None:
        """Warns of words that are not known, which are left out. Raises EchofmError on a text without a known word."""
        for text in condition.texts or ():
            if text is None:
                continue
            foreign = unknown_words(text, known=self.known)
            for word, nearest in foreign.items():
                warnings.warn(
                    f"the word {word!r} is not known and is left out; nearest: {nearest!r}", UnknownWord, stacklevel=2
                )
            words = [word for word in words_of(text) if word not in foreign]
            if not words or len(words) > _LONGEST:
                raise EchofmError(f"a text of {len(words)} known words; give 1 to {_LONGEST}")

    def forward(self, condition: Condition) -> torch.Tensor:
        assert condition.texts is not None
        device = self.place.device
        numbered = [([], []) if text is None else self._numbered(text) for text in condition.texts]
        word_BN = torch.tensor([_padded(words, _PAD) for words, _ in numbered], device=device)
        value_BN = torch.tensor([_padded(values, 0.0) for _, values in numbered], device=device)
        pad_BN = word_BN == _PAD
        x_BND = self.words(word_BN) + self.place
        x_BND = x_BND + (word_BN == _NUMBER)[..., None] * self.number(_waves(value_BN))
        # A row without any word would attend to nothing, which is no number.
        hidden_BN = pad_BN & ~pad_BN.all(1, keepdim=True)
        x_BND = self.layers(x_BND, src_key_padding_mask=hidden_BN)
        return torch.where(pad_BN[..., None], self.null, x_BND)

    def _numbered(self, text: str) -> tuple[list[int], list[float]]:
        words, values = [], []
        for word in words_of(text):
            if word in self.known:
                words.append(_FIRST + self.known.index(word))
                values.append(0.0)
            elif word.isdigit():
                words.append(_NUMBER)
                values.append(min(float(word), 1e4))
        return words, values


def _padded(values: list[Any], nothing: Any) -> list[Any]:
    return [*values, *[nothing] * (_LONGEST - len(values))]


def _waves(value_BN: torch.Tensor) -> torch.Tensor:
    rate = value_BN.new_tensor([2 * math.pi * 2**wave / _SCALE for wave in range(_WAVES)])
    angle = value_BN[..., None] * rate
    return torch.cat([angle.sin(), angle.cos()], -1)
