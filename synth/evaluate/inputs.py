"""What an evaluation is given, opened and embedded by two encoders: training, held-out and synthetic sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from echofm.embed.cache import embedded
from echofm.embed.options import EmbedOptions
from echofm.embed.source import EchoSet, open_set, parsed
from echofm.embed.table import EmbeddingTable
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from synth.audit.inputs import require_files_of_enough

Given = str | Path


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """The sets as given: real training patients, held-out ones, and synthetic sets by name."""

    train: EchoSet
    holdout: EchoSet
    synthetic: Mapping[str, EchoSet]
    paths: Mapping[str, str]
    """What to give the audit, by "training", "held-out" and the names of the synthetic sets."""

    @property
    def all(self) -> list[EchoSet]:
        """Training, held-out and synthetic sets."""
        return [self.train, self.holdout, *self.synthetic.values()]

    def require_ready(self, encoder: AnyEncoder, *, alpha: float) -> None:
        """Raises EchofmError, before anything is embedded, where a table is another encoder's or patients too few."""
        for each in self.all:
            if each.table is not None and each.table.encoder_digest != encoder.digest:
                raise EchofmError(f"the {each.name} table comes from another encoder; give videos or shards")
        require_files_of_enough(self.holdout, alpha=alpha)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tables:
    """The sets as one encoder sees them."""

    digest: str
    train: EmbeddingTable
    holdout: EmbeddingTable
    synthetic: Mapping[str, EmbeddingTable]


def open_sets(real: Given, holdout: Given | None, synthetic: Mapping[str, Given], options: EmbedOptions) -> Opened:
    """Open all sets; nothing is embedded yet. holdout: None: the val and test splits of `real`.

    Raises EchofmError where one is not there.
    """
    if holdout is None:
        path, splits = parsed(str(real))
        if splits:
            raise EchofmError("--real names splits; give the held-out patients too: --holdout SET:test")
        real, holdout = f"{path}:train", f"{path}:val,test"
    paths = {"training": str(real), "held-out": str(holdout), **{name: str(each) for name, each in synthetic.items()}}
    sets = {
        name: open_set(each, name=name, options=options, has_patients=name in ("training", "held-out"))
        for name, each in paths.items()
    }
    made = {name: sets[name] for name in synthetic}
    return Opened(train=sets["training"], holdout=sets["held-out"], synthetic=made, paths=paths)


def names_of(sets: list[str]) -> dict[str, str]:
    """By name the sets of a command line: the folder's own name, numbered where two have one."""
    named: dict[str, str] = {}
    for each in sets:
        name = stem = Path(parsed(each)[0]).resolve().name or "synthetic"
        number = 2
        while name in named or name in ("training", "held-out"):
            name, number = f"{stem}-{number}", number + 1
        named[name] = each
    return named


def embed_all(opened: Opened, encoder: AnyEncoder, options: EmbedOptions, *, called: str) -> Tables:
    """All sets by one encoder, out of the cache where they are there; tables as they are. called: in messages."""
    extractor = options.extractor(encoder.to(options.torch_device))

    def table(given: EchoSet) -> EmbeddingTable:
        if given.videos is None:
            assert given.table is not None
            return given.chosen(given.table)
        name = f"{called}, {given.name} set"
        found = embedded(extractor, given.videos.input(encoder.contract), name=name, cache=options.cache)
        given.videos.locate(found.table.clip_id.tolist(), found.folder)
        return given.chosen(found.table)

    return Tables(
        digest=encoder.digest,
        train=table(opened.train),
        holdout=table(opened.holdout),
        synthetic={name: table(each) for name, each in opened.synthetic.items()},
    )
