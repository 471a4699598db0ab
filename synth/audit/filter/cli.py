"""Write the kept part of an audited synthetic set: the files themselves, or shards, with a manifest of reasons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from echofm.readers.patients import PatientFrom


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write the clips of an audited synthetic set that are not to be removed.

    Files are copied byte for byte in the source's layout, tables without the rows of what is left out; shards become
    shards. filter.json in OUT names every clip and says why it is left out.
    """

    audit: Path
    """Folder that `echofm audit` wrote."""
    synthetic: str
    """The same synthetic set, as it was given to the audit."""
    out: Path
    """Folder for the kept set; must be empty or not be there."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """As given to the audit."""
    patient_from: Annotated[PatientFrom | None, tyro.conf.arg(metavar="RULE")] = None
    """As given to the audit."""
    id_key: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """As given to the audit: clips are told by their keyed hashes."""


def main(argv: list[str]) -> int:
    """`echofm audit filter`; 0 when the kept set is written, 2 where it does not fit the audit."""
    arguments = tyro.cli(Arguments, args=argv, prog="echofm audit filter", description=Arguments.__doc__)
    from synth.audit.filter.write import write_kept

    print(write_kept(**vars(arguments)).summary())
    return 0
