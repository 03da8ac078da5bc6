"""What is exported imports to the same log again; and ids, which make that so."""

from hashlib import blake2b

import numpy as np
import pyarrow.parquet as pq
import pytest
from events.made import at, names
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.events.event import Event
from mmrec.events.files import open_events
from mmrec.events.import_export import EXPORT_SCHEMA, export_events, import_events
from mmrec.events.kinds import Kinds
from mmrec.events.log import open_log
from mmrec.events.prepare import given_id, prepare, prepare_events
from mmrec.events.times import TimeRule

plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"))
)
any_event = st.builds(
    Event,
    user=names,
    item=names,
    kind=st.sampled_from(list(Kinds().names)),
    time=st.floats(-1e6, 1e7).map(at),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    context=st.none() | st.dictionaries(names, plain, max_size=3),
    id=st.none() | st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=12),
)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@given(given_events=st.lists(any_event, min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_an_export_reads_as_what_it_was_made_of(tmp_path_factory, suffix, given_events):
    table = prepare_events(given_events, Kinds()).events
    path = tmp_path_factory.mktemp("export") / f"out{suffix}"
    assert export_events(table.combine_chunks().to_batches(max_chunksize=5), path)[0] == len(given_events)
    source = open_events(path)
    read = [prepare(raw, source.columns, Kinds(), TimeRule()) for raw in source.batches()]
    assert [one for part in read for one in part.refused] == []
    assert [row for part in read for row in part.events.to_pylist()] == table.to_pylist()
    assert all(part.named.all() for part in read)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_an_export_imports_to_the_same_log(tmp_path, suffix):
    events = [Event(f"u{n % 3}", 'i,"1"\n', "like", at(n), n / 7, {"n": n}) for n in range(20)]
    log, again = open_log(tmp_path / "a.db"), open_log(tmp_path / "b.db")
    log.append([*events, Event("u", "i", "view", at(0), id="its own")])
    path = tmp_path / f"out{suffix}"
    assert export_events(log.scan(), path)[0] == 21
    tally = import_events(open_events(path), again, Kinds(), TimeRule())
    assert (tally.added, tally.known, tally.refused) == (21, 0, 0), tally.examples
    back = import_events(open_events(path), log, Kinds(), TimeRule())
    assert (back.added, back.known, back.refused) == (0, 21, 0), back.examples
    assert [batch.to_pylist() for batch in again.scan()] == [batch.to_pylist() for batch in log.scan()]
    log.close()
    again.close()


def test_an_export_is_there_whole_or_not_at_all(tmp_path):
    log = open_log(tmp_path / "events.db")
    log.append([Event("u", "i", "view", at(0))])
    out = tmp_path / "out.parquet"
    out.write_bytes(b"before")

    def breaking():
        yield from log.scan()
        raise KeyError

    with pytest.raises(KeyError):
        export_events(breaking(), out)
    assert out.read_bytes() == b"before"
    assert {path.name for path in tmp_path.iterdir() if "out" in path.name} == {"out.parquet"}
    export_events(log.scan(), out)
    assert pq.read_schema(out).equals(EXPORT_SCHEMA)
    with pytest.raises(UsageError, match=r"name it with one of \.parquet, \.csv, \.jsonl"):
        export_events(log.scan(), tmp_path / "out.xml")
    log.close()


def exact_id(row):
    """The recipe of derived ids, one event at a time."""
    micro = round((row["time"] - at(0)).total_seconds() * 1e6) + 1_704_067_200_000_000
    bits = None if row["value"] is None else str(np.float64(row["value"] + 0.0).view(np.int64))
    parts = [row["user"], row["item"], row["kind"], str(micro), bits, row["context"]]
    text = "".join("-" if part is None else f"{len(part.encode())}:{part}" for part in parts)
    return (micro // 1_000_000 + 2**39).to_bytes(5, "big") + blake2b(text.encode(), digest_size=11).digest()


whole_seconds = st.integers(-(10**6), 10**6).map(at)


value = st.none() | st.floats(-1e9, 1e9)
context = st.none() | st.dictionaries(names, plain, max_size=2)
derived = st.builds(Event, names, names, st.just("view"), whole_seconds, value, context)


@given(given_events=st.lists(derived, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_derived_ids_follow_their_recipe_and_nothing_around_them(given_events):
    table = prepare_events(given_events, Kinds()).events
    assert table["id"].to_pylist() == [exact_id(row) for row in table.to_pylist()]
    alone = prepare_events(given_events[-1:], Kinds()).events
    assert alone["id"][0] == table["id"][len(table) - 1]


def test_ids_tell_alike_events_apart():
    base = Event("a", "bc", "view", at(0))
    others = [Event("ab", "c", "view", at(0)), Event("a", "bc", "click", at(0)), Event("a", "bc", "view", at(1)),
              Event("a", "bc", "view", at(0), 0.0), Event("a", "bc", "view", at(0), None, {"v": 0})]  # fmt: skip
    ids = prepare_events([base, *others], Kinds()).events["id"].to_pylist()
    assert len(set(ids)) == 6
    same = prepare_events([Event("a", "bc", "view", at(0), -0.0)], Kinds()).events["id"][0].as_py()
    assert same == ids[4], "-0.0 is 0.0"


def test_a_known_id_is_pinned_for_ever():
    """A change of these would take every event of every log twice at its next import."""
    event = Event("u", "i", "view", at(0), 1.5, {"page": "home"})
    assert prepare_events([event], Kinds()).events["id"][0].as_py().hex() == "806592008014ea7885597bc52844c8e1"
    assert given_id("click-1").hex() == "bd007cbae07c9ff4381dcafbcf1587c5"
    assert given_id("00112233445566778899aabbccddeeff").hex() == "00112233445566778899aabbccddeeff"
    assert given_id("00112233445566778899AABBCCDDEEFF").hex() != "00112233445566778899aabbccddeeff"
