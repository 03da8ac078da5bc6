"""The types that a source's own values give its columns, and what is said where a few values decide."""

import datetime as dt
import json

import pyarrow as pa
import pytest

from mmrec.errors import UsageError
from mmrec.sources.columns import ColumnSpec, ColumnTypes, MixedColumn
from mmrec.sources.scalars import common_type, metadata_type, to_value, type_of_cell, type_of_value
from mmrec.sources.source import open_source
from mmrec.types import Item, Reject

TEXTS, WHOLE, NUMBERS = pa.list_(pa.string()), pa.list_(pa.int64()), pa.list_(pa.float64())
SPEC = ColumnSpec("id", ("title",), metadata=("value",))


def csv_of(folder, cells):
    lines = "".join(f"{number},t,{cell}\n" for number, cell in enumerate(cells))
    (folder / "films.csv").write_text(f"id,title,value\n{lines}")
    return folder / "films.csv"


def jsonl_of(folder, values):
    lines = (json.dumps({"id": str(n), "title": "t", "value": value}) for n, value in enumerate(values))
    (folder / "films.jsonl").write_text("\n".join(lines))
    return folder / "films.jsonl"


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["1995", "", "unknown", "1996"], MixedColumn("value", "integer", 1, 3, "unknown", "films.csv line 4")),
        (["n/a", "7.5", "8", "9"], MixedColumn("value", "number", 1, 4, "n/a", "films.csv line 2")),
        (["2024-01-31"] * 3 + ["soon", "later"], MixedColumn("value", "date", 2, 5, "soon", "films.csv line 5")),
        (["yes", "true", "false"], MixedColumn("value", "boolean", 1, 3, "yes", "films.csv line 2")),
        (["red", "7", "blue"], None),
        (["red"] * 300 + ["7"] * 900, None),  # a text column is looked at no longer than it takes to know it
        (["1", "2.5"], None),
        ([""], None),
    ],
)
def test_a_few_values_that_make_a_column_text_are_named(tmp_path, cells, said):
    source = open_source(csv_of(tmp_path, cells), SPEC)
    assert source.mixed_columns == ([] if said is None else [said])


def test_the_order_of_rows_decides_nothing():
    cells = ["1995", "unknown", "7.5"]
    for order in (cells, cells[::-1]):
        found = ColumnTypes({"value": pa.null()})
        for cell in order:
            found.add_row([("value", cell, type_of_cell(cell))], "somewhere")
        assert found.types == {"value": pa.string()}
        (one,) = found.mixed_columns()
        assert (one.main_type, one.outliers, one.example) == ("number", 1, "unknown")


@pytest.mark.parametrize(
    ("kind", "cells", "kept"),
    [
        (pa.int64(), ["1995", "unknown"], [1995, None]),
        (pa.float64(), ["7.5", "cheap"], [7.5, None]),
        (pa.date32(), ["2024-01-31", "soon"], [dt.date(2024, 1, 31), None]),
        (pa.bool_(), ["true", "maybe"], [True, None]),
        (pa.timestamp("us"), ["2024-01-31T12:00", "noon"], [dt.datetime(2024, 1, 31, 12), None]),  # noqa: DTZ001
        (pa.string(), ["1", "2"], ["1", "2"]),
    ],
)
def test_a_type_that_is_given_holds_and_leaves_out_what_is_none(tmp_path, kind, cells, kept):
    source = open_source(csv_of(tmp_path, cells), SPEC, {"value": kind})
    assert source.metadata_schema.field("value").type == kind
    assert source.mixed_columns == []
    rows = list(source)
    assert [row.metadata.get("value") for row in rows if isinstance(row, Item)] == kept
    refused = [(row.column, row.id) for row in rows if isinstance(row, Reject)]
    assert refused == ([("value", "1")] if None in kept else [])


def test_a_type_is_given_to_metadata_alone(tmp_path):
    with pytest.raises(UsageError, match="'title', which is no metadata column; these are 'value'"):
        open_source(csv_of(tmp_path, ["1"]), SPEC, {"title": pa.int64()})


@pytest.mark.parametrize(
    ("values", "kind", "kept"),
    [
        ([["Drama", "Comedy"], ["Crime"], [], None], TEXTS, [["Drama", "Comedy"], ["Crime"], [], None]),
        ([[1, 2], [3.5]], NUMBERS, [[1.0, 2.0], [3.5]]),
        ([[1, None], [2]], WHOLE, [[1, None], [2]]),
        ([["2024-01-31"]], pa.list_(pa.date32()), [[dt.date(2024, 1, 31)]]),
        ([["1", 2]], TEXTS, [["1", "2"]]),
        ([[], None], TEXTS, [[], None]),
        ([["Drama"], "Drama"], pa.string(), ['["Drama"]', "Drama"]),  # not lists throughout
        ([[["a"]], [{"b": 1}]], pa.string(), ['[["a"]]', '[{"b": 1}]']),
    ],
)
def test_lists_stay_lists(tmp_path, values, kind, kept):
    source = open_source(jsonl_of(tmp_path, values), SPEC)
    assert source.metadata_schema.field("value").type == kind
    assert [row.metadata.get("value") for row in source] == kept


def test_types_of_lists():
    assert common_type(type_of_value([1]), type_of_value(["a"])) == TEXTS
    assert common_type(TEXTS, pa.string()) == pa.string()
    assert metadata_type(pa.large_list(pa.int32())) == metadata_type(pa.list_(pa.int8(), 2)) == WHOLE
    assert metadata_type(pa.list_(pa.dictionary(pa.int8(), pa.string()))) == TEXTS
    assert {metadata_type(pa.list_(kind)) for kind in (pa.binary(), TEXTS, pa.struct([("a", WHOLE)]))} == {pa.string()}
    with pytest.raises(ValueError, match="no list"):
        to_value("a", TEXTS)
