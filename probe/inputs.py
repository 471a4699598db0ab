"""What a probe command works on: tables as given, or encoders and data turned into tables, with baselines.

Before anything is embedded the encoder is looked at under its contract (`probe.checks.encoder`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from echofm.backbones import open_encoder
from echofm.clip import Clip
from echofm.embed.options import EmbedOptions
from echofm.embed.source import is_features, load_features
from echofm.embed.table import EmbeddingTable
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from probe.checks.embedding import check_embedding
from probe.encoders import PIXEL_PCA, PIXELS, RANDOM_INIT, EncoderTables, failed_of, joined
from probe.protocol import METHODS
from probe.report.frames import FramesOf
from probe.result import Check

# Rows of a result that a source's own name must not take the place of.
_TAKEN = METHODS | {RANDOM_INIT, PIXEL_PCA, PIXELS, "pixels and change", "mean mask"}
# Of a table beside the probed one: the rest is said of the same clips already.
_OF_FEATURES = ("collapse", "variance spectrum")


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeInputs:
    """table: of the encoder that is probed. baselines: name -> table, of other encoders and of random weights.

    encoder, baseline_encoders: the same before they were tables; None and empty for tables as given.
    pixels: not yet reduced (`pixel_pca`); None where no data was given. checks: of the encoder under its contract, and
    those that another encoder given failed, with its name. clips: reads the data's clips under that contract;
    frames_of: one clip's frames, by its id; both None for a table alone. device: of the encoders.
    test_clips: ids of another set's clips, where those are tested on: tables then hold both sets' clips, and frames_of
    reads the other set's.
    """

    table: EmbeddingTable
    baselines: dict[str, EmbeddingTable] = field(default_factory=dict)
    encoder: AnyEncoder | None = None
    baseline_encoders: dict[str, AnyEncoder] = field(default_factory=dict)
    device: str = "cpu"
    pixels: EmbeddingTable | None = None
    checks: tuple[Check, ...] = ()
    clips: Callable[[], Iterator[Clip]] | None = None
    frames_of: FramesOf | None = None
    test_clips: Collection[str] | None = None


def open_inputs(
    sources: Sequence[str],
    *,
    data: Path | None,
    test_on: Sequence[Path] = (),
    options: EmbedOptions,
    with_baselines: bool = True,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    show_progress: bool = True,
) -> ProbeInputs:
    """The first source is probed, the others are baselines; each is a table's folder, or an encoder where data is
    given. With an encoder first come its architecture at random weights and its pixels as well.

    test_on: another set to test on: for encoders its data, for tables one of each encoder, in the order of `sources`.
    say: gets a line on each thing as it happens, failed checks among them, before anything is embedded.
    Raises EchofmError naming what cannot be had.
    """
    names = _names(sources)
    encoder_tables = partial(
        EncoderTables, options=options, with_baselines=with_baselines, seed=seed, say=say, show_progress=show_progress
    )
    others = _others(sources, data=data, test_on=test_on)
    if is_features(Path(sources[0])):
        main = ProbeInputs(table=_table_of(sources[0], others[0]), test_clips=_clips_of(others[0]))
        tables = None if data is None else encoder_tables(data)
    elif data is None:
        raise EchofmError(
            f"{sources[0]}: no embedding table lies there; to probe an encoder give its data too: --data SRC"
        )
    else:
        tables = encoder_tables(data, test_on=others[0])
        main = ProbeInputs(**vars(tables.probed(sources[0], names[0])), device=options.torch_device)
    baselines: dict[str, EmbeddingTable] = {}
    encoders: dict[str, AnyEncoder] = {}
    failed: list[Check] = []
    for source, name, other in zip(sources[1:], names[1:], others[1:]):
        if is_features(Path(source)):
            baselines[name] = _table_of(source, other)
        elif tables is None:
            raise EchofmError(f"{source}: no embedding table lies there; for an encoder give --data SRC")
        else:
            encoders[name] = open_encoder(source, trust_remote_code=options.trust_remote_code).to(options.torch_device)
            failed += tables.failed_checks(encoders[name], name)
            baselines[name] = tables.table(encoders[name], name)
    return replace(
        main,
        baselines=baselines | main.baselines,
        baseline_encoders=encoders | main.baseline_encoders,
        checks=(*main.checks, *failed, *_of_tables(baselines)),
    )


def _others(sources: Sequence[str], *, data: Path | None, test_on: Sequence[Path]) -> list[Path | None]:
    """What is tested on for each source: its table of the other set, or for encoders the other set itself."""
    if not test_on:
        return [None] * len(sources)
    tables = [is_features(Path(source)) for source in sources]
    if any(tables) and not all(tables):
        raise EchofmError("--test-on: give tables alone, or encoders alone")
    if all(tables):
        _require_paired(sources, test_on)
        return list(test_on)
    if len(test_on) > 1:
        raise EchofmError("--test-on: encoders are tested on one set; give it once")
    if data is not None and data.resolve() == test_on[0].resolve():
        raise EchofmError(
            "--test-on: that is --data itself, and the test would be leaked to; give a set of other patients"
        )
    return [test_on[0]] * len(sources)


def _of_tables(baselines: Mapping[str, EmbeddingTable]) -> tuple[Check, ...]:
    found = [check for name, table in baselines.items() for check in failed_of(name, check_embedding(table).checks)]
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


def _require_paired(sources: Sequence[str], test_on: Sequence[Path]) -> None:
    """Raises EchofmError where tables of the other set are missing."""
    if len(test_on) != len(sources):
        raise EchofmError(
            f"--test-on: {len(test_on)} tables of the other set for {len(sources)} of this one; give one for each, in "
            "the same order"
        )
    for folder in test_on:
        if not is_features(folder):
            raise EchofmError(f"--test-on {folder}: no embedding table lies there; `echofm embed` makes one")


def _table_of(folder: str, other: Path | None) -> EmbeddingTable:
    """An encoder's table, with the clips of its table of the other set where there is one."""
    return joined([load_features(each) for each in (folder, other) if each is not None])


def _clips_of(other: Path | None) -> frozenset[str] | None:
    """Ids of the clips to test on."""
    return None if other is None else frozenset(load_features(other).clip_id)
