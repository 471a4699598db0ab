"""The data sets that are known. A new one: its file, its line here, its look-alike in tests/lookalikes.py."""

from __future__ import annotations

from echofm.readers.datasets.adapter import Adapter
from echofm.readers.datasets.camus import CAMUS
from echofm.readers.datasets.cardiacnet import CARDIACNET
from echofm.readers.datasets.cardiacuda import CARDIACUDA
from echofm.readers.datasets.echonet_dynamic import DYNAMIC
from echofm.readers.datasets.echonet_lvh import LVH
from echofm.readers.datasets.echonet_pediatric import PEDIATRIC
from echofm.readers.datasets.echonet_synthetic import SYNTHETIC
from echofm.readers.datasets.echophase import ECHOPHASE
from echofm.readers.datasets.generic import GENERIC
from echofm.readers.datasets.hmcqu import HMCQU
from echofm.readers.datasets.mimic import MIMIC
from echofm.readers.datasets.segrwma import SEGRWMA
from echofm.readers.datasets.tmed2 import TMED2

# In the order in which they are tried: a set that shares another's layout comes before it, any folder last.
ADAPTERS: tuple[Adapter, ...] = (
    SYNTHETIC,
    DYNAMIC,
    PEDIATRIC,
    LVH,
    CAMUS,
    TMED2,
    MIMIC,
    CARDIACNET,
    HMCQU,
    SEGRWMA,
    CARDIACUDA,
    ECHOPHASE,
    GENERIC,
)
