"""Let torchvision import beside a CPU build of torch.

The registry's torchvision is built for CUDA. Beside a CPU torch its compiled library does not load, its
operators stay undeclared, and `import torchvision` (hence timm, torchmetrics, lpips, diffusers) fails on
"operator torchvision::nms does not exist". Declaring the two schemas is enough for everything that does
not call them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []


class _BeforeTorchvision(MetaPathFinder):
    """Declares the schemas when torchvision is about to be imported and its own library cannot be loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            spec = PathFinder.find_spec(fullname)
            if spec is not None and spec.submodule_search_locations:
                _declare_if_broken(Path(spec.submodule_search_locations[0]))
        return None


def _declare_if_broken(package: Path) -> None:
    import torch

    for library in [*package.glob("_C*.so"), *package.glob("_C*.pyd")]:
        try:
            torch.ops.load_library(str(library))
            return
        except (OSError, ImportError):
            continue
    declarations = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        declarations.define(schema)
    # A Library takes its operators with it when it is collected.
    _libraries.append(declarations)


def install() -> None:
    """Arm the declaration for this process; costs nothing until torchvision is imported."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _BeforeTorchvision) for f in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTorchvision())
