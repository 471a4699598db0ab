"""What lies beside the files of a plain folder and is not read: a set's tables, tables of labels, the set around it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from echofm.readers.datasets.folder import Folder

_TABLES = (".csv", ".csv.gz", ".tsv", ".xlsx", ".xls")
# A name of these words alone is shown; any other may be a patient's.
_PLAIN = (
    *("all", "a", "c", "ch", "calc", "case", "cases", "class", "classes", "clinical", "cohort", "data", "dataset"),
    *("demographics", "diagnosis", "echo", "echonet", "ef", "file", "filelist", "filenames", "files", "frame"),
    *("frames", "image", "images", "index", "info", "label", "labels", "list", "manifest", "master", "measurement"),
    *("measurements", "measurementslist", "meta", "metadata", "overview", "patient", "patients", "per", "query"),
    *("record", "records", "report", "reports", "results", "split", "splits", "structured", "studies", "study"),
    *("subject", "subjects", "table", "test", "tracings", "train", "val", "video", "videos", "view", "views"),
    *("volume", "volumetracings"),
)
_LISTED = 12


def unread_tables(root: Path) -> Counter[str]:
    """Tables in a folder and in those right below it, for notes."""
    folder = Folder(root)
    found: Counter[str] = Counter()
    for path in (path for each in (folder, *map(Folder, folder.folders[:200])) for path in each.files):
        if path.name.casefold().endswith(_TABLES):
            found[
                f"tables beside the files, which are not read: {_shown(path)} (manifest.csv is: docs/datasets.md)"
            ] += 1
    return Counter(dict(sorted(found.items())[:_LISTED]))


def _shown(path: Path) -> str:
    stem, _, suffixes = path.name.partition(".")
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", stem).casefold())
    if words and all(word in _PLAIN for word in words) and len(re.findall(r"\d", stem)) <= 2:
        return path.name
    return f"one of another name (.{suffixes.casefold()})"
