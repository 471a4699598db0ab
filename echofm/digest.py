"""tensor_digest: by which a network is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch


def _name_alone(name: str, tensor: torch.Tensor) -> str:
    return f"\0{name}\0"


def tensor_digest(
    tensors: Mapping[str, torch.Tensor],
    *,
    settings: Any = None,
    label: Callable[[str, torch.Tensor], str] = _name_alone,
) -> str:
    """sha256 over JSON-like settings and the bytes of tensors of any type, in the order of their names.

    label: what stands before a tensor's bytes. Digests lie in files, so those of before keep the label that they have.
    """
    digest = hashlib.sha256(b"" if settings is None else json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(label(name, tensor).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
