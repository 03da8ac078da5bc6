"""Nasty CSV, broken JSON Lines, damaged Parquet: each bad row is told, the rest goes on."""

import json
from datetime import UTC, datetime, time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmrec.errors import UsageError
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.source import open_source
from mmrec.types import Item, Reject

TEXT = ColumnSpec("id", ("text",))


def _read(path, columns=TEXT):
    results = list(open_source(path, columns))
    items = [(r.row, r.id, r.fields[0].text) for r in results if isinstance(r, Item)]
    return items, {r.row: f"{r.where}: {r.reason}" for r in results if isinstance(r, Reject)}


def test_csv_with_quotes_newlines_and_a_byte_order_mark(tmp_path):
    data = '\ufeffid,text\r\n00123,"a ""quoted"", cell\nof two lines"\r\n\r\n7,plain\r\n'
    (tmp_path / "a.csv").write_text(data, encoding="utf-8", newline="")
    items, rejects = _read(tmp_path / "a.csv")
    assert items == [(1, "00123", 'a "quoted", cell\nof two lines'), (2, "7", "plain")]
    assert not rejects


def test_csv_rows_of_wrong_width_and_wrong_encoding(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,one\n2\n3,three,more\n4,caf\xe9\n5,five\n6,"never closed\n7,seven\n')
    items, rejects = _read(tmp_path / "a.csv")
    assert items == [(1, "1", "one"), (5, "5", "five"), (7, "7", "seven")]
    assert rejects[2] == "a.csv line 3: The line has 1 cells where the header has 2."
    assert "a.csv line 4: The line has 3 cells" in rejects[3]
    hint = "It can be read as windows-1252: add --encoding windows-1252."
    assert rejects[4] == f"a.csv line 5: The line is not UTF-8. {hint}"


def test_csv_a_quote_in_the_middle_of_a_quoted_cell_costs_nothing(tmp_path):
    (tmp_path / "a.csv").write_text('id,text\n1,"12" monitor"\n2,"a\nb"\n')
    assert _read(tmp_path / "a.csv")[0] == [(1, "1", '12 monitor"'), (2, "2", "a\nb")]


def test_csv_unclosed_quote_says_where(tmp_path):
    (tmp_path / "a.csv").write_text('id,text\n1,one\n"2,two\n3,three\n')
    items, rejects = _read(tmp_path / "a.csv")
    assert items == [(1, "1", "one"), (3, "3", "three")]
    assert rejects == {2: "a.csv line 3: A quote is opened and not closed."}


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ";"), ("a.tsv", "\t"), ("b.csv", "\t")])
def test_csv_delimiters(tmp_path, name, delimiter):
    (tmp_path / name).write_text(f"id{delimiter}text\n1{delimiter}a, b\n")
    assert _read(tmp_path / name)[0] == [(1, "1", "a, b")]


@pytest.mark.parametrize(
    ("cells", "dtype", "values"),
    [
        (["1", "", "-3"], pa.int64(), [1, None, -3]),
        (["1", "2.5", "1e3"], pa.float64(), [1.0, 2.5, 1000.0]),
        (["1", "007"], pa.string(), ["1", "007"]),
        (["TRUE", "false"], pa.bool_(), [True, False]),
        (["1", "true"], pa.string(), ["1", "true"]),
        (["2024-13-45"], pa.string(), ["2024-13-45"]),
        (["20240101"], pa.int64(), [20240101]),
        (["9" * 19], pa.string(), ["9" * 19]),
        (["", ""], pa.string(), [None, None]),
        (["nan", "1"], pa.float64(), [None, 1.0]),
        (["2024-01-02T03:04+01:00"], pa.timestamp("us", "UTC"), [datetime(2024, 1, 2, 2, 4, tzinfo=UTC)]),
        (["2024-01-02 03:04"], pa.timestamp("us"), [datetime(2024, 1, 2, 3, 4)]),  # noqa: DTZ001
        (
            ["2024-01-02", "2024-01-02 03:04"],
            pa.timestamp("us"),
            [datetime(2024, 1, 2), datetime(2024, 1, 2, 3, 4)],  # noqa: DTZ001
        ),
        (["2024-01-02", "2024-01-02T03:04Z"], pa.string(), ["2024-01-02", "2024-01-02T03:04Z"]),
        (["0001-01-01T00:00:00+09:00"], pa.string(), ["0001-01-01T00:00:00+09:00"]),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_csv_types_do_not_depend_on_order(tmp_path, cells, dtype, values, backwards):
    pairs = list(zip(cells, values, strict=True))[:: -1 if backwards else 1]
    (tmp_path / "a.csv").write_text("id,text,m\n" + "".join(f"{n},x,{cell}\n" for n, (cell, _) in enumerate(pairs)))
    source = open_source(tmp_path / "a.csv", ColumnSpec("id", ("text",), metadata=("m",)))
    assert source.metadata_schema.field("m").type == dtype
    assert [item.metadata.get("m") for item in source] == [value for _, value in pairs]


def test_json_lines_that_are_none(tmp_path):
    lines = [
        b'\xef\xbb\xbf{"id": 1, "text": "one"}',
        b"{oops",
        b"[1]",
        b'{"id": 2, "text": "caf\xe9"}',
        b"",
        b'{"id": 3, "text": "\\ud83d"}',
        b"[" * 100_000,
        b'{"id": 4, "text": "four \\ud83d\\ude00"}',
        b'{"id": 5, "text": "tru',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    items, rejects = _read(tmp_path / "a.jsonl")
    assert items == [(1, "1", "one"), (8, "4", "four 😀")]
    assert set(rejects) == {2, 3, 4, 6, 7, 9}
    assert rejects[4].startswith("a.jsonl line 4: It is not UTF-8")
    assert "half a character" in rejects[6]


def test_json_types(tmp_path):
    rows = [{"id": 1, "text": "x", "n": 1, "s": {"a": 1}}, {"id": 2, "text": "x", "n": 2.5, "s": "y"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = open_source(tmp_path / "a.jsonl", ColumnSpec("id", ("text",), metadata=("n", "s")))
    assert source.metadata_schema == pa.schema([("n", pa.float64()), ("s", pa.string())])
    assert [dict(item.metadata) for item in source] == [{"n": 1.0, "s": '{"a": 1}'}, {"n": 2.5, "s": "y"}]


def test_a_damaged_part_of_parquet_costs_itself_alone(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"id": list(range(400)), "text": [f"text {n} " * 50 for n in range(400)]})
    pq.write_table(table, path, row_group_size=100, compression="zstd", use_dictionary=False)
    column = pq.read_metadata(path).row_group(1).column(1)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = bytes(
        column.total_compressed_size
    )
    path.write_bytes(data)
    items, rejects = _read(path)
    assert [row for row, _, _ in items] == [*range(1, 101), *range(201, 401)]
    assert list(rejects) == [101]
    assert rejects[101].startswith("a.parquet row 101: 100 rows from here on are damaged")


def test_undecodable_text_in_parquet(tmp_path):
    raw = pa.array([b"good", b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"id": [1, 2], "text": raw}), tmp_path / "a.parquet")
    items, rejects = _read(tmp_path / "a.parquet")
    assert items == [(1, "1", "good")]
    assert len(rejects) == 1


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_empty_files(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match=name):
        open_source(tmp_path / name, TEXT)


def test_a_header_alone_is_an_empty_catalog(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n")
    source = open_source(tmp_path / "a.csv", TEXT)
    assert (list(source), source.count) == ([], 0)


@pytest.mark.parametrize("header", ["id,text,text", "id,caf\udce9"])
def test_headers_that_cannot_be_used(tmp_path, header):
    (tmp_path / "a.csv").write_bytes(header.encode("utf-8", "surrogateescape") + b"\n1,2,3\n")
    with pytest.raises(UsageError, match="header"):
        open_source(tmp_path / "a.csv", TEXT)


def test_metadata_that_cannot_be_kept_costs_itself_alone(tmp_path):
    far = pa.array([2**62, 0]).cast(pa.timestamp("us", "UTC"))
    table = pa.table({"id": [1, 2], "text": ["x", "y"], "far": far, "at": [time(1, 2), None]})
    pq.write_table(table, tmp_path / "a.parquet")
    reject, first, second = open_source(tmp_path / "a.parquet", ColumnSpec("id", ("text",), metadata=("far", "at")))
    assert (reject.id, reject.column) == ("1", "far")
    assert first.metadata == {"at": "01:02:00"}
    assert second.metadata == {"far": datetime(1970, 1, 1, tzinfo=UTC)}
