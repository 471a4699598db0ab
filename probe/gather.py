"""What a probe command works on: tables as given, or encoders and data turned into tables, with their rivals.

Before anything is embedded the encoder is looked at under its contract (`probe.checks.encoder`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from echofm.backbones import open_encoder
from echofm.embed.store import is_table
from echofm.embed.table import EmbeddingTable
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from probe.checks.embedding import check_embedding
from probe.maker import MOMENT_PIXELS, PIXELS, UNTRAINED, Gathered, Options, TableMaker, failed_of
from probe.other_set import clips_of, require_paired, table_of
from probe.protocol import METHODS
from probe.result import Check

# Rows of a result that a source's own name must not take the place of.
_TAKEN = METHODS | {UNTRAINED, PIXELS, MOMENT_PIXELS, "mean mask"}
# Of a table beside the probed one: the rest is said of the same clips already.
_OF_FEATURES = ("collapse", "variance spectrum")


def gather(
    sources: Sequence[str],
    *,
    data: Path | None,
    test_on: Sequence[Path] = (),
    options: Options,
    say: Callable[[str], None] = lambda line: None,
) -> Gathered:
    """The first source is probed, the others are its rivals; each is a table's folder, or an encoder where data is
    given. With an encoder first come its untrained twin and its pixels as well.

    test_on: another set to test on: for encoders its data, for tables one of each encoder, in the order of `sources`.
    say: gets a line on each thing as it happens, failed checks among them, before anything is embedded.
    Raises EchofmError naming what cannot be had.
    """
    names = _names(sources)
    others = _others(sources, data=data, test_on=test_on)
    if is_table(Path(sources[0])):
        main = Gathered(name=names[0], table=table_of(sources[0], others[0]), test_clips=clips_of(others[0]))
        maker = None if data is None else TableMaker(data, options, say)
    else:
        if data is None:
            raise EchofmError(
                f"{sources[0]}: no embedding table lies there; to probe an encoder give its data too: --data SRC"
            )
        maker = TableMaker(data, options, say, test_on=others[0])
        main = maker.probed(sources[0], names[0])
    rivals: dict[str, EmbeddingTable] = {}
    encoders: dict[str, AnyEncoder] = {}
    failed: list[Check] = []
    for source, name, other in zip(sources[1:], names[1:], others[1:]):
        if is_table(Path(source)):
            rivals[name] = table_of(source, other)
        elif maker is None:
            raise EchofmError(f"{source}: no embedding table lies there; for an encoder give --data SRC")
        else:
            encoders[name] = open_encoder(source, trust_remote_code=options.trust_remote_code).to(options.device)
            failed += maker.failed_checks(encoders[name], name)
            rivals[name] = maker.table(encoders[name], name)
    return replace(
        main,
        rivals=rivals | main.rivals,
        rival_encoders=encoders | main.rival_encoders,
        checks=(*main.checks, *failed, *_of_tables(rivals)),
    )


def _others(sources: Sequence[str], *, data: Path | None, test_on: Sequence[Path]) -> list[Path | None]:
    """What is tested on for each source: its table of the other set, or for encoders the other set itself."""
    if not test_on:
        return [None] * len(sources)
    tables = [is_table(Path(source)) for source in sources]
    if any(tables) and not all(tables):
        raise EchofmError("--test-on: give tables alone, or encoders alone")
    if all(tables):
        require_paired(sources, test_on)
        return list(test_on)
    if len(test_on) > 1:
        raise EchofmError("--test-on: encoders are tested on one set; give it once")
    if data is not None and data.resolve() == test_on[0].resolve():
        raise EchofmError(
            "--test-on: that is --data itself, and the test would be leaked to; give a set of other patients"
        )
    return [test_on[0]] * len(sources)


def _of_tables(rivals: Mapping[str, EmbeddingTable]) -> tuple[Check, ...]:
    found = [check for name, table in rivals.items() for check in failed_of(name, check_embedding(table).checks)]
    return tuple(check for check in found if check.name.endswith(_OF_FEATURES))


def _names(sources: Sequence[str]) -> list[str]:
    """A short name for each: the last part of a folder, two where that is `export`; a spec as it is written.

    " (given)" is added to a name that a result has for something else.
    """
    names = []
    for source in sources:
        parts = Path(source).parts
        if Path(source).is_dir() and parts:
            names.append("/".join(parts[-2:] if parts[-1] == "export" else parts[-1:]))
        else:
            head, _, tail = source.rpartition(":")
            names.append(f"{head}:{Path(tail).name}" if head and "/" in tail else source)
    names = [f"{name} (given)" if name in _TAKEN else name for name in names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EchofmError(f"two encoders or tables have the name {twice[0]!r}; rename a folder")
    return names


def device_of(name: str) -> str:
    """ "auto" is the GPU where there is one. Raises EchofmError where a GPU is asked for and none is there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise EchofmError("--device cuda: this torch sees no CUDA device; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
