"""The log, in each database: durable, idempotent, ordered, and able to forget."""

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from events.made import at
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from mmrec.errors import StoreError, UsageError
from mmrec.events.database import insert_portable, open_database, writing
from mmrec.events.event import Event, RefusedRow
from mmrec.events.kinds import Kinds
from mmrec.events.log import Appended, EventLog, open_log
from mmrec.events.prepare import prepare_events

HOUR = timedelta(hours=1)


def likes(count, user="u", first=0):
    return [Event(user, f"item-{first + n}", "like", at(first + n)) for n in range(count)]


def test_an_event_comes_back_as_it_was(log):
    cest = timezone(2 * HOUR)
    event = Event(
        "zoë ☃", "a\tb\"c'\\N,\n", "purchase", datetime(2024, 7, 1, 12, tzinfo=cest), 0.1 + 0.2, {"b": 1, "a": "é"}
    )
    assert log.append([event]) == Appended(1, 0)
    (row,) = log.history("zoë ☃").to_pylist()
    assert row["item"] == event.item
    assert row["time"] == datetime(2024, 7, 1, 10, tzinfo=UTC)
    assert row["value"] == event.value
    assert row["context"] == '{"a":"é","b":1}'


def test_the_same_event_is_taken_once(log):
    assert log.append(likes(3)) == Appended(3, 0)
    assert log.append(likes(5)) == Appended(2, 3)
    assert log.append([*likes(1, "v"), *likes(1, "v")]) == Appended(1, 1)
    assert len(log) == 6


def test_events_of_their_own_ids(log):
    first = Event("u", "i", "view", at(0), id="click-1")
    assert log.append([first, Event("u", "i", "view", at(0), id="click-2")]) == Appended(2, 0)
    assert log.append([first]) == Appended(0, 1)
    with pytest.raises(UsageError, match="Event 2: Another event has the same id"):
        log.append([Event("u", "j", "view", at(1)), Event("u", "other", "view", at(0), id="click-1")])
    with pytest.raises(UsageError, match="same id"):
        log.append([Event("w", "x", "view", at(1), id="new"), Event("w", "y", "view", at(1), id="new")])
    assert len(log) == 2, "all or none"


def test_histories_are_newest_last_with_ties_in_order_of_arrival(log):
    log.append([Event("u", "late", "view", at(9)), Event("u", "tie-1", "view", at(5)), Event("v", "x", "view", at(6))])
    log.append([Event("u", "early", "view", at(1)), Event("u", "tie-2", "view", at(5))])
    assert log.history("u")["item"].to_pylist() == ["early", "tie-1", "tie-2", "late"]
    assert log.history("u", limit=2)["item"].to_pylist() == ["tie-2", "late"]
    assert log.history("nobody").num_rows == 0


def test_scanning_goes_on_where_it_stopped(log):
    log.append(likes(4))
    newest = log.newest()
    log.append(likes(2, "v"))
    assert [batch["user"].to_pylist() for batch in log.scan(newest)] == [["v", "v"]]
    everything = [seq for batch in log.scan() for seq in batch["seq"].to_pylist()]
    assert everything == sorted(set(everything))
    assert len(everything) == 6


def test_forgetting_a_person_leaves_the_others(log):
    log.append([*likes(4, "gone"), *likes(4, "stays")])
    with log.writing() as writer:
        writer.refuse(
            "file", [RefusedRow(3, "time", "The time is missing.", "gone"), RefusedRow(4, "", "odd", "stays")]
        )
    newest = log.newest()
    assert log.forget("gone") == 4
    assert log.forget("gone") == 0
    assert log.history("gone").num_rows == 0
    assert log.history("stays").num_rows == 4
    assert [one.user for _, one in log.refused()] == ["stays"]
    log.append(likes(1, "later"))
    assert log.history("later")["seq"][0].as_py() > newest, "numbers of arrival are not given out twice"


def test_nothing_of_a_forgotten_person_is_left_in_the_files(tmp_path):
    log = open_log(tmp_path / "events.db")
    name = "someone-particular"
    log.append([event for n in range(400) for event in (*likes(1, name, n), *likes(1, f"other-{n}", n))])
    assert any(name.encode() in path.read_bytes() for path in tmp_path.iterdir())
    log.forget(name)
    assert not any(name.encode() in path.read_bytes() for path in tmp_path.iterdir())
    assert len(log) == 400


def test_a_transaction_that_fails_leaves_nothing(log):
    def fail():
        with log.writing() as writer:
            writer.add(prepare_events(likes(3), Kinds()))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(log) == 0


def test_two_opened_logs_see_each_other_at_once(place):
    one, two = open_log(place), open_log(place)
    one.append(likes(1))
    assert two.history("u").num_rows == 1
    two.append(likes(2))
    assert one.history("u").num_rows == 2
    one.close()
    two.close()


def test_several_writers_at_once_lose_and_double_nothing(place):
    """Four writers, threads of two handles, write overlapping events one by one and in batches."""
    handles = [open_log(place), open_log(place)]
    failures = []

    def write(number):
        try:
            for first in range(0, 40, 5):
                handles[number % 2].append([*likes(5, f"w{number}", first), *likes(5, "shared", first)])
        except Exception as error:  # noqa: BLE001 a thread's error would be lost
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(handles[0]) == 5 * 40
    assert all(handles[1].history(user).num_rows == 40 for user in ("w0", "w1", "w2", "w3", "shared"))
    for handle in handles:
        handle.close()


_OPENER = "import sys; from mmrec.events.log import open_log; print(len(open_log(sys.argv[1])))"


def test_processes_that_make_the_log_at_once_all_succeed(place, root):
    command = [sys.executable, "-c", _OPENER, place]
    started = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    ended = [(process.communicate(), process.returncode) for process in started]
    assert [code for _, code in ended] == [0, 0, 0], ended


@given(batches=st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=5))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_appending_is_a_union(place, batches):
    log = open_log(place)
    user = f"u{len(log)}"
    told = [log.append([Event(user, f"i{n}", "view", at(n)) for n in batch]) for batch in batches]
    assert sum(one.added for one in told) == log.history(user).num_rows == len({n for batch in batches for n in batch})
    assert sum(one.added + one.known for one in told) == sum(map(len, batches))
    log.close()


def test_the_portable_way_does_the_same(tmp_path):
    engine = open_database(tmp_path / "portable.db")
    table = prepare_events([*likes(700), *likes(1)], Kinds()).events
    with writing(engine) as connection:
        assert insert_portable(connection, table.slice(0, 3)) == 3
        assert insert_portable(connection, table.slice(0, 700)) == 697
    log = EventLog(engine)
    assert log.history("u")["item"].to_pylist() == [f"item-{n}" for n in range(700)]
    log.close()


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Event("", "i", "view", at(0)), "user is missing"),
        (Event("u", "i\0", "view", at(0)), "null character"),
        (Event("u" * 513, "i", "view", at(0)), "longer than 512 bytes"),
        (Event("u", "i\ud800", "view", at(0)), "half a character"),
        (Event("u", "i", "veiw", at(0)), "'veiw' has no weight. Known are view"),
        (Event("u", "i", "view", datetime(2024, 1, 1)), "no time zone"),  # noqa: DTZ001 - that is what is wrong
        (Event("u", "i", "view", at(0), value=float("inf")), "infinite"),
        (Event("u", "i", "view", at(0), context={"x": "\0"}), "null character"),
    ],
)
def test_an_event_that_is_none_is_told(tmp_path, event, said):
    log = open_log(tmp_path / "events.db")
    with pytest.raises(UsageError, match=said):
        log.append([*likes(1), event])
    assert len(log) == 0
    log.close()


def test_sqlite_is_durable_and_forgetful(tmp_path):
    log = open_log(tmp_path / "events.db")
    with log._engine.connect() as connection:
        settings_found = [
            connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "secure_delete")
        ]
    assert settings_found == ["wal", 2, 1]
    log.close()


def test_postgres_is_durable_whatever_its_default(postgres_server):
    url = f"postgresql://mmrec@/postgres?host={postgres_server}&options=-c%20synchronous_commit%3Doff"
    log = open_log(url)
    with log._engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
    log.close()


@pytest.mark.parametrize(
    ("place", "error", "said"),
    [
        ("postgresql://nobody:secret@localhost:1/none", StoreError, r"nobody:\*\*\*@localhost"),
        ("nosuchbase://x", UsageError, "driver of nosuchbase"),
        ("://", UsageError, "not a URL"),
        ("/no/such/folder/events.db", StoreError, "unable to open"),
    ],
)
def test_a_place_that_is_none_is_told(place, error, said):
    with pytest.raises(error, match=said) as told:
        open_log(place)
    assert "secret" not in str(told.value)


def test_another_format_and_a_damaged_file_are_told(tmp_path):
    path = tmp_path / "events.db"
    open_log(path).close()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE mmrec_events_format SET version = 2"))
    engine.dispose()
    with pytest.raises(StoreError, match="format 2, this mmrec reads 1"):
        open_log(path)
    Path(path).write_bytes(b"not a database at all" * 1000)
    with pytest.raises(StoreError, match="not a database"):
        open_log(path)
