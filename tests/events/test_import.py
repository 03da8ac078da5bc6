"""Files into the log: every row is added, known, or refused with its number and reason."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peaks import PEAK

from mmrec.errors import UsageError
from mmrec.events.files import open_events
from mmrec.events.import_export import import_events
from mmrec.events.kinds import Kinds
from mmrec.events.log import open_log
from mmrec.events.times import TimeRule
from mmrec.examples import ml_100k_folder
from mmrec.sources import text_tables
from mmrec.sources.places import Place

NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)
SECONDS = int(NOON.timestamp())


@pytest.fixture
def log(tmp_path):
    opened = open_log(tmp_path / "events.db")
    yield opened
    opened.close()


def imported(log, path, times=None, **how):
    return import_events(open_events(path, **how), log, Kinds(), times or TimeRule())


def everything(log):
    return [row for batch in log.scan() for row in batch.to_pylist()]


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_movielens_from_recbole(log):
    """100,000 ratings, a MovieLens file and a RecBole file of the same: the second adds nothing."""
    source = ml_100k_folder() / "ml-100k.inter"
    tally = imported(log, source)
    assert (tally.read, tally.added, tally.known, tally.refused) == (100_000, 100_000, 0, 0)
    row = log.history("196").to_pylist()[0]
    first = min((line.split("\t") for line in source.read_text().splitlines()[1:] if line.startswith("196\t")),
                key=lambda cells: int(cells[3]))  # fmt: skip
    assert (row["item"], row["value"], row["kind"]) == (first[1], float(first[2]), "rate")
    assert row["time"].timestamp() == int(first[3])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("u.data", f"196\t242\t3\t{SECONDS}\n"),
        ("ratings.dat", f"196::242::3::{SECONDS}\n"),
        ("ratings.csv", f"userId,movieId,rating,timestamp\r\n196,242,3.0,{SECONDS}\r\n"),
        ("ml.inter", f"user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t{SECONDS}\n"),
        ("a.csv", f"user;item;rating;time\n196;242;3;{SECONDS}"),
        ("a.tsv", f'\ufeffuser\titem\trating\ttime\n"196"\t242\t3\t{SECONDS}000\n\n'),
        ("a.jsonl", f'{{"user": 196, "item": "242", "stars": 3, "time": {SECONDS}.0}}\n\n'),
        ("a.ndjson", '{"user": 196.0, "item": 242, "rating": "3", "at_time": 1, "ts": "2024-01-31T13:00+01:00"}'),
    ],
)
def test_every_kind_of_file_gives_the_same_event(log, tmp_path, name, content):
    tally = imported(log, written(tmp_path / name, content))
    assert (tally.added, tally.refused) == (1, 0), tally.examples
    (row,) = everything(log)
    expected = {"user": "196", "item": "242", "kind": "rate", "time": NOON, "value": 3.0, "context": None}
    assert {part: row[part] for part in expected} == expected


@pytest.mark.parametrize(
    "column",
    [
        pa.array([NOON], pa.timestamp("ns", "Europe/Paris")),
        pa.array([NOON.replace(tzinfo=None)], pa.timestamp("ms")),
        pa.array([SECONDS * 10**9], pa.int64()),
        pa.array([float(SECONDS)], pa.float64()),
        pa.array([SECONDS], pa.uint64()),
        pa.array(["2024-01-31 12:00:00 UTC"], pa.string()).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_parquet_of_any_types(log, tmp_path, column):
    users = pa.array([7], pa.int32())
    items = pa.array(["i"], pa.large_string())
    kinds = pa.array(["View "]).dictionary_encode()
    table = pa.table({"customer_id": users, "sku": items, "event": kinds, "when": column, "page": pa.array([{"n": 1}])})
    pq.write_table(table, tmp_path / "a.parquet")
    tally = imported(log, tmp_path / "a.parquet", given={"item": "sku", "time": "when"}, context=("page", "event"))
    assert tally.added == 1, tally.examples
    (row,) = everything(log)
    assert (row["user"], row["item"], row["kind"], row["time"]) == ("7", "i", "view", NOON)
    assert json.loads(row["context"]) == {"page": {"n": 1}, "event": "View "}


def test_bad_rows_are_refused_with_number_and_reason_and_cost_no_neighbour(log, tmp_path):
    lines = [
        b"user,item,kind,time,value,note",
        b"u1,i1,view,1700000000,,ok",  # 1
        b"u1,i2,view",  # 2
        b"u2,\xff\xfe,view,1700000001,,bad bytes",  # 3
        b",i3,view,1700000002,,no user",  # 4
        b'u3,i3,view,1700000003,,"two\nlines, one cell"',  # 5
        b'u4,"i4,view,1700000004,,never closed',  # 6
        b"u5,i5,view,1700000005,1.5,ok",  # 7
        b"u6,i6,gaze,1700000006,,",  # 8
        b"u7,i7,view,yesterday,,",  # 9
        b"u8,i8,view,1700000008,much,",  # 10
        b"u9,i9,view,,,",  # 11
        b'u9,"i"9,view,1700000009,,',  # 12
        b"",
        b"u9,i9,VIEW,1700000010,,last",  # 13
    ]
    path = written(tmp_path / "a.csv", b"\n".join(lines))
    tally = imported(log, path, context=("note",))
    assert (tally.read, tally.added, tally.refused) == (13, 4, 9)
    assert [row["user"] for row in everything(log)] == ["u1", "u3", "u5", "u9"]
    said = {one.row: (one.column, one.user, one.reason) for source, one in log.refused() if source == str(path)}
    assert sorted(said) == [2, 3, 4, 6, 8, 9, 10, 11, 12]
    assert said[2][2] == "a.csv line 3: The line has 3 cells where the header has 6."
    assert said[3][2].startswith("a.csv line 4: The line is not UTF-8")
    assert said[4] == ("user", None, "The user is missing.")
    assert said[6][2] == "a.csv line 8: A quote is opened and not closed."
    assert said[8][:2] == ("kind", "u6")
    assert "'gaze' has no weight" in said[8][2]
    assert said[9] == ("time", "u7", "The time 'yesterday' is neither a number nor ISO 8601, as 2024-01-31T12:00:00Z.")
    assert said[10] == ("value", "u8", "The value 'much' is not a number.")
    assert said[11] == ("time", "u9", "The time is missing.")
    assert said[12][2].startswith("a.csv line 14: The line is not CSV")


def test_bad_lines_of_json_are_refused(log, tmp_path):
    lines = [
        b'{"user": "u", "item": "i", "time": 1700000000}',
        b'{"user": "u", "item": "j", "time": 17000000',
        b"[1, 2]",
        b'{"user": "u", "item": "\xff", "time": 1700000000}',
        b'{"user": "u", "item": "\\ud800", "time": 1700000000}',
        b'{"user": true, "item": ["i"], "time": 1700000000}',
        b'{"user": "u", "item": "k", "time": {"s": 1}}',
        b'{"user": "u", "item": "' + b"x" * 2_000_000 + b'", "time": 1700000000}',
        b'{"user": "u", "item": "k", "time": 1700000001, "more": 1}',
    ]
    tally = imported(log, written(tmp_path / "a.jsonl", b"\n".join(lines)))
    assert (tally.read, tally.added, tally.refused) == (9, 2, 7)
    assert [one.row for _, one in log.refused()] == [2, 3, 4, 5, 6, 7, 8]
    reasons = [one.reason for _, one in log.refused()]
    for reason, said in zip(reasons, ["not JSON", "not an object", "not UTF-8", "half a character", "true or false",
                                      "a dict, not a number", "longer than"], strict=True):  # fmt: skip
        assert said in reason


def test_a_damaged_part_of_a_parquet_file_costs_that_part(log, tmp_path):
    table = pa.table({"user": [f"u{n}" for n in range(3000)], "item": ["i"] * 3000, "time": range(10**9, 10**9 + 3000)})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=1000, compression="none", use_dictionary=False)
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    tally = imported(log, path)
    assert (tally.read, tally.added, tally.refused) == (3000, 2000, 1000)
    ((_, refusal),) = log.refused()
    assert (refusal.row, refusal.count) == (1001, 1000)


def test_clashing_ids_are_refused_and_repeats_are_known(log, tmp_path):
    text = "event_id,user,item,time\n1,u,i,1700000000\n2,u,j,1700000000\n1,u,i,1700000000\n2,u,k,1700000000\n"
    path = written(tmp_path / "a.csv", text)
    tally = imported(log, path)
    assert (tally.read, tally.added, tally.known, tally.refused) == (4, 2, 1, 1)
    again = imported(log, path)
    assert (again.added, again.known, again.refused) == (0, 3, 1)
    assert [(one.row, one.column, one.user) for _, one in log.refused()] == [(4, "id", "u")]


def test_events_are_read_from_object_stores_and_hub_sources(log, tmp_path):
    """The same rows, by the readers of catalogs: a bucket, a pattern of files, a directory that `datasets` reads."""
    text = "user,item,time,rating\nu,i,1700000000,4\nu,j,1700000001,5\n"
    bucket = fsspec.filesystem("memory")
    bucket.pipe("/bucket/events/a.csv", text.encode())
    pq.write_table(pa.Table.from_pylist(list(csv.DictReader(io.StringIO(text)))), tmp_path / "a-1.parquet")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text(text)
    for address in ("memory://bucket/events/a.csv", f"{tmp_path}/a-*.parquet", f"hf:{tmp_path}/data?split=train"):
        tally = imported(log, address)
        assert (tally.read, tally.refused) == (2, 0), tally.examples
    assert [(row["item"], row["kind"], row["value"]) for row in everything(log)] == [("i", "rate", 4), ("j", "rate", 5)]
    bucket.pipe("/bucket/events/a.csv", text.encode() + b"u,k,never,3\n")
    assert imported(log, "memory://bucket/events/a.csv").refused == 1
    assert [(source, one.row) for source, one in log.refused()] == [("memory://bucket/events/a.csv", 3)]


def test_what_is_put_right_in_the_source_is_refused_no_more(log, tmp_path):
    path = written(tmp_path / "a.csv", "user,item,time\nu,i,1700000000\nu,j,never\n")
    assert imported(log, path).refused == 1
    path.write_text("user,item,time\nu,i,1700000000\nu,j,1700000001\n")
    assert (imported(log, path).added, log.refused()) == (1, [])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", "x", r"no known kind.*\.parquet.*u\.data"),
        ("a.csv", "user,item\n", "--time COL"),
        ("a.csv", "user,item,time,user\n", "names 'user' more than once"),
        ("a.csv", "who,item,time\n", "--user COL. There are 'who', 'item', 'time'"),
        ("a.csv", "user,user_id,item,time\nx,y,z,1\n", None),
        ("a.csv", "userId,user_id,item,time\n", "called alike"),
        ("a.csv", "", "its first line must name the columns"),
        ("a.inter", "user_id,item_id\n", "not RecBole's"),
        ("a.jsonl", "\n[]\n", "no JSON object"),
        ("a.parquet", "PAR1", "not a Parquet file"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_before_any_work(tmp_path, name, content, said):
    path = written(tmp_path / name, content)
    if said is None:
        assert open_events(path).columns.user == "user"
        return
    with pytest.raises(UsageError, match=said):
        open_events(path)


def test_a_column_that_is_not_there_is_told(tmp_path):
    path = written(tmp_path / "a.csv", "user,item,time\n")
    with pytest.raises(UsageError, match=r"no column 'kynd'\. It has 'user'"):
        open_events(path, {"kind": "kynd"})
    with pytest.raises(UsageError, match="There is no"):
        open_events(tmp_path / "none.csv")


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6)


@given(rows=st.lists(st.tuples(cells, cells, cells), max_size=20), chunk=st.integers(1, 5), data=st.data())
@settings(max_examples=60, deadline=None)
def test_csv_reads_alike_whatever_the_chunks(tmp_path_factory, rows, chunk, data):
    """An exact oracle: the standard library's own reading of the whole file at once."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])))
    writer.writerow(["a", "b", "c"])
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(out.getvalue().encode())
    whole = list(csv.reader(io.StringIO(out.getvalue(), newline="")))[1:]
    patch = pytest.MonkeyPatch()
    patch.setattr(text_tables, "_LINES_AT_ONCE", chunk)
    try:
        read = list(text_tables.open_csv(Place(str(path))).rows(["c", "a"]))
    finally:
        patch.undo()
    assert [(row.values["a"], row.values["c"]) for row in read] == [(cells[0], cells[2]) for cells in whole]
    assert [row.number for row in read] == list(range(1, len(whole) + 1))


@pytest.mark.slow
def test_a_killed_import_loses_no_acknowledged_batch_and_doubles_none(place, tmp_path, root):
    """The process is killed, with no chance to clean up, after a few commits, at no chosen moment."""
    rows = [f"u{n % 97},i{n % 31},{1_700_000_000 + n // 3}" for n in range(12_000)]
    rows[5000] = "u5000,i,never"
    path = written(tmp_path / "a.csv", "\n".join(["user,item,time", *rows]))
    job = [sys.executable, str(Path(__file__).with_name("import_job.py")), str(path), place]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    whole = len({row for row in rows if "never" not in row})
    acknowledged = 0
    for commits in (1, 5):
        running = subprocess.Popen(job, stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(commits):
            line = running.stdout.readline()
        running.send_signal(signal.SIGKILL)
        rest = running.communicate()[0].splitlines()
        _, added, known, _ = map(int, (rest[-1] if rest else line).split())
        log = open_log(place)
        assert len(log) >= acknowledged, "what one run acknowledged is there after another was killed"
        assert len(log) >= added
        acknowledged = len(log)
        assert added + known > 0
        log.close()
    assert acknowledged < whole, "the last kill came before the end"
    done = subprocess.run(job, check=True, capture_output=True, text=True, env=environment)
    read, added, known, refused = map(int, done.stdout.split("\n")[-2].split())
    assert (read, added, known, refused) == (12_000, whole - acknowledged, 11_999 - whole + acknowledged, 1)
    log = open_log(place)
    assert len(log) == whole
    assert [one.row for _, one in log.refused()] == [5001]
    log.close()


_MEASURED = (
    PEAK
    + """
import sys
from pathlib import Path
from mmrec.events.import_export import import_events
from mmrec.events.kinds import Kinds
from mmrec.events.log import open_log
from mmrec.events.files import open_events
from mmrec.events.times import TimeRule
log = open_log(sys.argv[2])
import_events(open_events(Path(sys.argv[1])), log, Kinds(), TimeRule())
print(len(log), peak())
"""
)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path, root):
    """Twice the rows, the same memory: the smaller file has filled the database's cache of pages."""
    peaks = []
    for count in (1_000_000, 2_000_000):
        path = tmp_path / f"{count}.csv"
        with path.open("w") as file:
            file.write("user,item,time\n")
            file.writelines(f"u{n % 5000},i{n % 700},{1_700_000_000 + n}\n" for n in range(count))
        command = [sys.executable, "-c", _MEASURED, str(path), str(tmp_path / f"{count}.db")]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        held, peak = map(int, done.stdout.split())
        assert held == count
        peaks.append(peak)
    assert peaks[1] < 1.05 * peaks[0]
