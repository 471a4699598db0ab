"""Motion and appearance on the phantom: what each tells, flow against the truth, swaps; into results-motion.md.

    python -m benchmarks.mafe SHARDS --encoder E --run NAME=RUN ... --published NAME=RUN ... --out OUT

SHARDS: of `echofm phantom --truth displacement`, two clips a patient. Figures are of the test split, with intervals
over its patients. Each part is kept in OUT and not measured again; remove its file to have it anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks import mafe_features as features
from benchmarks import mafe_pictures as pictures
from echofm.hub import load_encoder, load_model
from echofm.intervals import Estimate
from echofm.shards.read import ShardSet
from synth.mafe.extract import load_mafe
from synth.mafe.network import Mafe

DOCUMENT = Path(__file__).parent / "results-motion.md"
Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What is measured on what."""

    shards: tyro.conf.Positional[Path]
    """Of a phantom with displacement."""
    encoder: Path
    """The encoder that the runs were trained on."""
    run: dict[str, Path]
    """Runs of `echofm synth train mafe demo`, by name."""
    published: dict[str, Path] = field(default_factory=dict)
    """Runs of `published_small`, by name."""
    out: Path = Path("mafe-results")
    """Folder of what is measured already."""
    pairs: int = 60
    """Swaps."""


def kept(out: Path, name: str, measure: Callable[[], Rows]) -> Rows:
    """Measured once."""
    path = out / f"{name}.json"
    if not path.is_file():
        found = measure()
        path.write_text(json.dumps(found, indent=1, default=Estimate.model_dump), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def shown(found: Any) -> str:
    """ "0.81 [0.76, 0.86]" """
    if found is None:
        return "-"
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def table(head: str, rows: Rows) -> str:
    """Markdown, a column for each figure."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"| {head} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(shown(row.get(each)) for each in columns)} |" for name, row in rows.items()]
    return "\n".join(lines)


def untrained(trained: Mafe, encoder: Path) -> Mafe:
    """Heads never trained, on the same encoder."""
    import torch

    torch.manual_seed(0)
    return Mafe(trained.config, load_encoder(encoder).net).eval()


def main(arguments: Arguments) -> None:
    """Measure what is not there yet and print the tables."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    shards, encoder = ShardSet.open(arguments.shards), load_encoder(arguments.encoder)
    nets = {name: load_mafe(run) for name, run in arguments.run.items()}
    nets["untrained heads"] = untrained(next(iter(nets.values())), arguments.encoder)
    readers: dict[str, features.Reader] = {name: features.of_mafe(net) for name, net in nets.items()}
    for name, run in arguments.published.items():
        readers[f"published, pooled ({name})"] = features.of_published(load_model(run / "export"))
    tokens = features.of_tokens(next(iter(nets.values())))
    readers |= {"encoder": features.of_encoder(encoder), "encoder's frames": tokens, "pixels": features.of_pixels}
    parts: dict[str, Rows] = {}
    for name, reader in readers.items():
        parts |= kept(arguments.out, f"features-{name}", lambda r=reader, n=name: _features(shards, r, n))
    print("\n" + table("features (phantom)", parts) + "\n", flush=True)
    flows: dict[str, Any] = {}
    for name, net in nets.items():
        flows |= kept(arguments.out, f"flow-{name}", lambda m=net, n=name: pictures.flow_errors(shards, m, n))
    print(table("flow and middle frame (phantom)", flows) + "\n", flush=True)
    swaps: dict[str, Any] = {}
    for name, net in nets.items():
        measure = lambda m=net, n=name: pictures.swaps(shards, encoder, m, n, pairs=arguments.pairs)  # noqa: E731
        swaps |= kept(arguments.out, f"swaps-{name}", measure)
    print(table("swaps (phantom)", swaps), flush=True)


def _features(shards: ShardSet, reader: features.Reader, name: str) -> Rows:
    found = features.read_all(shards, reader)
    return {
        f"{name}: {part}": features.figures(found, part) for part in ("motion", "appearance") if np.size(found[0][part])
    }


if __name__ == "__main__":
    main(tyro.cli(Arguments))
