"""Near-duplicates across a split: one clip under two patients' names lets a probe remember instead of knowing."""

from __future__ import annotations

import numpy as np

from echofm.embed.table import EmbeddingTable
from echofm.nearest import nearest
from probe.partition import Partition
from probe.result import Check

# Of the distance of two clips' features to their length, both from the mean: copies and re-encodings of one clip lie
# far below, two clips of one patient above.
_ALIKE = 0.005
_MOST_TEST_CLIPS, _BLOCK_ROWS = 2000, 65_536


def check_split(table: EmbeddingTable, part: Partition, *, seed: int = 0) -> Check:
    """Test clips whose features all but equal a training or validation clip's, of up to 2,000 test clips."""
    name = "near-duplicates between training and test"
    others = np.sort(np.concatenate([part.train, part.val]))
    test = np.random.default_rng(seed).permutation(part.test)[:_MOST_TEST_CLIPS]
    centre = table.video_ND[others[:: max(1, len(others) // _MOST_TEST_CLIPS)]].mean(0, dtype=np.float64)
    own = table.video_ND[test] - centre.astype(np.float32)
    length = np.linalg.norm(own.astype(np.float64), axis=1)
    apart, partner = np.full(len(test), np.inf), np.zeros(len(test), np.int64)
    for first in range(0, len(others), _BLOCK_ROWS):
        rows = others[first : first + _BLOCK_ROWS]
        known = table.video_ND[rows] - centre.astype(np.float32)
        if not (length > 0).all() or not np.abs(known).sum(1).all():
            return Check(name=name, passed=None, says="some clips have no features of their own")
        place = nearest(own, known).index_QK[:, 0]
        distance = np.linalg.norm(own.astype(np.float64) - known[place], axis=1)
        closer = distance < apart
        apart[closer], partner[closer] = distance[closer], rows[place[closer]]
    alike = apart < _ALIKE * length
    count = int(alike.sum())
    if not count:
        return Check(name=name, passed=True, says="none", figures={"clips": 0})
    says = (
        f"{count} of {len(test)} test clips have all but the features of a training or validation clip; first "
        f"{table.clip_id[test[alike.argmax()]]} and {table.clip_id[partner[alike.argmax()]]} "
        "(hashed); run `echofm check`"
    )
    return Check(name=name, passed=False, says=says, figures={"clips": count})
