"""Reading a source takes memory for a few rows, whatever the source's size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from peaks import PEAK
from source_kinds import KINDS

_CHILD = (
    PEAK
    + """
import sys
from mmrec.sources.guess import guess_columns
from mmrec.sources.source import open_source
before = peak()
rows = sum(1 for _ in open_source(sys.argv[1], guess_columns(sys.argv[1])))
print(rows, peak() - before)
"""
)


def _parquet(folder):
    with pq.ParquetWriter(folder / "a.parquet", pa.schema([("id", pa.int64()), ("image", pa.binary())]),
                          use_dictionary=False, write_batch_size=8) as writer:  # fmt: skip
        noise = os.urandom(1_000_000)
        table = pa.table({"id": range(2000), "image": [noise[n : n + 100_000] for n in range(2000)]})
        writer.write_table(table, row_group_size=2000)
    return folder / "a.parquet"


def _jsonl(folder):
    with (folder / "a.jsonl").open("w") as file:
        for number in range(2000):
            file.write(json.dumps({"id": number, "text": "x" * 100_000}) + "\n")
    return folder / "a.jsonl"


_PEAK = (
    PEAK
    + """
import sys
import datasets
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.source import open_source
rows = sum(1 for _ in open_source(sys.argv[1], ColumnSpec("id", ("title",), metadata=("price",))))
print(rows, peak())
"""
)
_ROOT = Path(__file__).parents[2]
# The hub's library reads JSON in pieces of 10 MB, of which 10,000 rows do not fill one.
_SIZES = {"hub": (100_000, 300_000)}
_CATALOGS = [kind for kind in KINDS if kind not in {"folder", "folder of parquet"}]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no peak of memory on this system")
@pytest.mark.parametrize("kind", _CATALOGS)
def test_many_more_rows_take_30_more_megabytes_at_most(kind, tmp_path):
    peaks = []
    for count in _SIZES.get(kind, (10_000, 100_000)):
        rows = [{"id": f"i{n}", "title": f"a thing, number {n} " * 8, "price": n} for n in range(count)]
        address = KINDS[kind](rows, tmp_path / "source")
        del rows
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, address], cwd=_ROOT, capture_output=True, text=True, check=True
        )
        found, kilobytes = map(int, done.stdout.split())
        assert found == count
        peaks.append(kilobytes)
    assert peaks[1] - peaks[0] < 30_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no peak of memory on this system")
@pytest.mark.parametrize("writer", [_parquet, _jsonl])
def test_200_megabytes_are_read_in_80(tmp_path, writer):
    path = writer(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path)], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    rows, kilobytes = map(int, done.stdout.split())
    assert rows == 2000
    assert kilobytes < 80_000
