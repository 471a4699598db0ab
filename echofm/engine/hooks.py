"""Measurements that others bring: `--monitor module:function`, or `name:argument` of an installed monitor.

An installed monitor is an entry point of the group "echofm.monitors": a function that takes the argument (a string,
"" where there is none) and returns the hook. So a package above or beside this one is used without being imported here.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echofm.errors import EchofmError

if TYPE_CHECKING:
    from echofm.contract import InputContract
    from echofm.shards.read import ShardSet

GROUP = "echofm.monitors"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a hook gets: the model in evaluation mode, what it takes, the data and a folder for pictures.

    The model is the first player's network (its running mean, where there is one): leave its weights alone. `nets` are
    all players' networks by name. Gradients are off.
    """

    contract: InputContract
    shards: ShardSet
    folder: Path
    model: Any = None
    nets: Mapping[str, Any] | None = None
    step: int = 0

    def at(self, nets: Mapping[str, Any], step: int) -> Snapshot:
        """The same at a step."""
        return replace(self, model=next(iter(nets.values())), nets=nets, step=step)


Hook = Callable[[Snapshot], Mapping[str, float]]


def load_hook(spec: str) -> Hook:
    """The hook that `--monitor SPEC` names. Raises EchofmError where there is none."""
    name, _, rest = spec.partition(":")
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in installed:
        return installed[name].load()(rest)
    if not rest:
        close = difflib.get_close_matches(name, installed, n=1)
        known = f"did you mean {close[0]!r}?" if close else f"installed are: {', '.join(installed) or 'none'}"
        raise EchofmError(f"--monitor {spec}: no such monitor; {known} Else give module:function")
    try:
        hook = getattr(importlib.import_module(name), rest)
    except (ImportError, AttributeError) as error:
        raise EchofmError(f"--monitor {spec}: {error}; give module:function with the module importable") from None
    if not callable(hook):
        raise EchofmError(f"--monitor {spec}: not a function")
    return hook
