"""Saveable: a model that its configuration makes, and that `echofm.hub` saves and loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from torch import nn

from echofm.schema import FrozenModel

S = TypeVar("S", bound="Saveable")


class Saveable(nn.Module):
    """A torch module that can be saved: its class is one line of `echofm.hub.KINDS`.

    kind: its name there. about: the first lines of its model card, Markdown. schema: the class of its `config`.
    """

    kind: ClassVar[str]
    about: ClassVar[str]
    schema: ClassVar[type[FrozenModel]]
    config: FrozenModel

    @property
    def architecture(self) -> dict[str, Any]:
        """What decides its tensors and what it computes, JSON-like: the fields of its schema."""
        return self.config.model_dump(mode="json", include=set(self.schema.model_fields))

    @property
    def trained_for(self) -> dict[str, Any]:
        """What it was trained for, where going on needs it, JSON-like."""
        return {}

    @classmethod
    def build(cls: type[S], architecture: Mapping[str, Any], trained_for: Mapping[str, Any]) -> S:
        """A new one, made of these two. Raises EchofmError naming the field that is wrong."""
        return cls(cls.schema.checked(architecture, where="architecture"))
