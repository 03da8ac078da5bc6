"""What repair keeps, counts and says where not all can be saved."""

import shutil
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from small_store import NAMES, Cheap, index, spaces

import mmrec
from mmrec.errors import DamagedError
from mmrec.event_log import open_event_log, update_checkpoint
from mmrec.events.event import Event
from mmrec.storage.collect import Policy, collect
from mmrec.verification.repair import repair_store
from mmrec.verification.verify import verify_store

START = datetime(2026, 1, 1, tzinfo=UTC)


def opened(layout):
    return mmrec.open(layout.root, encoders=[Cheap()])


def record(layout, count: int) -> None:
    with closing(open_event_log(layout)) as log:
        log.append([Event(f"p{n % 50}", f"i{n % 60}", "like", START + timedelta(minutes=n)) for n in range(count)])
        update_checkpoint(layout, log)


def kept(layout):
    return sorted(layout.damaged.glob("items.lance.*"))


def test_a_lost_deletion_file_costs_no_item_and_the_damaged_table_is_kept(layout):
    opened(layout).delete(["i1", "i2"])
    index(layout, [name for name in NAMES if name not in {"i1", "i2"}])
    for path in (layout.items / "_deletions").iterdir():
        path.unlink()
    with pytest.raises(DamagedError, match=r"items.lance.* is damaged: .*`mmrec repair "):
        opened(layout).show("i7")
    done = repair_store(layout, spaces)
    (said,) = [action for action in done.actions if "items.lance" in action]
    assert "saved 60 rows" in said
    assert "from an older version, so that deleted ones may be back; 0 rows are lost" in said
    assert "`mmrec gc` leaves it there" in said
    assert {hit.id for hit in opened(layout).items()} == set(NAMES)
    (aside,) = kept(layout)
    report = verify_store(layout)
    assert [note for note in report.notes if "`mmrec gc` leaves them" in note]
    assert not [note for note in report.notes if "clears it" in note and "damaged holds" in note and ".keep" in note]
    collect(layout, Policy(keep=1))
    assert kept(layout) == [aside]


def test_an_edited_item_does_not_come_back_as_it_was(layout):
    opened(layout).delete(["i1"])
    edited = [f"{name}" for name in NAMES if name != "i1"]
    index(layout, edited)
    from mmrec.types import Field, Item, Modality

    opened(layout).upsert([Item("i5", (Field(Modality.TEXT, "title", text="i6"),), {"number": 5}, 1)])
    for path in (layout.items / "_deletions").iterdir():
        path.unlink()
    repair_store(layout, spaces)
    shown = {hit.id: hit.text for hit in opened(layout).items()}
    assert shown["i5"] == "i6"
    assert len(shown) == 60


def test_lost_rows_are_counted(layout):
    files = sorted((layout.items / "data").iterdir(), key=lambda path: path.stat().st_size)
    files[0].write_bytes(b"")
    done = repair_store(layout, spaces)
    (said,) = [action for action in done.actions if "rows of items.lance" in action]
    rows = len(list(opened(layout).items())) if done.generation else 0
    assert f"{60 - rows:,} rows are lost" in said or not done.generation
    assert kept(layout)


def test_what_can_be_read_of_a_damaged_log_is_saved_and_the_loss_is_said(layout):
    record(layout, 20_000)
    with layout.events.open("r+b") as file:
        file.seek(layout.events.stat().st_size // 3)
        file.write(bytes(40_000))
    report = verify_store(layout)
    assert {one.check for one in report.findings} == {"events"}
    done = repair_store(layout, spaces)
    (said,) = [action for action in done.actions if "events of the log" in action]
    assert "are lost. The damaged log is kept in damaged/events.db." in said
    assert verify_store(layout).sound
    with closing(open_event_log(layout)) as log:
        assert 10_000 < len(log) < 20_000
        assert f"saved {len(log):,} events" in said
        assert f"at least {20_000 - len(log):,} are lost" in said
        log.append([Event("new", "i1", "like", START)])
        assert log.newest() == 20_001
    collect(layout, Policy())
    assert list(layout.damaged.glob("events.db.*"))


@pytest.mark.parametrize("way", ["deleted", "emptied", "older copy"])
def test_a_log_that_holds_less_than_it_did_is_told(layout, way):
    record(layout, 100)
    before = layout.root.parent / "older.db"
    shutil.copy(layout.events, before)
    with closing(open_event_log(layout)) as log:
        assert log.forget("p1") == 2
        update_checkpoint(layout, log)
    assert verify_store(layout).sound, "forgetting is no loss"
    if way == "older copy":
        shutil.copy(before, layout.events)
    elif way == "emptied":
        layout.events.write_bytes(b"")
    else:
        layout.events.unlink()
    assert {one.check for one in verify_store(layout).findings} == {"events"}
    with pytest.raises(DamagedError, match=r"events.db is damaged: .*restore it from a backup"):
        opened(layout).recommend("p2")
    done = repair_store(layout, spaces)
    assert [action for action in done.actions if "events" in action]
    assert verify_store(layout).sound
    opened(layout).recommend("p2")
