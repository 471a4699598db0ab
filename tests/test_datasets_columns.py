"""In every set with tables, a needed column that is not there is an error naming the column and the table."""

from __future__ import annotations

import gzip
from pathlib import Path

import lookalikes
import pytest

from echofm.errors import EchofmError
from echofm.readers.datasets import open_source

# CAMUS has an Info file beside each clip and CardiacNet only folders.
NEEDED = {
    "echonet-dynamic": {"FileName", "EF", "ESV", "EDV", "Split", "X1", "Y1", "X2", "Y2", "Frame"},
    "echonet-synthetic": {"FileName", "EF", "ESV", "EDV", "Split"},
    "echonet-pediatric": {"FileName", "EF", "Split", "X", "Y", "Frame"},
    "echonet-lvh": {"HashedFileName", "Calc", "CalcValue", "split"},
    "tmed-2": {"query_key", "view_label", "diagnosis_label", "view_classifier_split", "diagnosis_classifier_split"},
    "mimic-iv-echo": {"subject_id", "study_id", "dicom_filepath", "measurement_id", "measurement", "result", "unit"},
    "segrwma": {"path", "abnormal"},
    "unity-echophase": {"Dataset", "Video filename"},
    "folder": {"path"},
}


def header_and_rest(table: Path) -> tuple[list[str], bytes]:
    content = table.read_bytes()
    head, _, rest = (gzip.decompress(content) if table.suffix == ".gz" else content).partition(b"\n")
    return head.decode().strip().split(","), rest


def write(table: Path, names: list[str], rest: bytes) -> None:
    content = ",".join(names).encode() + b"\n" + rest
    table.write_bytes(gzip.compress(content) if table.suffix == ".gz" else content)


def refusal(root: Path, name: str) -> str | None:
    try:
        list(open_source(root, dataset=name).rows())
    except EchofmError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_column_is_named_with_its_table(name: str, tmp_path: Path) -> None:
    root = lookalikes.ALL[name](tmp_path / "set")
    if name == "folder":
        (root / "manifest.csv").write_text("path,patient,ef_percent\nward/one.avi,p,50\n")
    refused = set()
    for table in sorted(root.rglob("*.csv*")):
        names, rest = header_and_rest(table)
        for column in names:
            # Its name alone is changed, so that no cell moves.
            write(table, ["other" if each == column else each for each in names], rest)
            if (reason := refusal(root, name)) is not None:
                assert f"{table.name} has no column {column}" in reason
                refused.add(column)
        write(table, names, rest)
    assert refused == NEEDED[name]
