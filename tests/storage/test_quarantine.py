"""What is left out is written as it comes, found again, and dropped item by item."""

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime

import lance
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmrec.storage import quarantine
from mmrec.storage.quarantine import (
    KnownFailures,
    Quarantined,
    QuarantineSnapshot,
    StagedQuarantine,
    added_since,
    amend_quarantine,
    count_quarantined,
    delete_quarantined,
    list_quarantined,
    read_quarantine,
    replace_quarantine,
)

AT = datetime(2020, 1, 2, tzinfo=UTC)


def entry(row, name, **more):
    return Quarantined(row, name, "picture", f"reason {row}", at=AT, **more)


def hashed(row, name, content, modality="image", *, transient=False):
    return entry(row, name, hash=content * 16, modality=modality, transient=transient)


names = st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=3))
entries = st.lists(
    st.builds(
        entry,
        st.integers(0, 9),
        names,
        hash=st.one_of(st.none(), st.sampled_from([b"a" * 16, b"a" * 8 + b"b" * 8])),
        modality=st.sampled_from(["image", "audio"]),
        transient=st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries, st.sets(names.filter(lambda name: name is not None), max_size=4), entries)
def test_the_table_is_a_list_of_entries(tmp_path_factory, first, gone, second):
    path = tmp_path_factory.mktemp("any") / "quarantine.lance"
    replace_quarantine(path, first)
    earlier = QuarantineSnapshot(path)
    assert list(read_quarantine(path)) == first
    assert len(earlier) == count_quarantined(path) == len(first)
    for name in {one.id for one in first if one.id is not None}:
        found = earlier.of_ids([name, "none such"])
        assert found.get(name) == [one for one in first if one.id == name]
    bad = KnownFailures(earlier)
    for content in (b"a" * 16, b"a" * 8 + b"b" * 8, b"c" * 16):
        for modality in ("image", "audio"):
            fit = [one for one in first if (one.hash, one.modality, one.transient) == (content, modality, False)]
            key = (modality, content)
            assert bad.of([key, ("text", b"e" * 16)]) == ({key: fit[0]} if fit else {})
    amend_quarantine(path, gone, second)
    expected = [one for one in first if one.id not in gone] + second
    assert list(read_quarantine(path)) == expected
    assert list_quarantined(path) == sorted(expected, key=lambda one: (one.source_row, one.column))
    assert [one.source_row for one in list_quarantined(path, 3)] == [one.source_row for one in list_quarantined(path)][
        :3
    ]
    assert list(added_since(earlier, path)) == [one for one in expected if one not in first]


@pytest.mark.slow
def test_entries_go_through_a_file_and_not_through_memory(tmp_path):
    staged = StagedQuarantine(tmp_path)
    tracemalloc.start()
    try:
        for row in range(60_000):
            staged.add(replace(hashed(row, f"item {row}", b"a"), uri=f"/catalog/pictures/{row}.png"))
        staged.close()
        held, _ = tracemalloc.get_traced_memory()
        replace_quarantine(tmp_path / "quarantine.lance", staged)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert staged.count == count_quarantined(tmp_path / "quarantine.lance") == 60_000
    assert held < 1_000_000  # as objects they take 25 MB
    assert most < 16_000_000


def test_deletions_and_small_runs_leave_the_other_entries_unwritten(tmp_path):
    path = tmp_path / "quarantine.lance"
    replace_quarantine(path, [entry(n, f"i{n}") for n in range(100)])
    before = {one.path for fragment in lance.dataset(str(path)).get_fragments() for one in fragment.data_files()}
    delete_quarantined(path, {"none"})
    assert lance.dataset(str(path)).version == 1
    delete_quarantined(path, {"i3"})
    amend_quarantine(path, {"i4", "i5"}, [entry(4, "i4")])
    after = {one.path for fragment in lance.dataset(str(path)).get_fragments() for one in fragment.data_files()}
    assert before < after
    assert count_quarantined(path) == 98


def test_a_table_written_before_there_were_all_columns_is_read_and_brought_up_to_date(tmp_path):
    path = tmp_path / "quarantine.lance"
    old = pa.schema([field for field in quarantine.SCHEMA if field.name != "item"])
    row = {"source_row": 1, "id": "old", "column": "c", "reason": "r", "at": AT, "transient": False}
    lance.write_dataset(pa.Table.from_pylist([row], schema=old), str(path))
    assert [one.id for one in read_quarantine(path)] == list(QuarantineSnapshot(path).of_ids(["old"])) == ["old"]
    amend_quarantine(path, set(), [entry(2, "new")])
    assert [one.id for one in read_quarantine(path)] == ["old", "new"]
    assert lance.dataset(str(path)).schema.names == quarantine.SCHEMA.names


@pytest.mark.parametrize("count", [0, 1])
def test_a_run_without_entries_leaves_none(tmp_path, count):
    path = tmp_path / "quarantine.lance"
    replace_quarantine(path, [entry(1, "one")])
    replace_quarantine(path, [entry(2, "two")] * count)
    assert count_quarantined(path) == count
