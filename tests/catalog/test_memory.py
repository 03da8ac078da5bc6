"""Reading a source takes memory for a few rows, whatever the source's size."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

_CHILD = """
import resource, sys
from mmrec.catalog.guess import guess_columns
from mmrec.catalog.source import open_source
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
rows = sum(1 for _ in open_source(sys.argv[1], guess_columns(sys.argv[1])))
print(rows, peak() - before)
"""


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


@pytest.mark.skipif(not hasattr(resource, "getrusage"), reason="no resource usage on this system")
@pytest.mark.parametrize("writer", [_parquet, _jsonl])
def test_200_megabytes_are_read_in_80(tmp_path, writer):
    path = writer(tmp_path)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path)], cwd=root, capture_output=True, text=True, check=True
    )
    rows, kilobytes = map(int, done.stdout.split())
    assert rows == 2000
    assert kilobytes < 80_000
