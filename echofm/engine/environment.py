"""What env.json says about a start: enough to repeat it, and nothing that could name a patient."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import echofm
from echofm.engine.update import processes

_PACKAGES = ("torch", "accelerate", "timm", "numpy", "safetensors", "webdataset")
HIDDEN = "<path>"


def describe(argv: Sequence[str], *, data: dict[str, Any]) -> dict[str, Any]:
    """Versions, hardware and command of this start. `data`: digests of what it reads."""
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
        "argv": without_paths(argv),
        "data": data,
    }


def without_paths(argv: Sequence[str]) -> list[str]:
    """The command's words, each path replaced: folders and files of patients are often named after them.

    A word is a path if it follows --data, --out, --config or --init, holds a separator, or names something that exists.
    """
    cleaned: list[str] = []
    previous = ""
    for word in argv:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if option and not equals:
            cleaned.append(word)
        elif (option or previous) in ("--data", "--out", "--config", "--init") or _looks_like_path(value):
            cleaned.append(f"{option}={HIDDEN}" if option else HIDDEN)
        else:
            cleaned.append(word)
        previous = word
    return cleaned


def _looks_like_path(word: str) -> bool:
    return os.sep in word or "\\" in word or os.path.exists(word)


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
