"""What env.json says about a start: enough to repeat it, and nothing that could name a patient."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Collection, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

import echofm
from echofm.digest import tensor_digest
from echofm.engine.parallel import processes

_PACKAGES = ("torch", "accelerate", "timm", "numpy", "safetensors", "webdataset")
HIDDEN = "<path>"


def describe(argv: Sequence[str], *, data: dict[str, Any], private: Collection[str] = ()) -> dict[str, Any]:
    """Versions, hardware and command of this start. `data`: digests of what it reads. `private`: see without_paths."""
    state = processes()
    device = torch.cuda.get_device_name() if state.device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "echofm": echofm.__version__,
        "git_sha": git_sha(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "device": device,
        "processes": state.num_processes,
        "threads": torch.get_num_threads(),
        "argv": without_paths(argv, private=private),
        "data": data,
    }


def without_paths(argv: Sequence[str], *, private: Collection[str] = ()) -> list[str]:
    """The command's words, each path replaced: folders and files of patients are often named after them.

    A word is a path if it follows --data, --out, --config or one of the options `private`, holds a separator, or names
    something that exists.
    """
    hiding = {"--data", "--out", "--config", *private}
    cleaned: list[str] = []
    previous = ""
    for word in argv:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if option and not equals:
            cleaned.append(word)
        elif (option or previous) in hiding or _looks_like_path(value):
            cleaned.append(f"{option}={HIDDEN}" if option else HIDDEN)
        else:
            cleaned.append(word)
        previous = word
    return cleaned


def _looks_like_path(word: str) -> bool:
    return os.sep in word or "\\" in word or os.path.exists(word)


def digest_of(net: nn.Module) -> str:
    """A frozen network's own `digest`, or the sha256 of its tensors and their names."""
    own = getattr(net, "digest", None)
    if isinstance(own, str):
        return own
    return tensor_digest(net.state_dict(), label=lambda name, each: f"{name} {each.dtype} {list(each.shape)};")


def git_sha() -> str | None:
    """Commit of the source tree that runs, "+changes" where files differ from it; None outside a checkout."""
    root = Path(echofm.__file__).parents[1]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
