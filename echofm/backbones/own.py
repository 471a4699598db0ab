"""One's own encoder by `module:function`, and torch.hub's: whatever they return, made an encoder."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from echofm.backbones.frozen import IMAGENET_MEAN, IMAGENET_STD, seeded
from echofm.backbones.interpreted import Interpreted, contract_of, first_line, interpreted, whole_encoder
from echofm.backbones.opening import PREFIXES, Spec
from echofm.contract import InputContract
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError


def open_own(spec: Spec) -> AnyEncoder:
    """`module:function`, found on Python's path or in the working folder. It is imported and called: it runs code.

    The function takes no argument that has no default; under `random:` it needs one named `pretrained`, which is False
    then. It returns (1) an object with `encode`, `contract` and `digest`, which is taken as it is, or (2) a module with
    a `contract` (an InputContract or its entries), whose output is read by its axes (`Interpreted`). `grid` and
    `sees_time` may be given; a module's grid is otherwise found out by one pass. Raises EchofmError on anything else,
    and where a clip's features change from call to call or with the clips beside it.
    """
    spec.only()
    function = _function(spec.name)
    made = _call(function, spec)
    if isinstance(getattr(made, "digest", None), str) and callable(getattr(made, "encode", None)):
        return whole_encoder(made, spec.name)
    if not isinstance(made, nn.Module):
        raise EchofmError(f"{spec.name} returned a {type(made).__name__}; an nn.Module or an encoder is needed")
    contract = contract_of(getattr(made, "contract", None), spec.name)
    sees_time, grid = bool(getattr(made, "sees_time", True)), getattr(made, "grid", None)
    return interpreted(
        spec.name, Interpreted(made), contract, sees_time=sees_time, grid=grid, code=_code(made, function)
    )


def open_torchhub(spec: Spec) -> AnyEncoder:
    """`torchhub:OWNER/REPO:MODEL` or `torchhub:FOLDER:MODEL`. It runs the repository's code, which must be trusted.

    Options: frames (16), size (224), image (the model takes single images), mean, std (ImageNet's), random.
    """
    if not spec.trusted:
        raise EchofmError(
            f"torchhub:{spec.name}: this would run code from that repository on this machine; "
            "read it first, then give --trust-remote-code"
        )
    spec.only("frames", "size", "image", "mean", "std")
    repository, _, model = spec.name.rpartition(":")
    if not repository:
        raise EchofmError(f"torchhub:{spec.name}: write torchhub:OWNER/REPO:MODEL or torchhub:FOLDER:MODEL")
    local = Path(repository).is_dir()
    options: dict[str, Any] = {"pretrained": False} if spec.random else {}
    try:
        with seeded(spec.seed):
            net = torch.hub.load(
                repository, model, source="local" if local else "github", trust_repo=True, verbose=False, **options
            )
    except Exception as error:  # whatever somebody's code raises
        raise EchofmError(f"torchhub:{spec.name} cannot be loaded: {first_line(error)}") from None
    if not isinstance(net, nn.Module):
        raise EchofmError(f"torchhub:{spec.name} returned a {type(net).__name__}; an nn.Module is needed")
    image = "image" in spec.options
    contract = InputContract(size=spec.count("size", 224), frames=spec.count("frames", 16), channels=3)
    mean, std = spec.numbers("mean", IMAGENET_MEAN), spec.numbers("std", IMAGENET_STD)
    return interpreted(
        f"torchhub:{spec.name}",
        Interpreted(net, per_frame=image),
        contract,
        sees_time=not image,
        code=_code(net),
        mean=mean,
        std=std,
    )


def _code(net: nn.Module, *functions: Callable[..., Any]) -> str:
    """sha256 of the files that define the network, its layers and the functions, without torch's own.

    Weights and a name do not tell what is computed from them: after a change of the code it is another encoder.
    """
    parts: list[Callable[..., Any]] = [*functions, *(type(layer) for layer in net.modules())]
    files: set[str] = set()
    for part in parts:
        try:
            files |= set() if part.__module__.partition(".")[0] == "torch" else {inspect.getfile(part)}
        except (TypeError, OSError):
            # Typed at a prompt: there is no file.
            continue
    digests = sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files if Path(file).is_file())
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        # The console script, unlike `python -m`, does not look in the working folder.
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever somebody's code raises
        raise EchofmError(_not_imported(name, module, error)) from None
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    if not hasattr(found, function):
        raise EchofmError(f"{name}: module {module!r} has no function {function!r}")
    return getattr(found, function)


def _not_imported(name: str, module: str, error: Exception) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    # A module that is there may lack one of its own; that is another mistake than a mistyped name.
    if missing is None or not f"{module}.".startswith(f"{missing}."):
        return f"{name}: module {module!r} cannot be imported: {first_line(error)}"
    prefixes = ", ".join(f"{prefix}:" for prefix in PREFIXES)
    return f"{name}: neither a module that can be imported ({first_line(error)}) nor one of {prefixes}"


def _call(function: Callable[..., Any], spec: Spec) -> Any:
    options: dict[str, Any] = {}
    if spec.random:
        if "pretrained" not in inspect.signature(function).parameters:
            raise EchofmError(
                f"random:{spec.name}: the function has no parameter `pretrained`; give it one to open it untrained"
            )
        options = {"pretrained": False}
    try:
        with seeded(spec.seed):
            return function(**options)
    except Exception as error:  # whatever somebody's code raises
        raise EchofmError(f"{spec.name} cannot be called: {first_line(error)}") from None
