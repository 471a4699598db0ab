"""Self-supervised foundation models for echocardiography: from echo files to embeddings.

Importing this package imports neither torch nor any video library; both come with the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from echofm import compat
from echofm.clip import Clip, ClipBatch
from echofm.errors import EchofmError
from echofm.lazy import on_first_use

if TYPE_CHECKING:
    from echofm.embed.table import EmbeddingTable
    from echofm.hub import load_encoder, load_model
    from echofm.readers import read_clip, read_clips

__version__ = "0.1.0"
__all__ = [
    "Clip",
    "ClipBatch",
    "EchofmError",
    "EmbeddingTable",
    "load_encoder",
    "load_model",
    "read_clip",
    "read_clips",
]

_LAZY = {
    "EmbeddingTable": "echofm.embed.table",
    "load_encoder": "echofm.hub",
    "load_model": "echofm.hub",
    "read_clip": "echofm.readers",
    "read_clips": "echofm.readers",
}

compat.install()

__getattr__ = on_first_use(__name__, _LAZY)
