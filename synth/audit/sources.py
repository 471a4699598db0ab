"""The sets of an audit as tables: names made fit to be shown, videos embedded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from echofm.embed.cache import embedded
from echofm.embed.options import EmbedOptions
from echofm.embed.source import EchoSet, open_set
from echofm.embed.table import EmbeddingTable
from synth.audit.names import safe_table

if TYPE_CHECKING:
    from accelerate import PartialState

    from echofm.embed.extract import Extractor
    from echofm.embed.inputs import Input


@dataclass(kw_only=True)
class Side:
    """One of the three sets as given. set_aside: its files without a row."""

    given: EchoSet
    set_aside: int = 0


def open_side(given: str, *, name: str, options: EmbedOptions, show_progress: bool = True) -> Side:
    """Find out what a set is. Raises EchofmError where it is nothing that can be read."""
    real = name in ("training", "held-out")
    return Side(given=open_set(given, name=name, options=options, has_patients=real, show_progress=show_progress))


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """Makes tables of sets, in as many processes as there are."""

    extractor: Extractor
    options: EmbedOptions
    ranks: PartialState

    def embed(self, source: Input, *, title: str) -> EmbeddingTable:
        """Every process of the run must call it."""
        return embedded(self.extractor, source, name=title, cache=self.options.cache, ranks=self.ranks).table

    def side(self, side: Side) -> EmbeddingTable:
        """The chosen splits of one set; learns which file is which clip on the way."""
        given = side.given
        if given.videos is None:
            return table_of(given, self.options)
        source = given.videos.input(self.extractor.encoder.contract)
        found = embedded(self.extractor, source, name=f"{given.name} set", cache=self.options.cache, ranks=self.ranks)
        side.set_aside = len(found.set_aside)
        # Under the names of samples.parquet, by which clips are read again.
        table = safe_table(found.table, key=given.videos.key)
        given.videos.locate(table.clip_id.tolist(), found.folder)
        return given.chosen(table)


def table_of(given: EchoSet, options: EmbedOptions) -> EmbeddingTable:
    """The chosen splits of a set that is a table."""
    assert given.table is not None
    return given.chosen(safe_table(given.table, key=options.key))
